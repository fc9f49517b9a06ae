//! Attention of few sequences on tensor cores, whose warps share a tile: `attention_few.cu`.

use super::operands::{Args, Attention};
use super::variant::{AttentionVariant, BLOCK};
use crate::driver::launch::LaunchConfig;
use crate::grid::{ChooseGrid, WorkList};
use crate::kernel::Kernel;
use crate::lowering::Lowering;
use crate::work::{Item, SPLIT, WARP_ROWS};
use engine::dtype::DType;

/// Warps of a block, each with a KV block of a round: the most that fit are taken.
const WARPS: [usize; 2] = [4, 2];

/// Items with a KV head for each multiprocessor up to which sequences are few, and blocks for each, at most.
const FEW: usize = 2;

/// Shared memory that the driver takes of a block.
const RESERVED: u32 = 1 << 10;

/// The kernel of a variant, and what a launch of it needs to know.
pub(crate) struct Few {
    pub(crate) kernel: Kernel,
    warps: usize,
    /// Blocks that run at a time on a multiprocessor.
    blocks: usize,
}

/// Bytes of shared memory: keys and values of a round, its weights, and of each of its blocks the rows' greatest scores and
/// totals.
fn shared(variant: &AttentionVariant, warps: usize) -> usize {
    warps * (2 * variant.kv_block() + WARP_ROWS * (BLOCK * 2 + 2 * 4))
}

/// The kernel of a variant within `limit` bytes of shared memory, if it fits and each warp has whole fragments of columns.
pub(crate) fn kernel(variant: AttentionVariant, limit: u32) -> Option<Few> {
    let fits = |warps: &usize| {
        variant.head_dim.is_multiple_of(16 * warps) && shared(&variant, *warps) <= limit as usize
    };
    let warps = WARPS.into_iter().find(fits)?;
    let shared = shared(&variant, warps) as u32;
    let text = include_str!("attention_few.cu");
    let kernel = Kernel::new::<Args>("attention_few.cu", text, "attention_few", 255)
        .with_struct::<Item>()
        .define("TQ", variant.dtype)
        .define("FP8", u32::from(variant.pages == DType::E4M3))
        .define("DIM", variant.head_dim)
        .define("WARPS", warps)
        .define("SOFTCAP", u32::from(variant.softcap))
        .define("SPLIT", SPLIT)
        .define("BLOCK", BLOCK)
        .shared(shared);
    // A multiprocessor has as much as a block may take, and what the driver takes of that one.
    let blocks = ((limit + RESERVED) / (shared + RESERVED)) as usize;
    Some(Few { kernel, warps, blocks: blocks.min(FEW) })
}

/// Takes the kernel, the second of a launch, for steps of few sequences, and `many` chooses for others. Both give the same
/// bits.
pub(super) fn choose(attention: &Attention, lowering: &Lowering, few: &Few, many: ChooseGrid) -> ChooseGrid {
    let (index, kv_heads, threads) = (attention.index, attention.grouping.kv_heads, 32 * few.warps as u32);
    let sms = lowering.limits.sms as usize;
    let max_seqs = FEW * sms / kv_heads;
    // A graph has as many as the longest contexts could use, which end at once in most steps, so there are no more than run
    // at a time.
    let max_blocks = few.blocks * sms;
    Box::new(move |grid| {
        if grid.dims.seqs > max_seqs {
            return many(grid);
        }
        let blocks = (grid.work[index].of(WorkList::Decode) * kv_heads).min(max_blocks) as u32;
        (blocks > 0).then_some(LaunchConfig { kernel: 1, grid: (blocks, 1, 1), block: (threads, 1, 1) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Warps, and blocks on a multiprocessor, by what fits of heads and their pages.
    #[test]
    fn as_many_warps_as_fit() {
        let few = |head_dim, pages, kilobytes: u32| {
            let dtype = DType::BF16;
            let variant = AttentionVariant { dtype, pages, head_dim, warps: 1, parts: false, softcap: false };
            kernel(variant, kilobytes << 10).map(|few| (few.warps, few.blocks))
        };
        for (head_dim, on_sm_80, on_sm_89, on_sm_90) in [
            (64, Some((4, 2)), Some((4, 1)), Some((4, 2))),
            (80, None, None, None),
            (96, Some((2, 2)), Some((2, 1)), Some((2, 2))),
            (128, Some((4, 1)), Some((2, 1)), Some((4, 1))),
            (256, Some((2, 1)), None, Some((2, 1))),
        ] {
            let got = [163, 99, 227].map(|kilobytes| few(head_dim, DType::BF16, kilobytes));
            assert_eq!(got, [on_sm_80, on_sm_89, on_sm_90], "heads of {head_dim}");
        }
        assert_eq!(few(128, DType::E4M3, 227), Some((4, 2)));
        assert_eq!(few(256, DType::E4M3, 99), Some((2, 1)));
    }
}
