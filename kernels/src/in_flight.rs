//! A step in flight: the host's side of it.

use crate::driver::failure::device_lost;
use crate::driver::memory::Pinned;
use crate::stage::StepGrid;
use bytemuck::AnyBitPattern;
use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaContext, CudaEvent};
use engine::device::DeviceError;
use engine::step::{LateMasks, Sampled, StepOutput};
use std::sync::Arc;

/// What goes to the card, what comes back, and when. Used again by later steps.
pub(crate) struct HostBuffers {
    pub(crate) inputs: Pinned,
    pub(crate) output: Pinned,
    pub(crate) done: CudaEvent,
}

impl HostBuffers {
    /// For inputs and outputs of so many bytes.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], [`DeviceError::Lost`].
    pub(crate) fn new(
        context: &Arc<CudaContext>,
        input_bytes: usize,
        output_bytes: usize,
    ) -> Result<HostBuffers, DeviceError> {
        let event = context.new_event(Some(CUevent_flags::CU_EVENT_DISABLE_TIMING));
        Ok(HostBuffers {
            inputs: Pinned::new(context, input_bytes)?,
            output: Pinned::new(context, output_bytes)?,
            done: event.map_err(device_lost)?,
        })
    }
}

/// How many results a step has. They lie one after the other in pinned memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Results {
    /// Sampled rows.
    pub(crate) sampled: usize,
    /// Log-probabilities of targets.
    pub(crate) targets: usize,
}

impl Results {
    /// Bytes of the sampled rows, then of all results.
    pub(crate) fn bytes(self) -> (usize, usize) {
        let sampled = self.sampled * size_of::<Sampled>();
        (sampled, sampled + self.targets * size_of::<f32>())
    }
}

/// A step that is queued.
pub(crate) struct InFlight {
    pub(crate) host: HostBuffers,
    pub(crate) results: Results,
    pub(crate) late: Option<AwaitedMasks>,
}

/// What is left to do when the masks of a step come.
pub(crate) struct AwaitedMasks {
    pub(crate) grid: StepGrid,
    pub(crate) masks: LateMasks,
    /// Where there is room for them in the pinned inputs, in bytes.
    pub(crate) offset: usize,
}

impl InFlight {
    /// Whether the step waits for its masks.
    pub(crate) fn awaits_masks(&self) -> bool {
        self.late.is_some()
    }

    /// What is left to do with these masks.
    ///
    /// # Errors
    /// [`DeviceError::BadStep`] if they are not those that the step has left out; it goes on waiting.
    pub(crate) fn take_late(&mut self, masks: &[u32]) -> Result<AwaitedMasks, DeviceError> {
        if let Some(late) = &self.late {
            late.masks.check(masks).map_err(DeviceError::BadStep)?;
        }
        self.late.take().ok_or_else(|| DeviceError::BadStep("the step waits for no masks".into()))
    }

    /// Waits for the step and returns its results.
    ///
    /// # Errors
    /// [`DeviceError::Lost`].
    pub(crate) fn wait(&self) -> Result<StepOutput, DeviceError> {
        self.host.done.synchronize().map_err(device_lost)?;
        let (sampled, all) = self.results.bytes();
        let bytes = self.host.output.bytes();
        Ok(StepOutput { sampled: values(&bytes[..sampled]), target_logprobs: values(&bytes[sampled..all]) })
    }
}

/// Copies of values that lie one after the other.
fn values<T: AnyBitPattern>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
}
