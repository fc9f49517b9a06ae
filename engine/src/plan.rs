//! A model compiled to a flat list of ops over named buffers.
//!
//! Row counts are symbolic ([`Rows`]), so one plan serves every batch: a device compiles it once for
//! the largest [`Dims`] and each [`crate::step::Step`] says how many rows it really has.

use crate::dtype::DType;
use crate::format::Format;
use crate::op::Op;
use crate::step::{Adjustment, SampleRow};
use std::ops::Range;

/// The rows of a buffer: a name for a count that each step settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rows {
    /// One row for each token of the step.
    Tokens,
    /// One row for each sequence of the step.
    Seqs,
    /// One more row than there are sequences (the bounds between their tokens).
    SeqBounds,
    /// One row for each position whose logits are wanted.
    Outputs,
    /// One row for each logit adjustment of the step.
    Adjustments,
    /// One row for each token mask of the step.
    Masks,
    /// One row for each KV slot: pages times page size.
    KvSlots,
    /// A count that no step changes.
    Fixed(usize),
}

/// Row counts, either of one step or the largest that a device must be ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dims {
    /// Tokens in a step.
    pub tokens: usize,
    /// Sequences in a step.
    pub seqs: usize,
    /// Positions whose logits are wanted in a step.
    pub outputs: usize,
    /// Logit adjustments in a step.
    pub adjustments: usize,
    /// Token masks in a step.
    pub masks: usize,
    /// KV pages.
    pub pages: usize,
    /// Tokens in a KV page (`--block-size`).
    pub page_size: usize,
    /// Pages of the longest sequence: the columns of the block tables.
    pub pages_per_seq: usize,
    /// Attended positions, summed over the tokens of a step (for costs only).
    pub attended: usize,
}

impl Dims {
    /// The count that `rows` stands for.
    pub fn count(&self, rows: Rows) -> usize {
        match rows {
            Rows::Tokens => self.tokens,
            Rows::Seqs => self.seqs,
            Rows::SeqBounds => self.seqs + 1,
            Rows::Outputs => self.outputs,
            Rows::Adjustments => self.adjustments,
            Rows::Masks => self.masks,
            Rows::KvSlots => self.pages * self.page_size,
            Rows::Fixed(n) => n,
        }
    }
}

/// What a buffer is for, and who fills it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BufferKind {
    /// Filled once by the loader and read-only after that.
    Weight,
    /// Keys or values of one layer, one row for each KV slot. Kept from step to step.
    KvPage,
    /// Written and read within a step.
    Activation,
    /// Kept from step to step on the device (the last sampled token of each running sequence).
    State,
    /// Filled by the device from the field of the step that it names.
    StepInput(Input),
    /// Read back by the host when the step is done.
    StepOutput,
}

/// The field of a [`crate::step::Step`] that fills a [`BufferKind::StepInput`] buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// `[Tokens, 1]` token ids, or references to last tokens (see [`crate::step::from_last`]).
    Tokens,
    /// `[Tokens, 1]` position of each token in its sequence.
    Positions,
    /// `[Tokens, 1]` KV slot that each token writes.
    KvSlots,
    /// `[SeqBounds, 1]` first token of each sequence, and the token count at the end.
    QueryStart,
    /// `[Seqs, pages_per_seq]` page numbers of each sequence.
    BlockTables,
    /// `[Outputs, 1]` the token row of each wanted position.
    OutputRows,
    /// `[Outputs, 16]` one [`crate::step::SampleRow`] for each wanted position.
    Sampling,
    /// `[Adjustments, 4]` one [`crate::step::Adjustment`] for each.
    Adjustments,
    /// `[Masks, ceil(vocab / 32)]` bit masks of allowed tokens.
    Masks,
}

impl Input {
    /// The rows of the input's buffer.
    pub const fn rows(self) -> Rows {
        match self {
            Input::Tokens | Input::Positions | Input::KvSlots => Rows::Tokens,
            Input::QueryStart => Rows::SeqBounds,
            Input::BlockTables => Rows::Seqs,
            Input::OutputRows | Input::Sampling => Rows::Outputs,
            Input::Adjustments => Rows::Adjustments,
            Input::Masks => Rows::Masks,
        }
    }

    /// The columns of the input's buffer, where they are the same in every plan.
    pub const fn fixed_cols(self) -> Option<usize> {
        match self {
            Input::BlockTables | Input::Masks => None,
            Input::Sampling => Some(size_of::<SampleRow>() / 4),
            Input::Adjustments => Some(size_of::<Adjustment>() / 4),
            _ => Some(1),
        }
    }
}

/// A buffer of a plan: row-major `[rows, cols]`.
#[derive(Clone, Debug, PartialEq)]
pub struct BufferDesc {
    /// A name for messages and for the loader, e.g. `layers.3.qkv.weight`.
    pub name: String,
    /// What it is for.
    pub kind: BufferKind,
    /// How a row lies in bytes. All but weights are plain.
    pub format: Format,
    /// How many rows it has.
    pub rows: Rows,
    /// How many elements a row has.
    pub cols: usize,
}

impl BufferDesc {
    /// Bytes of the buffer at these dimensions.
    pub fn bytes(&self, dims: &Dims) -> usize {
        dims.count(self.rows) * self.row_bytes()
    }

    /// Bytes of one row.
    pub const fn row_bytes(&self) -> usize {
        self.format.row_bytes(self.cols)
    }

    /// The type that decoding an element gives without loss.
    pub const fn value_type(&self) -> DType {
        self.format.value_type()
    }
}

/// A buffer's place in its plan's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub usize);

/// Neighbouring columns of a buffer: all its rows, columns `start .. start + cols`.
///
/// Query, key and value are columns of one matrix, so that one Linear makes all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// The buffer.
    pub buffer: BufferId,
    /// The first column.
    pub start: usize,
    /// The number of columns.
    pub cols: usize,
}

impl View {
    /// The columns of the buffer that it covers.
    pub fn columns(&self) -> Range<usize> {
        self.start..self.start + self.cols
    }
}

/// A model as a device sees it: buffers, and the ops to run in order.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The buffers; a [`BufferId`] is an index into this list.
    pub buffers: Vec<BufferDesc>,
    /// The ops in the order in which they take effect.
    pub ops: Vec<Op>,
}

impl Plan {
    /// Adds a buffer.
    pub fn buffer(
        &mut self,
        name: impl Into<String>,
        kind: BufferKind,
        format: impl Into<Format>,
        rows: Rows,
        cols: usize,
    ) -> BufferId {
        self.buffers.push(BufferDesc { name: name.into(), kind, format: format.into(), rows, cols });
        BufferId(self.buffers.len() - 1)
    }

    /// Appends an op, and a buffer for each step input that it is the first to read: block tables of `pages_per_seq`
    /// columns, masks of `mask_words`.
    pub fn push(&mut self, op: impl Into<Op>, pages_per_seq: usize, mask_words: usize) {
        let op = op.into();
        for &input in op.inputs() {
            let cols = input.fixed_cols().unwrap_or(match input {
                Input::BlockTables => pages_per_seq,
                _ => mask_words,
            });
            if self.input(input).is_none() {
                let kind = BufferKind::StepInput(input);
                self.buffer(format!("{input:?}"), kind, DType::U32, input.rows(), cols);
            }
        }
        self.ops.push(op);
    }

    /// The place of the first op that samples: what it reads beside logits may come late. The number of ops if none
    /// does.
    pub fn first_sample(&self) -> usize {
        self.ops.iter().position(|op| matches!(op, Op::Sample(_))).unwrap_or(self.ops.len())
    }

    /// The description of a buffer.
    pub fn desc(&self, id: BufferId) -> &BufferDesc {
        &self.buffers[id.0]
    }

    /// All columns of a buffer.
    pub fn view(&self, buffer: BufferId) -> View {
        View { buffer, start: 0, cols: self.desc(buffer).cols }
    }

    /// The buffers with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (BufferId, &BufferDesc)> {
        self.buffers.iter().enumerate().map(|(i, desc)| (BufferId(i), desc))
    }

    /// The buffer of a step input, if the plan has one.
    pub fn input(&self, input: Input) -> Option<BufferId> {
        self.iter().find(|(_, d)| d.kind == BufferKind::StepInput(input)).map(|(id, _)| id)
    }

    /// Bytes of all buffers that `which` selects, at these dimensions.
    pub fn bytes(&self, dims: &Dims, which: impl Fn(BufferKind) -> bool) -> usize {
        self.buffers.iter().filter(|b| which(b.kind)).map(|b| b.bytes(dims)).sum()
    }

    /// Bytes of KV cache that one token position takes, over all layers.
    pub fn kv_bytes_per_token(&self) -> usize {
        self.buffers.iter().filter(|b| b.kind == BufferKind::KvPage).map(|b| b.row_bytes()).sum()
    }

    /// Checks every op against the buffers that it names, and the step inputs against the greatest dimensions.
    ///
    /// # Errors
    /// The first op whose shapes or types do not fit, with its place in the list, or the input.
    pub fn check(&self, max_dims: &Dims) -> Result<(), String> {
        for (i, op) in self.ops.iter().enumerate() {
            op.check(self).map_err(|why| format!("op {i} ({}): {why}", op.name()))?;
        }
        for (id, desc) in self.iter() {
            match desc.kind {
                BufferKind::StepInput(input) if self.input(input) != Some(id) => {
                    return Err(format!("two buffers are for the step input {input:?}"));
                }
                BufferKind::StepInput(Input::BlockTables) if desc.cols != max_dims.pages_per_seq => {
                    let (cols, pages) = (desc.cols, max_dims.pages_per_seq);
                    return Err(format!(
                        "block tables have {cols} columns; a sequence has up to {pages} pages"
                    ));
                }
                BufferKind::Weight | BufferKind::StepInput(_) => {}
                _ if desc.format.plain().is_none() => {
                    return Err(format!("{} is {}; only weights can be", desc.name, desc.format));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
