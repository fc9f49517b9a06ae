//! Attention on tensor cores: `attention.cu`, and `attention_merge.cu` for contexts of several parts.

use crate::args::{DevicePtr, c_struct, word};
use crate::driver::launch::LaunchConfig;
use crate::grid::{GridDims, WorkList};
use crate::kernel::Kernel;
use crate::launch::Launch;
use crate::lowering::Lowering;
use crate::work::{DECODE_WARPS, Grouping, Item, Merge, PREFILL_WARPS, SPLIT, WARP_ROWS, max_positions};
use engine::dtype::DType;
use engine::op::PagedAttention;
use engine::plan::{Dims, Input, Plan};

/// Positions that are walked together: the source's `BLOCK`.
const BLOCK: usize = 64;
const _: () = assert!(SPLIT.is_multiple_of(BLOCK));

/// A variant of `attention.cu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttentionVariant {
    pub(crate) dtype: DType,
    pub(crate) head_dim: usize,
    /// [`DECODE_WARPS`] or [`PREFILL_WARPS`].
    pub(crate) warps: usize,
    /// Whether an item may span several parts.
    pub(crate) parts: bool,
    /// Whether scores are bounded.
    pub(crate) softcap: bool,
}

impl AttentionVariant {
    /// Bytes of shared memory with so many slots for blocks of keys, and one for values.
    fn shared(&self, slots: usize) -> usize {
        let row = self.head_dim * 2 + 16;
        let merged = if self.parts { self.head_dim / 2 * 32 * self.warps * 4 } else { 0 };
        (WARP_ROWS * self.warps + (slots + 1) * BLOCK) * row + merged
    }
}

c_struct! {
    /// The arguments of `attention.cu`.
    struct Args {
        count: DevicePtr,
        items: DevicePtr,
        q: DevicePtr,
        k_pages: DevicePtr,
        v_pages: DevicePtr,
        positions: DevicePtr,
        query_start: DevicePtr,
        block_tables: DevicePtr,
        out: DevicePtr,
        states: DevicePtr,
        kv_heads: u32,
        group: u32,
        state_rows: u32,
        q_stride: u32,
        out_stride: u32,
        pages_per_seq: u32,
        page_size: u32,
        window: u32,
        scale: f32,
        inner_scale: f32,
    }
}

/// The kernel of a variant within `limit` bytes of shared memory, if it fits.
pub(crate) fn kernel(variant: AttentionVariant, limit: u32) -> Option<Kernel> {
    let slots = [2, 1].into_iter().find(|&slots| variant.shared(slots) <= limit as usize)?;
    let registers = if variant.head_dim <= 64 { 192 } else { 255 };
    Some(
        Kernel::new::<Args>("attention.cu", include_str!("attention.cu"), "attention", registers)
            .with_struct::<Item>()
            .define("TQ", variant.dtype)
            .define("DIM", variant.head_dim)
            .define("WARPS", variant.warps)
            .define("SLOTS", slots)
            .define("PARTS", u32::from(variant.parts))
            .define("SOFTCAP", u32::from(variant.softcap))
            .define("SPLIT", SPLIT)
            .define("BLOCK", BLOCK)
            .shared(variant.shared(slots) as u32),
    )
}

c_struct! {
    /// The arguments of `attention_merge.cu`.
    struct MergeArgs {
        count: DevicePtr,
        merges: DevicePtr,
        states: DevicePtr,
        query_start: DevicePtr,
        out: DevicePtr,
        kv_heads: u32,
        group: u32,
        state_rows: u32,
        out_stride: u32,
        scale: f32,
        pad: u32,
    }
}

pub(crate) fn merge_kernel(dtype: DType, head_dim: usize) -> Kernel {
    let text = include_str!("attention_merge.cu");
    Kernel::new::<MergeArgs>("attention_merge.cu", text, "attention_merge", 64)
        .with_struct::<Merge>()
        .define("TQ", dtype)
        .define("DIM", head_dim)
}

/// How an attention op is grouped, or `None` if it takes the plain kernel.
pub(crate) fn grouping(plan: &Plan, max_dims: &Dims, limit: u32, op: &PagedAttention) -> Option<Grouping> {
    let PagedAttention { q, k_pages, out, head_dim, softcap, .. } = *op;
    let (q_desc, pages, out_desc) = (plan.desc(q.buffer), plan.desc(k_pages), plan.desc(out.buffer));
    let dtype = q_desc.format.plain().filter(|dtype| matches!(dtype, DType::BF16 | DType::F16))?;
    let aligned = q.start.is_multiple_of(8)
        && q_desc.cols.is_multiple_of(8)
        && out.start.is_multiple_of(2)
        && out_desc.cols.is_multiple_of(2);
    let variant =
        |warps, parts| AttentionVariant { dtype, head_dim, warps, parts, softcap: softcap.is_some() };
    let variants = [variant(DECODE_WARPS, false), variant(PREFILL_WARPS, max_positions(max_dims) > SPLIT)];
    let fits = variants.into_iter().all(|variant| kernel(variant, limit).is_some());
    if q_desc.format != pages.format || !aligned || !head_dim.is_multiple_of(16) || head_dim > 256 || !fits {
        return None;
    }
    Some(Grouping { dtype, group: q.cols / pages.cols, kv_heads: pages.cols / head_dim, head_dim })
}

/// A grid for items: blocks take several items where there are many.
fn items_grid(items: usize, kv_heads: usize, sms: u32) -> (u32, u32, u32) {
    let enough = (16 * sms as usize).div_ceil(kv_heads);
    (kv_heads as u32, items.clamp(1, enough) as u32, 1)
}

pub(super) fn lower(lowering: &mut Lowering, op: &PagedAttention, grouping: &Grouping) -> Vec<Launch> {
    let mut launches = Vec::new();
    let PagedAttention { q, k_pages, v_pages, out, scale, window, softcap, .. } = *op;
    let (q, out) = (lowering.view(q), lowering.view(out));
    let Grouping { dtype, group, kv_heads, head_dim } = *grouping;
    let Some((index, work)) = lowering.work.iter().enumerate().find(|(_, w)| w.group == group) else {
        return launches;
    };
    // The kernels weigh exp2(scale x), and exp(x) = exp2(x log2(e)). With a cap x is tanh(inner_scale q.k).
    let (inner_scale, scale) = softcap.map_or((1.0, scale), |cap| (scale / cap, cap));
    let scale = scale * std::f32::consts::LOG2_E;
    let sms = lowering.limits.sms;
    let choose = move |list: WorkList, threads: u32| {
        move |grid: &GridDims| {
            let items = grid.work[index].of(list);
            let config =
                LaunchConfig { kernel: 0, grid: items_grid(items, kv_heads, sms), block: (threads, 1, 1) };
            (items > 0).then_some(config)
        }
    };
    let long = max_positions(lowering.max_dims) > SPLIT;
    for (list, warps, parts) in
        [(WorkList::Prefill, PREFILL_WARPS, long), (WorkList::Decode, DECODE_WARPS, false)]
    {
        let args = Args {
            count: lowering.counts.work(index, list),
            items: work.list(list).at,
            q: q.at,
            k_pages: lowering.at(k_pages),
            v_pages: lowering.at(v_pages),
            positions: lowering.input(Input::Positions),
            query_start: lowering.input(Input::QueryStart),
            block_tables: lowering.input(Input::BlockTables),
            out: out.at,
            states: work.states.at,
            kv_heads: word(kv_heads),
            group: word(group),
            state_rows: word(work.state_rows),
            q_stride: word(q.stride),
            out_stride: word(out.stride),
            pages_per_seq: word(lowering.max_dims.pages_per_seq),
            page_size: word(lowering.max_dims.page_size),
            window: word(window.unwrap_or(0)),
            scale,
            inner_scale,
        };
        let variant = AttentionVariant { dtype, head_dim, warps, parts, softcap: softcap.is_some() };
        // `grouping` has seen that it fits.
        let kernels = kernel(variant, lowering.limits.shared).into_iter().collect();
        launches.push(Launch::new(kernels, args, Box::new(choose(list, 32 * warps as u32))));
    }
    if long {
        let args = MergeArgs {
            count: lowering.counts.work(index, WorkList::Merges),
            merges: work.merges.at,
            states: work.states.at,
            query_start: lowering.input(Input::QueryStart),
            out: out.at,
            kv_heads: word(kv_heads),
            group: word(group),
            state_rows: word(work.state_rows),
            out_stride: word(out.stride),
            scale,
            pad: 0,
        };
        let choose = choose(WorkList::Merges, 32 * work.state_rows as u32);
        launches.push(Launch::new(vec![merge_kernel(dtype, head_dim)], args, Box::new(choose)));
    }
    launches
}
