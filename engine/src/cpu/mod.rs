//! The processor as a device: interprets plans in f32.
//!
//! It is the fallback of a machine without a GPU, and the oracle that other devices are compared with.

mod attention;
mod linear;
mod math;
mod memory;
mod pairs;
mod panels;
mod rows;
mod sample;
mod tile;

use crate::device::{Device, DeviceError, DeviceInfo, DeviceKind, PlanId, Ticket};
use crate::dtype::DType;
use crate::op::Op;
use crate::plan::{BufferId, BufferKind, Dims, Plan, View};
use crate::step::{Step, StepOutput};
use memory::Memory;
pub use panels::MatmulPrecision;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use tile::Tiles;

/// Runs `f` with the widest vectors that the machine has. What `f` calls must be `inline(always)`.
fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// A plan with its buffers.
struct Compiled {
    plan: Plan,
    memory: Memory,
    /// What Linear works in.
    tiles: Vec<Tiles>,
}

impl Compiled {
    /// Runs the ops of the plan in order.
    fn run(&mut self, step: &Step) -> StepOutput {
        self.memory.load(step);
        let dims = step.dims();
        let mut output = StepOutput::default();
        let (plan, memory, tiles) = (&self.plan, &mut self.memory, &mut self.tiles);
        let rows = |view: View| dims.count(plan.desc(view.buffer).rows);
        for op in &plan.ops {
            match *op {
                Op::Embed { tokens, last, table, out } => {
                    rows::embed(memory, dims.tokens, tokens, last, table, out);
                }
                Op::RmsNorm { x, add, weight, out, width, eps } => {
                    if let Some(add) = add {
                        rows::add(memory, rows(x), x, add, x);
                    }
                    rows::rms_norm(memory, rows(x), x, weight, out, width, eps);
                }
                Op::Linear { x, weight, bias, out } => {
                    linear::run(memory, tiles, rows(x), x, weight, bias, out);
                }
                Op::Rope { x, positions, table, head_dim } => {
                    rows::rope(memory, dims.tokens, x, positions, table, head_dim);
                }
                Op::KvWrite { k, v, slots, k_pages, v_pages } => {
                    rows::kv_write(memory, step, k, v, slots, k_pages, v_pages);
                }
                Op::PagedAttention { q, k_pages, v_pages, out, head_dim, scale, window, .. } => {
                    let shape = attention::Shape { head_dim, scale, window };
                    attention::run(memory, step, q, k_pages, v_pages, out, shape);
                }
                Op::GatedMul { x, out, act } => rows::gated_mul(memory, rows(x), x, out, act),
                Op::Add { a, b, out } => rows::add(memory, rows(a), a, b, out),
                Op::GatherRows { x, rows: index, out } => {
                    rows::gather(memory, dims.outputs, x, index, out);
                }
                Op::Sample { logits, last, out, .. } => {
                    output.sampled = sample::run(memory, step, logits, last, out);
                }
            }
        }
        output
    }
}

type Plans = Arc<Mutex<Vec<Compiled>>>;

/// The processor. Steps run on a thread of their own, which shares out the work of each op.
pub struct CpuDevice {
    info: DeviceInfo,
    precision: MatmulPrecision,
    plans: Plans,
    most: Vec<Dims>,
    steps: Sender<(PlanId, Step)>,
    outputs: Receiver<Result<StepOutput, String>>,
    submitted: u64,
    waited: u64,
}

impl CpuDevice {
    /// A device that works on `threads` threads; `None` takes all that the machine has.
    ///
    /// # Errors
    /// [`DeviceError::Absent`] if the threads cannot be started.
    pub fn new(threads: Option<usize>) -> Result<CpuDevice, DeviceError> {
        CpuDevice::with_precision(threads, MatmulPrecision::Highest)
    }

    /// The same with products of that precision.
    ///
    /// # Errors
    /// As [`CpuDevice::new`].
    pub fn with_precision(
        threads: Option<usize>,
        precision: MatmulPrecision,
    ) -> Result<CpuDevice, DeviceError> {
        let absent = |e: &dyn std::fmt::Display| DeviceError::Absent(format!("cannot start threads: {e}"));
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.unwrap_or(0))
            .thread_name(|i| format!("cpu-{i}"))
            .build()
            .map_err(|e| absent(&e))?;
        let info = info(pool.current_num_threads(), precision);
        let plans = Plans::default();
        let (steps, queue) = channel::<(PlanId, Step)>();
        let (results, outputs) = channel();
        let shared = plans.clone();
        let work = move || {
            for (id, step) in queue {
                let run = || lock(&shared)[id.0].run(&step);
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.install(run)));
                let result = result.map_err(|_| "a kernel panicked; see the message above".to_owned());
                if results.send(result).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("cpu-device".into()).spawn(work).map_err(|e| absent(&e))?;
        Ok(CpuDevice { info, precision, plans, most: Vec::new(), steps, outputs, submitted: 0, waited: 0 })
    }

    fn lost(&self, why: impl Into<String>) -> DeviceError {
        DeviceError::Lost { device: DeviceKind::Cpu, why: why.into() }
    }

    /// The plans, once every submitted step is done.
    fn idle(&self) -> MutexGuard<'_, Vec<Compiled>> {
        lock(&self.plans)
    }
}

/// A kernel that panicked may leave its buffers half written; that step has failed the device already.
fn lock(plans: &Mutex<Vec<Compiled>>) -> MutexGuard<'_, Vec<Compiled>> {
    plans.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn info(threads: usize, precision: MatmulPrecision) -> DeviceInfo {
    let (total, free) = memory::machine();
    let (products, weights) = match precision {
        MatmulPrecision::Highest => ("", vec![DType::F32, DType::BF16, DType::F16]),
        MatmulPrecision::Medium => (", products of bf16", vec![DType::BF16]),
    };
    DeviceInfo {
        kind: DeviceKind::Cpu,
        name: format!("{threads} threads, {}{products}", memory::vectors()),
        memory_total: total,
        memory_free: free,
        max_buffer: usize::MAX,
        activations: DType::F32,
        kv: vec![DType::F32],
        weights,
        breaks_contract: None,
    }
}

impl Device for CpuDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, plan: &Plan, op: &Op) -> Result<(), String> {
        op.check(plan)?;
        for desc in &plan.buffers {
            let computed = matches!(desc.kind, BufferKind::Activation | BufferKind::KvPage);
            if computed && desc.dtype != DType::F32 {
                return Err(format!("{} is {}; this device computes in f32", desc.name, desc.dtype));
            }
        }
        Ok(())
    }

    fn compile(&mut self, plan: &Plan, most: &Dims) -> Result<PlanId, DeviceError> {
        plan.check().map_err(DeviceError::BadPlan)?;
        for op in &plan.ops {
            let unsupported = |why| DeviceError::Unsupported { device: DeviceKind::Cpu, op: op.name(), why };
            self.supports(plan, op).map_err(unsupported)?;
        }
        let needed = plan.bytes(most, |_| true);
        let (_, available) = memory::machine();
        if needed > available {
            return Err(DeviceError::OutOfMemory {
                what: "the model with its buffers".into(),
                needed,
                available,
                remedy: "lower --max-num-batched-tokens, --max-num-seqs or --gpu-memory-utilization".into(),
            });
        }
        let compiled = Compiled {
            plan: plan.clone(),
            memory: Memory::new(plan, most, self.precision),
            tiles: Vec::new(),
        };
        self.idle().push(compiled);
        self.most.push(*most);
        Ok(PlanId(self.most.len() - 1))
    }

    fn write(&mut self, plan: PlanId, buffer: BufferId, row: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        self.idle()[plan.0].memory.write(buffer, row, bytes).map_err(DeviceError::BadPlan)
    }

    fn read(&mut self, plan: PlanId, buffer: BufferId, rows: Range<usize>) -> Result<Vec<u8>, DeviceError> {
        self.idle()[plan.0].memory.read(buffer, rows).map_err(DeviceError::BadPlan)
    }

    fn submit(&mut self, plan: PlanId, step: &Step) -> Result<Ticket, DeviceError> {
        step.check(&self.most[plan.0]).map_err(DeviceError::BadStep)?;
        self.steps.send((plan, step.clone())).map_err(|_| self.lost("its thread has ended"))?;
        self.submitted += 1;
        Ok(Ticket(self.submitted))
    }

    fn wait(&mut self, ticket: Ticket) -> Result<StepOutput, DeviceError> {
        if ticket.0 != self.waited + 1 {
            return Err(DeviceError::BadStep(format!("ticket {} after {}", ticket.0, self.waited)));
        }
        self.waited += 1;
        let result = self.outputs.recv().map_err(|_| self.lost("its thread has ended"))?;
        result.map_err(|why| self.lost(why))
    }
}
