//! The buffers of a plan: what they are for, how many rows they have, how a row lies in bytes.
//!
//! Row counts are symbolic ([`Rows`]), so one plan serves every batch: a device compiles it once for the greatest
//! [`Dims`], and each [`crate::step::Step`] says how many rows it really has.

use crate::dtype::DType;
use crate::format::Format;
use std::ops::{Deref, DerefMut, Range};

/// Words of a [`crate::step::SampleRow`].
pub const SAMPLE_ROW_WORDS: usize = 16;

/// Words of an [`crate::step::Adjustment`].
pub const ADJUSTMENT_WORDS: usize = 4;

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
    /// One row for each token whose log-probability is asked for.
    Targets,
    /// One row for each KV slot: pages times page size.
    KvSlots,
    /// A count that no step changes.
    Fixed(usize),
}

/// Row counts, either of one step or the greatest that a device must be ready for.
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
    /// Tokens whose log-probabilities are asked for in a step.
    pub targets: usize,
    /// KV pages.
    pub pages: usize,
    /// Tokens in a KV page (`--block-size`).
    pub page_size: usize,
    /// Pages of the longest sequence: the columns of the block tables.
    pub pages_per_seq: usize,
    /// Attended positions, summed over the tokens of a step (for costs only).
    pub attended: usize,
    /// The same, each once for all tokens of a sequence: those whose keys and values must be read.
    pub contexts: usize,
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
            Rows::Targets => self.targets,
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
    /// `[Targets, 1]` tokens whose log-probabilities are asked for (see [`crate::step::SampleRow::target_start`]).
    Targets,
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
            Input::Targets => Rows::Targets,
        }
    }

    /// The columns of the input's buffer, where they are the same in every plan.
    pub const fn fixed_cols(self) -> Option<usize> {
        match self {
            Input::BlockTables | Input::Masks => None,
            Input::Sampling => Some(SAMPLE_ROW_WORDS),
            Input::Adjustments => Some(ADJUSTMENT_WORDS),
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

/// All buffers of a plan; a [`BufferId`] is a place in the list.
#[derive(Clone, Debug, Default)]
pub struct Buffers(pub(crate) Vec<BufferDesc>);

impl Deref for Buffers {
    type Target = [BufferDesc];

    fn deref(&self) -> &[BufferDesc] {
        &self.0
    }
}

impl DerefMut for Buffers {
    fn deref_mut(&mut self) -> &mut [BufferDesc] {
        &mut self.0
    }
}

impl<'a> IntoIterator for &'a Buffers {
    type Item = &'a BufferDesc;
    type IntoIter = std::slice::Iter<'a, BufferDesc>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl Buffers {
    /// The description of a buffer.
    pub fn desc(&self, id: BufferId) -> &BufferDesc {
        &self.0[id.0]
    }

    /// The buffers with their ids.
    pub fn with_ids(&self) -> impl Iterator<Item = (BufferId, &BufferDesc)> {
        self.iter().enumerate().map(|(i, desc)| (BufferId(i), desc))
    }

    /// The buffer of a step input, if the plan has one.
    pub fn input(&self, input: Input) -> Option<BufferId> {
        self.with_ids().find(|(_, d)| d.kind == BufferKind::StepInput(input)).map(|(id, _)| id)
    }
}
