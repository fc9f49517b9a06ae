//! The bounds of a step's inputs, so that no shader reads outside a buffer.

use engine::op::{Op, Sample};
use engine::plan::{BufferId, Dims, Plan};
use engine::step::{NONE, Step, last_slot};

/// Checks a step against the plan that it is for, beyond [`Step::check`].
///
/// # Errors
/// The first input that points outside its buffer.
pub(crate) fn step(plan: &Plan, max_dims: &Dims, step: &Step) -> Result<(), String> {
    step.check(max_dims)?;
    let rows = |id: BufferId| max_dims.count(plan.desc(id).rows);
    let positions = |bound| below("position", step.positions.iter().copied(), bound);
    for op in &plan.ops {
        match op {
            Op::Embed(op) => embed(step, rows(op.table), rows(op.last))?,
            Op::Rope(op) => positions(rows(op.table))?,
            Op::PagedAttention(_) => positions(max_dims.pages_per_seq * max_dims.page_size)?,
            Op::Sample(op) => sample(op, step, rows(op.last))?,
            _ => {}
        }
    }
    Ok(())
}

fn embed(step: &Step, vocab: usize, slots: usize) -> Result<(), String> {
    let tokens = step.tokens.iter().copied();
    below("token", tokens.clone().filter(|&t| last_slot(t).is_none()), vocab)?;
    below("sequence slot of a token", tokens.filter_map(last_slot), slots)
}

fn sample(op: &Sample, step: &Step, slots: usize) -> Result<(), String> {
    let (sampling, vocab) = (step.sampling.iter(), op.logits.cols);
    let named = |id: u32| (id != NONE).then_some(id);
    below("target", sampling.clone().filter_map(|s| named(s.target)), vocab)?;
    below("target", step.targets.iter().copied(), vocab)?;
    below("sequence slot", sampling.filter_map(|s| named(s.seq_slot)), slots)?;
    below("adjusted token", step.adjustments.iter().map(|a| a.token), vocab)?;
    if step.dims().masks > 0 && step.mask_words != vocab.div_ceil(32) {
        return Err(format!("{} words in a mask of {vocab} tokens", step.mask_words));
    }
    Ok(())
}

fn below(what: &str, values: impl Iterator<Item = u32>, bound: usize) -> Result<(), String> {
    match values.max() {
        Some(v) if v as usize >= bound => Err(format!("{what} {v} is not below {bound}")),
        _ => Ok(()),
    }
}
