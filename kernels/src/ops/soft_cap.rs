//! SoftCap: `soft_cap.cu`.

use crate::args::{DevicePtr, c_struct, word};
use crate::grid::{block_per_row, threads_for};
use crate::kernel::Kernel;
use crate::launch::Launch;
use crate::lowering::{Lowering, vector_width};
use engine::format::Format;
use engine::op::SoftCap;

c_struct! {
    /// The arguments of `soft_cap.cu`.
    struct Args {
        rows: DevicePtr,
        x: DevicePtr,
        cols: u32,
        stride: u32,
        cap: f32,
        pad: u32,
    }
}

pub(crate) fn kernel(x: Format, vec: usize) -> Kernel {
    Kernel::new::<Args>("soft_cap.cu", include_str!("soft_cap.cu"), "soft_cap", 64)
        .define("TX", x)
        .define("VEC", vec)
}

pub(crate) fn lower(lowering: &mut Lowering, op: &SoftCap) -> Launch {
    let x = lowering.view(op.x);
    let vec = vector_width(&[&x]);
    let args = Args {
        rows: lowering.rows(x.rows),
        x: x.at,
        cols: word(x.cols),
        stride: word(x.stride),
        cap: op.cap,
        pad: 0,
    };
    let choose = block_per_row(x.rows, threads_for(x.cols / vec));
    Launch::new(vec![kernel(x.format, vec)], args, choose)
}
