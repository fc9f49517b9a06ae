//! GatedMul: `gated_mul.cu`.

use crate::args::{DevicePtr, c_struct, word};
use crate::grid::{block_per_row, threads_for};
use crate::kernel::Kernel;
use crate::launch::Launch;
use crate::lowering::{Lowering, vector_width};
use engine::format::Format;
use engine::op::{Activation, GatedMul};

c_struct! {
    /// The arguments of `gated_mul.cu`.
    struct Args {
        rows: DevicePtr,
        x: DevicePtr,
        out: DevicePtr,
        cols: u32,
        x_stride: u32,
        out_stride: u32,
        pad: u32,
    }
}

pub(crate) fn kernel(x: Format, out: Format, act: Activation, vec: usize) -> Kernel {
    Kernel::new::<Args>("gated_mul.cu", include_str!("gated_mul.cu"), "gated_mul", 56)
        .define("TX", x)
        .define("TO", out)
        .define("VEC", vec)
        .define("GELU", u32::from(act == Activation::GeluTanh))
}

pub(crate) fn lower(lowering: &mut Lowering, op: &GatedMul) -> Launch {
    let (x, out) = (lowering.view(op.x), lowering.view(op.out));
    // Gate and up are halves of x, so half its columns must be aligned too: those of out are as many.
    let vec = vector_width(&[&x, &out]);
    let args = Args {
        rows: lowering.rows(out.rows),
        x: x.at,
        out: out.at,
        cols: word(out.cols),
        x_stride: word(x.stride),
        out_stride: word(out.stride),
        pad: 0,
    };
    let kernels = vec![kernel(x.format, out.format, op.act, vec)];
    Launch::new(kernels, args, block_per_row(out.rows, threads_for(out.cols / vec)))
}
