//! The device: opens a card, compiles plans, runs steps.

use crate::attention::{Grouping, grouping};
use crate::cubins::{cubin, usual_folder};
use crate::cublaslt::CublasLt;
use crate::failure::lost;
use crate::graph::{self, Graphs};
use crate::inputs::{self, Inputs};
use crate::kernel::Kernel;
use crate::launch::{Args, Call, Extent, Launch, Loaded, launch, run_all};
use crate::library;
use crate::memory::{DeviceMemory, Pinned, granularity};
use crate::nvrtc::Nvrtc;
use crate::program::{COUNTS, Card, FIXED_COUNTS, Site, lower, supports};
use crate::summary::{OLDEST, devices};
use crate::work::{Lists, Work, WorkBytes};
use cudarc::driver::sys::{CUdevice_attribute as Attribute, CUevent_flags, CUfunction_attribute_enum};
use cudarc::driver::{CudaContext, CudaEvent, CudaFunction, CudaStream, result};
use engine::device::{Device, DeviceError, DeviceInfo, DeviceKind, PlanId, Ticket};
use engine::dtype::DType;
use engine::op::Op;
use engine::plan::{BufferId, BufferKind, Dims, Plan};
use engine::step::{Sampled, Step, StepOutput};
use std::collections::{HashMap, VecDeque};
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
#[derive(Clone, Debug)]
pub struct Options {
    /// Which card, by the driver's number; the first usable one if it is not given.
    pub index: Option<usize>,
    /// The type of activations, weights and KV pages: the model's own, so that nothing is converted.
    pub dtype: DType,
    /// Launch every kernel of every step instead of replaying graphs for decode steps.
    pub enforce_eager: bool,
    /// What multiplies matrices.
    pub gemm: Gemm,
    /// Where compiled kernels are kept; `GRISTMILL_CACHE` or the user's cache folder if it is not given.
    pub cache: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options { index: None, dtype: DType::BF16, enforce_eager: false, gemm: Gemm::Builtin, cache: None }
    }
}

/// An NVIDIA card.
pub struct CudaDevice {
    info: DeviceInfo,
    options: Options,
    arch: String,
    card: Card,
    /// Bytes to which the card rounds what is allocated.
    granularity: usize,
    programs: Vec<Program>,
    blas: Option<Arc<CublasLt>>,
    functions: HashMap<Kernel, CudaFunction>,
    /// Steps that are queued and not yet waited for.
    queue: VecDeque<Queued>,
    next_ticket: u64,
    stream: Arc<CudaStream>,
    context: Arc<CudaContext>,
}

// SAFETY: graphs hold raw handles, which any one thread at a time may use; `&mut self` sees to that.
unsafe impl Send for CudaDevice {}

/// A compiled plan.
struct Program {
    plan: Plan,
    most: Dims,
    buffers: Vec<DeviceMemory>,
    works: Vec<Work>,
    inputs: Inputs,
    staging: DeviceMemory,
    unpack: (CudaFunction, Args),
    calls: Vec<Call<Loaded>>,
    /// The buffer of sampled tokens.
    output: Option<BufferId>,
    graphs: Graphs,
    /// Pinned memory of steps that are done.
    spare: Vec<Slot>,
    /// Row counts of the step before, for reads.
    _counts: DeviceMemory,
}

/// The host's side of a step in flight.
struct Slot {
    inputs: Pinned,
    output: Pinned,
    done: CudaEvent,
}

struct Queued {
    ticket: u64,
    program: usize,
    outputs: usize,
    slot: Slot,
}

impl CudaDevice {
    /// Opens a card (the first usable one, if no index is given) for bf16.
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
        let absent = |why: String| DeviceError::Absent(why);
        library::driver()?;
        let index = match options.index {
            Some(index) => index,
            None => first_usable()?,
        };
        Nvrtc::get()?;
        let fails = |e: result::DriverError| absent(format!("CUDA device {index} does not open: {:?}", e.0));
        let context = CudaContext::new(index).map_err(fails)?;
        // SAFETY: memory is ours alone and used on one stream, so cudarc need not track events.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(fails)?;
        let attribute = |a| context.attribute(a).map_err(fails);
        let capability = (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)? as u32,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)? as u32,
        );
        if capability < OLDEST {
            let (major, minor) = capability;
            return Err(absent(format!(
                "compute capability {major}.{minor} is too old: 8.0 or later is needed"
            )));
        }
        let card = Card {
            sms: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as u32,
            shared: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as u32,
        };
        let (blas, breaks_contract) = match options.gemm {
            Gemm::Builtin => (None, None),
            Gemm::CublasLt => {
                let why = "cuBLASLt chooses its order of sums by the number of rows in a step";
                (Some(Arc::new(CublasLt::new(&context)?)), Some(why.to_owned()))
            }
        };
        let (memory_free, memory_total) = context.mem_get_info().map_err(fails)?;
        let info = DeviceInfo {
            kind: DeviceKind::Cuda,
            name: context.name().map_err(fails)?,
            memory_total,
            memory_free,
            max_buffer: memory_total,
            activations: options.dtype,
            kv: vec![options.dtype],
            weights: vec![options.dtype],
            breaks_contract,
        };
        Ok(CudaDevice {
            info,
            options,
            arch: architecture(capability),
            card,
            granularity: granularity(index).map_err(fails)?,
            programs: Vec::new(),
            blas,
            functions: HashMap::new(),
            queue: VecDeque::new(),
            next_ticket: 0,
            stream,
            context,
        })
    }

    /// Compiles and loads kernels, several at a time.
    fn load(&mut self, kernels: &[Kernel]) -> Result<(), DeviceError> {
        let nvrtc = Nvrtc::get()?;
        let mut missing: Vec<&Kernel> = Vec::new();
        for kernel in kernels {
            if !self.functions.contains_key(kernel) && !missing.contains(&kernel) {
                missing.push(kernel);
            }
        }
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        let arch = &self.arch;
        let cache = self.options.cache.clone().or_else(usual_folder);
        let next = std::sync::atomic::AtomicUsize::new(0);
        let cubins = std::thread::scope(|scope| {
            let compile = || {
                let mut done = Vec::new();
                while let Some(kernel) = missing.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    done.push((*kernel, cubin(nvrtc, kernel, arch, cache.as_deref())));
                }
                done
            };
            let workers: Vec<_> = (0..threads.min(missing.len())).map(|_| scope.spawn(compile)).collect();
            // A worker that panics has met a bug of ours: the panic goes on here.
            let join = |w: std::thread::ScopedJoinHandle<'_, _>| {
                w.join().unwrap_or_else(|p| std::panic::resume_unwind(p))
            };
            workers.into_iter().flat_map(join).collect::<Vec<_>>()
        });
        for (kernel, cubin) in cubins {
            let cubin = cubin.map_err(|why| DeviceError::Unsupported {
                device: DeviceKind::Cuda,
                op: kernel.file,
                why: format!("its kernel does not compile for {arch}: {why}"),
            })?;
            let module = self.context.load_module(cudarc::nvrtc::Ptx::from_binary(cubin)).map_err(lost)?;
            let function = module.load_function(kernel.entry).map_err(lost)?;
            if kernel.dynamic_shared > 48 << 10 {
                let most = CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                function.set_attribute(most, kernel.dynamic_shared as i32).map_err(lost)?;
            }
            // Asking for an attribute loads the code now: drivers load lazily, and a capture is no place for it.
            function.get_attribute(CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_NUM_REGS).map_err(lost)?;
            self.functions.insert(kernel.clone(), function);
        }
        Ok(())
    }

    /// The function of a kernel that [`CudaDevice::load`] has loaded.
    fn function(&self, kernel: &Kernel) -> CudaFunction {
        self.functions[kernel].clone()
    }

    fn allocate(&self, plan: &Plan, most: &Dims) -> Result<Vec<DeviceMemory>, DeviceError> {
        let remedy = |kind: BufferKind| match kind {
            BufferKind::Weight => "choose a smaller model or a card with more memory",
            BufferKind::KvPage => "lower --gpu-memory-utilization",
            _ => "lower --max-num-batched-tokens or --max-num-seqs",
        };
        let new = |desc: &engine::plan::BufferDesc| {
            DeviceMemory::new(&self.context, desc.bytes(most), &desc.name, remedy(desc.kind))
        };
        plan.buffers.iter().map(new).collect()
    }

    /// The attentions of a plan that run on tensor cores, by group size.
    fn groupings(&self, plan: &Plan, most: &Dims) -> Vec<Vec<Grouping>> {
        let mut groups: Vec<Vec<Grouping>> = Vec::new();
        for grouping in plan.ops.iter().filter_map(|op| grouping(plan, most, self.card.shared, op)) {
            match groups.iter_mut().find(|g| g[0].group == grouping.group) {
                Some(same) => same.push(grouping),
                None => groups.push(vec![grouping]),
            }
        }
        groups
    }

    fn program(&self, plan: PlanId) -> Result<&Program, DeviceError> {
        self.programs.get(plan.0).ok_or_else(|| DeviceError::BadPlan(format!("no plan {}", plan.0)))
    }

    /// The memory of whole rows of a buffer: where, and how many bytes a row has.
    fn rows(
        &self,
        plan: PlanId,
        buffer: BufferId,
        rows: Range<usize>,
    ) -> Result<(&DeviceMemory, usize), DeviceError> {
        let program = self.program(plan)?;
        let Some(desc) = program.plan.buffers.get(buffer.0) else {
            return Err(DeviceError::BadPlan(format!("no buffer {}", buffer.0)));
        };
        let count = program.most.count(desc.rows);
        if rows.start > rows.end || rows.end > count {
            return Err(DeviceError::BadPlan(format!(
                "rows {rows:?} are not in {}, which has {count}",
                desc.name
            )));
        }
        Ok((&program.buffers[buffer.0], desc.cols * desc.dtype.size()))
    }
}

/// The first card that can be used.
fn first_usable() -> Result<usize, DeviceError> {
    let found = devices();
    let usable = found.iter().find(|d| d.unusable.is_none()).and_then(|d| d.index);
    let why =
        || found.iter().find_map(|d| d.unusable.clone()).unwrap_or_else(|| "no NVIDIA card found".into());
    usable.ok_or_else(|| DeviceError::Absent(why()))
}

/// The architecture to compile for.
fn architecture((major, minor): (u32, u32)) -> String {
    // Features of exactly this card, which later ones lack.
    let exact = if (major, minor) == (9, 0) { "a" } else { "" };
    format!("sm_{major}{minor}{exact}")
}

impl Program {
    /// Queues the plan's kernels: a graph for a decode step, else one by one.
    fn run(
        &mut self,
        stream: &Arc<CudaStream>,
        step: &Step,
        lists: &[Lists],
        eager: bool,
    ) -> Result<(), DeviceError> {
        let decode = !eager && lists.iter().all(|l| l.prefill.is_empty());
        let groups: Vec<usize> = self.works.iter().map(|w| w.group).collect();
        if let Some(extent) = decode.then(|| graph::extent(step, &self.most, &groups)).flatten() {
            return self.graphs.run(&self.calls, stream, &extent);
        }
        let extent = Extent { dims: step.dims(), work: lists.iter().map(Lists::count).collect() };
        run_all(&self.calls, stream, &extent)
    }
}

/// The kernels of a call.
fn kernels(call: &Call<Launch>) -> &[Kernel] {
    match call {
        Call::Launch(launch) => &launch.kernels,
        Call::Product(_) => &[],
    }
}

impl Device for CudaDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, plan: &Plan, op: &Op) -> Result<(), String> {
        supports(plan, op)
    }

    fn workspace(&self, plan: &Plan, most: &Dims) -> usize {
        // Small allocations share what is rounded up.
        let rounded = |bytes: usize| match bytes {
            small if small < self.granularity / 2 => small.max(16).next_multiple_of(512),
            large => large.next_multiple_of(self.granularity),
        };
        let groups = self.groupings(plan, most);
        let works = groups.iter().flat_map(|g| WorkBytes::new(most, g).each()).map(rounded).sum::<usize>();
        let group_sizes: Vec<usize> = groups.iter().map(|g| g[0].group).collect();
        let inputs = rounded(4 * COUNTS) + rounded(Inputs::most_bytes(plan, most, &group_sizes));
        // How many pages there will be is not known yet: each buffer of them may round up by as much.
        let lost = |desc: &engine::plan::BufferDesc| match desc.kind {
            BufferKind::KvPage => self.granularity,
            _ => rounded(desc.bytes(most)) - desc.bytes(most),
        };
        works + inputs + plan.buffers.iter().map(lost).sum::<usize>() + self.granularity
    }

    fn compile(&mut self, plan: &Plan, most: &Dims) -> Result<PlanId, DeviceError> {
        plan.check().map_err(DeviceError::BadPlan)?;
        for op in &plan.ops {
            supports(plan, op).map_err(|why| DeviceError::Unsupported {
                device: DeviceKind::Cuda,
                op: op.name(),
                why,
            })?;
        }
        self.context.bind_to_thread().map_err(lost)?;
        let buffers = self.allocate(plan, most)?;
        let groups = self.groupings(plan, most);
        let works: Vec<Work> =
            groups.iter().map(|g| Work::new(&self.context, most, g)).collect::<Result<_, _>>()?;
        let counts = DeviceMemory::new(&self.context, 4 * COUNTS, "row counts", "free device memory")?;
        let addresses: Vec<u64> = buffers.iter().map(|b| b.at).collect();
        let mut site = Site {
            plan,
            most,
            card: self.card,
            addresses: &addresses,
            counts: counts.at,
            fixed: Vec::new(),
            work: &works,
            blas: self.blas.clone(),
        };
        let calls = lower(&mut site);
        let fixed = site.fixed;
        if fixed.len() > COUNTS - FIXED_COUNTS || works.len() > 16 {
            return Err(DeviceError::BadPlan("too many different row counts or attention groups".into()));
        }
        counts.write(&self.stream, 4 * FIXED_COUNTS, bytemuck::cast_slice(&fixed))?;
        let inputs = Inputs::new(plan, most, &addresses, counts.at, &works);
        let staging = DeviceMemory::new(
            &self.context,
            inputs.most_bytes,
            "step inputs",
            "lower --max-num-batched-tokens or --max-num-seqs",
        )?;

        let unpack = inputs::kernel();
        let kernels: Vec<Kernel> = calls.iter().flat_map(kernels).cloned().chain([unpack.clone()]).collect();
        self.load(&kernels)?;
        let loaded = |l: Launch| Loaded {
            functions: l.kernels.iter().map(|k| (self.function(k), k.dynamic_shared)).collect(),
            args: l.args,
            shape: l.shape,
        };
        let calls = calls
            .into_iter()
            .map(|call| match call {
                Call::Launch(launch) => Call::Launch(loaded(launch)),
                Call::Product(product) => Call::Product(product),
            })
            .collect();
        let output = plan.iter().find(|(_, d)| d.kind == BufferKind::StepOutput).map(|(id, _)| id);
        self.programs.push(Program {
            plan: plan.clone(),
            most: *most,
            unpack: (self.function(&unpack), inputs::args(staging.at)),
            buffers,
            works,
            inputs,
            staging,
            calls,
            output,
            graphs: Graphs::default(),
            spare: Vec::new(),
            _counts: counts,
        });
        // Two steps are in flight in the engine's loop; one more is being prepared.
        let program = self.programs.len() - 1;
        for _ in 0..3 {
            let slot = self.new_slot(program)?;
            self.programs[program].spare.push(slot);
        }
        self.info.memory_free = self.context.mem_get_info().map_err(lost)?.0;
        Ok(PlanId(program))
    }

    fn write(&mut self, plan: PlanId, buffer: BufferId, row: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        self.context.bind_to_thread().map_err(lost)?;
        let (_, width) = self.rows(plan, buffer, 0..0)?;
        if width == 0 || !bytes.len().is_multiple_of(width) {
            return Err(DeviceError::BadPlan(format!("{} bytes are no whole rows of {width}", bytes.len())));
        }
        let (memory, _) = self.rows(plan, buffer, row..row + bytes.len() / width)?;
        memory.write(&self.stream, row * width, bytes)
    }

    fn read(&mut self, plan: PlanId, buffer: BufferId, rows: Range<usize>) -> Result<Vec<u8>, DeviceError> {
        self.context.bind_to_thread().map_err(lost)?;
        let (memory, width) = self.rows(plan, buffer, rows.clone())?;
        let mut bytes = vec![0; rows.len() * width];
        memory.read(&self.stream, rows.start * width, &mut bytes)?;
        Ok(bytes)
    }

    fn submit(&mut self, plan: PlanId, step: &Step) -> Result<Ticket, DeviceError> {
        step.check(&self.program(plan)?.most).map_err(DeviceError::BadStep)?;
        self.context.bind_to_thread().map_err(lost)?;
        let mut slot = match self.programs[plan.0].spare.pop() {
            Some(slot) => slot,
            None => self.new_slot(plan.0)?,
        };
        let eager = self.options.enforce_eager;
        let program = &mut self.programs[plan.0];
        let lists: Vec<Lists> = program.works.iter().map(|w| Lists::new(step, w.group)).collect();
        let packed = program.inputs.pack(step, &program.works, &lists, slot.inputs.bytes_mut());
        let stream = &self.stream;
        // SAFETY: the staging buffer has room for the longest copy, and the pinned memory stays with the
        // slot until the step is done.
        unsafe {
            let bytes = &slot.inputs.bytes()[..packed.bytes];
            result::memcpy_htod_async(program.staging.at, bytes, stream.cu_stream()).map_err(lost)?;
        }
        let (unpack, args) = &program.unpack;
        launch(stream, unpack, 0, &packed.config, args).map_err(lost)?;
        program.run(stream, step, &lists, eager)?;
        let outputs = step.output_rows.len();
        if let Some(output) = program.output.filter(|_| outputs > 0) {
            let from = program.buffers[output.0].at;
            let bytes = &mut slot.output.bytes_mut()[..outputs * size_of::<Sampled>()];
            // SAFETY: as above; nobody reads the slot before its event has been waited for.
            unsafe { result::memcpy_dtoh_async(bytes, from, stream.cu_stream()) }.map_err(lost)?;
        }
        slot.done.record(stream).map_err(lost)?;
        let outputs = if program.output.is_some() { outputs } else { 0 };
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.queue.push_back(Queued { ticket, program: plan.0, outputs, slot });
        Ok(Ticket(ticket))
    }

    fn wait(&mut self, ticket: Ticket) -> Result<StepOutput, DeviceError> {
        let queued = self.queue.pop_front().filter(|q| q.ticket == ticket.0).ok_or_else(|| {
            DeviceError::BadStep(format!("step {} is not the oldest that was not waited for", ticket.0))
        })?;
        self.context.bind_to_thread().map_err(lost)?;
        queued.slot.done.synchronize().map_err(lost)?;
        let bytes = &queued.slot.output.bytes()[..queued.outputs * size_of::<Sampled>()];
        let sampled = bytes.chunks_exact(size_of::<Sampled>()).map(bytemuck::pod_read_unaligned).collect();
        self.programs[queued.program].spare.push(queued.slot);
        Ok(StepOutput { sampled })
    }
}

impl CudaDevice {
    fn new_slot(&self, program: usize) -> Result<Slot, DeviceError> {
        let program = &self.programs[program];
        let outputs = if program.output.is_some() { program.most.outputs } else { 0 };
        Ok(Slot {
            inputs: Pinned::new(&self.context, program.inputs.most_bytes)?,
            output: Pinned::new(&self.context, outputs * size_of::<Sampled>())?,
            done: self.context.new_event(Some(CUevent_flags::CU_EVENT_DISABLE_TIMING)).map_err(lost)?,
        })
    }
}

impl Drop for CudaDevice {
    fn drop(&mut self) {
        // Kernels may still read the memory that is freed next. An error has been reported already.
        let _ = self.stream.synchronize();
    }
}
