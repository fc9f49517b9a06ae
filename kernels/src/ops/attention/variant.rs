//! A variant of the kernels of attention, and what it takes.

use crate::work::{SPLIT, WARP_ROWS};
use engine::dtype::DType;

/// Positions that are walked together: the source's `BLOCK`.
pub(super) const BLOCK: usize = 64;
const _: () = assert!(SPLIT.is_multiple_of(BLOCK));

/// A variant of `attention.cu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttentionVariant {
    pub(crate) dtype: DType,
    /// Of pages: the same, or e4m3.
    pub(crate) pages: DType,
    pub(crate) head_dim: usize,
    /// [`DECODE_WARPS`] or [`PREFILL_WARPS`], each with rows of its own.
    pub(crate) warps: usize,
    /// Whether an item may span several parts.
    pub(crate) parts: bool,
    /// Whether scores are bounded.
    pub(crate) softcap: bool,
}

impl AttentionVariant {
    /// Bytes of a block of keys or values in shared memory, whose rows have an odd number of chunks of 16.
    pub(super) fn kv_block(&self) -> usize {
        BLOCK * ((self.head_dim * self.pages.size() / 16) | 1) * 16
    }

    /// Bytes of shared memory with so many slots for blocks of keys: queries, keys, values, and the merged state.
    pub(super) fn shared(&self, slots: usize) -> usize {
        let row = self.head_dim * 2 + 16;
        let merged = if self.parts { self.head_dim / 2 * 32 * self.warps * 4 } else { 0 };
        WARP_ROWS * self.warps * row + (slots + 1) * self.kv_block() + merged
    }
}
