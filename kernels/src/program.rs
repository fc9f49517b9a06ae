//! A compiled plan: its memory, its loaded kernels, and how it runs a step.

use crate::args::ArgBytes;
use crate::buckets::decode_grid;
use crate::counts::{self, Counts, MAX_GROUPS};
use crate::driver::card::Card;
use crate::driver::cublaslt::CublasLt;
use crate::driver::failure::device_lost;
use crate::driver::functions::Functions;
use crate::driver::graph::Graphs;
use crate::driver::launch::launch;
use crate::driver::memory::{DeviceMemory, Pinned};
use crate::grid::GridDims;
use crate::inputs::{self, Inputs};
use crate::kernel::Kernel;
use crate::launch::{Call, Loaded, run_all};
use crate::lower::lower;
use crate::lowering::Lowering;
use crate::work::{Lists, Work};
use crate::workspace::groupings;
use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaEvent, CudaFunction, CudaStream, result};
use engine::device::DeviceError;
use engine::plan::{BufferDesc, BufferId, BufferKind, Dims, Plan};
use engine::step::{Sampled, Step};
use std::ops::Range;
use std::sync::Arc;

/// A compiled plan.
pub(crate) struct Program {
    plan: Plan,
    pub(crate) max_dims: Dims,
    buffers: Vec<DeviceMemory>,
    works: Vec<Work>,
    inputs: Inputs,
    /// What is copied to the card for each step.
    staging: DeviceMemory,
    unpack: (CudaFunction, ArgBytes),
    calls: Vec<Call<Loaded>>,
    /// The buffer of sampled tokens.
    output: Option<BufferId>,
    graphs: Graphs,
    /// Host memory that no step in flight uses.
    spare: Vec<HostBuffers>,
    /// The counts of the step, which kernels read.
    _counts: DeviceMemory,
}

/// The host's side of a step in flight: what goes to the card and what comes back.
pub(crate) struct HostBuffers {
    inputs: Pinned,
    output: Pinned,
    outputs: usize,
    done: CudaEvent,
}

impl HostBuffers {
    /// Waits for the step and returns its results.
    ///
    /// # Errors
    /// [`DeviceError::Lost`].
    pub(crate) fn wait(&self) -> Result<Vec<Sampled>, DeviceError> {
        self.done.synchronize().map_err(device_lost)?;
        let bytes = &self.output.bytes()[..self.outputs * size_of::<Sampled>()];
        Ok(bytes.chunks_exact(size_of::<Sampled>()).map(bytemuck::pod_read_unaligned).collect())
    }
}

impl Program {
    /// Allocates the plan's memory and loads its kernels. The plan has been checked.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], [`DeviceError::BadPlan`], [`DeviceError::Unsupported`], [`DeviceError::Lost`].
    pub(crate) fn compile(
        card: &Card,
        functions: &mut Functions,
        blas: Option<Arc<CublasLt>>,
        plan: &Plan,
        max_dims: &Dims,
    ) -> Result<Program, DeviceError> {
        let context = &card.context;
        let buffers = allocate(card, plan, max_dims)?;
        let groups = groupings(plan, max_dims, &card.limits);
        let works: Vec<Work> =
            groups.iter().map(|g| Work::new(context, max_dims, g)).collect::<Result<_, _>>()?;
        let counts = DeviceMemory::new(context, counts::BYTES, "row counts", "free device memory")?;
        let addresses: Vec<u64> = buffers.iter().map(|b| b.at).collect();
        let mut lowering = Lowering {
            plan,
            max_dims,
            limits: card.limits,
            addresses: &addresses,
            counts: Counts::new(counts.at),
            work: &works,
            blas,
        };
        let calls = lower(&mut lowering, &plan.ops);
        match lowering.counts.fixed() {
            Some((offset, fixed)) if works.len() <= MAX_GROUPS => {
                counts.write(&card.stream, offset, bytemuck::cast_slice(fixed))?;
            }
            _ => {
                let why = "too many different row counts or attention groups";
                return Err(DeviceError::BadPlan(why.into()));
            }
        }
        let inputs = Inputs::new(plan, max_dims, &addresses, counts.at, &works);
        let staging = DeviceMemory::new(
            context,
            inputs.max_bytes,
            "step inputs",
            "lower --max-num-batched-tokens or --max-num-seqs",
        )?;

        let kernels: Vec<Kernel> =
            [inputs::kernel()].into_iter().chain(calls.iter().flat_map(Call::kernels).cloned()).collect();
        let mut loaded = functions.load(card, &kernels)?.into_iter();
        let unpack = loaded.next().map(|function| (function, inputs::args(staging.at)));
        let unpack = unpack.ok_or_else(|| DeviceError::BadPlan("no kernel unpacks inputs".into()))?;
        let mut program = Program {
            plan: plan.clone(),
            max_dims: *max_dims,
            buffers,
            works,
            inputs,
            staging,
            unpack,
            calls: calls.into_iter().map(|call| call.load(&mut loaded)).collect(),
            output: plan.iter().find(|(_, d)| d.kind == BufferKind::StepOutput).map(|(id, _)| id),
            graphs: Graphs::default(),
            spare: Vec::new(),
            _counts: counts,
        };
        // Two steps are in flight in the engine's loop; one more is being prepared.
        for _ in 0..3 {
            let host = program.new_host_buffers(card)?;
            program.spare.push(host);
        }
        Ok(program)
    }

    fn new_host_buffers(&self, card: &Card) -> Result<HostBuffers, DeviceError> {
        let outputs = if self.output.is_some() { self.max_dims.outputs } else { 0 };
        let event = card.context.new_event(Some(CUevent_flags::CU_EVENT_DISABLE_TIMING));
        Ok(HostBuffers {
            inputs: Pinned::new(&card.context, self.inputs.max_bytes)?,
            output: Pinned::new(&card.context, outputs * size_of::<Sampled>())?,
            outputs: 0,
            done: event.map_err(device_lost)?,
        })
    }

    /// Takes back the host memory of a step that is done.
    pub(crate) fn recycle(&mut self, host: HostBuffers) {
        self.spare.push(host);
    }

    /// Queues a step: its inputs, its kernels, the copy of its results.
    ///
    /// # Errors
    /// [`DeviceError::Lost`].
    pub(crate) fn submit(
        &mut self,
        card: &Card,
        step: &Step,
        enforce_eager: bool,
    ) -> Result<HostBuffers, DeviceError> {
        let stream = &card.stream;
        let mut host = match self.spare.pop() {
            Some(host) => host,
            None => self.new_host_buffers(card)?,
        };
        let lists: Vec<Lists> = self.works.iter().map(|w| Lists::new(step, w.group)).collect();
        let packed = self.inputs.pack(step, &self.works, &lists, host.inputs.bytes_mut());
        // SAFETY: the staging buffer has room for the longest copy, and the pinned memory stays with the
        // step until it is done.
        unsafe {
            let bytes = &host.inputs.bytes()[..packed.bytes];
            result::memcpy_htod_async(self.staging.at, bytes, stream.cu_stream()).map_err(device_lost)?;
        }
        let (unpack, args) = &self.unpack;
        launch(stream, unpack, 0, &packed.config, args).map_err(device_lost)?;
        self.run(stream, step, &lists, enforce_eager)?;
        host.outputs = if self.output.is_some() { step.output_rows.len() } else { 0 };
        if let Some(output) = self.output.filter(|_| host.outputs > 0) {
            let from = self.buffers[output.0].at;
            let bytes = &mut host.output.bytes_mut()[..host.outputs * size_of::<Sampled>()];
            // SAFETY: as above; nobody reads the pinned memory before its event has been waited for.
            unsafe { result::memcpy_dtoh_async(bytes, from, stream.cu_stream()) }.map_err(device_lost)?;
        }
        host.done.record(stream).map_err(device_lost)?;
        Ok(host)
    }

    /// Queues the plan's kernels: a graph for a decode step, else one by one.
    fn run(
        &mut self,
        stream: &Arc<CudaStream>,
        step: &Step,
        lists: &[Lists],
        enforce_eager: bool,
    ) -> Result<(), DeviceError> {
        let decode = !enforce_eager && lists.iter().all(|l| l.prefill.is_empty());
        let groups: Vec<usize> = self.works.iter().map(|w| w.group).collect();
        let calls = &self.calls;
        if let Some(grid) = decode.then(|| decode_grid(step, &self.max_dims, &groups)).flatten() {
            let key = (grid.dims.tokens, grid.dims.outputs);
            let warm_up = calls.iter().any(|call| matches!(call, Call::Product { .. }));
            return self.graphs.run(key, stream, warm_up, || run_all(calls, stream, &grid));
        }
        let grid = GridDims { dims: step.dims(), work: lists.iter().map(Lists::count).collect() };
        run_all(calls, stream, &grid)
    }

    /// The memory of whole rows of a buffer: where, and how many bytes a row has.
    ///
    /// # Errors
    /// [`DeviceError::BadPlan`] if the rows are not in the buffer.
    pub(crate) fn rows(
        &self,
        buffer: BufferId,
        rows: Range<usize>,
    ) -> Result<(&DeviceMemory, usize), DeviceError> {
        let Some(desc) = self.plan.buffers.get(buffer.0) else {
            return Err(DeviceError::BadPlan(format!("no buffer {}", buffer.0)));
        };
        let count = self.max_dims.count(desc.rows);
        if rows.start > rows.end || rows.end > count {
            return Err(DeviceError::BadPlan(format!(
                "rows {rows:?} are not in {}, which has {count}",
                desc.name
            )));
        }
        Ok((&self.buffers[buffer.0], desc.cols * desc.dtype.size()))
    }
}

/// The memory of the plan's buffers.
fn allocate(card: &Card, plan: &Plan, max_dims: &Dims) -> Result<Vec<DeviceMemory>, DeviceError> {
    let remedy = |kind: BufferKind| match kind {
        BufferKind::Weight => "choose a smaller model or a card with more memory",
        BufferKind::KvPage => "lower --gpu-memory-utilization",
        _ => "lower --max-num-batched-tokens or --max-num-seqs",
    };
    let new = |desc: &BufferDesc| {
        DeviceMemory::new(&card.context, desc.bytes(max_dims), &desc.name, remedy(desc.kind))
    };
    plan.buffers.iter().map(new).collect()
}
