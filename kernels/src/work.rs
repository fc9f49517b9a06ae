//! The work lists of attention: which tiles of query rows a step has, and which parts of their context.
//!
//! Lists decide only who computes what and when. What a row's result is does not depend on them: see
//! `attention.cuh`.

use crate::attention::{DECODE_ROWS, Grouping, PREFILL_ROWS, SPLIT, most_positions};
use crate::launch::WorkCount;
use crate::memory::DeviceMemory;
use bytemuck::{Pod, Zeroable};
use cudarc::driver::CudaContext;
use engine::device::DeviceError;
use engine::plan::Dims;
use engine::step::Step;
use std::cmp::Reverse;
use std::sync::Arc;

/// `Item` of `attention.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(crate) struct Item {
    seq: u32,
    row: u32,
    part: u32,
    slot: u32,
}

/// `Merge` of `attention_merge.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub(crate) struct Merge {
    seq: u32,
    row: u32,
    slot: u32,
    parts: u32,
}

/// `ALL` and `NOWHERE` of `attention.cuh`.
const ALL: u32 = u32::MAX;

/// The lists of a step for one group size.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lists {
    pub(crate) decode: Vec<Item>,
    pub(crate) prefill: Vec<Item>,
    pub(crate) merges: Vec<Merge>,
}

impl Lists {
    /// The lists of a step whose KV heads each serve `group` query heads.
    pub(crate) fn new(step: &Step, group: usize) -> Lists {
        let mut lists = Lists::default();
        let mut slots = 0;
        // Long work first: what is taken last should be short.
        let mut order: Vec<usize> = (0..step.seq_lens.len()).collect();
        order.sort_by_key(|&s| Reverse(step.seq_lens[s]));
        for s in order {
            let tokens = step.query_rows(s).len();
            let (rows, len) = (tokens * group, step.seq_lens[s] as usize);
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
                    if small { (&mut lists.decode, DECODE_ROWS) } else { (&mut lists.prefill, PREFILL_ROWS) };
                let tiles = (0..rows as u32).step_by(tile);
                // The last rows of a prompt see the most.
                list.extend(tiles.rev().map(|row| Item { seq, row, part: ALL, slot: ALL }));
            }
        }
        lists
    }

    pub(crate) fn count(&self) -> WorkCount {
        WorkCount { decode: self.decode.len(), prefill: self.prefill.len(), merges: self.merges.len() }
    }
}

/// Device memory for the lists of one group size, and for the states of parts.
pub(crate) struct Work {
    pub(crate) group: usize,
    pub(crate) state_rows: usize,
    pub(crate) decode: DeviceMemory,
    pub(crate) prefill: DeviceMemory,
    pub(crate) merges: DeviceMemory,
    pub(crate) states: DeviceMemory,
}

/// The longest lists that steps within `most` can have.
pub(crate) fn most_work(most: &Dims, group: usize) -> WorkCount {
    let tiles = group.div_ceil(DECODE_ROWS);
    let parts = most_positions(most).div_ceil(SPLIT).max(1);
    WorkCount {
        decode: most.seqs * tiles * parts,
        prefill: (most.tokens * group).div_ceil(PREFILL_ROWS) + most.seqs,
        merges: most.seqs * tiles,
    }
}

/// Bytes of a [`Work`].
pub(crate) struct WorkBytes {
    decode: usize,
    prefill: usize,
    merges: usize,
    states: usize,
}

impl WorkBytes {
    /// For attentions of one group size.
    pub(crate) fn new(most: &Dims, groupings: &[Grouping]) -> WorkBytes {
        let group = groupings.first().map_or(1, |g| g.group);
        let count = most_work(most, group);
        let state = groupings.iter().map(|g| g.kv_heads * (g.head_dim + 2)).max().unwrap_or(0);
        let slots = if most_positions(most) > SPLIT { count.decode } else { 0 };
        WorkBytes {
            decode: count.decode * size_of::<Item>(),
            prefill: count.prefill * size_of::<Item>(),
            merges: count.merges * size_of::<Merge>(),
            states: slots * state * group.min(DECODE_ROWS) * 4,
        }
    }

    /// Each allocation's.
    pub(crate) fn each(&self) -> [usize; 4] {
        [self.decode, self.prefill, self.merges, self.states]
    }
}

impl Work {
    pub(crate) fn new(
        context: &Arc<CudaContext>,
        most: &Dims,
        groupings: &[Grouping],
    ) -> Result<Work, DeviceError> {
        let group = groupings.first().map_or(1, |g| g.group);
        let bytes = WorkBytes::new(most, groupings);
        let allocate = |bytes: usize, what: &str| {
            DeviceMemory::new(context, bytes, what, "lower --max-num-seqs or --max-model-len")
        };
        Ok(Work {
            group,
            state_rows: group.min(DECODE_ROWS),
            decode: allocate(bytes.decode, "attention work lists")?,
            prefill: allocate(bytes.prefill, "attention work lists")?,
            merges: allocate(bytes.merges, "attention work lists")?,
            states: allocate(bytes.states, "states of split contexts")?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn step(seqs: &[(usize, usize)]) -> Step {
        let mut step = Step { query_start: vec![0], ..Step::default() };
        for &(tokens, len) in seqs {
            step.query_start.push(step.query_start.last().unwrap() + tokens as u32);
            step.seq_lens.push(len as u32);
        }
        step
    }

    /// Every query row lies in exactly one tile (or one for each part), and slots do not overlap.
    #[test]
    fn lists_cover_every_row_once() {
        for group in [1, 3, 4, 16, 20, 32] {
            let seqs = [(1, 5), (1, SPLIT), (1, SPLIT + 1), (1, 5 * SPLIT), (3, 9), (200, 300), (70, 3000)];
            let lists = Lists::new(&step(&seqs), group);
            let mut slots: Vec<u32> = Vec::new();
            for (s, &(tokens, len)) in seqs.iter().enumerate() {
                let parts = if tokens == 1 { len.div_ceil(SPLIT) } else { 1 };
                let mut seen = vec![0; tokens * group];
                let tiles = [(&lists.decode, DECODE_ROWS), (&lists.prefill, PREFILL_ROWS)];
                for (item, rows) in tiles.iter().flat_map(|(l, rows)| l.iter().map(|i| (*i, *rows))) {
                    if item.seq as usize == s {
                        let first = item.row as usize;
                        (first..(first + rows).min(seen.len())).for_each(|r| seen[r] += 1);
                        slots.extend(Some(item.slot).filter(|&s| s != ALL));
                    }
                }
                assert!(seen.iter().all(|&n| n == parts), "sequence {s}, group {group}: {seen:?}");
            }
            let count = slots.len();
            slots.sort_unstable();
            slots.dedup();
            assert_eq!(slots.len(), count);
            let dims = Dims {
                tokens: seqs.iter().map(|s| s.0).sum(),
                seqs: seqs.len(),
                page_size: 16,
                pages_per_seq: 5 * SPLIT / 16,
                ..Dims::default()
            };
            let most = most_work(&dims, group);
            let count = lists.count();
            assert!(count.decode <= most.decode && count.prefill <= most.prefill);
            assert!(count.merges <= most.merges);
        }
    }
}
