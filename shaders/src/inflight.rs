//! Steps that are queued, and the buffers through which their results come back.

use crate::driver::gpu::Gpu;
use bytemuck::pod_collect_to_vec;
use engine::device::{DeviceError, MemoryUse, Ticket};
use engine::plan::Dims;
use engine::step::{Sampled, StepOutput};
use std::collections::VecDeque;
use wgpu::{Buffer, BufferUsages, SubmissionIndex};

/// Steps in flight for which memory is set aside: one runs while the next is prepared.
pub(crate) const STEPS: usize = 2;

/// Bytes of the results of a step with so many output positions and targets.
pub(crate) const fn result_bytes(outputs: usize, targets: usize) -> usize {
    outputs * size_of::<Sampled>() + targets * size_of::<f32>()
}

/// Where the results of a step are copied to.
pub(crate) struct Results {
    pub buffer: Buffer,
    /// Output positions: their sampled tokens come first.
    outputs: usize,
    /// Targets: their log-probabilities follow.
    targets: usize,
}

impl Results {
    /// Bytes of the sampled tokens.
    pub fn sampled_bytes(&self) -> u64 {
        result_bytes(self.outputs, 0) as u64
    }

    /// Bytes of the log-probabilities of targets.
    pub fn target_bytes(&self) -> u64 {
        result_bytes(0, self.targets) as u64
    }
}

/// A queued step.
struct Queued {
    ticket: u64,
    submission: SubmissionIndex,
    results: Option<Results>,
}

/// The queue of steps, oldest first, and the buffers that are free for the next ones.
#[derive(Default)]
pub(crate) struct InFlight {
    queued: VecDeque<Queued>,
    free: Vec<Buffer>,
    tickets: u64,
}

impl InFlight {
    /// Room for the results of a step of these row counts, in a buffer for any step of its plan.
    pub fn results(&mut self, gpu: &Gpu, dims: &Dims, max_dims: &Dims) -> Result<Results, DeviceError> {
        let bytes = result_bytes(max_dims.outputs, max_dims.targets);
        let buffer = match self.free.iter().position(|b| b.size() >= bytes as u64) {
            Some(i) => self.free.swap_remove(i),
            None => {
                let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
                gpu.allocate("results", bytes, usage, MemoryUse::Activations)?
            }
        };
        Ok(Results { buffer, outputs: dims.outputs, targets: dims.targets })
    }

    /// The ticket of the next step.
    pub fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// Notes a step that has been submitted whole, and asks for its results.
    pub fn push(&mut self, ticket: u64, submission: SubmissionIndex, results: Option<Results>) {
        if let Some(results) = &results {
            // A failure to map is seen when the range is taken.
            results.buffer.map_async(wgpu::MapMode::Read, .., |_| ());
        }
        self.queued.push_back(Queued { ticket, submission, results });
    }

    /// Waits for the oldest step.
    pub fn wait(&mut self, gpu: &Gpu, ticket: &Ticket) -> Result<StepOutput, DeviceError> {
        let Some(step) = self.queued.pop_front_if(|step| step.ticket == ticket.0) else {
            return Err(DeviceError::BadStep(format!("ticket {} is not the oldest one", ticket.0)));
        };
        gpu.finish(step.submission)?;
        let Some(results) = step.results else { return Ok(StepOutput::default()) };
        let sampled_bytes = results.sampled_bytes() as usize;
        let output = match results.buffer.get_mapped_range(..results.sampled_bytes() + results.target_bytes())
        {
            Ok(mapped) => StepOutput {
                sampled: pod_collect_to_vec(&mapped[..sampled_bytes]),
                target_logprobs: pod_collect_to_vec(&mapped[sampled_bytes..]),
            },
            Err(e) => return Err(gpu.fail(format!("its results cannot be read: {e}"))),
        };
        results.buffer.unmap();
        self.free.push(results.buffer);
        Ok(output)
    }
}
