//! GatherRows: `gather.cu`.

use crate::kernel::{Kernel, type_name};
use crate::launch::{Args, Launch, block_per_row, threads_for};
use crate::program::{Site, pack};
use engine::dtype::DType;
use engine::plan::{BufferId, View};

pub(crate) fn kernel(x: DType, out: DType, vec: usize) -> Kernel {
    Kernel::new("gather.cu", include_str!("gather.cu"), "gather", 40)
        .define("TX", type_name(x))
        .define("TO", type_name(out))
        .define("VEC", vec)
}

pub(crate) fn lower(site: &mut Site, x: View, rows: BufferId, out: View) -> Launch {
    let (x, out) = (site.view(x), site.view(out));
    let vec = pack(&[&x, &out]);
    Launch {
        kernels: vec![kernel(x.dtype, out.dtype, vec)],
        args: Args::default()
            .pointer(site.rows(out.rows))
            .pointer(site.addresses[rows.0])
            .pointer(x.at)
            .pointer(out.at)
            .word(out.cols)
            .word(x.stride)
            .word(out.stride),
        shape: block_per_row(out.rows, threads_for(out.cols / vec)),
    }
}
