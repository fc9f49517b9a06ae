//! The opened adapter: device and queue, pipelines by shader and constants, and its failures.

use crate::adapter;
use crate::kernel::{Access, IMMEDIATE_BYTES, Shader, source};
use engine::device::{DeviceError, DeviceKind};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use wgpu::{
    Adapter, BindGroup, BindGroupLayout, Buffer, BufferUsages, ComputePipeline, Device, Features, Limits,
    PipelineLayout, Queue, ShaderModule, SubmissionIndex,
};

/// How long a submission may take on hardware before the device counts as lost.
const PATIENCE: Duration = Duration::from_secs(300);
/// The same on a software adapter, which may need minutes for one step of a large model.
const SOFTWARE_PATIENCE: Duration = Duration::from_secs(3600);

/// What a shader is compiled to before its constants are known.
struct Module {
    module: ShaderModule,
    bindings: BindGroupLayout,
    layout: PipelineLayout,
}

/// A pipeline's name: its shader and its constants' names and bits.
type PipelineKey = (&'static str, Vec<(String, u64)>);

/// An opened adapter.
pub(crate) struct Gpu {
    pub device: Device,
    pub queue: Queue,
    pub limits: Limits,
    /// The shaders may hand values round within subgroups.
    pub subgroups: bool,
    /// A processor that plays a GPU.
    pub software: bool,
    failure: Arc<Mutex<Option<String>>>,
    modules: HashMap<&'static str, Module>,
    pipelines: HashMap<PipelineKey, ComputePipeline>,
    /// Bound where a shader has a binding that an op does not use.
    empty: Buffer,
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
        let failure = Arc::new(Mutex::new(None));
        let (lost, error) = (failure.clone(), failure.clone());
        device.set_device_lost_callback(move |reason, why| {
            // Dropping the device is reported as well and is no failure.
            if reason != wgpu::DeviceLostReason::Destroyed {
                note(&lost, format!("the device was lost: {why}"));
            }
        });
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| note(&error, e.to_string())));
        let empty = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("empty"),
            size: 64,
            usage: BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        let software = adapter.get_info().device_type == wgpu::DeviceType::Cpu;
        let (modules, pipelines) = (HashMap::new(), HashMap::new());
        Ok(Gpu { device, queue, limits, subgroups, software, failure, modules, pipelines, empty })
    }

    /// The pipeline of a shader with these constants.
    pub fn pipeline(&mut self, shader: &'static Shader, constants: &[(&str, f64)]) -> ComputePipeline {
        let key = (shader.name, constants.iter().map(|&(n, v)| (n.to_owned(), v.to_bits())).collect());
        if let Some(pipeline) = self.pipelines.get(&key) {
            return pipeline.clone();
        }
        self.module(shader);
        let module = &self.modules[shader.name];
        let descriptor = wgpu::ComputePipelineDescriptor {
            label: Some(shader.name),
            layout: Some(&module.layout),
            module: &module.module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants,
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        };
        let pipeline = self.device.create_compute_pipeline(&descriptor);
        self.pipelines.insert(key, pipeline.clone());
        pipeline
    }

    /// Makes the module of a shader if it is not there.
    fn module(&mut self, shader: &'static Shader) {
        let device = &self.device;
        self.modules.entry(shader.name).or_insert_with(|| {
            let descriptor =
                wgpu::ShaderModuleDescriptor { label: Some(shader.name), source: source(shader) };
            // SAFETY: every index that a shader computes is in bounds, so its checks can be left out:
            // rows are less than the step's counts, columns less than the views' (both checked when the
            // plan is compiled and the step submitted), and what a step's inputs point at (slots, pages,
            // tokens, positions, rows, masks, adjustments) is checked by `check::step` before it is
            // queued. Every loop counts up to one of those bounds, and divisors are never zero.
            let module = unsafe {
                device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
            };
            let entries: Vec<_> = shader.bindings.iter().enumerate().map(entry).collect();
            let bindings = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(shader.name),
                entries: &entries,
            });
            let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(shader.name),
                bind_group_layouts: &[Some(&bindings)],
                immediate_size: IMMEDIATE_BYTES,
            });
            Module { module, bindings, layout }
        });
    }

    /// Binds buffers to a shader's bindings in order.
    pub fn bind(&mut self, shader: &'static Shader, buffers: &[&Buffer]) -> BindGroup {
        let entries: Vec<_> = buffers
            .iter()
            .enumerate()
            .map(|(i, buffer)| wgpu::BindGroupEntry {
                binding: i as u32,
                resource: buffer.as_entire_binding(),
            })
            .collect();
        self.module(shader);
        let layout = &self.modules[shader.name].bindings;
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(shader.name),
            layout,
            entries: &entries,
        })
    }

    /// A buffer for bindings that an op does not use.
    pub fn empty(&self) -> Buffer {
        self.empty.clone()
    }

    /// Allocates a buffer of at least one binding's smallest size.
    pub fn allocate(&self, name: &str, bytes: usize, usage: BufferUsages) -> Result<Buffer, DeviceError> {
        let size = bytes.max(16).next_multiple_of(16) as u64;
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let descriptor = wgpu::BufferDescriptor { label: Some(name), size, usage, mapped_at_creation: false };
        let buffer = self.device.create_buffer(&descriptor);
        match pollster::block_on(scope.pop()) {
            None => Ok(buffer),
            Some(_) => Err(DeviceError::OutOfMemory {
                what: name.to_owned(),
                needed: bytes,
                available: 0,
                remedy: "lower --gpu-memory-utilization, --max-num-seqs or --max-num-batched-tokens".into(),
            }),
        }
    }

    /// The most bytes of one buffer that a shader can see.
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

    /// Copies bytes of a buffer to the host, after all that is queued.
    pub fn download(&self, buffer: &Buffer, range: Range<usize>) -> Result<Vec<u8>, DeviceError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let staging = self.allocate("download", range.len(), usage)?;
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(buffer, range.start as u64, &staging, 0, range.len() as u64);
        let submission = self.queue.submit([encoder.finish()]);
        staging.map_async(wgpu::MapMode::Read, .., |_| ());
        self.finish(submission)?;
        let mapped = staging.get_mapped_range(..range.len() as u64);
        Ok(mapped.map_err(|e| self.fail(e.to_string()))?.to_vec())
    }

    /// The first failure of the device, if it has failed.
    pub fn check(&self) -> Result<(), DeviceError> {
        match &*self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(why) => Err(lost(why.clone())),
        }
    }

    /// Notes a failure; the device is not used again.
    pub fn fail(&self, why: String) -> DeviceError {
        note(&self.failure, why.clone());
        lost(why)
    }
}

fn entry((i, access): (usize, &Access)) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding: i as u32,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only: *access == Access::Read },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}

/// Keeps the first failure: those that follow are its consequences.
fn note(failure: &Mutex<Option<String>>, why: String) {
    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
}

/// The error of a device that has failed.
pub(crate) fn lost(why: impl Into<String>) -> DeviceError {
    DeviceError::Lost { device: DeviceKind::Wgpu, why: why.into() }
}
