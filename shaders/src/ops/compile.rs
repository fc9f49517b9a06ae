//! Which ops the device supports, and the kernel of each.

use super::context::Context;
use super::kernel::Kernel;
use super::{add, embed, gated_mul, gather_rows, kv_write, linear, paged_attention, rms_norm, rope, sample};
use engine::device::DeviceError;
use engine::dtype::DType;
use engine::op::Op;
use engine::plan::{BufferKind, Plan};

/// Whether the device can run an op.
///
/// # Errors
/// What it lacks, for people.
pub(crate) fn supports(plan: &Plan, op: &Op) -> Result<(), String> {
    op.check(plan)?;
    for desc in &plan.buffers {
        if desc.kind == BufferKind::Activation && desc.dtype != DType::F32 {
            return Err(format!("{} is {}; activations are f32 on this device", desc.name, desc.dtype));
        }
    }
    match op {
        Op::PagedAttention { head_dim, q, out, .. } => {
            if q.buffer == out.buffer {
                return Err("the queries and the output are columns of one buffer".into());
            }
            paged_attention::supports(*head_dim)
        }
        Op::Linear { x, out, .. } | Op::GatedMul { x, out, .. } | Op::GatherRows { x, out, .. }
            if x.buffer == out.buffer =>
        {
            Err("the input and the output are columns of one buffer".into())
        }
        _ => Ok(()),
    }
}

/// Makes the kernel of an op.
///
/// # Errors
/// [`DeviceError::OutOfMemory`], or [`DeviceError::BadPlan`] for a buffer that is used in two ways.
pub(crate) fn compile(cx: &mut Context<'_>, op: &Op) -> Result<Box<dyn Kernel>, DeviceError> {
    match *op {
        Op::Embed { tokens, last, table, out } => embed::compile(cx, tokens, last, table, out),
        Op::RmsNorm { x, add, weight, out, width, eps } => {
            rms_norm::compile(cx, x, add, weight, out, width, eps)
        }
        Op::Linear { x, weight, bias, out } => linear::compile(cx, x, weight, bias, out),
        Op::Rope { x, positions, table, head_dim } => rope::compile(cx, x, positions, table, head_dim),
        Op::KvWrite { k, v, slots, k_pages, v_pages } => kv_write::compile(cx, k, v, slots, k_pages, v_pages),
        Op::PagedAttention { .. } => paged_attention::compile(cx, op),
        Op::GatedMul { x, out, act } => gated_mul::compile(cx, x, out, act),
        Op::Add { a, b, out } => add::compile(cx, a, b, out),
        Op::GatherRows { x, rows, out } => gather_rows::compile(cx, x, rows, out),
        Op::Sample { .. } => sample::compile(cx, op),
    }
}
