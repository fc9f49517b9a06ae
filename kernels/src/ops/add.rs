//! Add: `add.cu`.

use crate::args::{DevicePtr, c_struct, word};
use crate::grid::{block_per_row, threads_for};
use crate::kernel::Kernel;
use crate::launch::Launch;
use crate::lowering::{Lowering, vector_width};
use engine::format::Format;
use engine::op::Add;

c_struct! {
    /// The arguments of `add.cu`.
    struct Args {
        rows: DevicePtr,
        a: DevicePtr,
        b: DevicePtr,
        out: DevicePtr,
        cols: u32,
        a_stride: u32,
        b_stride: u32,
        out_stride: u32,
    }
}

/// `formats`: of a, b and out.
pub(crate) fn kernel(formats: [Format; 3], vec: usize) -> Kernel {
    Kernel::new::<Args>("add.cu", include_str!("add.cu"), "add", 48)
        .define("TA", formats[0])
        .define("TB", formats[1])
        .define("TO", formats[2])
        .define("VEC", vec)
}

pub(crate) fn lower(lowering: &mut Lowering, op: &Add) -> Launch {
    let (a, b, out) = (lowering.view(op.a), lowering.view(op.b), lowering.view(op.out));
    let vec = vector_width(&[&a, &b, &out]);
    let args = Args {
        rows: lowering.rows(out.rows),
        a: a.at,
        b: b.at,
        out: out.at,
        cols: word(out.cols),
        a_stride: word(a.stride),
        b_stride: word(b.stride),
        out_stride: word(out.stride),
    };
    let kernels = vec![kernel([a.format, b.format, out.format], vec)];
    Launch::new(kernels, args, block_per_row(out.rows, threads_for(out.cols / vec)))
}
