//! The seam: a device compiles a plan once and runs it step by step.

use crate::buffer::{BufferId, BufferKind, Dims};
use crate::dtype::DType;
use crate::format::Format;
use crate::op::{Cost, Op};
use crate::plan::Plan;
use crate::step::{Step, StepOutput};
use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// Which family of hardware a device is. Part of a job's identity, since bits differ between kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// The processor; interprets plans in f32.
    Cpu,
    /// An NVIDIA card through CUDA.
    Cuda,
    /// Any vendor's card through Vulkan, Metal or DX12.
    Wgpu,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Cuda => "cuda",
            DeviceKind::Wgpu => "wgpu",
        })
    }
}

/// What a device says of itself.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// The kind of hardware.
    pub kind: DeviceKind,
    /// The kind, and which of its families of instructions computes where their bits differ, as in "cuda mma". Part of a
    /// job's identity.
    pub family: &'static str,
    /// The name of the hardware, for people.
    pub name: String,
    /// Bytes of memory in all.
    pub memory_total: usize,
    /// Bytes of memory that are free now.
    pub memory_free: usize,
    /// The greatest size of one buffer, in bytes.
    pub max_buffer: usize,
    /// The ways in which it computes, the preferred first; at least one.
    pub types: Vec<ComputeTypes>,
    /// Why the device does not keep the numeric contract, or `None` if it does.
    pub breaks_contract: Option<String>,
}

/// A way in which a device computes: a type of activations, and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComputeTypes {
    /// The type of activations.
    pub activations: DType,
    /// The types in which KV pages can be held, the preferred first; at least one.
    pub kv: Vec<DType>,
    /// The formats in which Linear and Embed weights can be held, the preferred first; at least one. A weight whose
    /// own format is in the list stays as it is; another is converted to the first.
    pub weights: Vec<Format>,
}

impl DeviceInfo {
    /// The way of computing whose activations are of the wanted type, else the preferred one.
    pub fn types_for(&self, wanted: DType) -> &ComputeTypes {
        self.types.iter().find(|types| types.activations == wanted).unwrap_or(&self.types[0])
    }
}

/// A compiled plan of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlanId(pub usize);

/// A submitted step. Tickets are waited for in the order in which they were submitted.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket(pub u64);

/// How long some neighbouring ops of a plan took in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpTime {
    /// Their places in [`Plan::ops`]; more than one where the device runs them together.
    pub ops: Range<usize>,
    /// The time from the end of what ran before.
    pub time: Duration,
}

/// What a device can reach, to set beside what its ops do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// Bytes a second of a copy within its memory, read and written bytes together.
    pub bytes_per_second: f64,
    /// Floating-point operations a second, a multiply-add as two.
    pub flops_per_second: f64,
    /// The same in products of FP8 numbers; as many where they are widened for want of anything better.
    pub fp8_flops_per_second: f64,
}

impl Peaks {
    /// The seconds that what an op moves takes at these rates, and what it computes.
    pub fn seconds(&self, cost: &Cost) -> (f64, f64) {
        let others = (cost.flops - cost.fp8_flops) as f64 / self.flops_per_second;
        let copy = cost.bytes as f64 / self.bytes_per_second;
        (copy, others + cost.fp8_flops as f64 / self.fp8_flops_per_second)
    }

    /// The least seconds in which as much is moved and computed at these rates: the slower of both counts.
    pub fn bound(&self, cost: &Cost) -> f64 {
        let (copy, flops) = self.seconds(cost);
        copy.max(flops)
    }
}

/// What a device's memory is for: what a user can change about it depends on that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryUse {
    /// Weights.
    Weights,
    /// KV pages.
    KvPages,
    /// Activations and step inputs: they grow with the tokens and sequences of a step.
    Activations,
    /// All of a plan together.
    Plan,
}

impl From<BufferKind> for MemoryUse {
    fn from(kind: BufferKind) -> MemoryUse {
        match kind {
            BufferKind::Weight => MemoryUse::Weights,
            BufferKind::KvPage => MemoryUse::KvPages,
            _ => MemoryUse::Activations,
        }
    }
}

/// What goes wrong on a device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A plan holds an op that the device cannot run.
    #[error("the {device} device cannot run {op}: {why}")]
    Unsupported {
        /// The device.
        device: DeviceKind,
        /// The op's name.
        op: &'static str,
        /// What it lacks.
        why: String,
    },
    /// A plan is malformed: a bug of whoever built it.
    #[error("the plan is malformed: {0}")]
    BadPlan(String),
    /// A step does not fit its plan: a bug of whoever built it.
    #[error("the step does not fit its plan: {0}")]
    BadStep(String),
    /// Memory does not suffice.
    #[error("{what} needs {needed} bytes, {available} are there")]
    OutOfMemory {
        /// What was to be allocated.
        what: String,
        /// Bytes needed.
        needed: usize,
        /// Bytes available.
        available: usize,
        /// What the memory is for.
        memory_use: MemoryUse,
    },
    /// The device is absent or its driver is.
    #[error("{0}")]
    Absent(String),
    /// The device failed while it worked; it cannot be used again in this process.
    #[error("the {device} device failed: {why}")]
    Lost {
        /// The device.
        device: DeviceKind,
        /// What the driver said.
        why: String,
    },
}

/// Runs plans.
///
/// One thread drives a device. `submit` returns as soon as the step is queued, so that the host
/// prepares the next one meanwhile; steps take effect in the order of their submission.
pub trait Device: Send {
    /// What the device is.
    fn info(&self) -> &DeviceInfo;

    /// Where on the PCI bus the card is, as `domain:bus:device.function`, by which other libraries know it: empty if its
    /// driver does not tell, none if the device is no card.
    fn pci_bus_id(&self) -> Option<String> {
        None
    }

    /// Whether the device can run `op` of `plan`.
    ///
    /// # Errors
    /// What it lacks, for people.
    fn supports(&self, plan: &Plan, op: &Op) -> Result<(), String>;

    /// Bytes that the device takes for a plan besides the plan's buffers: work lists, staging, and what rounding
    /// allocations up loses. Their sum and the buffers', less [`Device::spared`], is what `compile` allocates at most.
    fn workspace(&self, _plan: &Plan, _max_dims: &Dims) -> usize {
        0
    }

    /// Bytes of the plan's buffers that the device does without: what one op hands to the next where it runs both together.
    fn spared(&self, _plan: &Plan, _max_dims: &Dims) -> usize {
        0
    }

    /// Allocates the plan's buffers for steps up to `max_dims` and prepares its kernels.
    ///
    /// Weight, KV and state buffers hold no defined values until they are written.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`], [`DeviceError::BadPlan`] or [`DeviceError::OutOfMemory`].
    fn compile(&mut self, plan: &Plan, max_dims: &Dims) -> Result<PlanId, DeviceError>;

    /// Writes bytes of whole rows into a buffer, from row `row` on. The bytes are row-major and of the
    /// buffer's format, however the device lays the buffer out.
    ///
    /// # Errors
    /// [`DeviceError::BadPlan`] if the rows are not in the buffer.
    fn write(&mut self, plan: PlanId, buffer: BufferId, row: usize, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Reads whole rows of a buffer, after all submitted steps. For tests and for hunting bugs: after
    /// any op its buffer can be compared with another device's.
    ///
    /// # Errors
    /// [`DeviceError::BadPlan`] if the rows are not in the buffer.
    fn read(&mut self, plan: PlanId, buffer: BufferId, rows: Range<usize>) -> Result<Vec<u8>, DeviceError>;

    /// Queues a step. Where its masks come late, the ops before the first Sample are queued, and the rest follows with
    /// [`Device::provide`].
    ///
    /// # Errors
    /// [`DeviceError::BadStep`] or [`DeviceError::Lost`].
    fn submit(&mut self, plan: PlanId, step: &Step) -> Result<Ticket, DeviceError>;

    /// Hands in the late masks of the step that was submitted last, `[late_masks, mask_words]`. Until then nothing
    /// else is asked of the device.
    ///
    /// # Errors
    /// [`DeviceError::BadStep`] if the step waits for no masks, or for others; [`DeviceError::Lost`].
    fn provide(&mut self, ticket: &Ticket, masks: &[u32]) -> Result<(), DeviceError>;

    /// Waits for a step, the oldest one not yet waited for.
    ///
    /// # Errors
    /// [`DeviceError::Lost`].
    fn wait(&mut self, ticket: Ticket) -> Result<StepOutput, DeviceError>;

    /// Runs a step and measures each of its ops. Nothing else may be in flight.
    ///
    /// # Errors
    /// [`DeviceError::BadStep`] also if the device does not measure; [`DeviceError::Lost`].
    fn time_ops(&mut self, _plan: PlanId, _step: &Step) -> Result<Vec<OpTime>, DeviceError> {
        Err(DeviceError::BadStep(format!("{} does not measure its ops", self.info().name)))
    }

    /// Measures what the device can reach when it computes with activations of a type. What it cannot measure is taken
    /// from its clock.
    ///
    /// # Errors
    /// [`DeviceError::BadPlan`] if the device does not measure; [`DeviceError::OutOfMemory`], [`DeviceError::Lost`].
    fn peaks(&mut self, _activations: DType) -> Result<Peaks, DeviceError> {
        Err(DeviceError::BadPlan(format!("{} does not measure what it can reach", self.info().name)))
    }
}
