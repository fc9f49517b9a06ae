//! Attention for any types and head widths: `attention_plain.cu`.

use crate::args::{DevicePtr, c_struct, word};
use crate::driver::launch::LaunchConfig;
use crate::kernel::{Kernel, type_name};
use crate::launch::Launch;
use crate::lowering::Lowering;
use engine::dtype::DType;
use engine::op::Op;
use engine::plan::Rows;

c_struct! {
    /// The arguments of `attention_plain.cu`.
    struct Args {
        tokens: DevicePtr,
        seqs: DevicePtr,
        q: DevicePtr,
        k_pages: DevicePtr,
        v_pages: DevicePtr,
        positions: DevicePtr,
        query_start: DevicePtr,
        block_tables: DevicePtr,
        out: DevicePtr,
        heads: u32,
        kv_heads: u32,
        head_dim: u32,
        q_stride: u32,
        out_stride: u32,
        pages_per_seq: u32,
        page_size: u32,
        window: u32,
        scale: f32,
        pad: u32,
    }
}

pub(crate) fn plain_kernel(q: DType, pages: DType, head_dim: usize) -> Kernel {
    Kernel::new::<Args>("attention_plain.cu", include_str!("attention_plain.cu"), "attention_plain", 96)
        .define("TQ", type_name(q))
        .define("TP", type_name(pages))
        .define("DIM", head_dim.next_multiple_of(32))
}

pub(super) fn lower(lowering: &mut Lowering, op: &Op) -> Option<Launch> {
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
        return None;
    };
    let (q, out, pages) = (lowering.view(q), lowering.view(out), lowering.buffer(k_pages));
    let (heads, rows) = (q.cols / head_dim, q.rows);
    let args = Args {
        tokens: lowering.rows(q.rows),
        seqs: lowering.rows(Rows::Seqs),
        q: q.at,
        k_pages: pages.at,
        v_pages: lowering.at(v_pages),
        positions: lowering.at(positions),
        query_start: lowering.at(query_start),
        block_tables: lowering.at(block_tables),
        out: out.at,
        heads: word(heads),
        kv_heads: word(pages.cols / head_dim),
        head_dim: word(head_dim),
        q_stride: word(q.stride),
        out_stride: word(out.stride),
        pages_per_seq: word(lowering.max_dims.pages_per_seq),
        page_size: word(lowering.max_dims.page_size),
        window: word(window.unwrap_or(0)),
        scale,
        pad: 0,
    };
    Some(Launch::new(
        vec![plain_kernel(q.dtype, pages.dtype, head_dim)],
        args,
        Box::new(move |grid| {
            let rows = grid.dims.count(rows) as u32;
            let config = LaunchConfig { kernel: 0, grid: (rows, heads as u32, 1), block: (32, 1, 1) };
            (rows > 0).then_some(config)
        }),
    ))
}
