//! The device trait over wgpu.

use crate::buffers::blocks::FORMATS;
use crate::compiled::Compiled;
use crate::driver::adapter;
use crate::driver::gpu::Gpu;
use crate::inflight::InFlight;
use crate::memory;
use crate::ops::compile::{KV, supports};
use crate::options::Options;
use crate::peak;
use engine::device::{
    ComputeTypes, Device, DeviceError, DeviceInfo, DeviceKind, OpTime, Peaks, PlanId, Ticket,
};
use engine::dtype::DType;
use engine::op::Op;
use engine::plan::{BufferId, Dims, Input, Plan};
use engine::step::{LateMasks, Step, StepOutput};
use std::ops::Range;

/// An adapter of wgpu as a device.
pub struct WgpuDevice {
    /// Where on the PCI bus the adapter is; none if it is software.
    pci_bus_id: Option<String>,
    gpu: Gpu,
    info: DeviceInfo,
    options: Options,
    plans: Vec<Compiled>,
    flight: InFlight,
    late: Option<Late>,
}

/// A step that waits for its masks.
#[derive(Clone, Copy)]
struct Late {
    plan: PlanId,
    dims: Dims,
    masks: LateMasks,
    ticket: u64,
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
            let why = "no hardware adapter of Vulkan, Metal or DX12 can be used";
            return Err(DeviceError::Absent(why.into()));
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
        let types = ComputeTypes { activations: DType::F32, kv: KV.to_vec(), weights: FORMATS.to_vec() };
        let info = DeviceInfo {
            kind: DeviceKind::Wgpu,
            family: "wgpu",
            name: adapter.get_info().name,
            memory_total: memory,
            memory_free: memory,
            max_buffer,
            types: vec![types],
            breaks_contract: None,
        };
        let found = adapter.get_info();
        let pci_bus_id = (found.device_type != wgpu::DeviceType::Cpu).then_some(found.device_pci_bus_id);
        let (plans, flight) = (Vec::new(), InFlight::default());
        Ok(WgpuDevice { gpu, info, pci_bus_id, options, plans, flight, late: None })
    }

    /// The adapter beneath.
    #[cfg(test)]
    pub(crate) fn gpu_mut(&mut self) -> &mut Gpu {
        &mut self.gpu
    }

    /// Destroys the device as a driver would, for tests of what happens then.
    pub fn lose(&self) {
        self.gpu.device.destroy();
        self.gpu.fail("it was destroyed");
    }

    /// A compiled plan, if the device has not failed and waits for no masks.
    fn plan(&self, plan: PlanId) -> Result<&Compiled, DeviceError> {
        self.gpu.check()?;
        if let Some(late) = &self.late {
            return Err(DeviceError::BadStep(format!("step {} waits for its masks", late.ticket)));
        }
        self.plans.get(plan.0).ok_or_else(|| DeviceError::BadPlan(format!("there is no plan {}", plan.0)))
    }

    /// Queues the ops that end a step, and the copy of its results.
    fn finish(
        &mut self,
        plan: PlanId,
        ops: Range<usize>,
        dims: &Dims,
        ticket: u64,
    ) -> Result<(), DeviceError> {
        let compiled = &self.plans[plan.0];
        let results = match compiled.has_results(dims) {
            true => Some(self.flight.results(&self.gpu, dims, &compiled.max_dims)?),
            false => None,
        };
        let submission = compiled.submit(&self.gpu, ops, dims, results.as_ref());
        self.gpu.check()?;
        self.flight.push(ticket, submission, results);
        Ok(())
    }
}

impl Device for WgpuDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn pci_bus_id(&self) -> Option<String> {
        self.pci_bus_id.clone()
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
        let compiled = self.plan(plan)?;
        compiled.write_inputs(&self.gpu, step)?;
        let dims = step.dims();
        let [before_masks, after_masks] = compiled.parts();
        let ticket = self.flight.ticket();
        if let Some(masks) = step.late() {
            self.plans[plan.0].submit(&self.gpu, before_masks, &dims, None);
            self.gpu.check()?;
            self.late = Some(Late { plan, dims, masks, ticket });
        } else {
            self.finish(plan, 0..after_masks.end, &dims, ticket)?;
        }
        Ok(Ticket(ticket))
    }

    fn provide(&mut self, ticket: &Ticket, masks: &[u32]) -> Result<(), DeviceError> {
        self.gpu.check()?;
        let Some(late) = self.late.filter(|late| late.ticket == ticket.0) else {
            return Err(DeviceError::BadStep(format!("step {} waits for no masks", ticket.0)));
        };
        late.masks.check(masks).map_err(DeviceError::BadStep)?;
        self.late = None;
        let compiled = &self.plans[late.plan.0];
        compiled.write_input(&self.gpu, Input::Masks, bytemuck::cast_slice(masks));
        let [_, after_masks] = compiled.parts();
        self.finish(late.plan, after_masks, &late.dims, late.ticket)
    }

    fn wait(&mut self, ticket: Ticket) -> Result<StepOutput, DeviceError> {
        self.flight.wait(&self.gpu, &ticket)
    }

    fn time_ops(&mut self, plan: PlanId, step: &Step) -> Result<Vec<OpTime>, DeviceError> {
        let compiled = self.plan(plan)?;
        if step.late_masks > 0 {
            return Err(DeviceError::BadStep("its masks are yet to come".into()));
        }
        compiled.write_inputs(&self.gpu, step)?;
        let [_, last] = compiled.parts();
        (0..last.end).map(|op| compiled.time_op(&self.gpu, op, &step.dims())).collect()
    }

    fn peaks(&mut self, _activations: DType) -> Result<Peaks, DeviceError> {
        self.gpu.check()?;
        peak::measure(&mut self.gpu)
    }
}
