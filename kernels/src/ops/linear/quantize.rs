//! The rows of an FP8 Linear's x in e4m3, for tensor cores that multiply such numbers: `quantize.cu`.

use crate::args::{DevicePtr, c_struct, word};
use crate::driver::card::{CardLimits, TensorCores};
use crate::grid::block_per_row;
use crate::kernel::Kernel;
use crate::launch::Launch;
use crate::lowering::{Lowering, Operand};
use engine::dtype::DType;
use engine::format::{FP8_SCALE, Format};
use engine::op::Op;
use engine::plan::{Dims, Plan};

/// Threads of a block: the source's `THREADS`.
const THREADS: u32 = 256;

c_struct! {
    /// The arguments of `quantize.cu`.
    struct Args {
        rows: DevicePtr,
        x: DevicePtr,
        elements: DevicePtr,
        scales: DevicePtr,
        cols: u32,
        x_stride: u32,
        pitch: u32,
        pad: u32,
    }
}

/// Rows of e4m3 elements and their scales.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantized {
    pub(super) elements: DevicePtr,
    pub(super) scales: DevicePtr,
    /// Bytes from row to row of the elements.
    pub(super) pitch: usize,
}

pub(crate) fn kernel(x: DType) -> Kernel {
    Kernel::new::<Args>("quantize.cu", include_str!("quantize.cu"), "quantize", 40).define("TX", x)
}

/// Whether the rows of x are quantised for a weight of this format. Without `wgmma`, scales of blocks are no matter of
/// rows: such weights are widened.
pub(crate) fn quantizes(weight: Format, limits: &CardLimits) -> bool {
    match weight {
        Format::Fp8 => limits.tensor_cores.multiply_e4m3(),
        Format::Fp8Blocks => limits.tensor_cores == TensorCores::Wgmma,
        Format::Plain(_) | Format::Q8_0 => false,
    }
}

/// Bytes from row to row of `cols` elements: copies take whole 16 bytes.
fn pitch(cols: usize) -> usize {
    cols.next_multiple_of(16)
}

/// Bytes that the quantised rows of a plan's Linears take: as many as those of the widest, since one is done before the
/// next begins.
pub(crate) fn quantized_bytes(plan: &Plan, max_dims: &Dims, limits: &CardLimits) -> usize {
    let bytes = |op: &Op| match op {
        Op::Linear(op) if quantizes(plan.desc(op.weight).format, limits) => {
            max_dims.count(plan.desc(op.x.buffer).rows) * (pitch(op.x.cols) + FP8_SCALE)
        }
        _ => 0,
    };
    plan.ops.iter().map(bytes).max().unwrap_or(0)
}

/// The launch that quantises x, whose columns and first column are multiples of 8, and where its rows then lie.
pub(super) fn lower(lowering: &mut Lowering, x: &Operand, dtype: DType) -> (Launch, Quantized) {
    let pitch = pitch(x.cols);
    let elements = lowering.quantized;
    let scales = elements + (lowering.max_dims.count(x.rows) * pitch) as u64;
    let args = Args {
        rows: lowering.rows(x.rows),
        x: x.at,
        elements,
        scales,
        cols: word(x.cols),
        x_stride: word(x.stride),
        pitch: word(pitch),
        pad: 0,
    };
    let launch = Launch::new(vec![kernel(dtype)], args, block_per_row(x.rows, THREADS));
    (launch, Quantized { elements, scales, pitch })
}
