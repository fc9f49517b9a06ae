//! The device trait over wgpu.

use crate::buffer::{self, Context, Layout, Storage};
use crate::gpu::Gpu;
use crate::inflight::InFlight;
use crate::kernel::{Kernel, Shape};
use crate::{adapter, check};
use crate::{add, embed, gated_mul, gather_rows, kv_write, linear, paged_attention, rms_norm, rope, sample};
use engine::device::{Device, DeviceError, DeviceInfo, DeviceKind, PlanId, Ticket};
use engine::dtype::DType;
use engine::op::Op;
use engine::plan::{BufferId, BufferKind, Dims, Plan, Rows};
use engine::step::{SAMPLED_WORDS, Step, StepOutput};
use std::ops::Range;

/// How to open an adapter; tests narrow what it offers.
#[derive(Clone, Debug)]
pub struct Options {
    /// Use subgroups where the adapter has them.
    pub subgroups: bool,
    /// The most bytes of a binding, if less than the adapter's: weights are sharded to it.
    pub max_binding: Option<usize>,
    /// Rows of a Linear tile, whatever the row count; `None` chooses by the row count.
    pub tile_rows: Option<usize>,
    /// The preferred type of KV pages.
    pub kv: DType,
    /// The most multiply-adds of one dispatch, if less than the default.
    pub max_work: Option<u64>,
}

impl Default for Options {
    fn default() -> Options {
        Options { subgroups: true, max_binding: None, tile_rows: None, kv: DType::F16, max_work: None }
    }
}

/// A plan with its buffers and kernels.
struct Compiled {
    plan: Plan,
    most: Dims,
    buffers: Vec<Storage>,
    kernels: Vec<Box<dyn Kernel>>,
    output: Option<BufferId>,
}

/// An adapter of wgpu as a device.
pub struct WgpuDevice {
    gpu: Gpu,
    info: DeviceInfo,
    options: Options,
    plans: Vec<Compiled>,
    flight: InFlight,
}

impl WgpuDevice {
    /// Opens the adapter that `selector` names by its index or a part of its name; `None` takes the
    /// first one of the list, hardware before software.
    ///
    /// # Errors
    /// [`DeviceError::Absent`] if there is none, or it lacks what the kernels need.
    pub fn open(selector: Option<&str>) -> Result<WgpuDevice, DeviceError> {
        WgpuDevice::with_options(selector, Options::default())
    }

    /// Opens a hardware adapter only, for the automatic choice of a device.
    ///
    /// # Errors
    /// [`DeviceError::Absent`] if there is none.
    pub fn open_hardware() -> Result<WgpuDevice, DeviceError> {
        if !adapter::hardware() {
            return Err(DeviceError::Absent(
                "no hardware adapter of Vulkan, Metal or DX12 can be used".into(),
            ));
        }
        WgpuDevice::open(None)
    }

    /// Opens an adapter with options.
    ///
    /// # Errors
    /// As [`WgpuDevice::open`].
    pub fn with_options(selector: Option<&str>, options: Options) -> Result<WgpuDevice, DeviceError> {
        let adapter = adapter::choose(selector)?;
        let gpu = Gpu::open(&adapter, options.subgroups)?;
        let max_buffer = options.max_binding.unwrap_or(usize::MAX).min(gpu.max_binding());
        let memory = adapter::memory(&adapter).unwrap_or(max_buffer);
        let mut kv = vec![DType::F16, DType::F32, DType::BF16];
        kv.sort_by_key(|&dtype| dtype != options.kv);
        let info = DeviceInfo {
            kind: DeviceKind::Wgpu,
            name: adapter.get_info().name,
            memory_total: memory,
            memory_free: memory,
            max_buffer,
            activations: DType::F32,
            kv,
            weights: vec![DType::BF16, DType::F16, DType::F32],
            breaks_contract: None,
        };
        Ok(WgpuDevice { gpu, info, options, plans: Vec::new(), flight: InFlight::default() })
    }

    /// Ends the device as a driver would, for tests of what happens then.
    pub fn lose(&self) {
        self.gpu.device.destroy();
        self.gpu.fail("it was given up".into());
    }

    fn plan(&mut self, plan: PlanId) -> Result<&mut Compiled, DeviceError> {
        self.plans.get_mut(plan.0).ok_or_else(|| DeviceError::BadPlan(format!("there is no plan {}", plan.0)))
    }

    /// The layouts of a plan's buffers, if all of them fit.
    fn fit(&self, plan: &Plan, most: &Dims) -> Result<Vec<Layout>, DeviceError> {
        let limit = self.info.max_buffer;
        let layouts =
            buffer::layouts(plan, most, limit).map_err(|(what, needed)| DeviceError::OutOfMemory {
                what: format!("{what}, one buffer,"),
                needed,
                available: limit,
                remedy: "lower --gpu-memory-utilization (KV pages) or --max-num-seqs (logits)".into(),
            })?;
        let sum = |which: &dyn Fn(BufferKind) -> bool| -> usize {
            let all = plan.buffers.iter().zip(&layouts).filter(|(desc, _)| which(desc.kind));
            all.map(|(desc, &layout)| buffer::bytes(desc, most.count(desc.rows), layout)).sum()
        };
        let needed = sum(&|_| true);
        if needed <= self.info.memory_total {
            return Ok(layouts);
        }
        let weights = sum(&|kind| kind == BufferKind::Weight);
        let kv = sum(&|kind| kind == BufferKind::KvPage);
        Err(DeviceError::OutOfMemory {
            what: format!("the model ({weights} weights + {kv} KV + {} others)", needed - weights - kv),
            needed,
            available: self.info.memory_total,
            remedy: "choose a smaller model or lower --gpu-memory-utilization".into(),
        })
    }
}

/// Makes the kernel of an op.
fn kernel(cx: &mut Context<'_>, op: &Op, options: &Options) -> Result<Box<dyn Kernel>, DeviceError> {
    Ok(match *op {
        Op::Embed { tokens, last, table, out } => embed::compile(cx, tokens, last, table, out),
        Op::RmsNorm { x, add, weight, out, width, eps } => {
            rms_norm::compile(cx, x, add, weight, out, width, eps)
        }
        Op::Linear { x, weight, bias, out } => linear::compile(cx, x, weight, bias, out, options),
        Op::Rope { x, positions, table, head_dim } => rope::compile(cx, x, positions, table, head_dim),
        Op::KvWrite { k, v, slots, k_pages, v_pages } => kv_write::compile(cx, k, v, slots, k_pages, v_pages),
        Op::PagedAttention { .. } => paged_attention::compile(cx, op, options),
        Op::GatedMul { x, out, act } => gated_mul::compile(cx, x, out, act),
        Op::Add { a, b, out } => add::compile(cx, a, b, out),
        Op::GatherRows { x, rows, out } => gather_rows::compile(cx, x, rows, out),
        Op::Sample { .. } => sample::compile(cx, op)?,
    })
}

impl Device for WgpuDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, plan: &Plan, op: &Op) -> Result<(), String> {
        op.check(plan)?;
        for desc in &plan.buffers {
            if desc.kind == BufferKind::Activation && desc.dtype != DType::F32 {
                return Err(format!("{} is {}; activations are f32 on this device", desc.name, desc.dtype));
            }
        }
        match op {
            Op::PagedAttention { head_dim, q, out, .. } => {
                if q.buffer == out.buffer {
                    return Err("the queries and the output are columns of one buffer".into());
                }
                paged_attention::supports(*head_dim)
            }
            Op::Linear { x, out, .. } | Op::GatedMul { x, out, .. } | Op::GatherRows { x, out, .. }
                if x.buffer == out.buffer =>
            {
                Err("the input and the output are columns of one buffer".into())
            }
            _ => Ok(()),
        }
    }

    fn compile(&mut self, plan: &Plan, most: &Dims) -> Result<PlanId, DeviceError> {
        self.gpu.check()?;
        plan.check().map_err(DeviceError::BadPlan)?;
        for op in &plan.ops {
            let unsupported = |why| DeviceError::Unsupported { device: DeviceKind::Wgpu, op: op.name(), why };
            self.supports(plan, op).map_err(unsupported)?;
        }
        let layouts = self.fit(plan, most)?;
        let storages = plan.buffers.iter().zip(layouts);
        let buffers = storages
            .map(|(desc, layout)| Storage::new(&self.gpu, desc, most.count(desc.rows), layout))
            .collect::<Result<Vec<_>, _>>()?;
        let mut cx = Context { gpu: &mut self.gpu, most, buffers: &buffers };
        let kernels =
            plan.ops.iter().map(|op| kernel(&mut cx, op, &self.options)).collect::<Result<Vec<_>, _>>()?;
        let output = plan.iter().find(|(_, desc)| {
            desc.kind == BufferKind::StepOutput && desc.rows == Rows::Outputs && desc.cols == SAMPLED_WORDS
        });
        let output = output.map(|(id, _)| id);
        self.gpu.check()?;
        self.plans.push(Compiled { plan: plan.clone(), most: *most, buffers, kernels, output });
        Ok(PlanId(self.plans.len() - 1))
    }

    fn write(&mut self, plan: PlanId, buffer: BufferId, row: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        self.gpu.check()?;
        self.plan(plan)?;
        self.plans[plan.0].buffers[buffer.0].write(&self.gpu, row, bytes)
    }

    fn read(&mut self, plan: PlanId, buffer: BufferId, rows: Range<usize>) -> Result<Vec<u8>, DeviceError> {
        self.gpu.check()?;
        self.plan(plan)?;
        self.plans[plan.0].buffers[buffer.0].read(&self.gpu, rows)
    }

    fn submit(&mut self, plan: PlanId, step: &Step) -> Result<Ticket, DeviceError> {
        self.gpu.check()?;
        self.plan(plan)?;
        let compiled = &self.plans[plan.0];
        check::step(&compiled.plan, &compiled.most, step).map_err(DeviceError::BadStep)?;
        for (desc, storage) in compiled.plan.buffers.iter().zip(&compiled.buffers) {
            let BufferKind::StepInput(input) = desc.kind else { continue };
            let bytes = step.input(input);
            if !bytes.is_empty() {
                // Staged in memory of its own and copied after the steps that are queued before.
                self.gpu.queue.write_buffer(&storage.shards[0], 0, bytes);
            }
        }
        let dims = step.dims();
        let max_groups = self.gpu.limits.max_compute_workgroups_per_dimension as usize;
        let shape = Shape { dims, max_groups };
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for kernel in &compiled.kernels {
                kernel.encode(&mut pass, &shape);
            }
        }
        let mut results = None;
        if let Some(id) = compiled.output.filter(|_| dims.outputs > 0) {
            let buffer = self.flight.buffer(&self.gpu, dims.outputs)?;
            let bytes = (dims.outputs * SAMPLED_WORDS * 4) as u64;
            encoder.copy_buffer_to_buffer(&compiled.buffers[id.0].shards[0], 0, &buffer, 0, bytes);
            results = Some((buffer, dims.outputs));
        }
        let submission = self.gpu.queue.submit([encoder.finish()]);
        self.gpu.check()?;
        Ok(self.flight.push(submission, results))
    }

    fn wait(&mut self, ticket: Ticket) -> Result<StepOutput, DeviceError> {
        self.flight.wait(&self.gpu, &ticket)
    }
}
