//! What every op says of itself.

use super::checker::Checker;
use crate::buffer::{BufferId, Buffers, Dims, Input, View};
use crate::format::Format;

/// What an op moves and computes at given dimensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes read and written, each operand once.
    pub bytes: u64,
    /// Floating-point operations, a multiply-add as two.
    pub flops: u64,
    /// Those of them that are products with FP8 weights, for which some devices have faster instructions.
    pub fp8_flops: u64,
}

/// The sizes of operands at given dimensions, for costs.
pub struct Sizes<'a> {
    pub(super) buffers: &'a Buffers,
    /// The dimensions.
    pub dims: &'a Dims,
}

impl Sizes<'_> {
    /// The rows of a view.
    pub fn rows(&self, view: View) -> usize {
        self.dims.count(self.buffers.desc(view.buffer).rows)
    }

    /// The bytes of a view.
    pub fn view(&self, view: View) -> u64 {
        (self.rows(view) * self.buffers.desc(view.buffer).format.row_bytes(view.cols)) as u64
    }

    /// The elements of a view.
    pub fn elements(&self, view: View) -> u64 {
        (self.rows(view) * view.cols) as u64
    }

    /// Whether the elements of a weight are FP8.
    pub fn is_fp8(&self, id: BufferId) -> bool {
        matches!(self.buffers.desc(id).format, Format::Fp8 | Format::Fp8Blocks)
    }

    /// The bytes of a whole buffer.
    pub fn buffer(&self, id: BufferId) -> u64 {
        self.buffers.desc(id).bytes(self.dims) as u64
    }

    /// The bytes of one row of a buffer.
    pub fn row(&self, id: BufferId) -> u64 {
        self.buffers.desc(id).row_bytes() as u64
    }
}

/// What every op says of itself.
pub trait Operation {
    /// The op's name.
    const NAME: &'static str;

    /// Checks shapes and types.
    ///
    /// # Errors
    /// What does not fit, with the buffers' names.
    fn check(&self, c: &Checker) -> Result<(), String>;

    /// The step inputs that the op reads.
    fn inputs(&self) -> &'static [Input] {
        &[]
    }

    /// The columns of activations that the op reads.
    fn reads(&self) -> Vec<View>;

    /// The columns of activations that the op writes, in all rows of the step.
    fn writes(&self) -> Vec<View>;

    /// What the op moves and computes.
    fn cost(&self, sizes: &Sizes) -> Cost;
}
