//! A plan as a list of calls: neighbouring ops that one kernel does together are fused here.

use crate::launch::{Call, Launch};
use crate::lowering::Lowering;
use crate::ops::{add, attention, embed, gated_mul, gather_rows, kv_write, linear, rms_norm, rope, sample};
use engine::dtype::DType;
use engine::op::Op;
use engine::plan::{BufferId, Plan, View};

/// The calls of ops, in order.
pub(crate) fn lower(lowering: &mut Lowering, ops: &[Op]) -> Vec<Call<Launch>> {
    let mut calls = Vec::new();
    let mut rest = ops;
    while let [op, ..] = rest {
        let fused = if let Some(launch) = rope::lower_with_kv_write(lowering, rest) {
            calls.push(Call::Launch(launch));
            2
        } else if let Some((linear, norm)) = fuse_residual(lowering.plan, rest) {
            calls.extend(linear::lower(lowering, linear, true));
            calls.extend(lower_op(lowering, &norm));
            2
        } else {
            calls.extend(lower_op(lowering, op));
            1
        };
        rest = &rest[fused..];
    }
    calls
}

/// For a Linear whose result the next op, a norm, adds to the residual: the Linear that adds it itself, and the norm
/// without the addition. The result rounds once and not twice, and crosses memory once less.
fn fuse_residual(plan: &Plan, ops: &[Op]) -> Option<((View, BufferId, Option<BufferId>, View), Op)> {
    let [
        Op::Linear { x, weight, bias, out },
        Op::RmsNorm { x: residual, add: Some(added), weight: scale, out: normed, width, eps },
        rest @ ..,
    ] = ops
    else {
        return None;
    };
    let same_type = plan.desc(out.buffer).dtype == plan.desc(residual.buffer).dtype;
    if added != out || x.buffer == residual.buffer || !same_type || is_read(plan, out.buffer, rest) {
        return None;
    }
    let norm =
        Op::RmsNorm { x: *residual, add: None, weight: *scale, out: *normed, width: *width, eps: *eps };
    Some(((*x, *weight, *bias, *residual), norm))
}

/// Whether some op reads a buffer before one writes all of it.
fn is_read(plan: &Plan, buffer: BufferId, ops: &[Op]) -> bool {
    for op in ops {
        if op.reads().iter().any(|view| view.buffer == buffer) {
            return true;
        }
        if op.writes().contains(&plan.view(buffer)) {
            return false;
        }
    }
    false
}

/// The calls of one op, which is not fused with others.
fn lower_op(lowering: &mut Lowering, op: &Op) -> Vec<Call<Launch>> {
    let launch = match *op {
        Op::Linear { x, weight, bias, out } => {
            return linear::lower(lowering, (x, weight, bias, out), false);
        }
        Op::PagedAttention { .. } => {
            return attention::lower(lowering, op).into_iter().map(Call::Launch).collect();
        }
        Op::Embed { tokens, last, table, out } => embed::lower(lowering, tokens, last, table, out),
        Op::RmsNorm { x, add, weight, out, width, eps } => {
            rms_norm::lower(lowering, x, add, weight, out, width, eps)
        }
        Op::Rope { x, positions, table, head_dim } => rope::lower(lowering, x, positions, table, head_dim),
        Op::KvWrite { k, v, slots, k_pages, v_pages } => {
            kv_write::lower(lowering, k, v, slots, k_pages, v_pages)
        }
        Op::GatedMul { x, out, act } => gated_mul::lower(lowering, x, out, act),
        Op::Add { a, b, out } => add::lower(lowering, a, b, out),
        Op::GatherRows { x, rows, out } => gather_rows::lower(lowering, x, rows, out),
        Op::Sample { logits, sampling, adjustments, masks, last, out } => {
            sample::lower(lowering, logits, [sampling, adjustments, masks, last, out])
        }
    };
    vec![Call::Launch(launch)]
}

/// Whether the kernels can run an op.
///
/// # Errors
/// What they lack.
pub(crate) fn supports(plan: &Plan, op: &Op) -> Result<(), String> {
    op.check(plan)?;
    let dtype = |v: View| plan.desc(v.buffer).dtype;
    match *op {
        Op::KvWrite { k, v, k_pages, v_pages, .. } => {
            let pages = |id: BufferId| plan.desc(id).dtype;
            if dtype(k) != dtype(v) || pages(k_pages) != pages(v_pages) {
                return Err("keys and values are of different types".into());
            }
        }
        Op::PagedAttention { q, k_pages, v_pages, out, head_dim, scale, .. } => {
            if plan.desc(k_pages).dtype != plan.desc(v_pages).dtype || dtype(q) != dtype(out) {
                return Err("keys and values, or queries and results, are of different types".into());
            }
            if head_dim > 512 {
                return Err(format!("a head has {head_dim} columns; the kernels go to 512"));
            }
            if scale.is_nan() || scale <= 0.0 {
                return Err(format!("scores are scaled by {scale}, which is not positive"));
            }
        }
        Op::Sample { logits, .. } if dtype(logits) != DType::F32 => {
            return Err(format!("logits are {}, not f32", dtype(logits)));
        }
        _ => {}
    }
    Ok(())
}
