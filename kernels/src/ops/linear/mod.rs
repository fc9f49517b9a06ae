//! Linear: `linear.cu` on tensor cores, `linear_plain.cu` for other types and shapes, or cuBLASLt.

mod cublaslt;
mod operands;
mod plain;
mod tensor;
mod tile;

pub(crate) use cublaslt::bias_kernel;
pub(crate) use plain::plain_kernel;
pub(crate) use tensor::{LinearVariant, variants_that_fit};

use crate::launch::{Call, Launch};
use crate::lowering::Lowering;
use engine::dtype::DType;
use engine::plan::{BufferId, View};
use operands::Operands;

/// `add`: the result is added to what `out` holds.
pub(crate) fn lower(
    lowering: &mut Lowering,
    (x, weight, bias, out): (View, BufferId, Option<BufferId>, View),
    add: bool,
) -> Vec<Call<Launch>> {
    let operands = Operands {
        x: lowering.view(x),
        weight: lowering.buffer(weight),
        bias: bias.map(|bias| lowering.buffer(bias)),
        out: lowering.view(out),
        add,
    };
    let one_type = operands.x.dtype == operands.weight.dtype;
    if let Some(blas) = lowering.blas.clone().filter(|_| one_type && !(add && bias.is_some())) {
        return cublaslt::lower(lowering, blas, &operands);
    }
    let half = matches!(operands.x.dtype, DType::BF16 | DType::F16);
    let launch = if half && one_type && operands.x.aligned(8) {
        tensor::lower(lowering, &operands)
    } else {
        plain::lower(lowering, &operands)
    };
    vec![Call::Launch(launch)]
}
