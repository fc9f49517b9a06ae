//! Linear as a product of cuBLASLt, after its bias if it has one: `fill_bias.cu`.

use super::operands::Operands;
use crate::args::{DevicePtr, c_struct, word};
use crate::driver::cublaslt::Product;
use crate::grid::{block_per_row, threads_for};
use crate::kernel::Kernel;
use crate::launch::{Call, Launch};
use crate::lowering::Lowering;
use engine::format::Format;

c_struct! {
    /// The arguments of `fill_bias.cu`.
    struct Args {
        rows: DevicePtr,
        bias: DevicePtr,
        out: DevicePtr,
        cols: u32,
        out_stride: u32,
    }
}

/// Fills rows with the bias, to which the product is then added.
pub(crate) fn bias_kernel(bias: Format, out: Format) -> Kernel {
    Kernel::new::<Args>("fill_bias.cu", include_str!("fill_bias.cu"), "fill_bias", 40)
        .define("TB", bias)
        .define("TO", out)
}

/// `None` if the device was opened without cuBLASLt, or the library has no product of this kind: of two types, or of a
/// bias and a residual.
pub(super) fn lower(lowering: &mut Lowering, operands: &Operands) -> Option<Vec<Call<Launch>>> {
    let Operands { x, weight, bias, out, add, .. } = operands;
    if x.format != weight.format || *add && bias.is_some() {
        return None;
    }
    let blas = lowering.linears.blas.clone()?;
    let add = *add || bias.is_some();
    let product = Product { x: x.matrix()?, weight: weight.matrix()?, out: out.matrix()?, add };
    let mut calls = Vec::new();
    if let Some(bias) = bias {
        let args = Args {
            rows: lowering.rows(out.rows),
            bias: bias.at,
            out: out.at,
            cols: word(out.cols),
            out_stride: word(out.stride),
        };
        let kernels = vec![bias_kernel(bias.format, out.format)];
        let choose = block_per_row(out.rows, threads_for(out.cols));
        calls.push(Call::Launch(Launch::new(kernels, args, choose)));
    }
    calls.push(Call::Product { blas, rows: x.rows, product });
    Some(calls)
}
