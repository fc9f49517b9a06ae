//! GatedMul: the gate of a feed-forward layer (Shazeer, "GLU Variants Improve Transformer", 2020).

use super::checker::Checker;
use super::operation::{Cost, Operation, Sizes};
use crate::buffer::View;

/// The gate function of [`GatedMul`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
    GeluTanh,
}

/// `out = act(x[.., ..N]) * x[.., N..]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GatedMul {
    /// `[R, 2N]`: gate, then up.
    pub x: View,
    /// `[R, N]`.
    pub out: View,
    /// The gate function.
    pub act: Activation,
}

impl Operation for GatedMul {
    const NAME: &'static str = "GatedMul";

    fn check(&self, c: &Checker) -> Result<(), String> {
        c.same_rows(self.x, self.out)?;
        if self.x.cols != 2 * self.out.cols {
            return Err(format!("{} columns are not twice {}", self.x.cols, self.out.cols));
        }
        Ok(())
    }

    fn reads(&self) -> Vec<View> {
        vec![self.x]
    }

    fn writes(&self) -> Vec<View> {
        vec![self.out]
    }

    fn cost(&self, s: &Sizes) -> Cost {
        Cost { bytes: s.view(self.x) + s.view(self.out), flops: 6 * s.elements(self.out), ..Cost::default() }
    }
}

#[cfg(feature = "cases")]
pub mod cases {
    //! Cases of GatedMul.
    use super::*;
    use crate::buffer::{BufferKind, Rows};
    use crate::cases::{Builder, Case, Formats, dims};
    use crate::op::linear::Linear;

    /// GatedMul of `rows` rows into `cols` columns.
    pub fn gated_mul(f: Formats, rows: usize, cols: usize, act: Activation) -> Case {
        let mut b = Builder::new(format!("GatedMul {act:?} {rows}x{cols}"), dims(rows));
        let id = b.random("x", BufferKind::Activation, f.activations, Rows::Tokens, 2 * cols, 6.0);
        let x = b.case.plan.view(id);
        let out = b.activation("out", f.activations, Rows::Tokens, cols);
        b.finish(GatedMul { x, out, act }, &[(out, rows)])
    }

    /// Linear to gates and up columns, and their GatedMul into `cols` columns: two ops, which devices may run as one.
    pub fn linear_gated(f: Formats, rows: usize, k: usize, cols: usize, bias: bool, act: Activation) -> Case {
        let with = if bias { " bias" } else { "" };
        let mut b =
            Builder::new(format!("Linear {rows}x{k}x{}{with}, GatedMul {act:?}", 2 * cols), dims(rows));
        let x = b.activation("x", f.activations, Rows::Tokens, k);
        let weight = b.matrix("weight", f.weights, 2 * cols, k, (3.0 / k as f32).sqrt());
        let bias = bias.then(|| b.vector("bias", 2 * cols, 1.0));
        let gate_up = b.activation("gate_up", f.activations, Rows::Tokens, 2 * cols);
        let out = b.activation("out", f.activations, Rows::Tokens, cols);
        b.case.plan.ops.push(Linear { x, weight, bias, out: gate_up }.into());
        b.finish(GatedMul { x: gate_up, out, act }, &[(out, rows)])
    }
}
