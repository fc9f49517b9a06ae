//! KvWrite: keys and values into their KV slots.

use super::checker::Checker;
use super::operation::{Cost, Operation, Sizes};
use crate::buffer::{BufferId, Input, View};

/// Stores each token's key and value in its KV slot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KvWrite {
    /// `[T, kv_heads * head_dim]`.
    pub k: View,
    /// `[T, kv_heads * head_dim]`.
    pub v: View,
    /// `[KvSlots, kv_heads * head_dim]` KV pages.
    pub k_pages: BufferId,
    /// `[KvSlots, kv_heads * head_dim]` KV pages.
    pub v_pages: BufferId,
}

impl Operation for KvWrite {
    const NAME: &'static str = "KvWrite";

    fn check(&self, c: &Checker) -> Result<(), String> {
        c.same_rows(self.k, self.v)?;
        c.pages([self.k_pages, self.v_pages], [self.k.cols, self.v.cols])
    }

    fn inputs(&self) -> &'static [Input] {
        &[Input::KvSlots]
    }

    fn reads(&self) -> Vec<View> {
        vec![self.k, self.v]
    }

    fn writes(&self) -> Vec<View> {
        Vec::new()
    }

    fn cost(&self, s: &Sizes) -> Cost {
        let pages = s.rows(self.k) as u64 * (s.row(self.k_pages) + s.row(self.v_pages));
        Cost { bytes: s.view(self.k) + s.view(self.v) + pages, ..Cost::default() }
    }
}

#[cfg(feature = "cases")]
pub mod cases {
    //! Cases of KvWrite.
    use super::*;
    use crate::buffer::{Dims, Rows};
    use crate::cases::{Builder, Case, Formats, dims};

    /// KvWrite of columns of one buffer into scattered KV slots.
    pub fn kv_write(f: Formats, rows: usize, cols: usize, page_size: usize) -> Case {
        let name = format!("KvWrite {rows}x{cols}");
        write_values(f, name, rows, cols, page_size, |b| b.numbers.float())
    }

    /// The same with values of all magnitudes, up to beyond what FP8 holds, and some that are no numbers.
    pub fn kv_write_extremes(f: Formats, rows: usize, cols: usize) -> Case {
        let name = format!("KvWrite {rows}x{cols} extremes");
        write_values(f, name, rows, cols, 16, |b| match b.numbers.below(40) {
            0 => f32::NAN,
            1 => f32::INFINITY,
            2 => f32::NEG_INFINITY,
            3 => -0.0,
            _ => b.numbers.float() * 2.0_f32.powi(b.numbers.below(26) as i32 - 14),
        })
    }

    fn write_values(
        f: Formats,
        name: String,
        rows: usize,
        cols: usize,
        page_size: usize,
        value: impl Fn(&mut Builder) -> f32,
    ) -> Case {
        let mut b = Builder::new(name, Dims { page_size, ..dims(rows) });
        let qkv = b.activation("qkv", f.activations, Rows::Tokens, 3 * cols);
        let values: Vec<f32> = (0..rows * 3 * cols).map(|_| value(&mut b)).collect();
        b.case.writes[0].1 = f.activations.encode(&values);
        let (k, v) = (View { start: cols, cols, ..qkv }, View { start: 2 * cols, cols, ..qkv });
        let [k_pages, v_pages] = b.kv_pages(f.kv, cols);
        b.scatter_kv_slots();
        let slots = b.case.max_dims.count(Rows::KvSlots);
        let pages = [k_pages, v_pages].map(|id| (b.case.plan.view(id), slots));
        b.finish(KvWrite { k, v, k_pages, v_pages }, &pages)
    }
}
