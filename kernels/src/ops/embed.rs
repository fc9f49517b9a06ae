//! Embed: `embed.cu`.

use crate::args::{DevicePtr, c_struct, word};
use crate::grid::{block_per_row, threads_for};
use crate::kernel::{Kernel, type_name};
use crate::launch::Launch;
use crate::lowering::{Lowering, vector_width};
use engine::dtype::DType;
use engine::plan::{BufferId, View};

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
    }
}

pub(crate) fn kernel(table: DType, out: DType, vec: usize) -> Kernel {
    Kernel::new::<Args>("embed.cu", include_str!("embed.cu"), "embed", 40)
        .define("TW", type_name(table))
        .define("TO", type_name(out))
        .define("VEC", vec)
}

pub(crate) fn lower(
    lowering: &mut Lowering,
    tokens: BufferId,
    last: BufferId,
    table: BufferId,
    out: View,
) -> Launch {
    let (table, out) = (lowering.buffer(table), lowering.view(out));
    let vec = vector_width(&[&table, &out]);
    let args = Args {
        rows: lowering.rows(out.rows),
        tokens: lowering.at(tokens),
        last: lowering.at(last),
        table: table.at,
        out: out.at,
        cols: word(out.cols),
        out_stride: word(out.stride),
    };
    let kernels = vec![kernel(table.dtype, out.dtype, vec)];
    Launch::new(kernels, args, block_per_row(out.rows, threads_for(out.cols / vec)))
}
