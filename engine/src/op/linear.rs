//! Linear: a product with a weight.

use super::checker::Checker;
use super::operation::{Cost, Operation, Sizes};
use crate::buffer::{BufferId, Rows, View};

/// `out = x weight^T + bias`. Each element sums over K in one order, whatever the row count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linear {
    /// `[R, K]`.
    pub x: View,
    /// `[N, K]` weight.
    pub weight: BufferId,
    /// `[1, N]` weight.
    pub bias: Option<BufferId>,
    /// `[R, N]`.
    pub out: View,
}

impl Operation for Linear {
    const NAME: &'static str = "Linear";

    fn check(&self, c: &Checker) -> Result<(), String> {
        c.same_rows(self.x, self.out)?;
        c.matrix(self.weight, Some(Rows::Fixed(self.out.cols)), self.x.cols)?;
        self.bias.map_or(Ok(()), |bias| c.plain(bias, Some(Rows::Fixed(1)), self.out.cols))
    }

    fn reads(&self) -> Vec<View> {
        vec![self.x]
    }

    fn writes(&self) -> Vec<View> {
        vec![self.out]
    }

    fn cost(&self, s: &Sizes) -> Cost {
        let weights = s.buffer(self.weight) + self.bias.map_or(0, |bias| s.buffer(bias));
        let flops = 2 * s.elements(self.x) * self.out.cols as u64;
        let fp8_flops = if s.is_fp8(self.weight) { flops } else { 0 };
        Cost { bytes: s.view(self.x) + weights + s.view(self.out), flops, fp8_flops }
    }
}

#[cfg(feature = "cases")]
pub mod cases {
    //! Cases of Linear.
    use super::*;
    use crate::cases::{Builder, Case, Formats, dims};
    use crate::op::rms_norm::RmsNorm;

    /// Linear over new buffers.
    fn op(b: &mut Builder, f: Formats, k: usize, n: usize, bias: bool) -> Linear {
        let x = b.activation("x", f.activations, Rows::Tokens, k);
        let scale = (3.0 / k as f32).sqrt();
        let weight = b.matrix("weight", f.weights, n, k, scale);
        let bias = bias.then(|| b.vector("bias", n, 1.0));
        let out = b.activation("out", f.activations, Rows::Tokens, n);
        Linear { x, weight, bias, out }
    }

    /// Linear from `k` to `n` columns.
    pub fn linear(f: Formats, rows: usize, k: usize, n: usize, bias: bool) -> Case {
        let with = if bias { " bias" } else { "" };
        let mut b = Builder::new(format!("Linear {rows}x{k}x{n}{with}"), dims(rows));
        let op = op(&mut b, f, k, n, bias);
        b.finish(op, &[(op.out, rows)])
    }

    /// Linear whose result a norm adds to the residual: two ops, which devices may run as one.
    pub fn linear_residual(f: Formats, rows: usize, k: usize, n: usize, bias: bool) -> Case {
        let with = if bias { " bias" } else { "" };
        let mut b = Builder::new(format!("Linear {rows}x{k}x{n}{with}, RmsNorm"), dims(rows));
        let op = op(&mut b, f, k, n, bias);
        b.case.plan.ops.push(op.into());
        let x = b.activation("hidden", f.activations, Rows::Tokens, n);
        let weight = b.vector("norm", n, 2.0);
        let out = b.activation("normed", f.activations, Rows::Tokens, n);
        let norm = RmsNorm { x, add: Some(op.out), weight, out, width: n, eps: 1e-5 };
        b.finish(norm, &[(out, rows), (x, rows)])
    }
}
