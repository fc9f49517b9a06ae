//! What the host gives a device for one step, and what it gets back.

use crate::plan::Dims;
use bytemuck::{Pod, Zeroable};

/// "None" in a field of [`SampleRow`].
pub const NONE: u32 = u32::MAX;

/// The most alternatives that a position can report (`logprobs`, `prompt_logprobs`).
pub const MAX_LOGPROBS: usize = 20;

/// Words of a [`Sampled`] row on the device: token, log-probability, then the alternatives.
pub const SAMPLED_WORDS: usize = 2 + 2 * MAX_LOGPROBS;

/// Set in a token of [`Step::tokens`] that stands for the last token of a sequence.
const FROM_LAST: u32 = 1 << 31;

/// A token that the device takes from its `last tokens` state at `slot`, so that the host can
/// prepare a step before it knows what the step before has sampled.
pub const fn from_last(slot: u32) -> u32 {
    FROM_LAST | slot
}

/// The slot that a token refers to, or `None` if it is a plain token id.
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
    pub last_slot: u32,
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
    /// Room to 64 bytes.
    pub reserved: [u32; 3],
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
            last_slot: NONE,
            target: NONE,
            mask: NONE,
            adjust_start: 0,
            adjust_len: 0,
            logprobs: 0,
            reserved: [0; 3],
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

/// The host's inputs of one step. Lengths are those of [`Step::dims`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// Token ids (see [`from_last`]), sequence after sequence.
    pub tokens: Vec<u32>,
    /// The position of each token in its sequence.
    pub positions: Vec<u32>,
    /// The KV slot that each token writes: page times page size, plus the place within the page.
    pub slots: Vec<u32>,
    /// The first token of each sequence, then the token count.
    pub query_start: Vec<u32>,
    /// The length of each sequence up to and with its last token here.
    pub seq_lens: Vec<u32>,
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
    /// Words in a mask: `ceil(vocab / 32)`.
    pub mask_words: usize,
}

impl Step {
    /// The row counts of this step (`pages` is not a matter of a step and stays 0).
    pub fn dims(&self) -> Dims {
        Dims {
            tokens: self.tokens.len(),
            seqs: self.seq_lens.len(),
            outputs: self.output_rows.len(),
            adjustments: self.adjustments.len(),
            masks: self.masks.len().checked_div(self.mask_words).unwrap_or(0),
            pages: 0,
            page_size: self.page_size,
            pages_per_seq: self.pages_per_seq,
            attended: self.positions.iter().map(|&p| p as usize + 1).sum(),
        }
    }

    /// Checks that the inputs agree with each other and fit a plan compiled for `most`.
    ///
    /// # Errors
    /// The first input that does not.
    pub fn check(&self, most: &Dims) -> Result<(), String> {
        let dims = self.dims();
        let fits = |what: &str, n: usize, most: usize| {
            if n <= most { Ok(()) } else { Err(format!("{n} {what}; the plan is compiled for {most}")) }
        };
        fits("tokens", dims.tokens, most.tokens)?;
        fits("sequences", dims.seqs, most.seqs)?;
        fits("outputs", dims.outputs, most.outputs)?;
        fits("adjustments", dims.adjustments, most.adjustments)?;
        fits("masks", dims.masks, most.masks)?;
        let same = |what: &str, n: usize, want: usize| {
            if n == want { Ok(()) } else { Err(format!("{n} {what}, not {want}")) }
        };
        same("positions", self.positions.len(), dims.tokens)?;
        same("slots", self.slots.len(), dims.tokens)?;
        same("sample rows", self.sampling.len(), dims.outputs)?;
        same("tokens a page", self.page_size, most.page_size)?;
        same("block table entries", self.block_tables.len(), dims.seqs * self.pages_per_seq)?;
        same("query bounds", self.query_start.len(), dims.seqs + 1)?;
        same("tokens of sequences", self.query_start.last().map_or(0, |&n| n as usize), dims.tokens)?;
        same("block table columns", self.pages_per_seq, most.pages_per_seq)?;
        let below = |what: &str, values: &[u32], bound: usize| match values.iter().max() {
            Some(&v) if v as usize >= bound => Err(format!("{what} {v} is not below {bound}")),
            _ => Ok(()),
        };
        below("KV slot", &self.slots, most.pages * most.page_size)?;
        below("page", &self.block_tables, most.pages.max(1))?;
        below("output row", &self.output_rows, dims.tokens)
    }

    /// The tokens of sequence `s`, as a range of rows.
    pub fn query_rows(&self, s: usize) -> std::ops::Range<usize> {
        self.query_start[s] as usize..self.query_start[s + 1] as usize
    }

    /// The bytes of one step input, as [`crate::plan::Input`] describes it.
    pub fn input(&self, input: crate::plan::Input) -> &[u8] {
        use crate::plan::Input;
        match input {
            Input::Tokens => bytemuck::cast_slice(&self.tokens),
            Input::Positions => bytemuck::cast_slice(&self.positions),
            Input::Slots => bytemuck::cast_slice(&self.slots),
            Input::QueryStart => bytemuck::cast_slice(&self.query_start),
            Input::SeqLens => bytemuck::cast_slice(&self.seq_lens),
            Input::BlockTables => bytemuck::cast_slice(&self.block_tables),
            Input::OutputRows => bytemuck::cast_slice(&self.output_rows),
            Input::Sampling => bytemuck::cast_slice(&self.sampling),
            Input::Adjustments => bytemuck::cast_slice(&self.adjustments),
            Input::Masks => bytemuck::cast_slice(&self.masks),
        }
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

/// The result of a step: one entry for each output position, in the step's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepOutput {
    /// The chosen tokens.
    pub sampled: Vec<Sampled>,
}
