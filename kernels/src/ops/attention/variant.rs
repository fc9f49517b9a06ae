//! A variant of the kernels of attention, and what it takes.

use crate::work::{SPLIT, WARP_ROWS};
use engine::dtype::DType;

/// Positions that are walked together: the source's `BLOCK`.
pub(super) const BLOCK: usize = 64;
const _: () = assert!(SPLIT.is_multiple_of(BLOCK));

/// Warps that share a decode tile where there are few of them.
pub(super) const SHARING_WARPS: usize = 4;

/// A variant of `attention.cu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttentionVariant {
    pub(crate) dtype: DType,
    /// Of pages: the same, or e4m3.
    pub(crate) pages: DType,
    pub(crate) head_dim: usize,
    /// [`DECODE_WARPS`], [`PREFILL_WARPS`], or those that share a decode tile.
    pub(crate) warps: usize,
    /// Whether the warps share the 16 rows of a decode tile.
    pub(crate) one_tile: bool,
    /// Whether an item may span several parts.
    pub(crate) parts: bool,
    /// Whether scores are bounded.
    pub(crate) softcap: bool,
}

impl AttentionVariant {
    /// Bytes of shared memory with so many slots for blocks of keys: queries, keys, values, and the merged state or the
    /// scores that warps exchange.
    pub(super) fn shared(&self, slots: usize) -> usize {
        let row = self.head_dim * 2 + 16;
        // An odd number of chunks.
        let kv_row = ((self.head_dim * self.pages.size() / 16) | 1) * 16;
        let (tiles, values) = if self.one_tile { (1, 2) } else { (self.warps, 1) };
        let merged = if self.parts { self.head_dim / 2 * 32 * self.warps * 4 } else { 0 };
        let exchanged = if self.one_tile { WARP_ROWS * (BLOCK + 8) * 4 } else { 0 };
        WARP_ROWS * tiles * row + (slots + values) * BLOCK * kv_row + merged + exchanged
    }

    /// The same heads with a decode tile that [`SHARING_WARPS`] share, if each has whole fragments of their columns.
    pub(crate) fn one_tile(self) -> Option<AttentionVariant> {
        let whole = self.head_dim.is_multiple_of(16 * SHARING_WARPS);
        whole.then_some(AttentionVariant { warps: SHARING_WARPS, one_tile: true, parts: false, ..self })
    }
}
