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
        c.pages(self.k_pages, self.k.cols)?;
        c.pages(self.v_pages, self.v.cols)
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
        Cost { bytes: 2 * (s.view(self.k) + s.view(self.v)), ..Cost::default() }
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
        let mut b = Builder::new(format!("KvWrite {rows}x{cols}"), Dims { page_size, ..dims(rows) });
        let qkv = b.activation("qkv", f.activations, Rows::Tokens, 3 * cols);
        let (k, v) = (View { start: cols, cols, ..qkv }, View { start: 2 * cols, cols, ..qkv });
        let [k_pages, v_pages] = b.kv_pages(f.kv, cols);
        b.scatter_kv_slots();
        let slots = b.case.max_dims.count(Rows::KvSlots);
        let pages = [k_pages, v_pages].map(|id| (b.case.plan.view(id), slots));
        b.finish(KvWrite { k, v, k_pages, v_pages }, &pages)
    }
}
