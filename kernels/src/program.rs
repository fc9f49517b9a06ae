//! A compiled plan: its memory, its loaded kernels, and how it runs a step.

use crate::args::{ArgBytes, DevicePtr};
use crate::buckets::decode_grid;
use crate::counts::{self, Counts, MAX_GROUPS};
use crate::driver::card::{Card, CardLimits};
use crate::driver::failure::device_lost;
use crate::driver::functions::Functions;
use crate::driver::launch::launch;
use crate::driver::memory::{DeviceMemory, Strided};
use crate::grid::GridDims;
use crate::in_flight::{AwaitedMasks, HostBuffers, InFlight, Results};
use crate::inputs::{self, Inputs};
use crate::interleave;
use crate::kernel::Kernel;
use crate::launch::{Call, Launch};
use crate::lower::{self, Calls, lower};
use crate::lowering::{Linears, Lowering};
use crate::ops::linear::quantized_bytes;
use crate::ops::sample::parts_bytes;
use crate::planes::{self, Plane, planes};
use crate::stage::{Stage, StepGrid};
use crate::work::{Lists, Tiling, Work};
use crate::workspace::groupings;
use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaFunction, result};
use engine::device::{DeviceError, MemoryUse, OpTime};
use engine::plan::{BufferDesc, BufferId, BufferKind, Dims, Input, Plan, Rows};
use engine::step::Step;
use std::ops::Range;
use std::time::Duration;

/// A compiled plan.
pub(crate) struct Program {
    plan: Plan,
    max_dims: Dims,
    buffers: Vec<DeviceMemory>,
    /// Activations without memory, until the host writes into them: no kernel does.
    spared: Vec<BufferId>,
    /// Weights whose rows lie as [`interleave`] says.
    interleaved: Vec<BufferId>,
    works: Vec<Work>,
    inputs: Inputs,
    /// What is copied to the card for each step.
    staging: DeviceMemory,
    unpack: (CudaFunction, ArgBytes),
    model: Stage,
    /// Runs when the step's masks are there.
    sampling: Stage,
    /// The ops that each call of both stages is for.
    ops: Vec<Range<usize>>,
    /// Host memory that no step in flight uses.
    spare: Vec<HostBuffers>,
    /// The counts of the step, which kernels read.
    _counts: DeviceMemory,
    /// Rows of activations in FP8.
    _quantized: DeviceMemory,
    /// What Sample knows of parts of rows.
    _sample_parts: DeviceMemory,
}

impl Program {
    /// Allocates the plan's memory and loads its kernels. The plan has been checked.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], [`DeviceError::BadPlan`], [`DeviceError::Unsupported`], [`DeviceError::Lost`].
    pub(crate) fn compile(
        card: &Card,
        functions: &mut Functions,
        linears: Linears,
        plan: &Plan,
        max_dims: &Dims,
    ) -> Result<Program, DeviceError> {
        let context = &card.context;
        let spared = spared(plan, max_dims, card.limits, &linears);
        let buffers = allocate(card, plan, max_dims, &spared)?;
        let groups = groupings(plan, max_dims, &card.limits);
        let works: Vec<Work> = groups
            .iter()
            .map(|(tiling, g)| Work::new(context, max_dims, *tiling, g))
            .collect::<Result<_, _>>()?;
        let counts = DeviceMemory::new(context, counts::BYTES, "row counts", MemoryUse::Activations)?;
        let quantized = quantized_bytes(plan, max_dims, &card.limits);
        let quantized = DeviceMemory::new(context, quantized, "quantised rows", MemoryUse::Activations)?;
        let parts = parts_bytes(plan, max_dims);
        let parts = DeviceMemory::new(context, parts, "parts of sampled rows", MemoryUse::Activations)?;
        let addresses: Vec<DevicePtr> = buffers.iter().map(|b| b.at).collect();
        let mut lowering = Lowering {
            plan,
            max_dims,
            limits: card.limits,
            addresses: &addresses,
            counts: Counts::new(counts.at),
            work: &works,
            linears,
            interleaved: Vec::new(),
            quantized: quantized.at,
            sample_parts: parts.at,
            refused: None,
        };
        let calls = lower(&mut lowering);
        if let Some(error) = lowering.refused {
            return Err(device_lost(error));
        }
        write_fixed_counts(card, &counts, &lowering.counts, works.len())?;
        let interleaved = lowering.interleaved;
        let inputs = Inputs::new(plan, max_dims, &addresses, counts.at, &works);
        let staging = DeviceMemory::new(context, inputs.max_bytes, "step inputs", MemoryUse::Activations)?;
        let ops = calls.ops.clone();
        let (unpack, model, sampling) = load(card, functions, calls)?;
        let mut program = Program {
            plan: plan.clone(),
            max_dims: *max_dims,
            buffers,
            spared,
            interleaved,
            works,
            inputs,
            unpack: (unpack, inputs::args(staging.at)),
            staging,
            model,
            sampling,
            ops,
            spare: Vec::new(),
            _counts: counts,
            _quantized: quantized,
            _sample_parts: parts,
        };
        // Two steps are in flight in the engine's loop; one more is being prepared.
        for _ in 0..3 {
            let host = program.new_host_buffers(card)?;
            program.spare.push(host);
        }
        Ok(program)
    }

    fn new_host_buffers(&self, card: &Card) -> Result<HostBuffers, DeviceError> {
        let (_, bytes) = self.results(&self.max_dims).bytes();
        HostBuffers::new(&card.context, self.inputs.max_bytes, bytes)
    }

    /// The address of the results with these rows: sampled rows, or log-probabilities of targets.
    fn output(&self, rows: Rows) -> Option<DevicePtr> {
        let (id, _) = self.plan.iter().find(|(_, d)| d.kind == BufferKind::StepOutput && d.rows == rows)?;
        Some(self.buffers[id.0].at)
    }

    /// How many results a step of these dimensions has.
    fn results(&self, dims: &Dims) -> Results {
        let count = |rows| self.output(rows).map_or(0, |_| dims.count(rows));
        Results { sampled: count(Rows::Outputs), targets: count(Rows::Targets) }
    }

    /// Takes back the host memory of a step that is done.
    pub(crate) fn recycle(&mut self, step: InFlight) {
        self.spare.push(step.host);
    }

    /// Checks a step against the plan.
    fn check(&self, step: &Step) -> Result<(), String> {
        step.check(&self.max_dims)?;
        let cols = self.plan.input(Input::Masks).map_or(0, |id| self.plan.desc(id).cols);
        if step.dims().masks > 0 && step.mask_words != cols {
            return Err(format!("masks of {} words; the plan's have {cols}", step.mask_words));
        }
        Ok(())
    }

    /// Queues a step: its inputs, its kernels, the copy of its results. Where its masks come late, what depends on them
    /// follows with [`Program::provide`].
    ///
    /// # Errors
    /// [`DeviceError::BadStep`], [`DeviceError::Lost`].
    pub(crate) fn submit(
        &mut self,
        card: &Card,
        step: &Step,
        enforce_eager: bool,
    ) -> Result<InFlight, DeviceError> {
        self.check(step).map_err(DeviceError::BadStep)?;
        let stream = &card.stream;
        let mut host = match self.spare.pop() {
            Some(host) => host,
            None => self.new_host_buffers(card)?,
        };
        let lists: Vec<Lists> = self.works.iter().map(|w| Lists::new(step, w.tiling)).collect();
        let packed = self.inputs.pack(step, &self.works, &lists, host.inputs.bytes_mut());
        // SAFETY: the staging buffer has room for the longest copy, and the pinned memory stays with the
        // step until it is done.
        unsafe {
            let bytes = &host.inputs.bytes()[..packed.bytes];
            result::memcpy_htod_async(self.staging.at, bytes, stream.cu_stream()).map_err(device_lost)?;
        }
        let (unpack, args) = &self.unpack;
        launch(stream, unpack, 0, &packed.config, args).map_err(device_lost)?;
        let grid = self.grid(step, &lists, enforce_eager);
        self.model.run(stream, &grid)?;
        let mut in_flight = InFlight { host, results: self.results(&step.dims()), late: None };
        if let Some(masks) = step.late() {
            in_flight.late = Some(AwaitedMasks { grid, masks, offset: packed.bytes });
        } else {
            self.finish(card, &mut in_flight, &grid)?;
        }
        Ok(in_flight)
    }

    /// Queues the late masks of a step and what depends on them. All of it goes to the one stream, whose order is what
    /// an event between two streams would give: Sample runs after the model's ops and after the masks are there.
    ///
    /// # Errors
    /// [`DeviceError::BadStep`], [`DeviceError::Lost`].
    pub(crate) fn provide(
        &mut self,
        card: &Card,
        step: &mut InFlight,
        masks: &[u32],
    ) -> Result<(), DeviceError> {
        let late = step.take_late(masks)?;
        if let Some(id) = self.plan.input(Input::Masks) {
            let bytes: &[u8] = bytemuck::cast_slice(masks);
            let pinned = &mut step.host.inputs.bytes_mut()[late.offset..][..bytes.len()];
            pinned.copy_from_slice(bytes);
            // SAFETY: the buffer has room for as many masks as the step has; the pinned memory stays with the step,
            // and the copy of the step's other inputs, which may be under way, does not reach so far.
            unsafe { result::memcpy_htod_async(self.buffers[id.0].at, pinned, card.stream.cu_stream()) }
                .map_err(device_lost)?;
        }
        self.finish(card, step, &late.grid)
    }

    /// Queues sampling, the copy of its results and the event that says that they are there.
    fn finish(&mut self, card: &Card, step: &mut InFlight, grid: &StepGrid) -> Result<(), DeviceError> {
        let stream = &card.stream;
        self.sampling.run(stream, grid)?;
        let (sampled, all) = step.results.bytes();
        for (rows, range) in [(Rows::Outputs, 0..sampled), (Rows::Targets, sampled..all)] {
            let Some(from) = self.output(rows).filter(|_| !range.is_empty()) else { continue };
            let bytes = &mut step.host.output.bytes_mut()[range];
            // SAFETY: the buffer has as many rows; nobody reads the pinned memory before its event has been waited for.
            unsafe { result::memcpy_dtoh_async(bytes, from, stream.cu_stream()) }.map_err(device_lost)?;
        }
        step.host.done.record(stream).map_err(device_lost)
    }

    /// Runs a step and measures what each op takes, from the end of what ran before to its own.
    ///
    /// # Errors
    /// [`DeviceError::BadStep`], [`DeviceError::Lost`].
    pub(crate) fn time_ops(&mut self, card: &Card, step: &Step) -> Result<Vec<OpTime>, DeviceError> {
        let stream = &card.stream;
        let timed = Some(CUevent_flags::CU_EVENT_DEFAULT);
        let event = |_| card.context.new_event(timed).map_err(device_lost);
        let events = (0..=self.ops.len()).map(event).collect::<Result<Vec<_>, _>>()?;
        // While the card runs the step once, the measured calls are queued behind it: else it would wait for launches.
        let lists: Vec<Lists> = self.works.iter().map(|w| Lists::new(step, w.tiling)).collect();
        let in_flight = self.submit(card, step, false)?;
        let StepGrid { grid, .. } = self.grid(step, &lists, true);
        events[0].record(stream).map_err(device_lost)?;
        let mut marks = events[1..].iter();
        self.model.run_marked(stream, &grid, &mut marks)?;
        self.sampling.run_marked(stream, &grid, &mut marks)?;
        stream.synchronize().map_err(device_lost)?;
        self.recycle(in_flight);
        let mut times: Vec<OpTime> = Vec::new();
        for (ops, pair) in self.ops.iter().zip(events.windows(2)) {
            let time =
                Duration::from_secs_f32(pair[0].elapsed_ms(&pair[1]).map_err(device_lost)?.max(0.0) / 1e3);
            match times.last_mut() {
                Some(last) if last.ops == *ops => last.time += time,
                _ => times.push(OpTime { ops: ops.clone(), time }),
            }
        }
        Ok(times)
    }

    /// The grids of a step: a graph's for a decode step, else its own.
    fn grid(&self, step: &Step, lists: &[Lists], enforce_eager: bool) -> StepGrid {
        let decode = !enforce_eager && lists.iter().all(|l| l.prefill.is_empty());
        let tilings: Vec<Tiling> = self.works.iter().map(|w| w.tiling).collect();
        match decode.then(|| decode_grid(step, &self.max_dims, &tilings)).flatten() {
            Some(grid) => StepGrid { grid, graph: true },
            None => {
                let work = lists.iter().map(Lists::count).collect();
                StepGrid { grid: GridDims { dims: step.dims(), work }, graph: false }
            }
        }
    }

    /// Bytes of a row of a buffer.
    ///
    /// # Errors
    /// [`DeviceError::BadPlan`] if there is no such buffer.
    pub(crate) fn row_bytes(&self, buffer: BufferId) -> Result<usize, DeviceError> {
        self.rows(buffer, 0..0).map(|(_, width)| width)
    }

    /// Writes whole rows of a buffer, after all work of the stream.
    ///
    /// # Errors
    /// [`DeviceError::BadPlan`] if the rows are not in the buffer, [`DeviceError::Lost`].
    pub(crate) fn write(
        &mut self,
        card: &Card,
        buffer: BufferId,
        rows: Range<usize>,
        bytes: &[u8],
    ) -> Result<(), DeviceError> {
        self.rows(buffer, rows.clone())?;
        if let Some(i) = self.spared.iter().position(|&id| id == buffer) {
            self.buffers[buffer.0] = memory_of(card, self.plan.desc(buffer), &self.max_dims)?;
            self.spared.swap_remove(i);
        }
        let (memory, row_bytes) = self.rows(buffer, rows.clone())?;
        let desc = self.plan.desc(buffer);
        let all = self.max_dims.count(desc.rows);
        for plane in planes(desc, all) {
            let (width, bytes) = (plane.width, plane.of(bytes, row_bytes));
            if !self.interleaved.contains(&buffer) {
                memory.write(&card.stream, plane.offset + rows.start * width, &bytes)?;
                continue;
            }
            for run in interleave::runs(rows.clone(), all) {
                let from = &bytes[(run.row - rows.start) * width..][..run.rows() * width];
                let offset = plane.offset + run.place * width;
                let layout = Strided { offset, row: run.height * width, step: run.step * width };
                memory.write_strided(&card.stream, &layout, from)?;
            }
            card.stream.synchronize().map_err(device_lost)?;
        }
        Ok(())
    }

    /// Reads whole rows of a buffer, after all work of the stream.
    ///
    /// # Errors
    /// [`DeviceError::BadPlan`] if the rows are not in the buffer, [`DeviceError::Lost`].
    pub(crate) fn read(
        &self,
        card: &Card,
        buffer: BufferId,
        rows: Range<usize>,
    ) -> Result<Vec<u8>, DeviceError> {
        let (memory, row_bytes) = self.rows(buffer, rows.clone())?;
        let desc = self.plan.desc(buffer);
        let all = self.max_dims.count(desc.rows);
        let read = |plane: &Plane, first: usize, bytes: &mut [u8]| {
            memory.read(&card.stream, plane.offset + first * plane.width, bytes)
        };
        let planes = planes(desc, all);
        let mut bytes = vec![0; rows.len() * row_bytes];
        if self.spared.contains(&buffer) {
            return Ok(bytes);
        }
        if let [plane] = planes.as_slice()
            && plane.is_plain(row_bytes)
            && !self.interleaved.contains(&buffer)
        {
            read(plane, rows.start, &mut bytes)?;
            return Ok(bytes);
        }
        for plane in planes {
            let mut part = vec![0; rows.len() * plane.width];
            if self.interleaved.contains(&buffer) {
                for (row, to) in rows.clone().zip(part.chunks_exact_mut(plane.width)) {
                    read(&plane, interleave::place(row, all), to)?;
                }
            } else {
                read(&plane, rows.start, &mut part)?;
            }
            let parts = part.chunks_exact(plane.width);
            parts.zip(bytes.chunks_exact_mut(row_bytes)).for_each(|(from, row)| plane.give(from, row));
        }
        Ok(bytes)
    }

    /// The memory of whole rows of a buffer: where, and how many bytes a row has.
    ///
    /// # Errors
    /// [`DeviceError::BadPlan`] if the rows are not in the buffer.
    fn rows(&self, buffer: BufferId, rows: Range<usize>) -> Result<(&DeviceMemory, usize), DeviceError> {
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
        Ok((&self.buffers[buffer.0], desc.row_bytes()))
    }
}

/// The activations that need no memory.
pub(crate) fn spared(plan: &Plan, max_dims: &Dims, limits: CardLimits, linears: &Linears) -> Vec<BufferId> {
    let addresses = vec![0; plan.buffers.len()];
    lower::spared(&Lowering::only_looked_at(plan, max_dims, limits, linears.clone(), &addresses))
}

/// The memory of the plan's buffers, next to none for those that are spared.
fn allocate(
    card: &Card,
    plan: &Plan,
    max_dims: &Dims,
    spared: &[BufferId],
) -> Result<Vec<DeviceMemory>, DeviceError> {
    let new = |(id, desc): (BufferId, &BufferDesc)| match spared.contains(&id) {
        true => DeviceMemory::new(&card.context, 0, &desc.name, desc.kind.into()),
        false => memory_of(card, desc, max_dims),
    };
    plan.iter().map(new).collect()
}

fn memory_of(card: &Card, desc: &BufferDesc, max_dims: &Dims) -> Result<DeviceMemory, DeviceError> {
    let bytes = planes::bytes(desc, max_dims.count(desc.rows));
    DeviceMemory::new(&card.context, bytes, &desc.name, desc.kind.into())
}

/// Writes the counts that no step changes.
fn write_fixed_counts(
    card: &Card,
    memory: &DeviceMemory,
    counts: &Counts,
    groups: usize,
) -> Result<(), DeviceError> {
    match counts.fixed() {
        Some((offset, fixed)) if groups <= MAX_GROUPS => {
            memory.write(&card.stream, offset, bytemuck::cast_slice(fixed))
        }
        _ => Err(DeviceError::BadPlan("too many different row counts or attention groups".into())),
    }
}

/// Loads the kernels of all calls, and `unpack`.
fn load(
    card: &Card,
    functions: &mut Functions,
    Calls { model, sampling, .. }: Calls<Launch>,
) -> Result<(CudaFunction, Stage, Stage), DeviceError> {
    let unpack = functions.load(card, &[inputs::kernel()])?.remove(0);
    let kernels: Vec<Kernel> = model.iter().chain(&sampling).flat_map(Call::kernels).cloned().collect();
    let mut loaded = functions.load(card, &kernels)?.into_iter();
    let mut stage = |calls: Vec<Call<Launch>>| {
        Stage::new(calls.into_iter().map(|call| call.load(&mut loaded)).collect(), card.overlap)
    };
    Ok((unpack, stage(model), stage(sampling)))
}
