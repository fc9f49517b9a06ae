//! PagedAttention: `attention.cu` and `attention_merge.cu` on tensor cores, `attention_plain.cu` for other
//! types and head widths.

use crate::kernel::{Kernel, type_name};
use crate::launch::{Args, Config, Extent, Launch};
use crate::program::{Operand, Site};
use engine::dtype::DType;
use engine::op::Op;
use engine::plan::{Dims, Plan};

/// Positions of a part: long contexts are split at absolute multiples of it. Part of the numeric
/// contract: changing it changes bits.
pub(crate) const SPLIT: usize = 1024;

/// Query rows of a decode tile and of a prefill tile.
pub(crate) const DECODE_ROWS: usize = 16;
pub(crate) const PREFILL_ROWS: usize = 64;

/// A variant of `attention.cu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) dtype: DType,
    pub(crate) head_dim: usize,
    /// 1 for decode, 4 for prefill.
    pub(crate) warps: usize,
    /// Whether an item may span several parts.
    pub(crate) parts: bool,
}

impl Form {
    /// Bytes of shared memory with so many slots for blocks of keys, and one for values.
    fn shared(&self, slots: usize) -> usize {
        let row = self.head_dim * 2 + 16;
        let merged = if self.parts { self.head_dim / 2 * 32 * self.warps * 4 } else { 0 };
        (16 * self.warps + (slots + 1) * 64) * row + merged
    }
}

/// The variant that fits in `limit` bytes of shared memory, if one does.
pub(crate) fn kernel(form: Form, limit: u32) -> Option<Kernel> {
    let slots = [2, 1].into_iter().find(|&slots| form.shared(slots) <= limit as usize)?;
    let registers = if form.head_dim <= 64 { 192 } else { 255 };
    Some(
        Kernel::new("attention.cu", include_str!("attention.cu"), "attention", registers)
            .define("TQ", type_name(form.dtype))
            .define("DIM", form.head_dim)
            .define("WARPS", form.warps)
            .define("SLOTS", slots)
            .define("PARTS", u32::from(form.parts))
            .define("SPLIT", SPLIT)
            .shared(form.shared(slots) as u32),
    )
}

pub(crate) fn merge_kernel(dtype: DType, head_dim: usize) -> Kernel {
    Kernel::new("attention_merge.cu", include_str!("attention_merge.cu"), "attention_merge", 64)
        .define("TQ", type_name(dtype))
        .define("DIM", head_dim)
}

pub(crate) fn plain_kernel(q: DType, pages: DType, head_dim: usize) -> Kernel {
    Kernel::new("attention_plain.cu", include_str!("attention_plain.cu"), "attention_plain", 96)
        .define("TQ", type_name(q))
        .define("TP", type_name(pages))
        .define("DIM", head_dim.next_multiple_of(32))
}

/// Query heads that share a KV head, and the rows and columns of the state of a part, for an attention
/// that runs on tensor cores.
pub(crate) struct Grouping {
    pub(crate) group: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
}

/// How an attention op is grouped, or `None` if it takes the plain kernel.
pub(crate) fn grouping(plan: &Plan, most: &Dims, limit: u32, op: &Op) -> Option<Grouping> {
    let Op::PagedAttention { q, k_pages, out, head_dim, .. } = *op else { return None };
    let (q_desc, pages) = (plan.desc(q.buffer), plan.desc(k_pages));
    let half = matches!(q_desc.dtype, DType::BF16 | DType::F16) && q_desc.dtype == pages.dtype;
    let out_desc = plan.desc(out.buffer);
    let aligned = q.start.is_multiple_of(8)
        && q_desc.cols.is_multiple_of(8)
        && out.start.is_multiple_of(2)
        && out_desc.cols.is_multiple_of(2);
    let fits = [(1, false), (4, most_positions(most) > SPLIT)]
        .into_iter()
        .all(|(warps, parts)| kernel(Form { dtype: q_desc.dtype, head_dim, warps, parts }, limit).is_some());
    if !half || !aligned || !head_dim.is_multiple_of(16) || head_dim > 256 || !fits {
        return None;
    }
    Some(Grouping { group: q.cols / pages.cols, kv_heads: pages.cols / head_dim, head_dim })
}

/// Positions of the longest sequence.
pub(crate) fn most_positions(most: &Dims) -> usize {
    most.pages_per_seq * most.page_size
}

pub(crate) fn lower(site: &mut Site, op: &Op) -> Vec<Launch> {
    match grouping(site.plan, site.most, site.card.shared, op) {
        Some(grouping) => lower_tiled(site, op, &grouping),
        None => vec![lower_plain(site, op)],
    }
}

/// The widest grid for items: blocks take several items where there are more.
fn items_grid(items: usize, kv_heads: usize, sms: u32) -> (u32, u32, u32) {
    let enough = (16 * sms as usize).div_ceil(kv_heads);
    (kv_heads as u32, items.clamp(1, enough) as u32, 1)
}

fn lower_tiled(site: &mut Site, op: &Op, grouping: &Grouping) -> Vec<Launch> {
    let mut launches = Vec::new();
    let Op::PagedAttention {
        q,
        k_pages,
        v_pages,
        positions,
        query_start,
        block_tables,
        out,
        scale,
        window,
        ..
    } = *op
    else {
        return launches;
    };
    let (q, out) = (site.view(q), site.view(out));
    let at = |id: engine::plan::BufferId| site.addresses[id.0];
    let Grouping { group, kv_heads, head_dim } = *grouping;
    let Some((index, work)) = site.work.iter().enumerate().find(|(_, w)| w.group == group) else {
        return launches;
    };
    let counts = site.counts + 4 * (crate::program::STEP_COUNTS + 3 * index) as u64;
    // exp(x) = exp2(x log2(e)).
    let scale = scale * std::f32::consts::LOG2_E;
    let sms = site.card.sms;
    let args = |count: u64, items: u64| {
        Args::default()
            .pointer(count)
            .pointer(items)
            .pointer(q.at)
            .pointer(at(k_pages))
            .pointer(at(v_pages))
            .pointer(at(positions))
            .pointer(at(query_start))
            .pointer(at(block_tables))
            .pointer(out.at)
            .pointer(work.states.at)
            .word(kv_heads)
            .word(group)
            .word(work.state_rows)
            .word(q.stride)
            .word(out.stride)
            .word(site.most.pages_per_seq)
            .word(site.most.page_size)
            .word(window.unwrap_or(0))
            .float(scale)
    };
    let long = most_positions(site.most) > SPLIT;
    let mut push = |form: Form, args: Args, items: fn(&crate::launch::WorkCount) -> usize| {
        // `grouping` has seen that it fits.
        let Some(kernel) = kernel(form, site.card.shared) else { return };
        let shape = move |extent: &Extent| {
            let items = items(&extent.work[index]);
            let block = (32 * form.warps as u32, 1, 1);
            (items > 0).then(|| Config { kernel: 0, grid: items_grid(items, kv_heads, sms), block })
        };
        launches.push(Launch { kernels: vec![kernel], args, shape: Box::new(shape) });
    };
    let form = |warps, parts| Form { dtype: q.dtype, head_dim, warps, parts };
    push(form(4, long), args(counts + 4, work.prefill.at), |w| w.prefill);
    push(form(1, false), args(counts, work.decode.at), |w| w.decode);
    if long {
        let threads = 32 * work.state_rows as u32;
        let args = Args::default()
            .pointer(counts + 8)
            .pointer(work.merges.at)
            .pointer(work.states.at)
            .pointer(at(query_start))
            .pointer(out.at)
            .word(kv_heads)
            .word(group)
            .word(work.state_rows)
            .word(out.stride)
            .float(scale);
        let shape = move |extent: &Extent| {
            let merges = extent.work[index].merges;
            let grid = items_grid(merges, kv_heads, sms);
            (merges > 0).then_some(Config { kernel: 0, grid, block: (threads, 1, 1) })
        };
        let kernels = vec![merge_kernel(q.dtype, head_dim)];
        launches.push(Launch { kernels, args, shape: Box::new(shape) });
    }
    launches
}

fn lower_plain(site: &mut Site, op: &Op) -> Launch {
    let Op::PagedAttention {
        q,
        k_pages,
        v_pages,
        positions,
        query_start,
        block_tables,
        out,
        head_dim,
        scale,
        window,
        ..
    } = *op
    else {
        unreachable!("lower is called with attention only")
    };
    let (q, out, pages): (Operand, Operand, Operand) = (site.view(q), site.view(out), site.buffer(k_pages));
    let (tokens, seqs) = (site.rows(q.rows), site.rows(engine::plan::Rows::Seqs));
    let at = |id: engine::plan::BufferId| site.addresses[id.0];
    let (heads, rows) = (q.cols / head_dim, q.rows);
    Launch {
        kernels: vec![plain_kernel(q.dtype, pages.dtype, head_dim)],
        args: Args::default()
            .pointer(tokens)
            .pointer(seqs)
            .pointer(q.at)
            .pointer(pages.at)
            .pointer(at(v_pages))
            .pointer(at(positions))
            .pointer(at(query_start))
            .pointer(at(block_tables))
            .pointer(out.at)
            .word(heads)
            .word(pages.cols / head_dim)
            .word(head_dim)
            .word(q.stride)
            .word(out.stride)
            .word(site.most.pages_per_seq)
            .word(site.most.page_size)
            .word(window.unwrap_or(0))
            .float(scale),
        shape: Box::new(move |extent| {
            let rows = extent.dims.count(rows) as u32;
            (rows > 0).then_some(Config { kernel: 0, grid: (rows, heads as u32, 1), block: (32, 1, 1) })
        }),
    }
}
