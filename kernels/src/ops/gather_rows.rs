//! GatherRows: `gather_rows.cu`.

use crate::args::{DevicePtr, c_struct, word};
use crate::grid::{block_per_row, threads_for};
use crate::kernel::Kernel;
use crate::launch::Launch;
use crate::lowering::{Lowering, vector_width};
use engine::format::Format;
use engine::op::GatherRows;
use engine::plan::Input;

c_struct! {
    /// The arguments of `gather_rows.cu`.
    struct Args {
        rows: DevicePtr,
        from: DevicePtr,
        x: DevicePtr,
        out: DevicePtr,
        cols: u32,
        x_stride: u32,
        out_stride: u32,
        pad: u32,
    }
}

pub(crate) fn kernel(x: Format, out: Format, vec: usize) -> Kernel {
    Kernel::new::<Args>("gather_rows.cu", include_str!("gather_rows.cu"), "gather_rows", 40)
        .define("TX", x)
        .define("TO", out)
        .define("VEC", vec)
}

pub(crate) fn lower(lowering: &mut Lowering, op: &GatherRows) -> Launch {
    let (x, out) = (lowering.view(op.x), lowering.view(op.out));
    let vec = vector_width(&[&x, &out]);
    let args = Args {
        rows: lowering.rows(out.rows),
        from: lowering.input(Input::OutputRows),
        x: x.at,
        out: out.at,
        cols: word(out.cols),
        x_stride: word(x.stride),
        out_stride: word(out.stride),
        pad: 0,
    };
    let kernels = vec![kernel(x.format, out.format, vec)];
    Launch::new(kernels, args, block_per_row(out.rows, threads_for(out.cols / vec)))
}
