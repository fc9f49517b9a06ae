//! Step inputs: packed on the host, copied in one piece, and spread over their buffers by `unpack.cu`.

use crate::kernel::Kernel;
use crate::launch::{Args, Config};
use crate::program::STEP_COUNTS;
use crate::work::{Lists, Work, most_work};
use bytemuck::{Pod, Zeroable};
use engine::plan::{BufferDesc, BufferId, BufferKind, Dims, Input, Plan};
use engine::step::Step;

/// The most parts of a copy.
const MOST_PARTS: usize = 32;

/// Words of a [`Part`].
const PART_WORDS: usize = size_of::<Part>() / 4;

/// `Part` of `unpack.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct Part {
    to: u64,
    from: u32,
    rows: u32,
    cols: u32,
    stride: u32,
}

/// Where the inputs of a plan go.
pub(crate) struct Inputs {
    /// Inputs that the plan has, with their buffers' addresses.
    targets: Vec<(Input, u64)>,
    counts: u64,
    /// Bytes of the longest copy.
    pub(crate) most_bytes: usize,
}

/// What a packed step is.
pub(crate) struct Packed {
    /// Bytes to copy.
    pub(crate) bytes: usize,
    /// The grid of `unpack`.
    pub(crate) config: Config,
}

pub(crate) fn kernel() -> Kernel {
    Kernel::new("unpack.cu", include_str!("unpack.cu"), "unpack", 40)
}

/// The arguments of `unpack` for a staging buffer.
pub(crate) fn args(staging: u64) -> Args {
    Args::default().pointer(staging).pointer(staging)
}

impl Inputs {
    pub(crate) fn new(plan: &Plan, most: &Dims, addresses: &[u64], counts: u64, works: &[Work]) -> Inputs {
        let target = |(id, desc): (BufferId, &BufferDesc)| match desc.kind {
            BufferKind::StepInput(input) => Some((input, addresses[id.0])),
            _ => None,
        };
        let groups: Vec<usize> = works.iter().map(|w| w.group).collect();
        let most_bytes = Inputs::most_bytes(plan, most, &groups);
        Inputs { targets: plan.iter().filter_map(target).collect(), counts, most_bytes }
    }

    /// Bytes of the longest copy, for a plan with attentions of these group sizes.
    pub(crate) fn most_bytes(plan: &Plan, most: &Dims, groups: &[usize]) -> usize {
        let inputs = plan.bytes(most, |kind| matches!(kind, BufferKind::StepInput(_)));
        let lists = groups.iter().map(|&group| most_work(most, group));
        let items: usize = lists.map(|w| w.decode + w.prefill + w.merges).sum();
        inputs + 4 * (MOST_PARTS * PART_WORDS + STEP_COUNTS + 3 * groups.len() + 4 * items)
    }

    /// Packs a step into pinned memory of [`Inputs::most_bytes`].
    pub(crate) fn pack(&self, step: &Step, works: &[Work], lists: &[Lists], to: &mut [u8]) -> Packed {
        let words: &mut [u32] = bytemuck::cast_slice_mut(to);
        let (table, data) = words.split_at_mut(MOST_PARTS * PART_WORDS);
        let mut packer = Packer { parts: Vec::with_capacity(MOST_PARTS), data, used: 0 };
        let dims = step.dims();
        let mut counts: Vec<u32> =
            [dims.tokens, dims.seqs, dims.seqs + 1, dims.outputs, dims.adjustments, dims.masks]
                .map(|n| n as u32)
                .to_vec();
        for list in lists {
            let count = list.count();
            counts.extend([count.decode, count.prefill, count.merges].map(|n| n as u32));
        }
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
        let config = Config {
            kernel: 0,
            grid: (longest.div_ceil(1024).clamp(1, 64), parts.len() as u32, 1),
            block: (256, 1, 1),
        };
        Packed { bytes: 4 * (MOST_PARTS * PART_WORDS + used), config }
    }
}

struct Packer<'a> {
    parts: Vec<Part>,
    data: &'a mut [u32],
    used: usize,
}

impl Packer<'_> {
    fn room(&mut self, to: u64, rows: usize, cols: usize, stride: usize) -> &mut [u32] {
        let from = (MOST_PARTS * PART_WORDS + self.used) as u32;
        self.parts.push(Part { to, from, rows: rows as u32, cols: cols as u32, stride: stride as u32 });
        let start = self.used;
        self.used += rows * cols;
        &mut self.data[start..start + rows * cols]
    }

    fn add(&mut self, to: u64, words: &[u32]) {
        if !words.is_empty() {
            self.room(to, 1, words.len(), words.len()).copy_from_slice(words);
        }
    }

    /// Only the columns that some sequence has pages for.
    fn add_tables(&mut self, to: u64, step: &Step) {
        let longest = step.seq_lens.iter().max().map_or(0, |&n| n as usize);
        let cols = longest.div_ceil(step.page_size.max(1)).min(step.pages_per_seq);
        let seqs = step.seq_lens.len();
        if cols == 0 || seqs == 0 {
            return;
        }
        let pages_per_seq = step.pages_per_seq;
        let room = self.room(to, seqs, cols, pages_per_seq);
        for (row, table) in room.chunks_exact_mut(cols).zip(step.block_tables.chunks_exact(pages_per_seq)) {
            row.copy_from_slice(&table[..cols]);
        }
    }
}
