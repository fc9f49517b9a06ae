//! Add: element by element.

use super::checker::Checker;
use super::operation::{Cost, Operation, Sizes};
use crate::buffer::View;

/// `out = a + b`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Add {
    /// `[R, C]`.
    pub a: View,
    /// `[R, C]`.
    pub b: View,
    /// `[R, C]`; may be `a` or `b`.
    pub out: View,
}

impl Operation for Add {
    const NAME: &'static str = "Add";

    fn check(&self, c: &Checker) -> Result<(), String> {
        c.same(self.a, self.b)?;
        c.same(self.a, self.out)
    }

    fn reads(&self) -> Vec<View> {
        vec![self.a, self.b]
    }

    fn writes(&self) -> Vec<View> {
        vec![self.out]
    }

    fn cost(&self, s: &Sizes) -> Cost {
        let bytes = s.view(self.a) + s.view(self.b) + s.view(self.out);
        Cost { bytes, flops: s.elements(self.a), ..Cost::default() }
    }
}

#[cfg(feature = "cases")]
pub mod cases {
    //! Cases of Add.
    use super::*;
    use crate::buffer::Rows;
    use crate::cases::{Builder, Case, Formats, dims};

    /// Add, in place.
    pub fn add(f: Formats, rows: usize, cols: usize) -> Case {
        let mut b = Builder::new(format!("Add {rows}x{cols}"), dims(rows));
        let x = b.activation("a", f.activations, Rows::Tokens, cols);
        let y = b.activation("b", f.activations, Rows::Tokens, cols);
        b.finish(Add { a: x, b: y, out: x }, &[(x, rows)])
    }
}
