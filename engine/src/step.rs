//! What the host gives a device for one step, and what it gets back.

use crate::buffer::{ADJUSTMENT_WORDS, Dims, Input, SAMPLE_ROW_WORDS};
use bytemuck::{Pod, Zeroable};

/// "None" in a field of [`SampleRow`].
pub const NONE: u32 = u32::MAX;

/// The greatest number of alternatives that a position can report (`logprobs`, `prompt_logprobs`).
pub const MAX_LOGPROBS: usize = 20;

/// Words of a [`Sampled`] row on the device: token, log-probability, then the alternatives.
pub const SAMPLED_WORDS: usize = 2 + 2 * MAX_LOGPROBS;

/// Set in a token of [`Step::tokens`] that stands for the last token of a sequence.
const FROM_LAST: u32 = 1 << 31;

/// A token that the device takes from its `last tokens` state at `seq_slot`, so that the host can prepare a step
/// before it knows what the step before has sampled.
pub const fn from_last(seq_slot: u32) -> u32 {
    FROM_LAST | seq_slot
}

/// The sequence slot that a token refers to, or `None` if it is a plain token id.
pub const fn last_slot(token: u32) -> Option<u32> {
    if token & FROM_LAST == 0 { None } else { Some(token & !FROM_LAST) }
}

/// How to choose the token of one output position. 64 bytes, as the kernels read it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct SampleRow {
    /// Divides the logits; 0 chooses the greatest.
    pub temperature: f32,
    /// Keeps the likeliest tokens up to this mass; 1 keeps all.
    pub top_p: f32,
    /// Drops tokens less likely than this share of the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Keeps this many likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// The low half of the row's random key.
    pub key_lo: u32,
    /// The high half of the row's random key.
    pub key_hi: u32,
    /// The position of the token being chosen: the counter of the random generator.
    pub position: u32,
    /// Where the token goes in the device's last tokens, or [`NONE`].
    pub seq_slot: u32,
    /// Report the log-probability of this token and choose nothing, or [`NONE`].
    pub target: u32,
    /// The row of [`Step::masks`] that says which tokens are allowed, or [`NONE`].
    pub mask: u32,
    /// The first of this row's [`Step::adjustments`].
    pub adjust_start: u32,
    /// How many adjustments it has.
    pub adjust_len: u32,
    /// How many alternatives to report, at most [`MAX_LOGPROBS`].
    pub logprobs: u32,
    /// The first of this row's [`Step::targets`].
    pub target_start: u32,
    /// How many targets it has.
    pub target_len: u32,
    /// Room to 64 bytes.
    pub reserved: u32,
}

impl SampleRow {
    /// The greatest logit, nothing else.
    pub fn greedy() -> Self {
        SampleRow {
            temperature: 0.0,
            top_p: 1.0,
            min_p: 0.0,
            top_k: 0,
            key_lo: 0,
            key_hi: 0,
            position: 0,
            seq_slot: NONE,
            target: NONE,
            mask: NONE,
            adjust_start: 0,
            adjust_len: 0,
            logprobs: 0,
            target_start: 0,
            target_len: 0,
            reserved: 0,
        }
    }
}

/// A change to one logit before a token is chosen. A row names each token at most once.
///
/// `logit = (logit > 0 ? logit / repetition : logit * repetition) + bias`
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Adjustment {
    /// The token.
    pub token: u32,
    /// The repetition penalty; 1 changes nothing.
    pub repetition: f32,
    /// Added last; negative infinity bans the token.
    pub bias: f32,
    /// Room to 16 bytes.
    pub reserved: u32,
}

const _: () = assert!(size_of::<SampleRow>() == 4 * SAMPLE_ROW_WORDS);
const _: () = assert!(size_of::<Adjustment>() == 4 * ADJUSTMENT_WORDS);

/// The host's inputs of one step. Lengths are those of [`Step::dims`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// Token ids (see [`from_last`]), sequence after sequence.
    pub tokens: Vec<u32>,
    /// The position of each token in its sequence.
    pub positions: Vec<u32>,
    /// The KV slot that each token writes: page times page size, plus the place within the page.
    pub kv_slots: Vec<u32>,
    /// The first token of each sequence, then the token count.
    pub query_start: Vec<u32>,
    /// `[seqs, pages_per_seq]` pages of each sequence; the rest of a row is 0.
    pub block_tables: Vec<u32>,
    /// Columns of `block_tables`.
    pub pages_per_seq: usize,
    /// Tokens in a KV page.
    pub page_size: usize,
    /// The token row of each position whose logits are wanted.
    pub output_rows: Vec<u32>,
    /// How to choose a token at each of them.
    pub sampling: Vec<SampleRow>,
    /// Changes to logits, row by row (see [`SampleRow::adjust_start`]).
    pub adjustments: Vec<Adjustment>,
    /// `[masks, ceil(vocab / 32)]` bits of allowed tokens: bit `t % 32` of word `t / 32`.
    pub masks: Vec<u32>,
    /// Masks that come later, by [`crate::device::Device::provide`]; then `masks` is empty.
    pub late_masks: usize,
    /// Words in a mask: `ceil(vocab / 32)`.
    pub mask_words: usize,
    /// Tokens whose log-probabilities are reported, row by row without a gap (see [`SampleRow::target_start`]).
    pub targets: Vec<u32>,
}

impl Step {
    /// The row counts of this step (`pages` is not a matter of a step and stays 0).
    pub fn dims(&self) -> Dims {
        Dims {
            tokens: self.tokens.len(),
            seqs: self.seqs(),
            outputs: self.output_rows.len(),
            adjustments: self.adjustments.len(),
            masks: self.masks.len().checked_div(self.mask_words).unwrap_or(0) + self.late_masks,
            targets: self.targets.len(),
            pages: 0,
            page_size: self.page_size,
            pages_per_seq: self.pages_per_seq,
            attended: self.positions.iter().map(|&p| p as usize + 1).sum(),
            contexts: self.contexts(),
        }
    }

    /// Checks that the inputs agree with each other and fit a plan compiled for `max_dims`.
    ///
    /// # Errors
    /// The first input that does not.
    pub fn check(&self, max_dims: &Dims) -> Result<(), String> {
        let dims = self.dims();
        let fits = |what: &str, n: usize, max: usize| {
            if n <= max { Ok(()) } else { Err(format!("{n} {what}; the plan is compiled for {max}")) }
        };
        fits("tokens", dims.tokens, max_dims.tokens)?;
        fits("sequences", dims.seqs, max_dims.seqs)?;
        fits("outputs", dims.outputs, max_dims.outputs)?;
        fits("adjustments", dims.adjustments, max_dims.adjustments)?;
        fits("masks", dims.masks, max_dims.masks)?;
        fits("targets", dims.targets, max_dims.targets)?;
        same("positions", self.positions.len(), dims.tokens)?;
        same("KV slots", self.kv_slots.len(), dims.tokens)?;
        same("sample rows", self.sampling.len(), dims.outputs)?;
        same("tokens a page", self.page_size, max_dims.page_size)?;
        below("KV slot", &self.kv_slots, max_dims.pages * max_dims.page_size)?;
        below("output row", &self.output_rows, dims.tokens)?;
        self.check_sequences(max_dims)?;
        self.check_sampling(&dims, max_dims)
    }

    /// Bounds of sequences, and the pages that their positions need.
    fn check_sequences(&self, max_dims: &Dims) -> Result<(), String> {
        let seqs = self.seqs();
        same("query bounds", self.query_start.len(), seqs + 1)?;
        same("tokens of sequences", self.query_start[seqs] as usize, self.tokens.len())?;
        same("block table columns", self.pages_per_seq, max_dims.pages_per_seq)?;
        same("block table entries", self.block_tables.len(), seqs * self.pages_per_seq)?;
        below("page", &self.block_tables, max_dims.pages.max(1))?;
        if self.query_start[0] != 0 || self.query_start.windows(2).any(|bounds| bounds[0] >= bounds[1]) {
            return Err(format!("query bounds {:?} do not ascend from 0", self.query_start));
        }
        for s in 0..seqs {
            let pages = self.seq_len(s).div_ceil(self.page_size.max(1));
            if pages > self.pages_per_seq {
                return Err(format!(
                    "sequence {s} needs {pages} pages; its table has {}",
                    self.pages_per_seq
                ));
            }
        }
        Ok(())
    }

    /// What sample rows refer to.
    fn check_sampling(&self, dims: &Dims, max_dims: &Dims) -> Result<(), String> {
        if self.late_masks > 0 && !self.masks.is_empty() {
            return Err("masks are here and yet to come".into());
        }
        let mut targets = 0;
        for row in &self.sampling {
            if row.target_len > 0 {
                // Each is reported once, so that none of the results is left over from a step before.
                same("targets before those of a row", row.target_start as usize, targets)?;
                targets += row.target_len as usize;
            }
            if row.mask != NONE && row.mask as usize >= dims.masks {
                return Err(format!("mask {} is not below {}", row.mask, dims.masks));
            }
            let adjusted = row.adjust_start as usize + row.adjust_len as usize;
            if adjusted > dims.adjustments {
                return Err(format!("adjustments up to {adjusted} of {}", dims.adjustments));
            }
            if row.seq_slot != NONE && row.seq_slot as usize >= max_dims.seqs {
                return Err(format!("sequence slot {} is not below {}", row.seq_slot, max_dims.seqs));
            }
        }
        same("targets of rows", targets, dims.targets)
    }

    /// The masks that come late, if there are any.
    pub fn late(&self) -> Option<LateMasks> {
        (self.late_masks > 0).then_some(LateMasks { words: self.late_masks * self.mask_words })
    }

    /// The sequences of the step.
    pub fn seqs(&self) -> usize {
        self.query_start.len().saturating_sub(1)
    }

    /// The lengths of all sequences together; of a step that is not checked yet, those that can be told.
    fn contexts(&self) -> usize {
        let last = |end: &u32| self.positions.get((*end as usize).checked_sub(1)?);
        self.query_start.iter().skip(1).filter_map(last).map(|&p| p as usize + 1).sum()
    }

    /// The length of sequence `s` up to and with its last token in the step.
    pub fn seq_len(&self, s: usize) -> usize {
        self.positions[self.query_start[s + 1] as usize - 1] as usize + 1
    }

    /// The tokens of sequence `s`, as a range of rows.
    pub fn query_rows(&self, s: usize) -> std::ops::Range<usize> {
        self.query_start[s] as usize..self.query_start[s + 1] as usize
    }

    /// The bytes of one step input, as [`Input`] describes it.
    pub fn input(&self, input: Input) -> &[u8] {
        match input {
            Input::Tokens => bytemuck::cast_slice(&self.tokens),
            Input::Positions => bytemuck::cast_slice(&self.positions),
            Input::KvSlots => bytemuck::cast_slice(&self.kv_slots),
            Input::QueryStart => bytemuck::cast_slice(&self.query_start),
            Input::BlockTables => bytemuck::cast_slice(&self.block_tables),
            Input::OutputRows => bytemuck::cast_slice(&self.output_rows),
            Input::Sampling => bytemuck::cast_slice(&self.sampling),
            Input::Adjustments => bytemuck::cast_slice(&self.adjustments),
            Input::Masks => bytemuck::cast_slice(&self.masks),
            Input::Targets => bytemuck::cast_slice(&self.targets),
        }
    }
}

/// The masks that a step has left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateMasks {
    words: usize,
}

impl LateMasks {
    /// Checks the masks that come.
    ///
    /// # Errors
    /// If they are not as many words as the step has left out.
    pub fn check(self, masks: &[u32]) -> Result<(), String> {
        same("words of late masks", masks.len(), self.words)
    }
}

fn same(what: &str, n: usize, want: usize) -> Result<(), String> {
    if n == want { Ok(()) } else { Err(format!("{n} {what}, not {want}")) }
}

fn below(what: &str, values: &[u32], bound: usize) -> Result<(), String> {
    match values.iter().max() {
        Some(&v) if v as usize >= bound => Err(format!("{what} {v} is not below {bound}")),
        _ => Ok(()),
    }
}

/// What a device reports of one output position. 168 bytes, as the kernels write it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Sampled {
    /// The chosen token, or the target.
    pub token: u32,
    /// Its log-probability under the raw logits (before adjustments, masks and temperature).
    /// NaN if any logit of the row is not finite.
    pub logprob: f32,
    /// The likeliest tokens under the raw logits, best first, ties by lower id.
    pub top_tokens: [u32; MAX_LOGPROBS],
    /// Their log-probabilities.
    pub top_logprobs: [f32; MAX_LOGPROBS],
}

/// The result of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepOutput {
    /// The chosen tokens: one entry for each output position, in the step's order.
    pub sampled: Vec<Sampled>,
    /// One log-probability for each of [`Step::targets`], as [`Sampled::logprob`].
    pub target_logprobs: Vec<f32>,
}
