//! The CPU as a device: interprets plans in f32.
//!
//! It is the fallback of a machine without a GPU, and the oracle that other devices are compared with.

mod attention;
mod blocks;
mod chain;
mod disjoint;
mod fp8;
mod huge;
mod linear;
mod math;
mod memory;
mod pages;
mod pairs;
mod panels;
mod peaks;
mod q8;
mod rows;
mod sample;
mod sums;
mod team;
mod tile;
mod vectors;
mod weights;

use crate::device::{
    ComputeTypes, Device, DeviceError, DeviceInfo, DeviceKind, MemoryUse, OpTime, Peaks, PlanId, Ticket,
};
use crate::dtype::DType;
use crate::format::Format;
use crate::op::Op;
use crate::plan::{BufferId, BufferKind, Dims, Plan, View};
use crate::step::{LateMasks, Step, StepOutput};
use memory::Memory;
pub use panels::MatmulPrecision;
use std::num::NonZero;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;
use team::Team;
use tile::Tiles;

/// The types of KV pages, the preferred first.
const KV: [DType; 3] = [DType::F32, DType::BF16, DType::E4M3];

/// Runs `f` with the widest vectors that the machine has. What `f` calls must be `inline(always)`.
fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    vectors::dispatch(f)
}

/// A plan with its buffers.
struct Compiled {
    plan: Plan,
    memory: Memory,
    /// The scratch memory of Linear.
    tiles: Tiles,
}

impl Compiled {
    /// Runs ops of the plan in order.
    fn run(&mut self, team: &mut Team, step: &Step, ops: Range<usize>) -> StepOutput {
        let dims = step.dims();
        let mut output = StepOutput::default();
        let (plan, memory, tiles) = (&self.plan, &mut self.memory, &mut self.tiles);
        let rows = |view: View| dims.count(plan.desc(view.buffer).rows);
        for op in &plan.ops[ops] {
            match op {
                Op::Embed(op) => rows::embed(team, memory, step, op),
                Op::RmsNorm(op) => rows::rms_norm(team, memory, rows(op.x), op),
                Op::Linear(op) => linear::run(team, memory, tiles, rows(op.x), op),
                Op::Rope(op) => rows::rope(team, memory, step, op),
                Op::KvWrite(op) => rows::kv_write(team, memory, step, op),
                Op::PagedAttention(op) => attention::run(team, memory, step, op),
                Op::GatedMul(op) => rows::gated_mul(team, memory, rows(op.x), op),
                Op::Add(op) => rows::add(team, memory, rows(op.a), op),
                Op::GatherRows(op) => rows::gather_rows(team, memory, step, op),
                Op::SoftCap(op) => rows::soft_cap(team, memory, rows(op.x), op),
                Op::Sample(op) => output = sample::run(team, memory, step, op),
            }
        }
        output
    }
}

/// A message to the device's thread.
enum Work {
    Step(PlanId, Box<Step>),
    /// The late masks of the previous step.
    Masks(Vec<u32>),
    /// Something else, when the steps before are done.
    Call(Call),
}

type Call = Box<dyn FnOnce(&Plans, &mut Team) + Send>;

/// Runs steps until the sender is dropped.
fn work(mut team: Team, plans: &Plans, queue: &Receiver<Work>, results: &Sender<Result<StepOutput, String>>) {
    while let Ok(work) = queue.recv() {
        let (id, mut step) = match work {
            Work::Step(id, step) => (id, step),
            Work::Call(call) => {
                call(plans, &mut team);
                continue;
            }
            Work::Masks(_) => return,
        };
        let first_sample = lock(plans)[id.0].plan.first_sample();
        let mut run = |step: &Step, ops: Range<usize>| {
            let run = || lock(plans)[id.0].run(&mut team, step, ops);
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
                .map_err(|_| "a kernel panicked; see the message above".to_owned())
        };
        let mut result = run(&step, 0..first_sample);
        if step.late_masks > 0 {
            let Ok(Work::Masks(masks)) = queue.recv() else { return };
            (step.masks, step.late_masks) = (masks, 0);
        }
        let last = lock(plans)[id.0].plan.ops.len();
        result = result.and_then(|_| run(&step, first_sample..last));
        if results.send(result).is_err() {
            return;
        }
    }
}

type Plans = Arc<Mutex<Vec<Compiled>>>;

/// The CPU. Steps run on a thread of their own, which divides the work of each op among all threads.
pub struct CpuDevice {
    info: DeviceInfo,
    precision: MatmulPrecision,
    plans: Plans,
    max_dims: Vec<Dims>,
    work: Sender<Work>,
    outputs: Receiver<Result<StepOutput, String>>,
    submitted: u64,
    waited: u64,
    /// The step that waits for its masks.
    late: Option<LateMasks>,
}

impl CpuDevice {
    /// A device with `threads` threads; `None` uses as many as the machine runs at once.
    ///
    /// # Errors
    /// [`DeviceError::Lost`] if the threads cannot be started, which the system may allow later;
    /// [`DeviceError::Absent`] if `GRISTMILL_MAX_VECTOR_BITS` has no known value.
    pub fn new(threads: Option<usize>) -> Result<CpuDevice, DeviceError> {
        CpuDevice::with_precision(threads, MatmulPrecision::Highest)
    }

    /// The same, with products of the given precision.
    ///
    /// # Errors
    /// As [`CpuDevice::new`].
    pub fn with_precision(
        threads: Option<usize>,
        precision: MatmulPrecision,
    ) -> Result<CpuDevice, DeviceError> {
        let failed = |e: &dyn std::fmt::Display| {
            let why = format!("cannot start threads: {e}");
            DeviceError::Lost { device: DeviceKind::Cpu, why }
        };
        vectors::check().map_err(DeviceError::Absent)?;
        let threads =
            threads.filter(|&threads| threads > 0).map_or_else(std::thread::available_parallelism, |n| {
                Ok(NonZero::new(n).unwrap_or(NonZero::<usize>::MIN))
            });
        let team = Team::new(threads.map_or(1, NonZero::get)).map_err(|e| failed(&e))?;
        let info = info(team.threads(), precision);
        let plans = Plans::default();
        let (sender, queue) = channel();
        let (results, outputs) = channel();
        let shared = plans.clone();
        let work = move || work(team, &shared, &queue, &results);
        std::thread::Builder::new().name("cpu-device".into()).spawn(work).map_err(|e| failed(&e))?;
        let (max_dims, late) = (Vec::new(), None);
        Ok(CpuDevice {
            info,
            precision,
            plans,
            max_dims,
            work: sender,
            outputs,
            submitted: 0,
            waited: 0,
            late,
        })
    }

    /// Refuses calls that must not come before late masks.
    fn check_provided(&self) -> Result<(), DeviceError> {
        match self.late {
            Some(_) => Err(DeviceError::BadStep("the previous step waits for its masks".into())),
            None => Ok(()),
        }
    }

    fn send(&self, work: Work) -> Result<(), DeviceError> {
        self.work.send(work).map_err(|_| self.lost("its thread has ended"))
    }

    fn lost(&self, why: impl Into<String>) -> DeviceError {
        DeviceError::Lost { device: DeviceKind::Cpu, why: why.into() }
    }

    /// Runs something on the device's thread, when every submitted step is done.
    fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Plans, &mut Team) -> T + Send + 'static,
    ) -> Result<T, DeviceError> {
        let (sender, result) = channel();
        // Nobody takes the result if the caller has ended.
        self.send(Work::Call(Box::new(move |plans, team| drop(sender.send(call(plans, team))))))?;
        result.recv().map_err(|_| self.lost("its thread has ended"))
    }

    /// The plans, once every submitted step is done.
    fn idle(&self) -> Result<MutexGuard<'_, Vec<Compiled>>, DeviceError> {
        self.call(|_, _| ())?;
        Ok(lock(&self.plans))
    }
}

/// A kernel that panicked may leave its buffers half written, but the device has failed with that step.
fn lock(plans: &Mutex<Vec<Compiled>>) -> MutexGuard<'_, Vec<Compiled>> {
    plans.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn info(threads: usize, precision: MatmulPrecision) -> DeviceInfo {
    let (total, free) = memory::machine();
    let (products, weights) = match precision {
        MatmulPrecision::Highest => {
            let plain = [DType::F32, DType::BF16, DType::F16].map(Format::Plain);
            ("", plain.into_iter().chain(Format::SCALED.iter().copied()).collect())
        }
        MatmulPrecision::Medium => (", products of bf16", vec![Format::Plain(DType::BF16)]),
    };
    DeviceInfo {
        kind: DeviceKind::Cpu,
        // The bits are the same whatever the vectors.
        family: "cpu",
        name: format!("{threads} threads, {}{products}", vectors::name()),
        memory_total: total,
        memory_free: free,
        max_buffer: usize::MAX,
        types: vec![ComputeTypes { activations: DType::F32, kv: KV.to_vec(), weights }],
        breaks_contract: None,
    }
}

impl Device for CpuDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, plan: &Plan, op: &Op) -> Result<(), String> {
        op.check(&plan.buffers)?;
        for desc in &plan.buffers {
            let fits = match desc.kind {
                BufferKind::Activation => desc.value_type() == DType::F32,
                BufferKind::KvPage => KV.contains(&desc.value_type()),
                _ => true,
            };
            if !fits {
                return Err(format!("{} is {}; this device computes in f32", desc.name, desc.format));
            }
        }
        Ok(())
    }

    fn compile(&mut self, plan: &Plan, max_dims: &Dims) -> Result<PlanId, DeviceError> {
        plan.check(max_dims).map_err(DeviceError::BadPlan)?;
        for op in &plan.ops {
            let unsupported = |why| DeviceError::Unsupported { device: DeviceKind::Cpu, op: op.name(), why };
            self.supports(plan, op).map_err(unsupported)?;
        }
        let needed = plan.bytes(max_dims, |_| true);
        let (_, available) = memory::machine();
        if needed > available {
            return Err(DeviceError::OutOfMemory {
                what: "the model with its buffers".into(),
                needed,
                available,
                memory_use: MemoryUse::Plan,
            });
        }
        let compiled = Compiled {
            plan: plan.clone(),
            memory: Memory::new(plan, max_dims, self.precision),
            tiles: Tiles::default(),
        };
        self.idle()?.push(compiled);
        self.max_dims.push(*max_dims);
        Ok(PlanId(self.max_dims.len() - 1))
    }

    fn write(&mut self, plan: PlanId, buffer: BufferId, row: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        self.check_provided()?;
        self.idle()?[plan.0].memory.write(buffer, row, bytes).map_err(DeviceError::BadPlan)
    }

    fn read(&mut self, plan: PlanId, buffer: BufferId, rows: Range<usize>) -> Result<Vec<u8>, DeviceError> {
        self.check_provided()?;
        self.idle()?[plan.0].memory.read(buffer, rows).map_err(DeviceError::BadPlan)
    }

    fn submit(&mut self, plan: PlanId, step: &Step) -> Result<Ticket, DeviceError> {
        self.check_provided()?;
        step.check(&self.max_dims[plan.0]).map_err(DeviceError::BadStep)?;
        self.send(Work::Step(plan, Box::new(step.clone())))?;
        self.late = step.late();
        self.submitted += 1;
        Ok(Ticket(self.submitted))
    }

    fn provide(&mut self, ticket: &Ticket, masks: &[u32]) -> Result<(), DeviceError> {
        let late = self.late.filter(|_| ticket.0 == self.submitted);
        let late =
            late.ok_or_else(|| DeviceError::BadStep(format!("step {} waits for no masks", ticket.0)))?;
        late.check(masks).map_err(DeviceError::BadStep)?;
        self.late = None;
        self.send(Work::Masks(masks.to_vec()))
    }

    fn wait(&mut self, ticket: Ticket) -> Result<StepOutput, DeviceError> {
        if ticket.0 != self.waited + 1 {
            return Err(DeviceError::BadStep(format!("ticket {} after {}", ticket.0, self.waited)));
        }
        if ticket.0 == self.submitted {
            self.check_provided()?;
        }
        self.waited += 1;
        let result = self.outputs.recv().map_err(|_| self.lost("its thread has ended"))?;
        result.map_err(|why| self.lost(why))
    }

    fn time_ops(&mut self, plan: PlanId, step: &Step) -> Result<Vec<OpTime>, DeviceError> {
        self.check_provided()?;
        step.check(&self.max_dims[plan.0]).map_err(DeviceError::BadStep)?;
        if step.late_masks > 0 {
            return Err(DeviceError::BadStep("its masks are yet to come".into()));
        }
        let step = step.clone();
        self.call(move |plans, team| {
            let mut plans = lock(plans);
            let compiled = &mut plans[plan.0];
            let ops = 0..compiled.plan.ops.len();
            let mut time = |op: usize| {
                let start = Instant::now();
                compiled.run(team, &step, op..op + 1);
                OpTime { ops: op..op + 1, time: start.elapsed() }
            };
            ops.map(&mut time).collect()
        })
    }

    fn peaks(&mut self, _activations: DType) -> Result<Peaks, DeviceError> {
        self.check_provided()?;
        self.call(|_, team| peaks::measure(team))
    }
}
