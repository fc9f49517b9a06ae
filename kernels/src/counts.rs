//! The counts buffer: words on the card that tell kernels how many rows and how much attention work a step has.
//! First the row counts of the step, then the lengths of attention's work lists, then counts that no step changes.

use crate::args::DevicePtr;
use crate::grid::{WorkCount, WorkList};
use engine::plan::{Dims, Rows};

/// The row counts that a step settles, in their order in the buffer.
const STEP_ROWS: [Rows; 7] =
    [Rows::Tokens, Rows::Seqs, Rows::SeqBounds, Rows::Outputs, Rows::Adjustments, Rows::Masks, Rows::Targets];

/// Tilings of attention that a plan may have.
pub(crate) const MAX_GROUPS: usize = 16;

/// Where the counts that no step changes begin, in words.
const FIXED_START: usize = 64;
const _: () = assert!(STEP_ROWS.len() + WorkList::ALL.len() * MAX_GROUPS <= FIXED_START);

/// Counts that no step changes, at most.
const MAX_FIXED: usize = 64;

/// Bytes of the buffer.
pub(crate) const BYTES: usize = 4 * (FIXED_START + MAX_FIXED);

/// The words of a step, for a plan with attentions of so many tilings.
pub(crate) fn step_words(groups: usize) -> usize {
    STEP_ROWS.len() + WorkList::ALL.len() * groups
}

/// The counts of a step, as they lie in the buffer.
pub(crate) fn of_step<'a>(
    dims: &Dims,
    work: impl IntoIterator<Item = &'a WorkCount>,
) -> impl Iterator<Item = u32> {
    let rows = STEP_ROWS.map(|rows| dims.count(rows) as u32);
    let lists = work.into_iter().flat_map(|count| WorkList::ALL.map(|list| count.of(list) as u32));
    rows.into_iter().chain(lists)
}

/// Where kernels find counts.
#[derive(Debug)]
pub(crate) struct Counts {
    at: DevicePtr,
    fixed: Vec<u32>,
}

impl Counts {
    /// The counts of a buffer of [`BYTES`].
    pub(crate) fn new(at: DevicePtr) -> Counts {
        Counts { at, fixed: Vec::new() }
    }

    /// The address of the word that holds the count of `rows` in each step.
    pub(crate) fn rows(&mut self, rows: Rows, max_dims: &Dims) -> DevicePtr {
        let word = match STEP_ROWS.iter().position(|&r| r == rows) {
            Some(word) => word,
            None => FIXED_START + self.fixed_word(max_dims.count(rows) as u32),
        };
        self.at + 4 * word as u64
    }

    /// The address of the length of a work list, for the tiling of this index.
    pub(crate) fn work(&self, group: usize, list: WorkList) -> DevicePtr {
        let place = WorkList::ALL.iter().take_while(|&&l| l != list).count();
        self.at + 4 * (STEP_ROWS.len() + WorkList::ALL.len() * group + place) as u64
    }

    fn fixed_word(&mut self, count: u32) -> usize {
        self.fixed.iter().position(|&c| c == count).unwrap_or_else(|| {
            self.fixed.push(count);
            self.fixed.len() - 1
        })
    }

    /// The counts that no step changes, and their offset in bytes; `None` if there are too many of them.
    pub(crate) fn fixed(&self) -> Option<(usize, &[u32])> {
        (self.fixed.len() <= MAX_FIXED).then_some((4 * FIXED_START, &self.fixed))
    }
}
