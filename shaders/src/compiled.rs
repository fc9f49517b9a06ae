//! A compiled plan: its buffers, its kernels, and how a step is put on the device's queue.

use crate::buffers::storage::Storage;
use crate::check;
use crate::driver::gpu::Gpu;
use crate::driver::pass::Pass;
use crate::inflight::Results;
use crate::memory;
use crate::ops::compile::{compile, supports};
use crate::ops::context::Context;
use crate::ops::kernel::Kernel;
use crate::options::Options;
use engine::device::{DeviceError, DeviceInfo, DeviceKind, OpTime};
use engine::op::Op;
use engine::plan::{BufferId, BufferKind, Dims, Input, Plan};
use engine::step::Step;
use std::ops::Range;
use std::time::{Duration, Instant};
use wgpu::SubmissionIndex;

/// A plan with its buffers and kernels.
pub(crate) struct Compiled {
    pub max_dims: Dims,
    plan: Plan,
    buffers: Vec<Storage>,
    kernels: Vec<Box<dyn Kernel>>,
    /// The buffers that `Op::Sample` writes: sampled tokens, and log-probabilities of targets.
    outputs: Option<[BufferId; 2]>,
}

impl Compiled {
    /// Allocates the buffers of a plan and makes its kernels.
    pub fn new(
        gpu: &mut Gpu,
        info: &DeviceInfo,
        options: &Options,
        plan: &Plan,
        max_dims: &Dims,
    ) -> Result<Compiled, DeviceError> {
        plan.check(max_dims).map_err(DeviceError::BadPlan)?;
        for op in &plan.ops {
            let unsupported = |why| DeviceError::Unsupported { device: DeviceKind::Wgpu, op: op.name(), why };
            supports(plan, op).map_err(unsupported)?;
        }
        let layouts = memory::fit(plan, max_dims, info)?;
        let buffers = plan.buffers.iter().zip(layouts);
        let buffers = buffers
            .map(|(desc, layout)| Storage::new(gpu, desc, max_dims.count(desc.rows), layout))
            .collect::<Result<Vec<_>, _>>()?;
        let mut cx = Context { gpu, options, plan, max_dims, buffers: &buffers };
        let kernels = plan.ops.iter().map(|op| compile(&mut cx, op)).collect::<Result<Vec<_>, _>>()?;
        let outputs = plan.ops.iter().find_map(|op| match op {
            Op::Sample(op) => Some([op.out, op.target_logprobs]),
            _ => None,
        });
        gpu.check()?;
        Ok(Compiled { max_dims: *max_dims, plan: plan.clone(), buffers, kernels, outputs })
    }

    /// A buffer of the plan.
    pub fn buffer(&self, id: BufferId) -> Result<&Storage, DeviceError> {
        self.buffers.get(id.0).ok_or_else(|| DeviceError::BadPlan(format!("there is no buffer {}", id.0)))
    }

    /// Checks a step and copies its inputs to their buffers.
    pub fn write_inputs(&self, gpu: &Gpu, step: &Step) -> Result<(), DeviceError> {
        check::step(&self.plan, &self.max_dims, step).map_err(DeviceError::BadStep)?;
        for desc in &self.plan.buffers {
            if let BufferKind::StepInput(input) = desc.kind {
                self.write_input(gpu, input, step.input(input));
            }
        }
        Ok(())
    }

    /// Copies one input to its buffer.
    pub fn write_input(&self, gpu: &Gpu, input: Input, bytes: &[u8]) {
        let Some(id) = self.plan.input(input).filter(|_| !bytes.is_empty()) else { return };
        // Staged in memory of its own and copied after the steps that are queued before.
        gpu.queue.write_buffer(&self.buffers[id.0].shards[0], 0, bytes);
    }

    /// The ops that do not need a step's masks, and those that may.
    pub fn parts(&self) -> [Range<usize>; 2] {
        let first_sample = self.plan.first_sample();
        [0..first_sample, first_sample..self.plan.ops.len()]
    }

    /// Whether a step of these row counts has results.
    pub fn has_results(&self, dims: &Dims) -> bool {
        self.outputs.is_some() && dims.outputs > 0
    }

    /// Queues some of the ops for a step of these row counts, and the copy of its results.
    pub fn submit(
        &self,
        gpu: &Gpu,
        ops: Range<usize>,
        dims: &Dims,
        results: Option<&Results>,
    ) -> SubmissionIndex {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = Pass::new(&mut encoder, gpu);
            for kernel in &self.kernels[ops] {
                kernel.encode(&mut pass, dims);
            }
        }
        if let Some((outputs, results)) = self.outputs.zip(results) {
            let [sampled, targets] = outputs.map(|output| &self.buffers[output.0].shards[0]);
            let (first, then) = (results.sampled_bytes(), results.target_bytes());
            encoder.copy_buffer_to_buffer(sampled, 0, &results.buffer, 0, first);
            if then > 0 {
                encoder.copy_buffer_to_buffer(targets, 0, &results.buffer, first, then);
            }
        }
        gpu.queue.submit([encoder.finish()])
    }

    /// Measures one op of a step whose inputs are written: what nine of it take more than one, divided by eight, so that
    /// neither the submission nor the wait counts.
    ///
    /// # Errors
    /// [`DeviceError::Lost`].
    pub fn time_op(&self, gpu: &Gpu, op: usize, dims: &Dims) -> Result<OpTime, DeviceError> {
        const MORE: u32 = 8;
        let run = |times: u32| {
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            {
                let mut pass = Pass::new(&mut encoder, gpu);
                (0..times).for_each(|_| self.kernels[op].encode(&mut pass, dims));
            }
            let start = Instant::now();
            gpu.finish(gpu.queue.submit([encoder.finish()]))?;
            Ok::<Duration, DeviceError>(start.elapsed())
        };
        let one = run(1)?;
        Ok(OpTime { ops: op..op + 1, time: run(1 + MORE)?.saturating_sub(one) / MORE })
    }
}
