//! A model compiled to a flat list of ops over named buffers.

pub use crate::buffer::{BufferDesc, BufferId, BufferKind, Buffers, Dims, Input, Rows, View};

use crate::dtype::DType;
use crate::format::Format;
use crate::op::Op;

/// A model as a device sees it: buffers, and the ops to run in order.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The buffers.
    pub buffers: Buffers,
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
        self.buffers.0.push(BufferDesc { name: name.into(), kind, format: format.into(), rows, cols });
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
        self.buffers.desc(id)
    }

    /// All columns of a buffer.
    pub fn view(&self, buffer: BufferId) -> View {
        View { buffer, start: 0, cols: self.desc(buffer).cols }
    }

    /// The buffers with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (BufferId, &BufferDesc)> {
        self.buffers.with_ids()
    }

    /// The buffer of a step input, if the plan has one.
    pub fn input(&self, input: Input) -> Option<BufferId> {
        self.buffers.input(input)
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
            op.check(&self.buffers).map_err(|why| format!("op {i} ({}): {why}", op.name()))?;
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
                BufferKind::KvPage if desc.format.plain().is_some() => {}
                _ if desc.format == DType::E4M3.into() => {
                    return Err(format!("{} is {}; only KV pages can be", desc.name, desc.format));
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
