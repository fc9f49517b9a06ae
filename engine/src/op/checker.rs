//! Shape checks with messages that name the buffer.

use crate::buffer::{BufferId, BufferKind, Buffers, Input, Rows, View};
use crate::dtype::DType;
use crate::format::Format;

/// Checks the operands of an op against its plan's buffers.
pub struct Checker<'a> {
    buffers: &'a Buffers,
}

impl<'a> Checker<'a> {
    /// Checks against these buffers.
    pub(super) fn new(buffers: &'a Buffers) -> Checker<'a> {
        Checker { buffers }
    }

    /// The columns of a buffer.
    pub(super) fn cols_of(&self, id: BufferId) -> usize {
        self.buffers.desc(id).cols
    }

    /// A view of floats with these rows.
    pub(super) fn rows(&self, v: View, rows: Rows) -> Result<(), String> {
        let d = self.buffers.desc(v.buffer);
        if v.start + v.cols > d.cols {
            return Err(format!("columns {}..{} are not in {}", v.start, v.start + v.cols, d.name));
        }
        if !d.format.plain().is_some_and(DType::is_float) {
            return Err(format!("{} holds {}, not plain floats", d.name, d.format));
        }
        if d.rows == rows { Ok(()) } else { Err(format!("{} has {:?} rows, not {rows:?}", d.name, d.rows)) }
    }

    /// Two views of floats with the same rows.
    pub(super) fn same_rows(&self, a: View, b: View) -> Result<(), String> {
        self.rows(a, self.buffers.desc(a.buffer).rows)?;
        self.rows(b, self.buffers.desc(a.buffer).rows)
    }

    /// Two views of floats of the same shape.
    pub(super) fn same(&self, a: View, b: View) -> Result<(), String> {
        self.same_rows(a, b)?;
        if a.cols == b.cols { Ok(()) } else { Err(format!("{} columns against {}", a.cols, b.cols)) }
    }

    /// A buffer with so many columns.
    pub(super) fn cols(&self, id: BufferId, cols: usize) -> Result<(), String> {
        let d = self.buffers.desc(id);
        if d.cols == cols { Ok(()) } else { Err(format!("{} has {} columns, not {cols}", d.name, d.cols)) }
    }

    /// A buffer of integers of this shape.
    pub(super) fn ints(&self, id: BufferId, rows: Rows, cols: usize) -> Result<(), String> {
        let d = self.buffers.desc(id);
        if d.format != Format::Plain(DType::U32) || d.rows != rows {
            return Err(format!("{} is {} by {:?}, not u32 by {rows:?}", d.name, d.format, d.rows));
        }
        self.cols(id, cols)
    }

    /// A buffer of f32 of this shape.
    pub(super) fn plain_f32(&self, id: BufferId, rows: Rows, cols: usize) -> Result<(), String> {
        let d = self.buffers.desc(id);
        if d.format != Format::Plain(DType::F32) || d.rows != rows {
            return Err(format!("{} is {} by {:?}, not f32 by {rows:?}", d.name, d.format, d.rows));
        }
        self.cols(id, cols)
    }

    /// A buffer of this kind.
    pub(super) fn kind(&self, id: BufferId, kind: BufferKind) -> Result<(), String> {
        let d = self.buffers.desc(id);
        if d.kind == kind { Ok(()) } else { Err(format!("{} is a {:?}, not a {kind:?}", d.name, d.kind)) }
    }

    /// The last sampled token of each running sequence.
    pub(super) fn last_tokens(&self, id: BufferId) -> Result<(), String> {
        self.kind(id, BufferKind::State)?;
        self.ints(id, self.buffers.desc(id).rows, 1)
    }

    /// The step input is there, of the shape that it has in every plan.
    pub(super) fn input(&self, input: Input) -> Result<(), String> {
        let Some(id) = self.buffers.input(input) else {
            return Err(format!("the plan has no buffer for the step input {input:?}"));
        };
        self.ints(id, input.rows(), input.fixed_cols().unwrap_or(self.cols_of(id)))
    }

    /// The masks are there, with a bit for each of so many tokens.
    pub(super) fn masks(&self, vocab: usize) -> Result<(), String> {
        self.input(Input::Masks)?;
        self.buffers.input(Input::Masks).map_or(Ok(()), |id| self.cols(id, vocab.div_ceil(32)))
    }

    /// A matrix of weights, in any format.
    pub(super) fn matrix(&self, id: BufferId, rows: Option<Rows>, cols: usize) -> Result<(), String> {
        self.kind(id, BufferKind::Weight)?;
        let d = self.buffers.desc(id);
        if rows.is_some_and(|rows| d.rows != rows) {
            return Err(format!("{} has {:?} rows, not {rows:?}", d.name, d.rows));
        }
        if !d.cols.is_multiple_of(d.format.block()) {
            let (name, format, block) = (&d.name, d.format, d.format.block());
            return Err(format!("{name} has {} columns, no multiple of {format}'s block of {block}", d.cols));
        }
        self.cols(id, cols)
    }

    /// A weight of plain floats: a norm, a bias, a table.
    pub(super) fn plain(&self, id: BufferId, rows: Option<Rows>, cols: usize) -> Result<(), String> {
        let d = self.buffers.desc(id);
        if d.format.plain().is_none() {
            return Err(format!("{} is {}, not plain floats", d.name, d.format));
        }
        self.matrix(id, rows, cols)
    }

    /// KV pages of so many columns each, of one type.
    pub(super) fn pages(&self, pages: [BufferId; 2], cols: [usize; 2]) -> Result<(), String> {
        let [k, v] = pages.map(|id| self.buffers.desc(id));
        for d in [k, v] {
            if d.kind != BufferKind::KvPage || d.rows != Rows::KvSlots {
                return Err(format!("{} holds no KV pages", d.name));
            }
        }
        if k.format != v.format {
            return Err(format!("{} is {} and {} is {}", k.name, k.format, v.name, v.format));
        }
        pages.into_iter().zip(cols).try_for_each(|(id, cols)| self.cols(id, cols))
    }

    /// Whole heads.
    pub(super) fn heads(&self, v: View, head_dim: usize) -> Result<(), String> {
        if head_dim == 0 || !head_dim.is_multiple_of(2) || !v.cols.is_multiple_of(head_dim) {
            return Err(format!("{} columns are no heads of {head_dim}", v.cols));
        }
        Ok(())
    }
}
