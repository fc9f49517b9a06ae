//! A plan as lists of calls: neighbouring ops that one kernel does together are fused here.

use crate::launch::{Call, Launch};
use crate::lowering::Lowering;
use crate::ops::{
    add, attention, embed, gated_mul, gather_rows, kv_write, linear, rms_norm, rope, sample, soft_cap,
};
use engine::op::{GatedMul, Linear, Op, RmsNorm};
use engine::plan::{BufferId, Plan};
use std::ops::Range;

/// The calls of a plan, in order.
pub(crate) struct Calls<L> {
    /// Of the ops before the first Sample.
    pub(crate) model: Vec<Call<L>>,
    /// Of the others: they run when the step's masks are there.
    pub(crate) sampling: Vec<Call<L>>,
    /// The ops that each call, of both lists one after the other, is for.
    pub(crate) ops: Vec<Range<usize>>,
}

/// The calls of the plan's ops.
pub(crate) fn lower(lowering: &mut Lowering) -> Calls<Launch> {
    let (plan, first_sample) = (lowering.plan, lowering.plan.first_sample());
    let mut calls = Calls { model: Vec::new(), sampling: Vec::new(), ops: Vec::new() };
    let mut at = 0;
    while at < plan.ops.len() {
        let first = at;
        let into = if at < first_sample { &mut calls.model } else { &mut calls.sampling };
        if let Some(launch) = rope::lower_with_kv_write(lowering, &plan.ops[at..]) {
            into.push(Call::Launch(launch));
            at += 2;
        } else if let Some(launches) = lower_gated(lowering, &plan.ops, at) {
            into.extend(launches.into_iter().map(Call::Launch));
            at += 2;
        } else if let Some((linear, norm)) = fuse_residual(plan, &plan.ops[at..]) {
            into.extend(linear::lower(lowering, &linear, true));
            into.push(Call::Launch(rms_norm::lower(lowering, &norm)));
            at += 2;
        } else {
            into.extend(lower_op(lowering, &plan.ops[at]));
            at += 1;
        }
        calls.ops.resize(calls.model.len() + calls.sampling.len(), first..at);
    }
    calls
}

/// For a Linear whose result the next op, a norm, adds to the residual: the Linear that adds it itself, and the norm
/// without the addition. The result rounds once and not twice, and crosses memory once less.
fn fuse_residual(plan: &Plan, ops: &[Op]) -> Option<(Linear, RmsNorm)> {
    let [Op::Linear(linear), Op::RmsNorm(norm), rest @ ..] = ops else { return None };
    let (out, residual) = (linear.out, norm.x);
    let same_type = plan.desc(out.buffer).format == plan.desc(residual.buffer).format;
    if norm.add != Some(out)
        || linear.x.buffer == residual.buffer
        || !same_type
        || is_read(plan, out.buffer, rest)
    {
        return None;
    }
    Some((Linear { out: residual, ..*linear }, RmsNorm { add: None, ..*norm }))
}

/// The activations of a plan that no call reads or writes, because the two ops that do run together. `lowering` need have no
/// addresses.
pub(crate) fn spared(lowering: &Lowering) -> Vec<BufferId> {
    let plan = lowering.plan;
    let uses = |op: &Op, id: BufferId| op.reads().iter().chain(&op.writes()).any(|view| view.buffer == id);
    let between = |at: usize| {
        let (linear, gated) = gated_pair(plan, &plan.ops, at)?;
        linear::runs_gated(lowering, linear, gated).then_some(linear.out.buffer)
    };
    let pairs: Vec<(usize, BufferId)> =
        (0..plan.ops.len()).filter_map(|at| Some((at, between(at)?))).collect();
    let mut spared: Vec<BufferId> = pairs.iter().map(|&(_, id)| id).collect();
    spared.sort_unstable();
    spared.dedup();
    spared.retain(|&id| {
        let of_pairs = 2 * pairs.iter().filter(|(_, other)| *other == id).count();
        plan.ops.iter().filter(|op| uses(op, id)).count() == of_pairs
    });
    spared
}

/// For a Linear whose result only the next op, a GatedMul, reads: both together, if there is a kernel for it. The
/// gate and up columns then never cross memory, and round once less.
fn lower_gated(lowering: &mut Lowering, ops: &[Op], at: usize) -> Option<Vec<Launch>> {
    let (linear, gated) = gated_pair(lowering.plan, ops, at)?;
    linear::lower_gated(lowering, linear, gated)
}

/// The ops at a place if they are a Linear whose result only the next op, a GatedMul, reads, and whose weight no other op
/// uses.
fn gated_pair<'a>(plan: &Plan, ops: &'a [Op], at: usize) -> Option<(&'a Linear, &'a GatedMul)> {
    let [Op::Linear(linear), Op::GatedMul(gated), rest @ ..] = &ops[at..] else { return None };
    let shares_weight = |op: &Op| match op {
        Op::Linear(other) => other.weight == linear.weight,
        Op::Embed(other) => other.table == linear.weight,
        _ => false,
    };
    let alone = ops.iter().filter(|op| shares_weight(op)).count() == 1;
    if gated.x != linear.out
        || linear.x.buffer == gated.out.buffer
        || !alone
        || is_read(plan, linear.out.buffer, rest)
    {
        return None;
    }
    Some((linear, gated))
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
    let launch = match op {
        Op::Linear(op) => return linear::lower(lowering, op, false),
        Op::PagedAttention(op) => {
            return attention::lower(lowering, op).into_iter().map(Call::Launch).collect();
        }
        Op::Embed(op) => embed::lower(lowering, op),
        Op::RmsNorm(op) => rms_norm::lower(lowering, op),
        Op::Rope(op) => rope::lower(lowering, op),
        Op::KvWrite(op) => kv_write::lower(lowering, op),
        Op::GatedMul(op) => gated_mul::lower(lowering, op),
        Op::Add(op) => add::lower(lowering, op),
        Op::GatherRows(op) => gather_rows::lower(lowering, op),
        Op::SoftCap(op) => soft_cap::lower(lowering, op),
        Op::Sample(op) => return sample::lower(lowering, op).map(Call::Launch).into(),
    };
    vec![Call::Launch(launch)]
}
