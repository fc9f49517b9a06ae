//! RmsNorm: `rms_norm.cu`.

use crate::args::{DevicePtr, c_struct, word};
use crate::driver::launch::LaunchConfig;
use crate::grid::threads_for;
use crate::kernel::Kernel;
use crate::launch::Launch;
use crate::lowering::{Lowering, vector_width};
use engine::format::Format;
use engine::op::RmsNorm;

c_struct! {
    /// The arguments of `rms_norm.cu`.
    struct Args {
        rows: DevicePtr,
        x: DevicePtr,
        add: DevicePtr,
        weight: DevicePtr,
        out: DevicePtr,
        width: u32,
        runs: u32,
        x_stride: u32,
        add_stride: u32,
        out_stride: u32,
        eps: f32,
    }
}

/// Vectors of a run that a thread keeps in registers, at most.
const MAX_PACKS: usize = 4;

/// `formats`: of x, add, weight and out. `packs`: vectors that a thread keeps in registers.
pub(crate) fn kernel(formats: [Format; 4], add: bool, vec: usize, threads: u32, packs: usize) -> Kernel {
    Kernel::new::<Args>("rms_norm.cu", include_str!("rms_norm.cu"), "rms_norm", 96)
        .define("TX", formats[0])
        .define("TA", formats[1])
        .define("TW", formats[2])
        .define("TO", formats[3])
        .define("ADD", u32::from(add))
        .define("VEC", vec)
        .define("THREADS", threads)
        .define("PACKS", packs)
}

pub(crate) fn lower(lowering: &mut Lowering, op: &RmsNorm) -> Launch {
    let RmsNorm { width, eps, .. } = *op;
    let (x, weight, out) = (lowering.view(op.x), lowering.buffer(op.weight), lowering.view(op.out));
    let add = op.add.map(|add| lowering.view(add));
    let mut operands = vec![&x, &weight, &out];
    operands.extend(&add);
    let vec = if width.is_multiple_of(8) { vector_width(&operands) } else { 1 };
    // Threads that share a run: the width alone decides, since they decide the order of its sum.
    let threads = threads_for(width / vec);
    let packs = (width / vec).div_ceil(threads as usize);
    let packs = if packs <= MAX_PACKS { packs } else { 0 };
    // Short runs share a block of 128 threads.
    let runs_per_block: u32 = if threads == 32 { 4 } else { 1 };
    let (rows, runs) = (x.rows, x.cols / width);
    let args = Args {
        rows: lowering.rows(rows),
        x: x.at,
        add: add.map_or(0, |add| add.at),
        weight: weight.at,
        out: out.at,
        width: word(width),
        runs: word(runs),
        x_stride: word(x.stride),
        add_stride: word(add.map_or(0, |add| add.stride)),
        out_stride: word(out.stride),
        eps,
    };
    let formats = [x.format, add.map_or(x.format, |add| add.format), weight.format, out.format];
    Launch::new(
        vec![kernel(formats, add.is_some(), vec, threads, packs)],
        args,
        Box::new(move |grid| {
            let blocks = (grid.dims.count(rows) * runs).div_ceil(runs_per_block as usize) as u32;
            let block = (threads, runs_per_block, 1);
            (blocks > 0).then_some(LaunchConfig { kernel: 0, grid: (blocks, 1, 1), block })
        }),
    )
}
