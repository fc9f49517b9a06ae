//! Rope and KvWrite, apart or in one kernel: `rope.cu`.

use crate::kernel::{Kernel, type_name};
use crate::launch::{Args, Launch, block_per_row};
use crate::program::{Operand, Site, pack};
use engine::dtype::DType;
use engine::op::Op;
use engine::plan::{BufferId, View};

/// Types of q, k and v, of the table, of the pages; and columns that are moved together.
pub(crate) fn kernel(x: DType, table: DType, pages: DType, vec: usize) -> Kernel {
    Kernel::new("rope.cu", include_str!("rope.cu"), "rope", 80)
        .define("TX", type_name(x))
        .define("TT", type_name(table))
        .define("TP", type_name(pages))
        .define("VEC", vec)
}

/// What a launch rotates and stores.
#[derive(Default)]
struct Parts {
    q: Option<Operand>,
    k: Option<Operand>,
    v: Option<Operand>,
    /// Positions and table.
    angles: Option<(BufferId, BufferId)>,
    /// Slots, key pages, value pages.
    pages: Option<(BufferId, BufferId, BufferId)>,
    head_dim: usize,
}

pub(crate) fn lower_rope(
    site: &mut Site,
    x: View,
    positions: BufferId,
    table: BufferId,
    head_dim: usize,
) -> Launch {
    let q = Some(site.view(x));
    lower(site, Parts { q, angles: Some((positions, table)), head_dim, ..Parts::default() })
}

pub(crate) fn lower_write(
    site: &mut Site,
    k: View,
    v: View,
    slots: BufferId,
    k_pages: BufferId,
    v_pages: BufferId,
) -> Launch {
    let (k, v) = (site.view(k), site.view(v));
    let pages = Some((slots, k_pages, v_pages));
    // Nothing is rotated, so all of a key's columns pass as one head.
    lower(site, Parts { k: Some(k), v: Some(v), pages, head_dim: k.cols, ..Parts::default() })
}

/// Rope of queries and keys, which lie side by side, and KvWrite of those keys as one launch, if the next ops are that.
pub(crate) fn fuse(site: &mut Site, ops: &[Op]) -> Option<(Launch, usize)> {
    let [Op::Rope { x, positions, table, head_dim }, Op::KvWrite { k, v, slots, k_pages, v_pages }, ..] = ops
    else {
        return None;
    };
    // The keys are the last columns of what is rotated, in whole heads.
    let last = x.buffer == k.buffer && x.start <= k.start && x.start + x.cols == k.start + k.cols;
    let queries = View { cols: x.cols.saturating_sub(k.cols), ..*x };
    let (q, k, v) = (site.view(queries), site.view(*k), site.view(*v));
    if !last || !queries.cols.is_multiple_of(*head_dim) || v.dtype != k.dtype {
        return None;
    }
    let parts = Parts {
        q: Some(q),
        k: Some(k),
        v: Some(v),
        angles: Some((*positions, *table)),
        pages: Some((*slots, *k_pages, *v_pages)),
        head_dim: *head_dim,
    };
    Some((lower(site, parts), 2))
}

fn lower(site: &mut Site, parts: Parts) -> Launch {
    let Parts { q, k, v, angles, pages, head_dim } = parts;
    let address = |id: BufferId| site.addresses[id.0];
    let at = |o: &Option<Operand>| o.map_or(0, |o| o.at);
    let stride = |o: &Option<Operand>| o.map_or(0, |o| o.stride);
    let heads = |o: &Option<Operand>| o.map_or(0, |o| o.cols / head_dim);
    let table = angles.map(|(_, table)| site.buffer(table));
    // One of the two is always there.
    let any = q.or(k);
    let x = any.map_or(DType::F32, |o| o.dtype);
    let rows = any.map_or(engine::plan::Rows::Tokens, |o| o.rows);
    let page_type = pages.map_or(x, |(_, k_pages, _)| site.plan.desc(k_pages).dtype);
    // Halves of pairs, and the columns beside them, must be whole packs too.
    let half = table.map_or(0, |t| t.cols / 2);
    let operands: Vec<&Operand> = q.iter().chain(&k).chain(&v).collect();
    let vec = if half.is_multiple_of(8) && head_dim.is_multiple_of(8) { pack(&operands) } else { 1 };
    let args = Args::default()
        .pointer(0)
        .pointer(angles.map_or(0, |(positions, _)| address(positions)))
        .pointer(at(&table))
        .pointer(at(&q))
        .pointer(at(&k))
        .pointer(at(&v))
        .pointer(pages.map_or(0, |(slots, _, _)| address(slots)))
        .pointer(pages.map_or(0, |(_, k, _)| address(k)))
        .pointer(pages.map_or(0, |(_, _, v)| address(v)))
        .word(heads(&q))
        .word(heads(&k))
        .word(head_dim)
        .word(table.map_or(0, |t| t.cols))
        .word(stride(&q))
        .word(stride(&k))
        .word(stride(&v))
        .word(v.map_or(0, |v| v.cols));
    Launch {
        kernels: vec![kernel(x, table.map_or(DType::F32, |t| t.dtype), page_type, vec)],
        args: args.first(site.rows(rows)),
        shape: block_per_row(rows, 256),
    }
}
