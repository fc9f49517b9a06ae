//! GatedMul: `gated.cu`.

use crate::kernel::{Kernel, type_name};
use crate::launch::{Args, Launch, block_per_row, threads_for};
use crate::program::{Site, pack};
use engine::dtype::DType;
use engine::op::Activation;
use engine::plan::View;

pub(crate) fn kernel(x: DType, out: DType, act: Activation, vec: usize) -> Kernel {
    Kernel::new("gated.cu", include_str!("gated.cu"), "gated", 56)
        .define("TX", type_name(x))
        .define("TO", type_name(out))
        .define("VEC", vec)
        .define("GELU", u32::from(act == Activation::GeluTanh))
}

pub(crate) fn lower(site: &mut Site, x: View, out: View, act: Activation) -> Launch {
    let (x, out) = (site.view(x), site.view(out));
    // Gate and up are halves of x, so half its columns must be aligned too: those of out are as many.
    let vec = pack(&[&x, &out]);
    Launch {
        kernels: vec![kernel(x.dtype, out.dtype, act, vec)],
        args: Args::default()
            .pointer(site.rows(out.rows))
            .pointer(x.at)
            .pointer(out.at)
            .word(out.cols)
            .word(x.stride)
            .word(out.stride),
        shape: block_per_row(out.rows, threads_for(out.cols / vec)),
    }
}
