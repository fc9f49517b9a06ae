//! The work lists of attention: which tiles of query rows a step has, and which parts of their context.
//!
//! Lists decide only which block computes what and when; a row's result does not depend on them: see
//! `attention.cuh`.

use crate::args::c_struct;
use crate::driver::memory::DeviceMemory;
use crate::grid::{WorkCount, WorkList};
use cudarc::driver::CudaContext;
use engine::device::{DeviceError, MemoryUse};
use engine::dtype::DType;
use engine::plan::Dims;
use engine::step::Step;
use std::cmp::Reverse;
use std::sync::Arc;

/// Positions of a part: long contexts are split at absolute multiples of it. Part of the numeric
/// contract: changing it changes bits.
pub(crate) const SPLIT: usize = 1024;

/// Query rows of a warp.
pub(crate) const WARP_ROWS: usize = 16;

/// Warps of a decode tile and of a prefill tile of `mma.sync`.
pub(crate) const DECODE_WARPS: usize = 1;
pub(crate) const PREFILL_WARPS: usize = 4;

/// Query rows of a decode tile.
const DECODE_ROWS: usize = WARP_ROWS * DECODE_WARPS;

/// Query heads that share a KV head, and the rows and columns of the state of a part, for an attention
/// that runs on tensor cores.
pub(crate) struct Grouping {
    pub(crate) dtype: DType,
    /// Of pages.
    pub(crate) pages: DType,
    pub(crate) tiling: Tiling,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
}

/// What the work lists of an attention depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tiling {
    /// Query heads that share a KV head.
    pub(crate) group: usize,
    /// Query rows of a prefill tile.
    pub(crate) prefill_rows: usize,
}

c_struct! {
    /// `Item` of `attention.cuh`.
    pub(crate) struct Item {
        seq: u32,
        row: u32,
        part: u32,
        slot: u32,
    }
}

c_struct! {
    /// `Merge` of `attention_merge.cu`.
    pub(crate) struct Merge {
        seq: u32,
        row: u32,
        slot: u32,
        parts: u32,
    }
}

/// `ALL` and `NOWHERE` of `attention.cuh`.
const ALL: u32 = u32::MAX;

/// The lists of a step for one tiling.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Lists {
    pub(crate) decode: Vec<Item>,
    pub(crate) prefill: Vec<Item>,
    pub(crate) merges: Vec<Merge>,
}

impl Lists {
    /// The lists of a step.
    pub(crate) fn new(step: &Step, tiling: Tiling) -> Lists {
        let Tiling { group, prefill_rows } = tiling;
        let mut lists = Lists::default();
        let mut slots = 0;
        // Long work first, so that the items taken last are short.
        let mut order: Vec<usize> = (0..step.seqs()).collect();
        order.sort_by_key(|&s| Reverse(step.seq_len(s)));
        for s in order {
            let tokens = step.query_rows(s).len();
            let (rows, len) = (tokens * group, step.seq_len(s));
            let seq = s as u32;
            if tokens == 1 && len > SPLIT {
                let parts = len.div_ceil(SPLIT) as u32;
                for row in (0..rows as u32).step_by(DECODE_ROWS) {
                    lists.merges.push(Merge { seq, row, slot: slots, parts });
                    lists.decode.extend((0..parts).map(|part| Item { seq, row, part, slot: slots + part }));
                    slots += parts;
                }
            } else {
                let small = tokens == 1 || (rows <= DECODE_ROWS && len <= SPLIT);
                let (list, tile) =
                    if small { (&mut lists.decode, DECODE_ROWS) } else { (&mut lists.prefill, prefill_rows) };
                let tiles = (0..rows as u32).step_by(tile);
                // The last rows of a prompt see the longest context.
                list.extend(tiles.rev().map(|row| Item { seq, row, part: ALL, slot: ALL }));
            }
        }
        // Long work first among sequences, too: the rows of a tile see what its first one sees, and a little more.
        let seen = |item: &Item| {
            step.positions[step.query_start[item.seq as usize] as usize + item.row as usize / group]
        };
        lists.prefill.sort_by_key(|item| Reverse(seen(item)));
        lists
    }

    pub(crate) fn count(&self) -> WorkCount {
        WorkCount { decode: self.decode.len(), prefill: self.prefill.len(), merges: self.merges.len() }
    }
}

/// Device memory for the lists of one tiling, and for the states of parts.
pub(crate) struct Work {
    pub(crate) tiling: Tiling,
    pub(crate) state_rows: usize,
    pub(crate) decode: DeviceMemory,
    pub(crate) prefill: DeviceMemory,
    pub(crate) merges: DeviceMemory,
    pub(crate) states: DeviceMemory,
}

/// The longest lists of steps within `max_dims`.
pub(crate) fn max_work(max_dims: &Dims, tiling: Tiling) -> WorkCount {
    let Tiling { group, prefill_rows } = tiling;
    let tiles = group.div_ceil(DECODE_ROWS);
    let parts = max_positions(max_dims).div_ceil(SPLIT).max(1);
    WorkCount {
        decode: max_dims.seqs * tiles * parts,
        prefill: (max_dims.tokens * group).div_ceil(prefill_rows) + max_dims.seqs,
        merges: max_dims.seqs * tiles,
    }
}

/// Positions of the longest sequence.
pub(crate) fn max_positions(max_dims: &Dims) -> usize {
    max_dims.pages_per_seq * max_dims.page_size
}

/// Bytes of a [`Work`].
pub(crate) struct WorkBytes {
    decode: usize,
    prefill: usize,
    merges: usize,
    states: usize,
}

impl WorkBytes {
    /// For attentions of one tiling.
    pub(crate) fn new(max_dims: &Dims, tiling: Tiling, groupings: &[Grouping]) -> WorkBytes {
        let count = max_work(max_dims, tiling);
        let state = groupings.iter().map(|g| g.kv_heads * (g.head_dim + 2)).max().unwrap_or(0);
        let slots = if max_positions(max_dims) > SPLIT { count.decode } else { 0 };
        WorkBytes {
            decode: count.decode * size_of::<Item>(),
            prefill: count.prefill * size_of::<Item>(),
            merges: count.merges * size_of::<Merge>(),
            states: slots * state * tiling.group.min(DECODE_ROWS) * 4,
        }
    }

    /// Those of each allocation.
    pub(crate) fn each(&self) -> [usize; 4] {
        [self.decode, self.prefill, self.merges, self.states]
    }
}

impl Work {
    /// The memory of a list.
    pub(crate) fn list(&self, list: WorkList) -> &DeviceMemory {
        match list {
            WorkList::Decode => &self.decode,
            WorkList::Prefill => &self.prefill,
            WorkList::Merges => &self.merges,
        }
    }

    pub(crate) fn new(
        context: &Arc<CudaContext>,
        max_dims: &Dims,
        tiling: Tiling,
        groupings: &[Grouping],
    ) -> Result<Work, DeviceError> {
        let bytes = WorkBytes::new(max_dims, tiling, groupings);
        let allocate =
            |bytes: usize, what: &str| DeviceMemory::new(context, bytes, what, MemoryUse::Activations);
        Ok(Work {
            tiling,
            state_rows: tiling.group.min(DECODE_ROWS),
            decode: allocate(bytes.decode, "attention work lists")?,
            prefill: allocate(bytes.prefill, "attention work lists")?,
            merges: allocate(bytes.merges, "attention work lists")?,
            states: allocate(bytes.states, "states of split contexts")?,
        })
    }
}

#[cfg(test)]
mod tests;
