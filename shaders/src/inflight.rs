//! Steps that are queued, and the buffers through which their results come back.

use crate::gpu::Gpu;
use bytemuck::pod_collect_to_vec;
use engine::device::{DeviceError, Ticket};
use engine::step::{Sampled, StepOutput};
use std::collections::VecDeque;
use wgpu::{Buffer, BufferUsages, SubmissionIndex};

/// A queued step.
struct Queued {
    ticket: u64,
    submission: SubmissionIndex,
    /// The buffer that its results are copied to, and their number.
    results: Option<(Buffer, usize)>,
}

/// The queue of steps, oldest first, and the buffers that are free for the next ones.
#[derive(Default)]
pub(crate) struct InFlight {
    queued: VecDeque<Queued>,
    free: Vec<Buffer>,
    tickets: u64,
}

impl InFlight {
    /// A buffer for `rows` results.
    pub fn buffer(&mut self, gpu: &Gpu, rows: usize) -> Result<Buffer, DeviceError> {
        let bytes = rows * size_of::<Sampled>();
        if let Some(i) = self.free.iter().position(|b| b.size() >= bytes as u64) {
            return Ok(self.free.swap_remove(i));
        }
        gpu.allocate("results", bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST)
    }

    /// Notes a step that has been submitted, and asks for its results.
    pub fn push(&mut self, submission: SubmissionIndex, results: Option<(Buffer, usize)>) -> Ticket {
        if let Some((buffer, _)) = &results {
            // A failure to map is seen when the range is taken.
            buffer.map_async(wgpu::MapMode::Read, .., |_| ());
        }
        self.tickets += 1;
        self.queued.push_back(Queued { ticket: self.tickets, submission, results });
        Ticket(self.tickets)
    }

    /// Waits for the oldest step.
    pub fn wait(&mut self, gpu: &Gpu, ticket: &Ticket) -> Result<StepOutput, DeviceError> {
        let Some(step) = self.queued.pop_front().filter(|step| step.ticket == ticket.0) else {
            return Err(DeviceError::BadStep(format!("ticket {} is not the oldest one", ticket.0)));
        };
        gpu.finish(step.submission)?;
        let Some((buffer, rows)) = step.results else { return Ok(StepOutput::default()) };
        let bytes = (rows * size_of::<Sampled>()) as u64;
        let sampled = match buffer.get_mapped_range(..bytes) {
            Ok(mapped) => pod_collect_to_vec::<u8, Sampled>(&mapped),
            Err(e) => return Err(gpu.fail(format!("its results cannot be read: {e}"))),
        };
        buffer.unmap();
        self.free.push(buffer);
        Ok(StepOutput { sampled })
    }
}
