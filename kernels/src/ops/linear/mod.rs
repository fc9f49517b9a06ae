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
use engine::op::Linear;
use operands::Operands;

/// `add`: the result is added to what `out` holds.
pub(crate) fn lower(lowering: &mut Lowering, op: &Linear, add: bool) -> Vec<Call<Launch>> {
    let operands = Operands {
        x: lowering.view(op.x),
        weight: lowering.buffer(op.weight),
        bias: op.bias.map(|bias| lowering.buffer(bias)),
        out: lowering.view(op.out),
        add,
    };
    if let Some(calls) = cublaslt::lower(lowering, &operands) {
        return calls;
    }
    let launch = tensor::lower(lowering, &operands).unwrap_or_else(|| plain::lower(lowering, &operands));
    vec![Call::Launch(launch)]
}
