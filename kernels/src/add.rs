//! Add: `add.cu`.

use crate::kernel::{Kernel, type_name};
use crate::launch::{Args, Launch, block_per_row, threads_for};
use crate::program::{Site, pack};
use engine::dtype::DType;
use engine::plan::View;

pub(crate) fn kernel(types: [DType; 3], vec: usize) -> Kernel {
    Kernel::new("add.cu", include_str!("add.cu"), "add", 48)
        .define("TA", type_name(types[0]))
        .define("TB", type_name(types[1]))
        .define("TO", type_name(types[2]))
        .define("VEC", vec)
}

pub(crate) fn lower(site: &mut Site, a: View, b: View, out: View) -> Launch {
    let (a, b, out) = (site.view(a), site.view(b), site.view(out));
    let vec = pack(&[&a, &b, &out]);
    Launch {
        kernels: vec![kernel([a.dtype, b.dtype, out.dtype], vec)],
        args: Args::default()
            .pointer(site.rows(out.rows))
            .pointer(a.at)
            .pointer(b.at)
            .pointer(out.at)
            .word(out.cols)
            .word(a.stride)
            .word(b.stride)
            .word(out.stride),
        shape: block_per_row(out.rows, threads_for(out.cols / vec)),
    }
}
