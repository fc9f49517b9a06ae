//! What the kernels can run.

use engine::dtype::DType;
use engine::format::Format;
use engine::op::{KvWrite, Op, PagedAttention, Sample};
use engine::plan::{BufferId, Plan};

/// The widest head of the attention kernels.
const MAX_HEAD_DIM: usize = 512;

/// Whether the kernels can run an op.
///
/// # Errors
/// What they lack.
pub(crate) fn supports(plan: &Plan, op: &Op) -> Result<(), String> {
    op.check(&plan.buffers)?;
    let format = |id: BufferId| plan.desc(id).format;
    match op {
        Op::KvWrite(op) => kv_write(format, op),
        Op::PagedAttention(op) => attention(format, op),
        Op::Sample(op) => sample(format, op),
        _ => Ok(()),
    }
}

fn kv_write(format: impl Fn(BufferId) -> Format, op: &KvWrite) -> Result<(), String> {
    let same = format(op.k.buffer) == format(op.v.buffer) && format(op.k_pages) == format(op.v_pages);
    if same { Ok(()) } else { Err("keys and values are of different types".into()) }
}

fn attention(format: impl Fn(BufferId) -> Format, op: &PagedAttention) -> Result<(), String> {
    if format(op.k_pages) != format(op.v_pages) || format(op.q.buffer) != format(op.out.buffer) {
        return Err("keys and values, or queries and results, are of different types".into());
    }
    if op.head_dim > MAX_HEAD_DIM {
        return Err(format!("a head has {} columns; the kernels go to {MAX_HEAD_DIM}", op.head_dim));
    }
    if op.scale.is_nan() || op.scale <= 0.0 {
        return Err(format!("scores are scaled by {}, which is not positive", op.scale));
    }
    Ok(())
}

fn sample(format: impl Fn(BufferId) -> Format, op: &Sample) -> Result<(), String> {
    let logits = format(op.logits.buffer);
    if logits == DType::F32.into() { Ok(()) } else { Err(format!("logits are {logits}, not f32")) }
}
