//! SoftCap: logits kept within a bound (Gemma 2, "Improving Open Language Models at a Practical Size", 2024).

use super::checker::Checker;
use super::operation::{Cost, Operation, Sizes};
use crate::buffer::View;

/// `x = cap * tanh(x / cap)`, in place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoftCap {
    /// `[R, C]`.
    pub x: View,
    /// The bound of the result's absolute value; above 0.
    pub cap: f32,
}

impl Operation for SoftCap {
    const NAME: &'static str = "SoftCap";

    fn check(&self, c: &Checker) -> Result<(), String> {
        if !(self.cap.is_finite() && self.cap > 0.0) {
            return Err(format!("cap {} must be above 0", self.cap));
        }
        c.same(self.x, self.x)
    }

    fn reads(&self) -> Vec<View> {
        vec![self.x]
    }

    fn writes(&self) -> Vec<View> {
        vec![self.x]
    }

    fn cost(&self, s: &Sizes) -> Cost {
        Cost { bytes: 2 * s.view(self.x), flops: 6 * s.elements(self.x), ..Cost::default() }
    }
}

#[cfg(feature = "cases")]
pub mod cases {
    //! Cases of SoftCap.
    use super::*;
    use crate::buffer::{BufferKind, Rows};
    use crate::cases::{Builder, Case, Formats, dims};

    /// SoftCap of numbers up to four times the cap.
    pub fn soft_cap(f: Formats, rows: usize, cols: usize) -> Case {
        let mut b = Builder::new(format!("SoftCap {rows}x{cols}"), dims(rows));
        let id = b.random("x", BufferKind::Activation, f.activations, Rows::Tokens, cols, 120.0);
        let x = b.case.plan.view(id);
        b.finish(SoftCap { x, cap: 30.0 }, &[(x, rows)])
    }
}
