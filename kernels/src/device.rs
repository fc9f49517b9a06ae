//! The device: opens a card, compiles plans, runs steps.

use crate::driver::card::{Card, TensorCores};
use crate::driver::cublaslt::CublasLt;
use crate::driver::functions::Functions;
use crate::in_flight::InFlight;
use crate::lowering::Linears;
use crate::peaks::peaks;
use crate::program::{Program, spared};
use crate::summary::devices;
use crate::supports::supports;
use crate::workspace::workspace;
use engine::device::{
    ComputeTypes, Device, DeviceError, DeviceInfo, DeviceKind, OpTime, Peaks, PlanId, Ticket,
};
use engine::dtype::DType;
use engine::format::Format;
use engine::op::Op;
use engine::plan::{BufferId, Dims, Plan};
use engine::step::{Step, StepOutput};
use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// What multiplies matrices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gemm {
    /// The kernels of this crate, which keep the numeric contract.
    #[default]
    Builtin,
    /// cuBLASLt, which does not: it chooses its order of sums by the number of rows.
    CublasLt,
}

/// How a device is opened.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which card, by the driver's number; `None`: the first usable one.
    pub index: Option<usize>,
    /// Launch every kernel of every step instead of replaying graphs for decode steps.
    pub enforce_eager: bool,
    /// What multiplies matrices.
    pub gemm: Gemm,
    /// The tile of every Linear on a card with `wgmma`: consumer warpgroups and tokens; `None`: the one that should be
    /// fastest. Answers do not depend on it; it is there to test that, and to measure.
    pub linear_tile: Option<(usize, usize)>,
    /// All by `mma.sync`, as a card without `wgmma` does it: another kind of device. It is there to test those kernels.
    pub mma: bool,
    /// Attention of prompts by `mma.sync` on a card with `wgmma` too. Answers do not depend on it; it is there to test that,
    /// and to measure.
    pub mma_prefill: bool,
    /// Where compiled kernels are kept; `None`: below `GRISTMILL_CACHE` or the user's cache folder.
    pub cache: Option<PathBuf>,
}

/// An NVIDIA card.
pub struct CudaDevice {
    info: DeviceInfo,
    enforce_eager: bool,
    programs: Vec<Program>,
    blas: Option<Arc<CublasLt>>,
    linear_tile: Option<(usize, usize)>,
    functions: Functions,
    /// Steps that are queued and not yet waited for.
    queue: VecDeque<Queued>,
    next_ticket: u64,
    card: Card,
}

// SAFETY: graphs hold raw handles, which any one thread at a time may use; `&mut self` sees to that.
unsafe impl Send for CudaDevice {}

struct Queued {
    ticket: u64,
    program: usize,
    step: InFlight,
}

impl CudaDevice {
    /// Opens a card; the first usable one, if no index is given.
    ///
    /// # Errors
    /// [`DeviceError::Absent`] with what is missing and the remedy.
    pub fn open(index: Option<usize>) -> Result<CudaDevice, DeviceError> {
        CudaDevice::open_with(Options { index, ..Options::default() })
    }

    /// Opens a card.
    ///
    /// # Errors
    /// [`DeviceError::Absent`] with what is missing and the remedy.
    pub fn open_with(options: Options) -> Result<CudaDevice, DeviceError> {
        let index = options.index.map_or_else(first_usable, Ok)?;
        let mut card = Card::open(index)?;
        if options.mma {
            card.limits.tensor_cores = card.limits.tensor_cores.without_wgmma();
            card.limits.prefill = card.limits.tensor_cores;
        }
        if options.mma_prefill {
            card.limits.prefill = TensorCores::Mma;
        }
        let (blas, breaks_contract) = match options.gemm {
            Gemm::Builtin => (None, None),
            Gemm::CublasLt => {
                let why = "cuBLASLt chooses its order of sums by the number of rows in a step";
                (Some(Arc::new(CublasLt::new(&card.context)?)), Some(why.to_owned()))
            }
        };
        let info = DeviceInfo {
            kind: DeviceKind::Cuda,
            family: card.limits.tensor_cores.family(),
            name: card.name.clone(),
            memory_total: card.memory_total,
            memory_free: card.memory_free()?,
            max_buffer: card.memory_total,
            types: [DType::BF16, DType::F16, DType::F32].map(compute_types).to_vec(),
            breaks_contract,
        };
        Ok(CudaDevice {
            info,
            enforce_eager: options.enforce_eager,
            programs: Vec::new(),
            blas,
            linear_tile: options.linear_tile,
            functions: Functions::new(options.cache),
            queue: VecDeque::new(),
            next_ticket: 0,
            card,
        })
    }

    /// Refuses what may not come before late masks.
    fn check_provided(&self) -> Result<(), DeviceError> {
        match self.queue.back() {
            Some(queued) if queued.step.awaits_masks() => {
                Err(DeviceError::BadStep(format!("step {} waits for its masks", queued.ticket)))
            }
            _ => Ok(()),
        }
    }

    fn program(&self, plan: PlanId) -> Result<&Program, DeviceError> {
        self.programs.get(plan.0).ok_or_else(|| DeviceError::BadPlan(format!("no plan {}", plan.0)))
    }
}

/// Activations, KV pages and weights are of one type, but that pages may be in FP8 and weights quantised.
fn compute_types(dtype: DType) -> ComputeTypes {
    let weights = [&[Format::Plain(dtype)], Format::SCALED].concat();
    ComputeTypes { activations: dtype, kv: vec![dtype, DType::E4M3], weights }
}

/// The first card that can be used.
fn first_usable() -> Result<usize, DeviceError> {
    let found = devices();
    let usable = found.iter().find(|d| d.unusable.is_none()).and_then(|d| d.index);
    let why =
        || found.iter().find_map(|d| d.unusable.clone()).unwrap_or_else(|| "no NVIDIA card found".into());
    usable.ok_or_else(|| DeviceError::Absent(why()))
}

impl Device for CudaDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn pci_bus_id(&self) -> Option<String> {
        Some(self.card.pci_bus_id())
    }

    fn supports(&self, plan: &Plan, op: &Op) -> Result<(), String> {
        supports(plan, op)
    }

    fn workspace(&self, plan: &Plan, max_dims: &Dims) -> usize {
        workspace(plan, max_dims, &self.card.limits, self.card.granularity)
    }

    fn spared(&self, plan: &Plan, max_dims: &Dims) -> usize {
        let linears = Linears { blas: self.blas.clone(), tile: self.linear_tile };
        let spared = spared(plan, max_dims, self.card.limits, &linears);
        spared.into_iter().map(|id| plan.desc(id).bytes(max_dims)).sum()
    }

    fn compile(&mut self, plan: &Plan, max_dims: &Dims) -> Result<PlanId, DeviceError> {
        plan.check(max_dims).map_err(DeviceError::BadPlan)?;
        for op in &plan.ops {
            supports(plan, op).map_err(|why| DeviceError::Unsupported {
                device: DeviceKind::Cuda,
                op: op.name(),
                why,
            })?;
        }
        self.card.bind()?;
        let linears = Linears { blas: self.blas.clone(), tile: self.linear_tile };
        let program = Program::compile(&self.card, &mut self.functions, linears, plan, max_dims)?;
        self.programs.push(program);
        self.info.memory_free = self.card.memory_free()?;
        Ok(PlanId(self.programs.len() - 1))
    }

    fn write(&mut self, plan: PlanId, buffer: BufferId, row: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        self.check_provided()?;
        self.card.bind()?;
        let width = self.program(plan)?.row_bytes(buffer)?;
        if width == 0 || !bytes.len().is_multiple_of(width) {
            return Err(DeviceError::BadPlan(format!("{} bytes are not whole rows of {width}", bytes.len())));
        }
        self.programs[plan.0].write(&self.card, buffer, row..row + bytes.len() / width, bytes)
    }

    fn read(&mut self, plan: PlanId, buffer: BufferId, rows: Range<usize>) -> Result<Vec<u8>, DeviceError> {
        self.check_provided()?;
        self.card.bind()?;
        self.program(plan)?.read(&self.card, buffer, rows)
    }

    fn submit(&mut self, plan: PlanId, step: &Step) -> Result<Ticket, DeviceError> {
        self.check_provided()?;
        self.program(plan)?;
        self.card.bind()?;
        let step = self.programs[plan.0].submit(&self.card, step, self.enforce_eager)?;
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.queue.push_back(Queued { ticket, program: plan.0, step });
        Ok(Ticket(ticket))
    }

    fn provide(&mut self, ticket: &Ticket, masks: &[u32]) -> Result<(), DeviceError> {
        let waits = |queued: &&mut Queued| queued.ticket == ticket.0 && queued.step.awaits_masks();
        let Some(queued) = self.queue.back_mut().filter(waits) else {
            return Err(DeviceError::BadStep(format!("step {} does not wait for masks", ticket.0)));
        };
        self.card.bind()?;
        self.programs[queued.program].provide(&self.card, &mut queued.step, masks)
    }

    fn wait(&mut self, ticket: Ticket) -> Result<StepOutput, DeviceError> {
        let oldest = |queued: &mut Queued| queued.ticket == ticket.0 && !queued.step.awaits_masks();
        let Some(Queued { program, step, .. }) = self.queue.pop_front_if(oldest) else {
            let why = "is not the oldest that was not waited for, or it waits for its masks";
            return Err(DeviceError::BadStep(format!("step {} {why}", ticket.0)));
        };
        self.card.bind()?;
        let output = step.wait()?;
        self.programs[program].recycle(step);
        Ok(output)
    }

    fn time_ops(&mut self, plan: PlanId, step: &Step) -> Result<Vec<OpTime>, DeviceError> {
        if !self.queue.is_empty() || step.late_masks > 0 {
            return Err(DeviceError::BadStep("a step is measured alone, and with its masks".into()));
        }
        self.program(plan)?;
        self.card.bind()?;
        self.programs[plan.0].time_ops(&self.card, step)
    }

    fn peaks(&mut self, activations: DType) -> Result<Peaks, DeviceError> {
        self.card.bind()?;
        peaks(&self.card, activations)
    }
}

impl Drop for CudaDevice {
    fn drop(&mut self) {
        // Kernels may still read the memory that is freed next. An error has been reported already.
        let _ = self.card.stream.synchronize();
    }
}
