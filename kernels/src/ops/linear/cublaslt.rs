//! Linear as a product of cuBLASLt, after its bias if it has one: `fill_bias.cu`.

use super::operands::Operands;
use crate::args::{DevicePtr, c_struct, word};
use crate::driver::cublaslt::{CublasLt, Product};
use crate::grid::{block_per_row, threads_for};
use crate::kernel::{Kernel, type_name};
use crate::launch::{Call, Launch};
use crate::lowering::Lowering;
use engine::dtype::DType;
use std::sync::Arc;

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
pub(crate) fn bias_kernel(bias: DType, out: DType) -> Kernel {
    Kernel::new::<Args>("fill_bias.cu", include_str!("fill_bias.cu"), "fill_bias", 40)
        .define("TB", type_name(bias))
        .define("TO", type_name(out))
}

/// There is no bias where the result is added to what `out` holds.
pub(super) fn lower(lowering: &mut Lowering, blas: Arc<CublasLt>, operands: &Operands) -> Vec<Call<Launch>> {
    let Operands { x, weight, bias, out, add } = operands;
    let mut calls = Vec::new();
    if let Some(bias) = bias {
        let args = Args {
            rows: lowering.rows(out.rows),
            bias: bias.at,
            out: out.at,
            cols: word(out.cols),
            out_stride: word(out.stride),
        };
        let kernels = vec![bias_kernel(bias.dtype, out.dtype)];
        let choose = block_per_row(out.rows, threads_for(out.cols));
        calls.push(Call::Launch(Launch::new(kernels, args, choose)));
    }
    let add = *add || bias.is_some();
    let product = Product { x: x.matrix(), weight: weight.matrix(), out: out.matrix(), add };
    calls.push(Call::Product { blas, rows: x.rows, product });
    calls
}
