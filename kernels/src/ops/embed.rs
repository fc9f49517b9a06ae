//! Embed: `embed.cu`.

use crate::args::{DevicePtr, c_struct, word};
use crate::grid::{block_per_row, threads_for};
use crate::kernel::Kernel;
use crate::launch::Launch;
use crate::lowering::{Lowering, vector_width};
use engine::format::Format;
use engine::op::Embed;
use engine::plan::Input;

c_struct! {
    /// The arguments of `embed.cu`.
    struct Args {
        rows: DevicePtr,
        tokens: DevicePtr,
        last: DevicePtr,
        table: DevicePtr,
        out: DevicePtr,
        cols: u32,
        out_stride: u32,
        scale: f32,
        table_rows: u32,
    }
}

pub(crate) fn kernel(table: Format, out: Format, vec: usize) -> Kernel {
    Kernel::new::<Args>("embed.cu", include_str!("embed.cu"), "embed", 40)
        .define("TW", table)
        .define("TO", out)
        .define("VEC", vec)
}

pub(crate) fn lower(lowering: &mut Lowering, op: &Embed) -> Launch {
    let (table, out) = (lowering.buffer(op.table), lowering.view(op.out));
    let vec = vector_width(&[&table, &out]);
    let args = Args {
        rows: lowering.rows(out.rows),
        tokens: lowering.input(Input::Tokens),
        last: lowering.at(op.last),
        table: table.at,
        out: out.at,
        cols: word(out.cols),
        out_stride: word(out.stride),
        scale: op.scale,
        table_rows: word(lowering.max_dims.count(table.rows)),
    };
    let kernels = vec![kernel(table.format, out.format, vec)];
    Launch::new(kernels, args, block_per_row(out.rows, threads_for(out.cols / vec)))
}
