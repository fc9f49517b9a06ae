//! Attention for any types and head widths: `attention_plain.cu`.

use crate::args::{DevicePtr, c_struct, word};
use crate::driver::launch::LaunchConfig;
use crate::kernel::Kernel;
use crate::launch::Launch;
use crate::lowering::Lowering;
use engine::format::Format;
use engine::op::PagedAttention;
use engine::plan::{Input, Rows};

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
        softcap: f32,
    }
}

/// `softcap`: whether scores are bounded.
pub(crate) fn plain_kernel(q: Format, pages: Format, head_dim: usize, softcap: bool) -> Kernel {
    Kernel::new::<Args>("attention_plain.cu", include_str!("attention_plain.cu"), "attention_plain", 96)
        .define("TQ", q)
        .define("TP", pages)
        .define("DIM", head_dim.next_multiple_of(32))
        .define("SOFTCAP", u32::from(softcap))
}

pub(super) fn lower(lowering: &mut Lowering, op: &PagedAttention) -> Launch {
    let PagedAttention { q, k_pages, v_pages, out, head_dim, scale, window, softcap } = *op;
    let (q, out, pages) = (lowering.view(q), lowering.view(out), lowering.buffer(k_pages));
    let (heads, rows) = (q.cols / head_dim, q.rows);
    let args = Args {
        tokens: lowering.rows(q.rows),
        seqs: lowering.rows(Rows::Seqs),
        q: q.at,
        k_pages: pages.at,
        v_pages: lowering.at(v_pages),
        positions: lowering.input(Input::Positions),
        query_start: lowering.input(Input::QueryStart),
        block_tables: lowering.input(Input::BlockTables),
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
        softcap: softcap.unwrap_or(0.0),
    };
    Launch::new(
        vec![plain_kernel(q.format, pages.format, head_dim, softcap.is_some())],
        args,
        Box::new(move |grid| {
            let rows = grid.dims.count(rows) as u32;
            let config = LaunchConfig { kernel: 0, grid: (rows, heads as u32, 1), block: (32, 1, 1) };
            (rows > 0).then_some(config)
        }),
    )
}
