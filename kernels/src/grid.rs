//! The counts of a step that decide grids.

use crate::driver::launch::LaunchConfig;
use engine::plan::{Dims, Rows};

/// What of a step decides grids. For a graph the counts are those of its bucket: kernels read the true
/// counts on the card and leave the rest alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct GridDims {
    pub(crate) dims: Dims,
    /// Attention work of each group size of the plan, in the plan's order.
    pub(crate) work: Vec<WorkCount>,
}

/// Lengths of the work lists of attention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WorkCount {
    pub(crate) decode: usize,
    pub(crate) prefill: usize,
    pub(crate) merges: usize,
}

/// A work list of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkList {
    Decode,
    Prefill,
    Merges,
}

impl WorkList {
    /// All of them, in the order of their counts on the card.
    pub(crate) const ALL: [WorkList; 3] = [WorkList::Decode, WorkList::Prefill, WorkList::Merges];
}

impl WorkCount {
    /// The length of one list.
    pub(crate) fn of(&self, list: WorkList) -> usize {
        match list {
            WorkList::Decode => self.decode,
            WorkList::Prefill => self.prefill,
            WorkList::Merges => self.merges,
        }
    }

    /// The lengths of all lists together.
    pub(crate) fn total(&self) -> usize {
        self.decode + self.prefill + self.merges
    }
}

/// Chooses variant and grid for the counts of a step; `None` if there is nothing to do.
pub(crate) type ChooseGrid = Box<dyn Fn(&GridDims) -> Option<LaunchConfig> + Send>;

/// One block of `threads` for each row.
pub(crate) fn block_per_row(rows: Rows, threads: u32) -> ChooseGrid {
    Box::new(move |grid| {
        let rows = grid.dims.count(rows);
        (rows > 0).then_some(LaunchConfig { kernel: 0, grid: (rows as u32, 1, 1), block: (threads, 1, 1) })
    })
}

/// Threads for a row of so many vectors: whole warps, at most 256.
pub(crate) fn threads_for(vectors: usize) -> u32 {
    vectors.next_multiple_of(32).clamp(32, 256) as u32
}
