//! Linear: `linear_sm90.cu` or `linear.cu` on tensor cores, `linear_plain.cu` for other types and shapes, or cuBLASLt; before
//! one of two FP8 factors `quantize.cu`.

mod cublaslt;
mod operands;
mod plain;
mod quantize;
mod sm90;
mod tensor;
mod tile;

pub(crate) use cublaslt::bias_kernel;
pub(crate) use plain::plain_kernel;
pub(crate) use quantize::{kernel as quantize_kernel, quantized_bytes, quantizes};
pub use sm90::tiles as linear_tiles;
pub(crate) use sm90::{Sm90Variant, variants_that_fit as sm90_variants_that_fit};
pub(crate) use tensor::{LinearVariant, variants_that_fit};

use crate::interleave;
use crate::launch::{Call, Launch};
use crate::lowering::Lowering;
use engine::op::{Activation, GatedMul, Linear};
use operands::Operands;

fn operands(lowering: &Lowering, op: &Linear, add: bool, gate: Option<Activation>) -> Operands {
    Operands {
        x: lowering.view(op.x),
        weight: lowering.buffer(op.weight),
        bias: op.bias.map(|bias| lowering.buffer(bias)),
        out: lowering.view(op.out),
        add,
        gate,
    }
}

/// `add`: the result is added to what `out` holds.
pub(crate) fn lower(lowering: &mut Lowering, op: &Linear, add: bool) -> Vec<Call<Launch>> {
    let operands = operands(lowering, op, add, None);
    if let Some(calls) = cublaslt::lower(lowering, &operands) {
        return calls;
    }
    if let Some(launches) = sm90::lower(lowering, &operands) {
        return launches.into_iter().map(Call::Launch).collect();
    }
    let launches =
        tensor::lower(lowering, &operands).unwrap_or_else(|| vec![plain::lower(lowering, &operands)]);
    launches.into_iter().map(Call::Launch).collect()
}

/// Whether a kernel makes a Linear to gate and up columns and the GatedMul of its result together.
pub(crate) fn runs_gated(lowering: &Lowering, linear: &Linear, gated: &GatedMul) -> bool {
    let op = Linear { out: gated.out, ..*linear };
    let whole_groups = gated.out.cols.is_multiple_of(interleave::GROUP);
    let operands = operands(lowering, &op, false, Some(gated.act));
    lowering.linears.blas.is_none() && whole_groups && sm90::runs(lowering, &operands)
}

/// A Linear to gate and up columns with the GatedMul of its result, together; `None` if no kernel does both. The
/// weight's rows are then interleaved, so nothing else may read it.
pub(crate) fn lower_gated(lowering: &mut Lowering, linear: &Linear, gated: &GatedMul) -> Option<Vec<Launch>> {
    if !runs_gated(lowering, linear, gated) {
        return None;
    }
    let op = Linear { out: gated.out, ..*linear };
    let operands = operands(lowering, &op, false, Some(gated.act));
    lowering.interleaved.push(linear.weight);
    sm90::lower(lowering, &operands)
}
