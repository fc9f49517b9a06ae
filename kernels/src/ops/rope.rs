//! Rope, alone or with the KvWrite that follows it: `rope.cu`.

use crate::args::{DevicePtr, c_struct, word};
use crate::grid::block_per_row;
use crate::kernel::Kernel;
use crate::launch::Launch;
use crate::lowering::{Lowering, Operand, vector_width};
use engine::dtype::DType;
use engine::format::Format;
use engine::op::{KvWrite, Op, Rope};
use engine::plan::{BufferId, Input, Rows, View};

c_struct! {
    /// The arguments of `rope.cu`.
    struct Args {
        rows: DevicePtr,
        positions: DevicePtr,
        table: DevicePtr,
        q: DevicePtr,
        k: DevicePtr,
        v: DevicePtr,
        kv_slots: DevicePtr,
        k_pages: DevicePtr,
        v_pages: DevicePtr,
        q_heads: u32,
        k_heads: u32,
        head_dim: u32,
        rotary: u32,
        q_stride: u32,
        k_stride: u32,
        v_stride: u32,
        v_cols: u32,
    }
}

/// Formats of q, k and v, of the table, of the pages; and columns that are moved together.
pub(crate) fn kernel(x: Format, table: Format, pages: Format, vec: usize) -> Kernel {
    Kernel::new::<Args>("rope.cu", include_str!("rope.cu"), "rope", 80)
        .define("TX", x)
        .define("TT", table)
        .define("TP", pages)
        .define("VEC", vec)
}

/// What a launch rotates and stores.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) q: Option<Operand>,
    pub(super) k: Option<Operand>,
    pub(super) v: Option<Operand>,
    /// The table of angles.
    pub(super) table: Option<BufferId>,
    /// Key pages, value pages.
    pub(super) pages: Option<(BufferId, BufferId)>,
    pub(super) head_dim: usize,
}

pub(crate) fn lower(lowering: &mut Lowering, op: &Rope) -> Launch {
    let q = Some(lowering.view(op.x));
    let parts = Parts { q, table: Some(op.table), head_dim: op.head_dim, ..Parts::default() };
    lower_parts(lowering, parts)
}

/// Rope of queries and keys that lie side by side and KvWrite of those keys as one launch, if these are the next two
/// ops.
pub(crate) fn lower_with_kv_write(lowering: &mut Lowering, ops: &[Op]) -> Option<Launch> {
    let [Op::Rope(rope), Op::KvWrite(write), ..] = ops else { return None };
    let (Rope { x, table, head_dim }, KvWrite { k, v, k_pages, v_pages }) = (*rope, *write);
    // The keys are the last columns of what is rotated, in whole heads.
    let last = x.buffer == k.buffer && x.start <= k.start && x.start + x.cols == k.start + k.cols;
    let queries = View { cols: x.cols.saturating_sub(k.cols), ..x };
    let (q, k, v) = (lowering.view(queries), lowering.view(k), lowering.view(v));
    if !last || !queries.cols.is_multiple_of(head_dim) || v.format != k.format {
        return None;
    }
    let parts = Parts {
        q: Some(q),
        k: Some(k),
        v: Some(v),
        table: Some(table),
        pages: Some((k_pages, v_pages)),
        head_dim,
    };
    Some(lower_parts(lowering, parts))
}

pub(super) fn lower_parts(lowering: &mut Lowering, parts: Parts) -> Launch {
    let Parts { q, k, v, table, pages, head_dim } = parts;
    let at = |o: &Option<Operand>| o.map_or(0, |o| o.at);
    let stride = |o: &Option<Operand>| word(o.map_or(0, |o| o.stride));
    let heads = |o: &Option<Operand>| word(o.map_or(0, |o| o.cols / head_dim));
    let table = table.map(|table| lowering.buffer(table));
    // One of the two is always there.
    let any = q.or(k);
    let f32 = Format::Plain(DType::F32);
    let x = any.map_or(f32, |o| o.format);
    let rows = any.map_or(Rows::Tokens, |o| o.rows);
    let page_format = pages.map_or(x, |(k_pages, _)| lowering.plan.desc(k_pages).format);
    // Halves of pairs, and the columns beside them, must be whole vectors too.
    let half = table.map_or(0, |t| t.cols / 2);
    let operands: Vec<&Operand> = q.iter().chain(&k).chain(&v).collect();
    let aligned = half.is_multiple_of(8) && head_dim.is_multiple_of(8);
    let vec = if aligned { vector_width(&operands) } else { 1 };
    let args = Args {
        rows: lowering.rows(rows),
        positions: table.map_or(0, |_| lowering.input(Input::Positions)),
        table: at(&table),
        q: at(&q),
        k: at(&k),
        v: at(&v),
        kv_slots: pages.map_or(0, |_| lowering.input(Input::KvSlots)),
        k_pages: pages.map_or(0, |(k_pages, _)| lowering.at(k_pages)),
        v_pages: pages.map_or(0, |(_, v_pages)| lowering.at(v_pages)),
        q_heads: heads(&q),
        k_heads: heads(&k),
        head_dim: word(head_dim),
        rotary: word(table.map_or(0, |t| t.cols)),
        q_stride: stride(&q),
        k_stride: stride(&k),
        v_stride: stride(&v),
        v_cols: word(v.map_or(0, |v| v.cols)),
    };
    let kernels = vec![kernel(x, table.map_or(f32, |t| t.format), page_format, vec)];
    Launch::new(kernels, args, block_per_row(rows, 512))
}
