//! Embed: the rows of a table that tokens name.

use super::checker::Checker;
use super::operation::{Cost, Operation, Sizes};
use crate::buffer::{BufferId, Input, Rows, View};

/// `out[t] = table[token[t]] * scale`, where a token may refer to `last` (see [`crate::step::from_last`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Embed {
    /// `[max seqs, 1]` u32 state: the last token of each sequence slot.
    pub last: BufferId,
    /// `[V, H]` weight.
    pub table: BufferId,
    /// `[T, H]`.
    pub out: View,
    /// Multiplies every element; 1 where a model does not scale its embeddings.
    pub scale: f32,
}

impl Operation for Embed {
    const NAME: &'static str = "Embed";

    fn check(&self, c: &Checker) -> Result<(), String> {
        c.last_tokens(self.last)?;
        c.matrix(self.table, None, self.out.cols)?;
        c.rows(self.out, Rows::Tokens)
    }

    fn inputs(&self) -> &'static [Input] {
        &[Input::Tokens]
    }

    fn reads(&self) -> Vec<View> {
        Vec::new()
    }

    fn writes(&self) -> Vec<View> {
        vec![self.out]
    }

    fn cost(&self, s: &Sizes) -> Cost {
        let table = s.rows(self.out) as u64 * s.row(self.table);
        Cost { bytes: table + s.view(self.out), ..Cost::default() }
    }
}

#[cfg(feature = "cases")]
pub mod cases {
    //! Cases of Embed.
    use super::*;
    use crate::buffer::BufferKind;
    use crate::cases::{Builder, Case, Formats, dims};
    use crate::dtype::DType;
    use crate::step::from_last;

    /// Embed over a table of `vocab` rows, with a token from the last tokens where there are enough rows.
    pub fn embed(f: Formats, rows: usize, vocab: usize, cols: usize, scale: f32) -> Case {
        let scaled = if scale == 1.0 { String::new() } else { format!(" scale {scale}") };
        let mut b = Builder::new(format!("Embed {rows}x{vocab}x{cols}{scaled}"), dims(rows));
        let last = b.buffer("last", BufferKind::State, DType::U32, Rows::Fixed(8), 1);
        b.case.writes.push((last, bytemuck::cast_slice(&[1_u32, 2, 3, 255, 5, 6, 7, 8]).to_vec()));
        let table = b.matrix("table", f.weights, vocab, cols, 1.0);
        let out = b.activation("out", f.activations, Rows::Tokens, cols);
        b.case.step.tokens = (0..rows).map(|_| b.numbers.below(vocab) as u32).collect();
        if rows > 2 {
            b.case.step.tokens[2] = from_last(3);
        }
        b.finish(Embed { last, table, out, scale }, &[(out, rows)])
    }
}
