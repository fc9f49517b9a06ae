//! RmsNorm (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019), with the residual.

use super::checker::Checker;
use super::operation::{Cost, Operation, Sizes};
use crate::buffer::{BufferId, Rows, View};

/// `x += add` where there is one, then over each run of `width` columns
/// `out = x / sqrt(mean(x^2) + eps) * weight`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsNorm {
    /// `[R, C]`; written if `add` is there.
    pub x: View,
    /// `[R, C]`, added to `x` first: the residual.
    pub add: Option<View>,
    /// `[1, width]` weight.
    pub weight: BufferId,
    /// `[R, C]`; may be `x`.
    pub out: View,
    /// Columns normalised together: all, or a head's.
    pub width: usize,
    /// Keeps the root from zero.
    pub eps: f32,
}

impl Operation for RmsNorm {
    const NAME: &'static str = "RmsNorm";

    fn check(&self, c: &Checker) -> Result<(), String> {
        c.same(self.x, self.out)?;
        self.add.map_or(Ok(()), |add| c.same(self.x, add))?;
        if self.width == 0 || !self.x.cols.is_multiple_of(self.width) {
            return Err(format!("width {} does not divide {} columns", self.width, self.x.cols));
        }
        c.plain(self.weight, Some(Rows::Fixed(1)), self.width)
    }

    fn reads(&self) -> Vec<View> {
        [self.x].into_iter().chain(self.add).collect()
    }

    fn writes(&self) -> Vec<View> {
        if self.add.is_some() { vec![self.x, self.out] } else { vec![self.out] }
    }

    fn cost(&self, s: &Sizes) -> Cost {
        let residual = self.add.map_or(0, |add| s.view(add) + s.view(self.x));
        Cost {
            bytes: s.view(self.x) + s.view(self.out) + residual,
            flops: 4 * s.elements(self.x),
            ..Cost::default()
        }
    }
}

#[cfg(feature = "cases")]
pub mod cases {
    //! Cases of RmsNorm.
    use super::*;
    use crate::cases::{Builder, Case, Formats, dims};

    /// RmsNorm over runs of `width` columns.
    pub fn rms_norm(f: Formats, rows: usize, cols: usize, width: usize, residual: bool) -> Case {
        let kind = if residual { " residual" } else { "" };
        let mut b = Builder::new(format!("RmsNorm {rows}x{cols}/{width}{kind}"), dims(rows));
        let x = b.activation("x", f.activations, Rows::Tokens, cols);
        let add = residual.then(|| b.activation("add", f.activations, Rows::Tokens, cols));
        let weight = b.vector("weight", width, 2.0);
        let in_place = width != cols;
        let out = if in_place { x } else { b.activation("out", f.activations, Rows::Tokens, cols) };
        let mut outputs = vec![(out, rows)];
        if residual {
            outputs.push((x, rows));
        }
        b.finish(RmsNorm { x, add, weight, out, width, eps: 1e-5 }, &outputs)
    }
}
