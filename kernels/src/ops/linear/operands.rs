//! The operands of a Linear, and the arguments of its kernels.

use crate::args::{DevicePtr, c_struct, word};
use crate::lowering::{Lowering, Operand};
use engine::op::Activation;

c_struct! {
    /// The arguments of `linear_plain.cu`.
    pub(super) struct Args {
        rows: DevicePtr,
        x: DevicePtr,
        weight: DevicePtr,
        bias: DevicePtr,
        out: DevicePtr,
        n: u32,
        k: u32,
        x_stride: u32,
        out_stride: u32,
    }
}

/// A Linear whose operands have been found. `add`: the result is added to what `out` holds. `gate`: half of its columns
/// are gates of this kind for the other half, and `out` has half as many.
pub(super) struct Operands {
    pub(super) x: Operand,
    pub(super) weight: Operand,
    pub(super) bias: Option<Operand>,
    pub(super) out: Operand,
    pub(super) add: bool,
    pub(super) gate: Option<Activation>,
}

impl Operands {
    /// Rows of the weight.
    pub(super) fn weight_rows(&self) -> usize {
        if self.gate.is_some() { 2 * self.out.cols } else { self.out.cols }
    }

    pub(super) fn args(&self, lowering: &mut Lowering) -> Args {
        Args {
            rows: lowering.rows(self.x.rows),
            x: self.x.at,
            weight: self.weight.at,
            bias: self.bias.map_or(0, |bias| bias.at),
            out: self.out.at,
            n: word(self.out.cols),
            k: word(self.x.cols),
            x_stride: word(self.x.stride),
            out_stride: word(self.out.stride),
        }
    }
}
