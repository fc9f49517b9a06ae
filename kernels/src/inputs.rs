//! Step inputs: packed on the host, copied in one piece, and spread over their buffers by `unpack.cu`.

use crate::args::{ArgBytes, DevicePtr, c_struct};
use crate::counts;
use crate::driver::launch::LaunchConfig;
use crate::grid::WorkCount;
use crate::kernel::Kernel;
use crate::work::{Lists, Tiling, Work, max_work};
use engine::plan::{BufferDesc, BufferId, BufferKind, Dims, Input, Plan};
use engine::step::Step;

/// Words of a [`Part`].
const PART_WORDS: usize = size_of::<Part>() / 4;

c_struct! {
    /// One piece of a copy and where it goes: `Part` of `unpack.cu`.
    struct Part {
        to: DevicePtr,
        from: u32,
        rows: u32,
        cols: u32,
        stride: u32,
    }
}

c_struct! {
    /// The arguments of `unpack.cu`.
    struct Args {
        parts: DevicePtr,
        words: DevicePtr,
    }
}

/// Where the inputs of a plan go.
pub(crate) struct Inputs {
    /// Inputs that the plan has, with their buffers' addresses.
    targets: Vec<(Input, DevicePtr)>,
    counts: DevicePtr,
    /// Parts of a copy, at most. Their table is as long in every copy.
    max_parts: usize,
    /// Bytes of the longest copy.
    pub(crate) max_bytes: usize,
}

/// A packed step.
pub(crate) struct Packed {
    /// Bytes to copy.
    pub(crate) bytes: usize,
    /// The grid of `unpack`.
    pub(crate) config: LaunchConfig,
}

pub(crate) fn kernel() -> Kernel {
    Kernel::new::<Args>("unpack.cu", include_str!("inputs/unpack.cu"), "unpack", 40).with_struct::<Part>()
}

/// The arguments of `unpack` for a staging buffer.
pub(crate) fn args(staging: DevicePtr) -> ArgBytes {
    ArgBytes::new(&Args { parts: staging, words: staging })
}

/// Whether a buffer is an input of the step.
fn is_input(kind: BufferKind) -> bool {
    matches!(kind, BufferKind::StepInput(_))
}

/// Parts of a copy: the counts, each input, and three lists for each tiling of attention.
fn max_parts(plan: &Plan, tilings: usize) -> usize {
    1 + plan.iter().filter(|(_, desc)| is_input(desc.kind)).count() + 3 * tilings
}

impl Inputs {
    pub(crate) fn new(
        plan: &Plan,
        max_dims: &Dims,
        addresses: &[DevicePtr],
        counts: DevicePtr,
        works: &[Work],
    ) -> Inputs {
        let target = |(id, desc): (BufferId, &BufferDesc)| match desc.kind {
            BufferKind::StepInput(input) => Some((input, addresses[id.0])),
            _ => None,
        };
        let tilings: Vec<Tiling> = works.iter().map(|w| w.tiling).collect();
        Inputs {
            targets: plan.iter().filter_map(target).collect(),
            counts,
            max_parts: max_parts(plan, tilings.len()),
            max_bytes: Inputs::max_bytes(plan, max_dims, &tilings),
        }
    }

    /// Bytes of the longest copy, for a plan with attentions of these tilings.
    pub(crate) fn max_bytes(plan: &Plan, max_dims: &Dims, tilings: &[Tiling]) -> usize {
        let inputs = plan.bytes(max_dims, is_input);
        let items: usize = tilings.iter().map(|&tiling| max_work(max_dims, tiling).total()).sum();
        let table = max_parts(plan, tilings.len()) * PART_WORDS;
        inputs + 4 * (table + counts::step_words(tilings.len()) + 4 * items)
    }

    /// Packs a step into pinned memory of [`Inputs::max_bytes`].
    pub(crate) fn pack(&self, step: &Step, works: &[Work], lists: &[Lists], to: &mut [u8]) -> Packed {
        let words: &mut [u32] = bytemuck::cast_slice_mut(to);
        let data_start = self.max_parts * PART_WORDS;
        let (table, data) = words.split_at_mut(data_start);
        let mut packer = Packer { parts: Vec::with_capacity(self.max_parts), data, data_start, used: 0 };
        let work: Vec<WorkCount> = lists.iter().map(Lists::count).collect();
        let counts: Vec<u32> = counts::of_step(&step.dims(), &work).collect();
        packer.add(self.counts, &counts);
        for &(input, at) in &self.targets {
            match input {
                Input::BlockTables => packer.add_tables(at, step),
                input => packer.add(at, bytemuck::cast_slice(step.input(input))),
            }
        }
        for (work, list) in works.iter().zip(lists) {
            packer.add(work.decode.at, bytemuck::cast_slice(&list.decode));
            packer.add(work.prefill.at, bytemuck::cast_slice(&list.prefill));
            packer.add(work.merges.at, bytemuck::cast_slice(&list.merges));
        }
        let (parts, used) = (packer.parts, packer.used);
        table[..parts.len() * PART_WORDS].copy_from_slice(bytemuck::cast_slice(&parts));
        let longest = parts.iter().map(|p| p.rows * p.cols).max().unwrap_or(0);
        let config = LaunchConfig {
            kernel: 0,
            grid: (longest.div_ceil(1024).clamp(1, 64), parts.len() as u32, 1),
            block: (256, 1, 1),
        };
        Packed { bytes: 4 * (data_start + used), config }
    }
}

struct Packer<'a> {
    parts: Vec<Part>,
    data: &'a mut [u32],
    /// Words before `data` in the copy.
    data_start: usize,
    used: usize,
}

impl Packer<'_> {
    fn reserve(&mut self, to: DevicePtr, rows: usize, cols: usize, stride: usize) -> &mut [u32] {
        let from = (self.data_start + self.used) as u32;
        self.parts.push(Part { to, from, rows: rows as u32, cols: cols as u32, stride: stride as u32 });
        let start = self.used;
        self.used += rows * cols;
        &mut self.data[start..start + rows * cols]
    }

    fn add(&mut self, to: DevicePtr, words: &[u32]) {
        if !words.is_empty() {
            self.reserve(to, 1, words.len(), words.len()).copy_from_slice(words);
        }
    }

    /// Adds only the columns in which some sequence has pages.
    fn add_tables(&mut self, to: DevicePtr, step: &Step) {
        let seqs = step.seqs();
        let longest = (0..seqs).map(|s| step.seq_len(s)).max().unwrap_or(0);
        let cols = longest.div_ceil(step.page_size.max(1)).min(step.pages_per_seq);
        if cols == 0 || seqs == 0 {
            return;
        }
        let pages_per_seq = step.pages_per_seq;
        let reserved = self.reserve(to, seqs, cols, pages_per_seq);
        for (row, table) in reserved.chunks_exact_mut(cols).zip(step.block_tables.chunks_exact(pages_per_seq))
        {
            row.copy_from_slice(&table[..cols]);
        }
    }
}
