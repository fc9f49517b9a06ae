//! The device trait over wgpu.

use crate::compiled::Compiled;
use crate::driver::adapter;
use crate::driver::gpu::Gpu;
use crate::inflight::InFlight;
use crate::memory;
use crate::ops::compile::supports;
use crate::options::Options;
use engine::device::{Device, DeviceError, DeviceInfo, DeviceKind, PlanId, Ticket};
use engine::dtype::DType;
use engine::op::Op;
use engine::plan::{BufferId, Dims, Plan};
use engine::step::{Step, StepOutput};
use std::ops::Range;

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

    /// The adapter beneath.
    pub(crate) fn gpu_mut(&mut self) -> &mut Gpu {
        &mut self.gpu
    }

    /// Ends the device as a driver would, for tests of what happens then.
    pub fn lose(&self) {
        self.gpu.device.destroy();
        self.gpu.fail("it was given up");
    }

    /// A compiled plan, if the device has not failed.
    fn plan(&self, plan: PlanId) -> Result<&Compiled, DeviceError> {
        self.gpu.check()?;
        self.plans.get(plan.0).ok_or_else(|| DeviceError::BadPlan(format!("there is no plan {}", plan.0)))
    }
}

impl Device for WgpuDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, plan: &Plan, op: &Op) -> Result<(), String> {
        supports(plan, op)
    }

    fn workspace(&self, plan: &Plan, max_dims: &Dims) -> usize {
        memory::workspace(plan, max_dims, self.info.max_buffer)
    }

    fn compile(&mut self, plan: &Plan, max_dims: &Dims) -> Result<PlanId, DeviceError> {
        self.gpu.check()?;
        let compiled = Compiled::new(&mut self.gpu, &self.info, &self.options, plan, max_dims)?;
        self.plans.push(compiled);
        Ok(PlanId(self.plans.len() - 1))
    }

    fn write(&mut self, plan: PlanId, buffer: BufferId, row: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        self.plan(plan)?.buffer(buffer)?.write(&self.gpu, row, bytes)
    }

    fn read(&mut self, plan: PlanId, buffer: BufferId, rows: Range<usize>) -> Result<Vec<u8>, DeviceError> {
        self.plan(plan)?.buffer(buffer)?.read(&self.gpu, rows)
    }

    fn submit(&mut self, plan: PlanId, step: &Step) -> Result<Ticket, DeviceError> {
        self.plan(plan)?;
        let compiled = &self.plans[plan.0];
        compiled.write_inputs(&self.gpu, step)?;
        let dims = step.dims();
        let results = match compiled.has_results(&dims) {
            true => Some(self.flight.results(&self.gpu, dims.outputs, compiled.max_dims.outputs)?),
            false => None,
        };
        let submission = compiled.submit(&self.gpu, &dims, results.as_ref());
        self.gpu.check()?;
        Ok(self.flight.push(submission, results))
    }

    fn wait(&mut self, ticket: Ticket) -> Result<StepOutput, DeviceError> {
        self.flight.wait(&self.gpu, &ticket)
    }
}
