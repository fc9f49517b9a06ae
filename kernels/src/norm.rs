//! RmsNorm: `norm.cu`.

use crate::kernel::{Kernel, type_name};
use crate::launch::{Args, Config, Launch};
use crate::program::{Site, pack};
use engine::dtype::DType;
use engine::plan::{BufferId, View};

/// Types of x, add, weight, out.
pub(crate) fn kernel(types: [DType; 4], add: bool, vec: usize, threads: u32) -> Kernel {
    Kernel::new("norm.cu", include_str!("norm.cu"), "rms_norm", 72)
        .define("TX", type_name(types[0]))
        .define("TA", type_name(types[1]))
        .define("TW", type_name(types[2]))
        .define("TO", type_name(types[3]))
        .define("ADD", u32::from(add))
        .define("VEC", vec)
        .define("THREADS", threads)
}

/// Threads that share a run: the width alone decides, since they decide the order of its sum.
fn threads(packs: usize) -> u32 {
    packs.next_multiple_of(32).clamp(32, 256) as u32
}

pub(crate) fn lower(
    site: &mut Site,
    x: View,
    add: Option<View>,
    weight: BufferId,
    out: View,
    width: usize,
    eps: f32,
) -> Launch {
    let (x, weight, out) = (site.view(x), site.buffer(weight), site.view(out));
    let added = add.map(|a| site.view(a));
    let mut operands = vec![&x, &weight, &out];
    operands.extend(&added);
    let vec = if width.is_multiple_of(8) { pack(&operands) } else { 1 };
    let threads = threads(width / vec);
    // Short runs share a block of 128 threads.
    let together = if threads == 32 { 4 } else { 1 };
    let (rows, runs) = (x.rows, x.cols / width);
    let types = [x.dtype, added.as_ref().map_or(x.dtype, |a| a.dtype), weight.dtype, out.dtype];
    Launch {
        kernels: vec![kernel(types, added.is_some(), vec, threads)],
        args: Args::default()
            .pointer(site.rows(rows))
            .pointer(x.at)
            .pointer(added.as_ref().map_or(0, |a| a.at))
            .pointer(weight.at)
            .pointer(out.at)
            .word(width)
            .word(runs)
            .word(x.stride)
            .word(added.as_ref().map_or(0, |a| a.stride))
            .word(out.stride)
            .float(eps),
        shape: Box::new(move |extent| {
            let blocks = (extent.dims.count(rows) * runs).div_ceil(together as usize) as u32;
            (blocks > 0).then_some(Config { kernel: 0, grid: (blocks, 1, 1), block: (threads, together, 1) })
        }),
    }
}
