//! Attention of prompts on the tensor cores of sm_90a: `attention_sm90.cu`.

use super::operands::Attention;
use super::variant::{AttentionVariant, BLOCK};
use crate::args::{DevicePtr, c_struct, word};
use crate::driver::card::{CardLimits, TensorCores};
use crate::driver::launch::LaunchConfig;
use crate::driver::tensor_map::{Element, Matrix, TensorMap, tensor_map};
use crate::grid::WorkList;
use crate::kernel::Kernel;
use crate::launch::Launch;
use crate::lowering::Lowering;
use crate::work::{Item, SPLIT};
use cudarc::driver::DriverError;
use engine::dtype::DType;
use engine::plan::{BufferId, Input};

/// Consumer warpgroups of a block, each of 64 query rows.
const WARPGROUPS: usize = 2;

/// Query rows of a tile.
pub(super) const ROWS: usize = 64 * WARPGROUPS;

/// Slots for keys and values.
const STAGES: usize = 4;

/// Positions that a producer warp fetches: the source's `SHARE`.
const SHARE: usize = BLOCK / 4;

c_struct! {
    /// The arguments of `attention_sm90.cu`.
    struct Args {
        k_map: TensorMap,
        v_map: TensorMap,
        count: DevicePtr,
        items: DevicePtr,
        q: DevicePtr,
        k_pages: DevicePtr,
        v_pages: DevicePtr,
        positions: DevicePtr,
        query_start: DevicePtr,
        block_tables: DevicePtr,
        out: DevicePtr,
        kv_heads: u32,
        group: u32,
        q_stride: u32,
        out_stride: u32,
        pages_per_seq: u32,
        page_size: u32,
        window: u32,
        box_rows: u32,
        scale: f32,
        inner_scale: f32,
        pad: [u32; 4],
    }
}

/// Bytes of shared memory: slots, queries, rooms for merged values or results, the mbarriers (two for each slot, two for
/// queries, two for turns), and what aligning them may take.
fn shared(variant: &AttentionVariant) -> usize {
    let row = variant.head_dim * 2;
    let room = if variant.parts { 2 * row } else { row };
    1024 + STAGES * (2 * BLOCK * row + 16) + ROWS * (row + room) + 32
}

/// The kernel of a variant, if the card has the instructions and the heads and pages are such as it takes.
pub(crate) fn kernel(variant: AttentionVariant, limits: &CardLimits) -> Option<Kernel> {
    let AttentionVariant { dtype, pages, head_dim, parts, softcap, .. } = variant;
    let shared = shared(&variant);
    if limits.prefill != TensorCores::Wgmma
        || !(pages == dtype || pages == DType::E4M3)
        || !matches!(head_dim, 64 | 128)
        || shared > limits.shared as usize
    {
        return None;
    }
    let text = include_str!("attention_sm90.cu");
    // Of a block of three warpgroups, a thread's share of registers.
    Some(
        Kernel::new::<Args>("attention_sm90.cu", text, "attention_sm90", 168)
            .with_struct::<Item>()
            .define("TQ", dtype)
            .define("FP8", u32::from(pages == DType::E4M3))
            .define("DIM", head_dim)
            .define("WGS", WARPGROUPS)
            .define("STAGES", STAGES)
            .define("PARTS", u32::from(parts))
            .define("SOFTCAP", u32::from(softcap))
            .define("SPLIT", SPLIT)
            .define("BLOCK", BLOCK)
            .shared(shared as u32),
    )
}

/// Positions that bulk copies move together: they must lie in one page, and in whole groups of 8. 0 if pages have no such,
/// or are widened on the way.
fn box_rows(page_size: usize, pages: DType) -> usize {
    let wide = pages != DType::E4M3;
    [SHARE, 8].into_iter().find(|&rows| wide && page_size.is_multiple_of(rows)).unwrap_or(0)
}

/// The map of pages, a row for each position, in boxes of so many rows; an empty one for none.
fn map(lowering: &Lowering, pages: BufferId, dtype: DType, rows: usize) -> Result<TensorMap, DriverError> {
    let pages = lowering.buffer(pages);
    let element = if dtype == DType::F16 { Element::F16 } else { Element::BF16 };
    let matrix = Matrix {
        at: pages.at,
        element,
        rows: lowering.max_dims.count(pages.rows),
        cols: pages.cols,
        stride: 2 * pages.stride,
    };
    if rows == 0 { Ok([0; 16]) } else { tensor_map(&matrix, rows as u32) }
}

/// The launch of the prefill items; `None` if the driver refuses a map.
pub(super) fn lower(lowering: &mut Lowering, attention: &Attention, kernel: Kernel) -> Option<Launch> {
    let (op, dtype) = (attention.op, attention.grouping.dtype);
    let (index, kv_heads, sms) = (attention.index, attention.grouping.kv_heads, lowering.limits.sms);
    let box_rows = box_rows(lowering.max_dims.page_size, attention.grouping.pages);
    let maps = map(lowering, op.k_pages, dtype, box_rows)
        .and_then(|k| Ok((k, map(lowering, op.v_pages, dtype, box_rows)?)));
    let (k_map, v_map) = maps.map_err(|error| lowering.refused = Some(error)).ok()?;
    let args = Args {
        k_map,
        v_map,
        count: lowering.counts.work(index, WorkList::Prefill),
        items: attention.work.prefill.at,
        q: attention.q.at,
        k_pages: lowering.at(op.k_pages),
        v_pages: lowering.at(op.v_pages),
        positions: lowering.input(Input::Positions),
        query_start: lowering.input(Input::QueryStart),
        block_tables: lowering.input(Input::BlockTables),
        out: attention.out.at,
        kv_heads: word(kv_heads),
        group: word(attention.work.tiling.group),
        q_stride: word(attention.q.stride),
        out_stride: word(attention.out.stride),
        pages_per_seq: word(lowering.max_dims.pages_per_seq),
        page_size: word(lowering.max_dims.page_size),
        window: word(op.window.unwrap_or(0)),
        box_rows: word(box_rows),
        scale: attention.scale,
        inner_scale: attention.inner_scale,
        pad: [0; 4],
    };
    let threads = 128 * (WARPGROUPS as u32 + 1);
    Some(Launch::new(
        vec![kernel],
        args,
        Box::new(move |grid| {
            let tiles = grid.work[index].of(WorkList::Prefill) * kv_heads;
            let blocks = tiles.min(sms as usize) as u32;
            (blocks > 0).then_some(LaunchConfig { kernel: 0, grid: (blocks, 1, 1), block: (threads, 1, 1) })
        }),
    ))
}
