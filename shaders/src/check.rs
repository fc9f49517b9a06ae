//! The bounds of a step's inputs, so that no shader reads outside a buffer.

use engine::op::Op;
use engine::plan::{Dims, Plan};
use engine::step::{NONE, Step, last_slot};

/// Checks a step against the plan that it is for, beyond [`Step::check`].
///
/// # Errors
/// The first input that points outside its buffer.
pub(crate) fn step(plan: &Plan, max_dims: &Dims, step: &Step) -> Result<(), String> {
    step.check(max_dims)?;
    if step.query_start.windows(2).any(|w| w[0] > w[1]) {
        return Err("the query bounds do not ascend".into());
    }
    let below = |what: &str, values: &mut dyn Iterator<Item = u32>, bound: usize| match values.max() {
        Some(v) if v as usize >= bound => Err(format!("{what} {v} is not below {bound}")),
        _ => Ok(()),
    };
    let rows = |id: engine::plan::BufferId| max_dims.count(plan.desc(id).rows);
    let named = |id: u32| (id != NONE).then_some(id);
    for op in &plan.ops {
        match *op {
            Op::Embed { last, table, .. } => {
                let plain = step.tokens.iter().copied().filter(|&t| last_slot(t).is_none());
                below("token", &mut { plain }, rows(table))?;
                below(
                    "slot of a last token",
                    &mut step.tokens.iter().filter_map(|&t| last_slot(t)),
                    rows(last),
                )?;
            }
            Op::Rope { table, .. } => below("position", &mut step.positions.iter().copied(), rows(table))?,
            Op::PagedAttention { .. } => {
                below(
                    "position",
                    &mut step.positions.iter().copied(),
                    max_dims.pages_per_seq * max_dims.page_size,
                )?;
            }
            Op::Sample { logits, last, .. } => {
                let sampling = &step.sampling;
                below("target", &mut sampling.iter().filter_map(|s| named(s.target)), logits.cols)?;
                below("mask", &mut sampling.iter().filter_map(|s| named(s.mask)), step.dims().masks)?;
                below("slot", &mut sampling.iter().filter_map(|s| named(s.last_slot)), rows(last))?;
                below("adjusted token", &mut step.adjustments.iter().map(|a| a.token), logits.cols)?;
                let ends = sampling.iter().map(|s| s.adjust_start.saturating_add(s.adjust_len));
                below("end of adjustments", &mut { ends }, step.adjustments.len() + 1)?;
            }
            _ => {}
        }
    }
    Ok(())
}
