//! PagedAttention: attention over keys and values that lie in pages (Kwon et al., "Efficient Memory Management for
//! Large Language Model Serving with PagedAttention", 2023).

use super::checker::Checker;
use super::operation::{Cost, Operation, Sizes};
use crate::buffer::{BufferId, Input, Rows, View};

/// `out[t, h] = softmax(scores) v[0..=p]` with `scores = scale * q[t, h] . k[0..=p]` over the positions of the token's
/// own sequence up to its own position `p`, at most `window` of them where there is one. With a soft cap the scores
/// are `softcap * tanh(scores / softcap)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PagedAttention {
    /// `[T, heads * head_dim]`.
    pub q: View,
    /// `[KvSlots, kv_heads * head_dim]` KV pages.
    pub k_pages: BufferId,
    /// `[KvSlots, kv_heads * head_dim]` KV pages.
    pub v_pages: BufferId,
    /// `[T, heads * head_dim]`.
    pub out: View,
    /// Columns of a head.
    pub head_dim: usize,
    /// Multiplies the scores.
    pub scale: f32,
    /// The greatest number of positions that a token sees, its own among them.
    pub window: Option<usize>,
    /// Bounds the scaled scores; above 0.
    pub softcap: Option<f32>,
}

impl Operation for PagedAttention {
    const NAME: &'static str = "PagedAttention";

    fn check(&self, c: &Checker) -> Result<(), String> {
        c.same(self.q, self.out)?;
        c.rows(self.q, Rows::Tokens)?;
        c.heads(self.q, self.head_dim)?;
        let kv = c.cols_of(self.k_pages);
        c.pages([self.k_pages, self.v_pages], [kv, kv])?;
        if kv == 0 || !kv.is_multiple_of(self.head_dim) || !self.q.cols.is_multiple_of(kv) {
            return Err(format!("{} query columns do not group over {kv} key columns", self.q.cols));
        }
        if self.window == Some(0) {
            return Err("a window of 0 positions sees nothing".into());
        }
        if self.softcap.is_some_and(|cap| !(cap.is_finite() && cap > 0.0)) {
            return Err(format!("softcap {:?} must be above 0", self.softcap));
        }
        Ok(())
    }

    fn inputs(&self) -> &'static [Input] {
        &[Input::Positions, Input::QueryStart, Input::BlockTables]
    }

    fn reads(&self) -> Vec<View> {
        vec![self.q]
    }

    fn writes(&self) -> Vec<View> {
        vec![self.out]
    }

    fn cost(&self, s: &Sizes) -> Cost {
        let attended = s.dims.attended as u64;
        // The tokens of a sequence share its keys and values.
        let pages = s.dims.contexts as u64 * (s.row(self.k_pages) + s.row(self.v_pages));
        Cost {
            bytes: s.view(self.q) + s.view(self.out) + pages,
            flops: 4 * attended * self.q.cols as u64,
            ..Cost::default()
        }
    }
}

#[cfg(feature = "cases")]
pub mod cases {
    //! Cases of PagedAttention.
    use super::*;
    use crate::buffer::Dims;
    use crate::cases::{Builder, Case, Formats, dims};

    /// The shape of a case's attention.
    #[derive(Clone, Copy, Debug)]
    pub struct Attention {
        /// Query heads.
        pub heads: usize,
        /// Key and value heads.
        pub kv_heads: usize,
        /// Columns of a head.
        pub head_dim: usize,
        /// Tokens in a KV page.
        pub page_size: usize,
        /// See [`PagedAttention::window`].
        pub window: Option<usize>,
        /// See [`PagedAttention::softcap`].
        pub softcap: Option<f32>,
    }

    impl Attention {
        /// An attention without window and soft cap.
        pub const fn new(heads: usize, kv_heads: usize, head_dim: usize, page_size: usize) -> Attention {
            Attention { heads, kv_heads, head_dim, page_size, window: None, softcap: None }
        }

        fn name(&self) -> String {
            let Attention { heads, kv_heads, head_dim, page_size, window, softcap } = self;
            let window = window.map_or(String::new(), |w| format!(" window {w}"));
            let softcap = softcap.map_or(String::new(), |cap| format!(" softcap {cap}"));
            format!("PagedAttention {heads}/{kv_heads}x{head_dim} page {page_size}{window}{softcap}")
        }
    }

    /// PagedAttention over sequences of `(queries, length)`, whose pages lie scattered.
    pub fn attention(f: Formats, shape: Attention, seqs: &[(usize, usize)]) -> Case {
        let Attention { heads, kv_heads, head_dim, page_size, window, softcap } = shape;
        let tokens: usize = seqs.iter().map(|s| s.0).sum();
        let longest = seqs.iter().map(|s| s.1).max().unwrap_or(1);
        let pages_per_seq = longest.div_ceil(page_size) + 1;
        let pages: usize = seqs.iter().map(|s| s.1.div_ceil(page_size)).sum::<usize>() + 2;
        let max_dims = Dims { pages, page_size, pages_per_seq, seqs: seqs.len(), ..dims(tokens) };
        let mut b = Builder::new(format!("{} {seqs:?}", shape.name()), max_dims);
        let wide = b.activation("qkv", f.activations, Rows::Tokens, (heads + 2 * kv_heads) * head_dim);
        let q = View { cols: heads * head_dim, ..wide };
        let [k_pages, v_pages] = b.kv_pages(f.kv, kv_heads * head_dim);
        let out = b.activation("out", f.activations, Rows::Tokens, heads * head_dim);
        b.lay_out_sequences(seqs);
        b.forget_unheld([k_pages, v_pages]);
        let scale = 1.0 / (head_dim as f32).sqrt();
        let op = PagedAttention { q, k_pages, v_pages, out, head_dim, scale, window, softcap };
        b.finish(op, &[(out, tokens)])
    }
}
