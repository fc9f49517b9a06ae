//! Rope: rotary position embedding (Su et al., "RoFormer", 2021).

use super::checker::Checker;
use super::operation::{Cost, Operation, Sizes};
use crate::buffer::{BufferId, Input, Rows, View};

/// Rotates pairs `(i, i + rotary/2)` of each head in place by the angles of the token's position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// `[T, heads * head_dim]`.
    pub x: View,
    /// `[max positions, rotary]` f32 weight: cosines, then sines.
    pub table: BufferId,
    /// Columns of a head.
    pub head_dim: usize,
}

impl Operation for Rope {
    const NAME: &'static str = "Rope";

    fn check(&self, c: &Checker) -> Result<(), String> {
        c.heads(self.x, self.head_dim)?;
        c.rows(self.x, Rows::Tokens)?;
        let rotary = c.cols_of(self.table);
        if !rotary.is_multiple_of(2) || rotary > self.head_dim {
            return Err(format!("{rotary} rotary columns do not fit a head of {}", self.head_dim));
        }
        c.plain(self.table, None, rotary)
    }

    fn inputs(&self) -> &'static [Input] {
        &[Input::Positions]
    }

    fn reads(&self) -> Vec<View> {
        vec![self.x]
    }

    fn writes(&self) -> Vec<View> {
        vec![self.x]
    }

    fn cost(&self, s: &Sizes) -> Cost {
        Cost { bytes: 2 * s.view(self.x), flops: 3 * s.elements(self.x), ..Cost::default() }
    }
}

#[cfg(feature = "cases")]
pub mod cases {
    //! Cases of Rope.
    use super::*;
    use crate::buffer::BufferKind;
    use crate::cases::{Builder, Case, Formats, dims};
    use crate::op::kv_write::KvWrite;

    /// Positions that the tables of cases hold.
    const POSITIONS: usize = 512;

    /// Rope of `x` by a new table, at random positions.
    fn op(b: &mut Builder, x: View, head_dim: usize, rotary: usize) -> Rope {
        let rows = Rows::Fixed(POSITIONS);
        let table = b.random("table", BufferKind::Weight, crate::dtype::DType::F32, rows, rotary, 1.0);
        b.case.step.positions =
            (0..b.case.max_dims.tokens).map(|_| b.numbers.below(POSITIONS) as u32).collect();
        Rope { x, table, head_dim }
    }

    /// Rope over the first columns of a wider buffer.
    pub fn rope(f: Formats, rows: usize, heads: usize, head_dim: usize, rotary: usize) -> Case {
        let mut b = Builder::new(format!("Rope {rows}x{heads}x{head_dim} rotary {rotary}"), dims(rows));
        let wide = b.activation("qkv", f.activations, Rows::Tokens, (heads + 1) * head_dim);
        let op = op(&mut b, View { cols: heads * head_dim, ..wide }, head_dim, rotary);
        b.finish(op, &[(wide, rows)])
    }

    /// Rope of queries and keys and KvWrite of the keys: two ops, which devices may run as one.
    pub fn rope_kv_write(
        f: Formats,
        rows: usize,
        heads: usize,
        kv_heads: usize,
        head_dim: usize,
        rotary: usize,
    ) -> Case {
        let name = format!("Rope {rows}x{heads}/{kv_heads}x{head_dim} rotary {rotary}, KvWrite");
        let mut b = Builder::new(name, dims(rows));
        let qkv = b.activation("qkv", f.activations, Rows::Tokens, (heads + 2 * kv_heads) * head_dim);
        let cols =
            |first: usize, count: usize| View { start: first * head_dim, cols: count * head_dim, ..qkv };
        let (x, k, v) = (cols(0, heads + kv_heads), cols(heads, kv_heads), cols(heads + kv_heads, kv_heads));
        let rope = op(&mut b, x, head_dim, rotary);
        b.case.plan.ops.push(rope.into());
        let [k_pages, v_pages] = b.kv_pages(f.kv, kv_heads * head_dim);
        b.scatter_kv_slots();
        let slots = b.case.max_dims.count(Rows::KvSlots);
        let pages = [k_pages, v_pages].map(|id| (b.case.plan.view(id), slots));
        b.finish(KvWrite { k, v, k_pages, v_pages }, &[(qkv, rows), pages[0], pages[1]])
    }
}
