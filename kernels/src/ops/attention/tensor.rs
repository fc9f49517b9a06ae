//! Attention on tensor cores: `attention.cu`, and `attention_merge.cu` for contexts of several parts.

use super::few;
use super::operands::{Args, Attention};
use super::sm90;
use super::variant::{AttentionVariant, BLOCK};
use crate::args::{DevicePtr, c_struct, word};
use crate::driver::card::CardLimits;
use crate::driver::launch::LaunchConfig;
use crate::grid::{ChooseGrid, WorkList};
use crate::kernel::Kernel;
use crate::launch::Launch;
use crate::lowering::Lowering;
use crate::work::{
    DECODE_WARPS, Grouping, Item, Merge, PREFILL_WARPS, SPLIT, Tiling, WARP_ROWS, max_positions,
};
use engine::dtype::DType;
use engine::op::PagedAttention;
use engine::plan::{Dims, Input, Plan};

/// Blocks for each multiprocessor, at most.
const BLOCKS: usize = 16;

/// The kernel of a variant within `limit` bytes of shared memory, if it fits.
pub(crate) fn kernel(variant: AttentionVariant, limit: u32) -> Option<Kernel> {
    let slots = [2, 1].into_iter().find(|&slots| variant.shared(slots) <= limit as usize)?;
    let registers = if variant.head_dim <= 64 { 192 } else { 255 };
    Some(
        Kernel::new::<Args>("attention.cu", include_str!("attention.cu"), "attention", registers)
            .with_struct::<Item>()
            .define("TQ", variant.dtype)
            .define("FP8", u32::from(variant.pages == DType::E4M3))
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
    // Blocks have up to 512 threads.
    let registers = if head_dim <= 128 { 80 } else { 128 };
    Kernel::new::<MergeArgs>("attention_merge.cu", text, "attention_merge", registers)
        .with_struct::<Merge>()
        .define("TQ", dtype)
        .define("DIM", head_dim)
}

/// How an attention op is grouped, or `None` if it takes the plain kernel.
pub(crate) fn grouping(
    plan: &Plan,
    max_dims: &Dims,
    limits: &CardLimits,
    op: &PagedAttention,
) -> Option<Grouping> {
    let PagedAttention { q, k_pages, out, head_dim, softcap, .. } = *op;
    let (q_desc, pages, out_desc) = (plan.desc(q.buffer), plan.desc(k_pages), plan.desc(out.buffer));
    let dtype = q_desc.format.plain().filter(|dtype| matches!(dtype, DType::BF16 | DType::F16))?;
    let pages_dtype = pages.format.plain().filter(|pages| *pages == dtype || *pages == DType::E4M3)?;
    let aligned = q.start.is_multiple_of(8)
        && q_desc.cols.is_multiple_of(8)
        && out.start.is_multiple_of(2)
        && out_desc.cols.is_multiple_of(2);
    let variant = |warps, parts| AttentionVariant {
        dtype,
        pages: pages_dtype,
        head_dim,
        warps,
        parts,
        softcap: softcap.is_some(),
    };
    let prefill = variant(PREFILL_WARPS, max_positions(max_dims) > SPLIT);
    let fits =
        [variant(DECODE_WARPS, false), prefill].into_iter().all(|v| kernel(v, limits.shared).is_some());
    if !aligned || !head_dim.is_multiple_of(16) || head_dim > 256 || !fits {
        return None;
    }
    // Results of `attention_sm90.cu` are moved 16 bytes at a time.
    let wide_out = out.start.is_multiple_of(8) && out_desc.cols.is_multiple_of(8);
    let sm90 = wide_out && sm90::kernel(prefill, limits).is_some();
    let prefill_rows = if sm90 { sm90::ROWS } else { WARP_ROWS * PREFILL_WARPS };
    let tiling = Tiling { group: q.cols / pages.cols, prefill_rows };
    Some(Grouping { dtype, pages: pages_dtype, tiling, kv_heads: pages.cols / head_dim, head_dim })
}

/// A grid for items: blocks take several items where there are more than `most` blocks.
fn items_grid(items: usize, kv_heads: usize, most: usize) -> (u32, u32, u32) {
    (kv_heads as u32, items.clamp(1, most.div_ceil(kv_heads)) as u32, 1)
}

impl Attention<'_> {
    fn variant(&self, warps: usize, parts: bool) -> AttentionVariant {
        let Grouping { dtype, pages, head_dim, .. } = *self.grouping;
        let softcap = self.op.softcap.is_some();
        AttentionVariant { dtype, pages, head_dim, warps, parts, softcap }
    }

    /// The launch of a list's items by `attention.cu`.
    fn items(&self, lowering: &mut Lowering, list: WorkList, warps: usize, parts: bool) -> Launch {
        let args = self.args(lowering, list);
        let variant = self.variant(warps, parts);
        // `grouping` has seen that it fits.
        let mut kernels: Vec<Kernel> = kernel(variant, lowering.limits.shared).into_iter().collect();
        let many = self.choose(lowering, list, warps);
        let few = (list == WorkList::Decode).then(|| few::kernel(variant, lowering.limits.shared)).flatten();
        let Some(few) = few else {
            return Launch::new(kernels, args, many);
        };
        let choose = few::choose(self, lowering, &few, many);
        kernels.push(few.kernel);
        Launch::new(kernels, args, choose)
    }

    fn merges(&self, lowering: &mut Lowering) -> Launch {
        let args = MergeArgs {
            count: lowering.counts.work(self.index, WorkList::Merges),
            merges: self.work.merges.at,
            states: self.work.states.at,
            query_start: lowering.input(Input::QueryStart),
            out: self.out.at,
            kv_heads: word(self.grouping.kv_heads),
            group: word(self.work.tiling.group),
            state_rows: word(self.work.state_rows),
            out_stride: word(self.out.stride),
            scale: self.scale,
            pad: 0,
        };
        let kernel = merge_kernel(self.grouping.dtype, self.grouping.head_dim);
        let choose = self.choose(lowering, WorkList::Merges, self.work.state_rows);
        Launch::new(vec![kernel], args, choose)
    }

    /// Blocks of so many warps for the items of a list and each KV head.
    fn choose(&self, lowering: &Lowering, list: WorkList, warps: usize) -> ChooseGrid {
        let (index, kv_heads, threads) = (self.index, self.grouping.kv_heads, 32 * warps as u32);
        let most = BLOCKS * lowering.limits.sms as usize;
        Box::new(move |grid| {
            let items = grid.work[index].of(list);
            let config =
                LaunchConfig { kernel: 0, grid: items_grid(items, kv_heads, most), block: (threads, 1, 1) };
            (items > 0).then_some(config)
        })
    }
}

pub(super) fn lower(lowering: &mut Lowering, op: &PagedAttention, grouping: &Grouping) -> Vec<Launch> {
    let works = lowering.work;
    let Some((index, work)) = works.iter().enumerate().find(|(_, w)| w.tiling == grouping.tiling) else {
        return Vec::new();
    };
    let (inner_scale, scale) = op.softcap.map_or((1.0, op.scale), |cap| (op.scale / cap, cap));
    let attention = Attention {
        op,
        grouping,
        q: lowering.view(op.q),
        out: lowering.view(op.out),
        work,
        index,
        long: max_positions(lowering.max_dims) > SPLIT,
        scale: scale * std::f32::consts::LOG2_E,
        inner_scale,
    };
    let variant = attention.variant(PREFILL_WARPS, attention.long);
    let sm90 = sm90::kernel(variant, &lowering.limits).filter(|_| grouping.tiling.prefill_rows == sm90::ROWS);
    let prefill = match sm90 {
        Some(kernel) => sm90::lower(lowering, &attention, kernel),
        None => Some(attention.items(lowering, WorkList::Prefill, PREFILL_WARPS, attention.long)),
    };
    let mut launches: Vec<Launch> = prefill.into_iter().collect();
    launches.push(attention.items(lowering, WorkList::Decode, DECODE_WARPS, false));
    if attention.long {
        launches.push(attention.merges(lowering));
    }
    launches
}
