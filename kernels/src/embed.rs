//! Embed: `embed.cu`.

use crate::kernel::{Kernel, type_name};
use crate::launch::{Args, Launch, block_per_row, threads_for};
use crate::program::{Site, pack};
use engine::dtype::DType;
use engine::plan::{BufferId, View};

pub(crate) fn kernel(table: DType, out: DType, vec: usize) -> Kernel {
    Kernel::new("embed.cu", include_str!("embed.cu"), "embed", 40)
        .define("TW", type_name(table))
        .define("TO", type_name(out))
        .define("VEC", vec)
}

pub(crate) fn lower(site: &mut Site, tokens: BufferId, last: BufferId, table: BufferId, out: View) -> Launch {
    let (table, out) = (site.buffer(table), site.view(out));
    let vec = pack(&[&table, &out]);
    Launch {
        kernels: vec![kernel(table.dtype, out.dtype, vec)],
        args: Args::default()
            .pointer(site.rows(out.rows))
            .pointer(site.addresses[tokens.0])
            .pointer(site.addresses[last.0])
            .pointer(table.at)
            .pointer(out.at)
            .word(out.cols)
            .word(out.stride),
        shape: block_per_row(out.rows, threads_for(out.cols / vec)),
    }
}
