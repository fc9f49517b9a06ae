//! Which ops the device supports, and the kernel of each.

use super::context::Context;
use super::kernel::Kernel;
use super::{
    add, embed, gated_mul, gather_rows, kv_write, linear, paged_attention, rms_norm, rope, sample, soft_cap,
};
use engine::device::DeviceError;
use engine::dtype::DType;
use engine::op::Op;
use engine::plan::{BufferKind, Plan};

/// The types of KV pages, the preferred first.
pub(crate) const KV: [DType; 3] = [DType::F16, DType::F32, DType::BF16];

/// Whether the device can run an op.
///
/// # Errors
/// What it lacks, for people.
pub(crate) fn supports(plan: &Plan, op: &Op) -> Result<(), String> {
    op.check(&plan.buffers)?;
    for desc in &plan.buffers {
        if desc.kind == BufferKind::Activation && desc.value_type() != DType::F32 {
            return Err(format!("{} is {}; activations are f32 on this device", desc.name, desc.format));
        }
        if desc.kind == BufferKind::KvPage && !KV.contains(&desc.value_type()) {
            return Err(format!("{} is {}, which this device has no KV pages in", desc.name, desc.format));
        }
    }
    let (x, out) = match op {
        Op::PagedAttention(op) => {
            paged_attention::supports(op.head_dim)?;
            (op.q, op.out)
        }
        Op::Linear(op) => (op.x, op.out),
        Op::GatedMul(op) => (op.x, op.out),
        Op::GatherRows(op) => (op.x, op.out),
        _ => return Ok(()),
    };
    if x.buffer == out.buffer {
        return Err("the input and the output are columns of one buffer".into());
    }
    Ok(())
}

/// Makes the kernel of an op.
///
/// # Errors
/// [`DeviceError::OutOfMemory`], or [`DeviceError::BadPlan`] for a buffer that is used in two ways.
pub(crate) fn compile(cx: &mut Context<'_>, op: &Op) -> Result<Box<dyn Kernel>, DeviceError> {
    match op {
        Op::Embed(op) => embed::compile(cx, op),
        Op::RmsNorm(op) => rms_norm::compile(cx, op),
        Op::Linear(op) => linear::compile(cx, op),
        Op::Rope(op) => rope::compile(cx, op),
        Op::KvWrite(op) => kv_write::compile(cx, op),
        Op::PagedAttention(op) => paged_attention::compile(cx, op),
        Op::GatedMul(op) => gated_mul::compile(cx, op),
        Op::Add(op) => add::compile(cx, op),
        Op::GatherRows(op) => gather_rows::compile(cx, op),
        Op::SoftCap(op) => soft_cap::compile(cx, op),
        Op::Sample(op) => sample::compile(cx, op),
    }
}
