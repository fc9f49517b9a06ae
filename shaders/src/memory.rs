//! The memory that a plan takes on the device, known before any is allocated.

use crate::buffers::layout::{Layout, layouts};
use crate::driver::gpu::{STAGED, allocated};
use crate::inflight::{STEPS, result_bytes};
use crate::ops::sample;
use engine::device::{DeviceError, DeviceInfo, MemoryUse};
use engine::plan::{BufferKind, Dims, Plan};

/// Bytes that the device takes for a plan beside the plan's buffers: the keys of sampling, what steps in
/// flight stage and read back, what loading stages, and what the layouts pad.
pub(crate) fn workspace(plan: &Plan, max_dims: &Dims, limit: usize) -> usize {
    let inputs = plan.bytes(max_dims, |kind| matches!(kind, BufferKind::StepInput(_)));
    let steps = STEPS * (inputs + allocated(result_bytes(max_dims.outputs, max_dims.targets)));
    sample::workspace(plan, max_dims) + steps + STAGED + padding(plan, max_dims, limit)
}

/// Bytes by which the buffers on the device exceed those of the plan.
fn padding(plan: &Plan, max_dims: &Dims, limit: usize) -> usize {
    // A plan that does not fit is refused by `compile`, with the buffer's name.
    let layouts = layouts(plan, max_dims, limit).unwrap_or_default();
    let buffers = plan.buffers.iter().zip(layouts);
    let padded = buffers.map(|(desc, layout)| {
        layout.allocated(desc, max_dims.count(desc.rows)).saturating_sub(desc.bytes(max_dims))
    });
    padded.sum()
}

/// The layouts of a plan's buffers, if all of them fit.
///
/// # Errors
/// [`DeviceError::OutOfMemory`] with what is needed and what is there.
pub(crate) fn fit(plan: &Plan, max_dims: &Dims, info: &DeviceInfo) -> Result<Vec<Layout>, DeviceError> {
    let limit = info.max_buffer;
    let layouts = layouts(plan, max_dims, limit)?;
    let needed = plan.bytes(max_dims, |_| true) + workspace(plan, max_dims, limit);
    if needed <= info.memory_total {
        return Ok(layouts);
    }
    let weights = plan.bytes(max_dims, |kind| kind == BufferKind::Weight);
    let kv = plan.bytes(max_dims, |kind| kind == BufferKind::KvPage);
    Err(DeviceError::OutOfMemory {
        what: format!("the model ({weights} weights + {kv} KV + {} others)", needed - weights - kv),
        needed,
        available: info.memory_total,
        memory_use: MemoryUse::Plan,
    })
}

#[cfg(test)]
mod tests;
