//! GatherRows: the rows whose logits are wanted.

use super::checker::Checker;
use super::operation::{Cost, Operation, Sizes};
use crate::buffer::{Input, Rows, View};

/// `out[o] = x[row[o]]`, by [`Input::OutputRows`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GatherRows {
    /// `[T, C]`.
    pub x: View,
    /// `[O, C]`.
    pub out: View,
}

impl Operation for GatherRows {
    const NAME: &'static str = "GatherRows";

    fn check(&self, c: &Checker) -> Result<(), String> {
        c.rows(self.x, Rows::Tokens)?;
        c.rows(self.out, Rows::Outputs)?;
        if self.x.cols != self.out.cols {
            return Err(format!("{} columns gathered into {}", self.x.cols, self.out.cols));
        }
        Ok(())
    }

    fn inputs(&self) -> &'static [Input] {
        &[Input::OutputRows]
    }

    fn reads(&self) -> Vec<View> {
        vec![self.x]
    }

    fn writes(&self) -> Vec<View> {
        vec![self.out]
    }

    fn cost(&self, s: &Sizes) -> Cost {
        Cost { bytes: 2 * s.view(self.out), ..Cost::default() }
    }
}

#[cfg(feature = "cases")]
pub mod cases {
    //! Cases of GatherRows.
    use super::*;
    use crate::cases::{Builder, Case, Formats, dims};
    use crate::step::SampleRow;

    /// GatherRows of every other row, backwards.
    pub fn gather_rows(f: Formats, rows: usize, cols: usize) -> Case {
        let mut b = Builder::new(format!("GatherRows {rows}x{cols}"), dims(rows));
        let x = b.activation("x", f.activations, Rows::Tokens, cols);
        let out = b.activation("out", f.activations, Rows::Outputs, cols);
        b.case.step.output_rows = (0..rows as u32).rev().step_by(2).collect();
        let count = b.case.step.output_rows.len();
        b.case.step.sampling = vec![SampleRow::greedy(); count];
        b.finish(GatherRows { x, out }, &[(out, count)])
    }
}
