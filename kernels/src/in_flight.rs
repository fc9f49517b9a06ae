//! A step in flight: the host's side of it.

use crate::driver::failure::device_lost;
use crate::driver::memory::Pinned;
use crate::stage::StepGrid;
use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaContext, CudaEvent};
use engine::device::DeviceError;
use engine::step::{LateMasks, Sampled};
use std::sync::Arc;

/// What goes to the card, what comes back, and when. Used again by later steps.
pub(crate) struct HostBuffers {
    pub(crate) inputs: Pinned,
    pub(crate) output: Pinned,
    pub(crate) done: CudaEvent,
}

impl HostBuffers {
    /// For inputs of so many bytes and so many sampled rows.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], [`DeviceError::Lost`].
    pub(crate) fn new(
        context: &Arc<CudaContext>,
        input_bytes: usize,
        outputs: usize,
    ) -> Result<HostBuffers, DeviceError> {
        let event = context.new_event(Some(CUevent_flags::CU_EVENT_DISABLE_TIMING));
        Ok(HostBuffers {
            inputs: Pinned::new(context, input_bytes)?,
            output: Pinned::new(context, outputs * size_of::<Sampled>())?,
            done: event.map_err(device_lost)?,
        })
    }
}

/// A step that is queued.
pub(crate) struct InFlight {
    pub(crate) host: HostBuffers,
    /// Sampled rows.
    pub(crate) outputs: usize,
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
    pub(crate) fn wait(&self) -> Result<Vec<Sampled>, DeviceError> {
        self.host.done.synchronize().map_err(device_lost)?;
        let bytes = &self.host.output.bytes()[..self.outputs * size_of::<Sampled>()];
        Ok(bytes.chunks_exact(size_of::<Sampled>()).map(bytemuck::pod_read_unaligned).collect())
    }
}
