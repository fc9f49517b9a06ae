//! The opened adapter: its device and queue, its memory, and waiting for it.

use super::adapter;
use super::failure::Failure;
use super::pipelines::Pipelines;
use super::shader::Shader;
use engine::device::{DeviceError, MemoryUse};
use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wgpu::{
    Adapter, BindGroup, Buffer, BufferUsages, ComputePipeline, Device, Features, Limits, Queue,
    SubmissionIndex,
};

/// How long a submission may take on hardware before the device counts as lost.
const PATIENCE: Duration = Duration::from_secs(300);
/// The same on a software adapter, which may need minutes for one step of a large model.
const SOFTWARE_PATIENCE: Duration = Duration::from_secs(3600);

/// Bytes that may be staged in the host's memory at a time, on their way to the device or back.
pub(crate) const STAGED: usize = 64 << 20;

/// An opened adapter.
pub(crate) struct Gpu {
    pub device: Device,
    pub queue: Queue,
    pub limits: Limits,
    /// Shaders may exchange values within subgroups.
    pub subgroups: bool,
    /// The adapter is software: its "GPU" is the processor.
    pub software: bool,
    failure: Failure,
    pipelines: Pipelines,
    /// Bound where a shader has a binding that an op does not use.
    empty: Buffer,
    /// Bytes staged by [`Gpu::upload`] since it last waited.
    staged: Cell<usize>,
}

impl Gpu {
    /// Opens an adapter.
    pub fn open(adapter: &Adapter, subgroups: bool) -> Result<Gpu, DeviceError> {
        let subgroups = subgroups && adapter::subgroups(adapter);
        let mut required_features = Features::IMMEDIATES;
        if subgroups {
            required_features |= Features::SUBGROUP;
        }
        let limits = adapter.limits();
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("gristmill"),
            required_features,
            required_limits: limits.clone(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let name = adapter.get_info().name;
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|e| DeviceError::Absent(format!("{name} cannot be opened: {e}")))?;
        let failure = Failure::default();
        let (lost, error) = (failure.clone(), failure.clone());
        device.set_device_lost_callback(move |reason, why| {
            // Dropping the device is reported too, but is no failure.
            if reason != wgpu::DeviceLostReason::Destroyed {
                lost.note(format!("the device was lost: {why}"));
            }
        });
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            error.note(e.to_string());
        }));
        let empty = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("empty"),
            size: 64,
            usage: BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        let software = adapter.get_info().device_type == wgpu::DeviceType::Cpu;
        let (pipelines, staged) = (Pipelines::default(), Cell::new(0));
        Ok(Gpu { device, queue, limits, subgroups, software, failure, pipelines, empty, staged })
    }

    /// The pipeline of a shader with these constants.
    pub fn pipeline(&mut self, shader: &'static Shader, constants: &[(&str, f64)]) -> ComputePipeline {
        self.pipelines.pipeline(&self.device, shader, constants)
    }

    /// Binds buffers to a shader's bindings in order.
    pub fn bind(&mut self, shader: &'static Shader, buffers: &[&Buffer]) -> BindGroup {
        self.pipelines.bind(&self.device, shader, buffers)
    }

    /// A buffer for bindings that an op does not use.
    pub fn empty(&self) -> Buffer {
        self.empty.clone()
    }

    /// Allocates a buffer of [`allocated`] bytes, as bindings need at least 16.
    pub fn allocate(
        &self,
        name: &str,
        bytes: usize,
        usage: BufferUsages,
        memory_use: MemoryUse,
    ) -> Result<Buffer, DeviceError> {
        let size = allocated(bytes) as u64;
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let descriptor = wgpu::BufferDescriptor { label: Some(name), size, usage, mapped_at_creation: false };
        let buffer = self.device.create_buffer(&descriptor);
        match pollster::block_on(scope.pop()) {
            None => Ok(buffer),
            Some(_) => Err(DeviceError::OutOfMemory {
                what: name.to_owned(),
                needed: bytes,
                available: 0,
                memory_use,
            }),
        }
    }

    /// The bytes of one buffer that a shader can bind, at most.
    pub fn max_binding(&self) -> usize {
        let limit = self.limits.max_storage_buffer_binding_size.min(self.limits.max_buffer_size);
        usize::try_from(limit).unwrap_or(usize::MAX) / 256 * 256
    }

    /// Waits for a submission.
    ///
    /// # Errors
    /// [`DeviceError::Lost`] if the device fails, or is not done within [`PATIENCE`].
    pub fn finish(&self, submission: SubmissionIndex) -> Result<(), DeviceError> {
        let patience = if self.software { SOFTWARE_PATIENCE } else { PATIENCE };
        let start = Instant::now();
        loop {
            let slice = wgpu::PollType::Wait {
                submission_index: Some(submission.clone()),
                timeout: Some(Duration::from_secs(1)),
            };
            match self.device.poll(slice) {
                Ok(_) => return self.check(),
                Err(wgpu::PollError::Timeout) => self.check()?,
                Err(e) => return Err(self.fail(e.to_string())),
            }
            if start.elapsed() > patience {
                return Err(self.fail(format!("it has not answered for {} s", patience.as_secs())));
            }
        }
    }

    /// Queues a copy of bytes to a buffer, and waits for those before when as many are staged as may be.
    pub fn upload(&self, buffer: &Buffer, offset: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        for (i, part) in bytes.chunks(STAGED).enumerate() {
            if self.staged.get() + part.len() > STAGED {
                self.finish(self.queue.submit([]))?;
                self.staged.set(0);
            }
            self.queue.write_buffer(buffer, (offset + i * STAGED) as u64, part);
            self.staged.set(self.staged.get() + part.len());
        }
        Ok(())
    }

    /// Copies bytes of a buffer to the host, after all that is queued.
    pub fn download(&self, buffer: &Buffer, range: Range<usize>) -> Result<Vec<u8>, DeviceError> {
        let mut bytes = Vec::with_capacity(range.len());
        for start in range.clone().step_by(STAGED) {
            let len = STAGED.min(range.end - start);
            let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
            let staging = self.allocate("download", len, usage, MemoryUse::Activations)?;
            let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(buffer, start as u64, &staging, 0, len as u64);
            let submission = self.queue.submit([encoder.finish()]);
            staging.map_async(wgpu::MapMode::Read, .., |_| ());
            self.finish(submission)?;
            let mapped = staging.get_mapped_range(..len as u64);
            bytes.extend_from_slice(&mapped.map_err(|e| self.fail(e.to_string()))?);
        }
        Ok(bytes)
    }

    /// The first failure of the device, if it has failed.
    pub fn check(&self) -> Result<(), DeviceError> {
        self.failure.check()
    }

    /// Notes a failure; the device is not used again.
    pub fn fail(&self, why: impl Into<String>) -> DeviceError {
        self.failure.note(why)
    }
}

/// Bytes that [`Gpu::allocate`] takes for a buffer of `bytes`.
pub(crate) const fn allocated(bytes: usize) -> usize {
    let bytes = if bytes < 16 { 16 } else { bytes };
    bytes.next_multiple_of(16)
}
