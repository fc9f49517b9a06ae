//! Cases of every op, for tests and benches of any device.
//!
//! A case is a plan of one op, or of two that devices may run as one, with its inputs. It is built in the
//! formats of a device; the oracle runs the same case widened to f32, so that it sees the same numbers.
//! The builders stand beside the ops.

mod check;

pub use crate::op::cases::*;

use crate::device::{Device, DeviceError, PlanId};
use crate::dtype::DType;
use crate::format::Format;
use crate::numbers::Numbers;
use crate::op::{Activation, Op};
use crate::plan::{BufferId, BufferKind, Dims, Plan, Rows, View};
use crate::step::{Step, StepOutput};

/// The types and formats that a case is built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    /// Of activations.
    pub activations: DType,
    /// Of Linear and Embed weights.
    pub weights: Format,
    /// Of KV pages.
    pub kv: DType,
}

impl Formats {
    /// All of them f32.
    pub const F32: Formats =
        Formats { activations: DType::F32, weights: Format::Plain(DType::F32), kv: DType::F32 };

    /// The relative error that one rounding to the activations' type may leave.
    pub fn epsilon(&self) -> f32 {
        match self.activations {
            DType::BF16 => 1.0 / 256.0,
            DType::F16 => 1.0 / 2048.0,
            DType::F32 | DType::E4M3 | DType::U32 => f32::EPSILON,
        }
    }
}

/// A plan of one op or two, what to write into its buffers, the step, and what to compare.
#[derive(Clone, Debug)]
pub struct Case {
    /// The op and its shape, e.g. `Linear 7x576x1536 bias`.
    pub name: String,
    /// The plan.
    pub plan: Plan,
    /// The dimensions to compile it for.
    pub max_dims: Dims,
    /// Bytes for buffers, from row 0 on, in each buffer's own type.
    pub writes: Vec<(BufferId, Vec<u8>)>,
    /// The step to run.
    pub step: Step,
    /// Whether the step's masks are handed in late.
    pub late_masks: bool,
    /// The buffers that the op writes, as views, with the rows to compare.
    pub outputs: Vec<(View, usize)>,
}

impl Case {
    /// Compiles the case on a device, writes its inputs and runs its step.
    ///
    /// # Errors
    /// What the device says.
    pub fn run(&self, device: &mut dyn Device) -> Result<(PlanId, StepOutput), DeviceError> {
        let id = self.prepare(device)?;
        Ok((id, self.submit(device, id)?))
    }

    fn prepare(&self, device: &mut dyn Device) -> Result<PlanId, DeviceError> {
        let id = device.compile(&self.plan, &self.max_dims)?;
        for (buffer, bytes) in &self.writes {
            device.write(id, *buffer, 0, bytes)?;
        }
        Ok(id)
    }

    fn submit(&self, device: &mut dyn Device, id: PlanId) -> Result<StepOutput, DeviceError> {
        if !self.late_masks {
            let ticket = device.submit(id, &self.step)?;
            return device.wait(ticket);
        }
        let mut step = self.step.clone();
        step.late_masks = step.dims().masks;
        let masks = std::mem::take(&mut step.masks);
        let ticket = device.submit(id, &step)?;
        device.provide(&ticket, &masks)?;
        device.wait(ticket)
    }

    /// Reads the outputs after [`Case::run`], each as `[rows, cols]` floats (integers by value).
    ///
    /// # Errors
    /// What the device says.
    pub fn read(&self, device: &mut dyn Device, id: PlanId) -> Result<Vec<Vec<f32>>, DeviceError> {
        let mut outputs = Vec::new();
        for &(view, rows) in &self.outputs {
            let desc = self.plan.desc(view.buffer);
            let values = desc.format.decode(&device.read(id, view.buffer, 0..rows)?, desc.cols);
            let rows = values.chunks_exact(desc.cols);
            outputs.push(rows.flat_map(|r| r[view.start..][..view.cols].to_vec()).collect());
        }
        Ok(outputs)
    }

    /// The same case with masks that are handed in late.
    #[must_use]
    pub fn with_late_masks(mut self) -> Case {
        self.name.push_str(", late masks");
        self.late_masks = true;
        self
    }
}

/// All cases in these formats, small ones first.
pub fn cases(f: Formats) -> Vec<Case> {
    let mut all = row_cases(f);
    all.extend(linear_cases(f));
    all.extend(attention_cases(f));
    all.push(kv_write(f, 13, 96, 16));
    all.push(kv_write(f, 6, 20, 8));
    all.push(kv_write_extremes(f, 40, 64));
    for (rows, heads, kv_heads, head_dim, rotary) in
        [(1, 4, 2, 64, 64), (21, 6, 3, 32, 16), (5, 2, 1, 20, 20)]
    {
        all.push(rope_kv_write(f, rows, heads, kv_heads, head_dim, rotary));
    }
    for vocab in [33, 300, 5000] {
        for drawn in [false, true] {
            all.push(sample(vocab, drawn));
            all.push(sample(vocab, drawn).with_late_masks());
        }
        all.push(sample_filtered(vocab));
        all.push(sample_not_finite(vocab));
    }
    all
}

/// Cases of ops that work on each row by itself.
fn row_cases(f: Formats) -> Vec<Case> {
    let mut all = Vec::new();
    for (rows, cols) in [(1, 64), (5, 96), (33, 576)] {
        all.push(embed(f, rows, 300, cols, 1.0));
        all.push(rms_norm(f, rows, cols, cols, false));
        all.push(rms_norm(f, rows, cols, cols, true));
        all.push(rms_norm(f, rows, cols, cols / 4, false));
        all.push(rope(f, rows, cols / 32, 32, 32));
        all.push(gated_mul(f, rows, cols, Activation::Silu));
        all.push(gated_mul(f, rows, cols, Activation::GeluTanh));
        all.push(add(f, rows, cols));
        all.push(gather_rows(f, rows, cols));
        all.push(soft_cap(f, rows, cols));
    }
    all.push(embed(f, 7, 300, 96, 9.75));
    all.push(soft_cap(f, 3, 257));
    all.push(rope(f, 9, 3, 64, 16));
    all
}

/// Cases of Linear, without those that the weights' blocks do not fit.
fn linear_cases(f: Formats) -> Vec<Case> {
    let fits = |k: usize| k.is_multiple_of(f.weights.block());
    let mut all = Vec::new();
    for rows in [1, 2, 3, 4, 7, 8, 9, 16, 17, 31, 64, 65, 130] {
        all.push(linear(f, rows, 64, 96, rows % 2 == 1));
    }
    for (rows, k, n) in
        [(1, 576, 1536), (6, 1536, 576), (40, 576, 960), (3, 40, 33), (20, 130, 257), (5, 96, 257)]
    {
        all.extend(fits(k).then(|| linear(f, rows, k, n, false)));
    }
    for (rows, k, n, bias) in
        [(1, 64, 96, true), (17, 64, 576, false), (70, 576, 96, true), (3, 40, 33, true)]
    {
        all.extend(fits(k).then(|| linear_residual(f, rows, k, n, bias)));
    }
    for (rows, k, cols, bias, act) in [
        (1, 64, 96, false, Activation::Silu),
        (19, 128, 40, true, Activation::GeluTanh),
        (70, 192, 136, true, Activation::Silu),
        (5, 64, 36, false, Activation::Silu),
    ] {
        all.extend(fits(k).then(|| linear_gated(f, rows, k, cols, bias, act)));
    }
    all
}

fn attention_cases(f: Formats) -> Vec<Case> {
    let window = |window, shape| Attention { window: Some(window), ..shape };
    let softcap = |softcap, shape| Attention { softcap: Some(softcap), ..shape };
    let mut all = Vec::new();
    for shape in [
        Attention::new(4, 4, 32, 16),
        Attention::new(8, 2, 64, 16),
        Attention::new(9, 3, 64, 32),
        window(40, Attention::new(4, 1, 128, 8)),
        window(7, Attention::new(2, 2, 16, 16)),
        Attention::new(6, 2, 80, 64),
        softcap(2.0, Attention::new(4, 2, 64, 16)),
        softcap(0.5, window(9, Attention::new(2, 1, 256, 16))),
    ] {
        for seqs in [
            &[(1, 1)][..],
            &[(1, 17), (1, 300), (1, 64)],
            &[(70, 70)],
            &[(33, 100), (1, 65), (5, 5), (2, 129)],
        ] {
            all.push(attention(f, shape, seqs));
        }
    }
    all
}

/// Dimensions of a case with so many tokens, of one sequence.
pub(crate) fn dims(tokens: usize) -> Dims {
    Dims {
        tokens,
        seqs: 8,
        outputs: tokens.max(8),
        adjustments: 64,
        masks: 8,
        targets: 1024,
        pages: tokens.div_ceil(16).max(64),
        page_size: 16,
        pages_per_seq: tokens.div_ceil(16).max(32),
        attended: 0,
        contexts: 0,
    }
}

/// Collects a case.
pub(crate) struct Builder {
    /// The case so far.
    pub(crate) case: Case,
    /// The source of its numbers.
    pub(crate) numbers: Numbers,
}

impl Builder {
    /// A case without buffers, whose step is one sequence from position 0.
    pub(crate) fn new(name: String, dims: Dims) -> Builder {
        let seed = name.bytes().fold(7, |h: u64, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
        let step = Step {
            page_size: dims.page_size,
            pages_per_seq: dims.pages_per_seq,
            query_start: vec![0, dims.tokens as u32],
            block_tables: vec![0; dims.pages_per_seq],
            tokens: vec![0; dims.tokens],
            positions: (0..dims.tokens as u32).collect(),
            kv_slots: (0..dims.tokens as u32).collect(),
            ..Step::default()
        };
        let (writes, outputs) = (Vec::new(), Vec::new());
        let case =
            Case { name, plan: Plan::default(), max_dims: dims, writes, step, late_masks: false, outputs };
        Builder { case, numbers: Numbers(seed) }
    }

    /// A buffer that nothing is written into.
    pub(crate) fn buffer(
        &mut self,
        name: &str,
        kind: BufferKind,
        format: impl Into<Format>,
        rows: Rows,
        cols: usize,
    ) -> BufferId {
        self.case.plan.buffer(name, kind, format, rows, cols)
    }

    /// A buffer of random numbers in `[-scale, scale)`.
    pub(crate) fn random(
        &mut self,
        name: &str,
        kind: BufferKind,
        format: impl Into<Format>,
        rows: Rows,
        cols: usize,
        scale: f32,
    ) -> BufferId {
        let format = format.into();
        let id = self.buffer(name, kind, format, rows, cols);
        let count = self.case.max_dims.count(rows) * cols;
        let values: Vec<f32> = (0..count).map(|_| self.numbers.float() * scale).collect();
        self.case.writes.push((id, format.encode(&values, cols)));
        id
    }

    /// An activation of random numbers in `[-1, 1)`.
    pub(crate) fn activation(&mut self, name: &str, dtype: DType, rows: Rows, cols: usize) -> View {
        let id = self.random(name, BufferKind::Activation, dtype, rows, cols, 1.0);
        self.case.plan.view(id)
    }

    /// A random matrix of weights.
    pub(crate) fn matrix(&mut self, name: &str, f: Format, rows: usize, cols: usize, scale: f32) -> BufferId {
        self.random(name, BufferKind::Weight, f, Rows::Fixed(rows), cols, scale)
    }

    /// A random vector of weights, in f32.
    pub(crate) fn vector(&mut self, name: &str, cols: usize, scale: f32) -> BufferId {
        self.random(name, BufferKind::Weight, DType::F32, Rows::Fixed(1), cols, scale)
    }

    /// Random keys and values.
    pub(crate) fn kv_pages(&mut self, dtype: DType, cols: usize) -> [BufferId; 2] {
        [("k pages", 2.0), ("v pages", 1.0)]
            .map(|(name, scale)| self.random(name, BufferKind::KvPage, dtype, Rows::KvSlots, cols, scale))
    }

    /// Gives every token a KV slot of its own, out of order.
    pub(crate) fn scatter_kv_slots(&mut self) {
        let count = self.case.max_dims.count(Rows::KvSlots);
        let slots = (0..self.case.max_dims.tokens).map(|i| ((i * 37 + 11) % count) as u32);
        self.case.step.kv_slots = slots.collect();
    }

    /// Makes the step one of sequences of `(queries, length)`, whose pages lie scattered.
    pub(crate) fn lay_out_sequences(&mut self, seqs: &[(usize, usize)]) {
        let Dims { pages, page_size, pages_per_seq, .. } = self.case.max_dims;
        let mut free: Vec<u32> = (0..pages as u32).collect();
        let step = &mut self.case.step;
        (step.positions, step.query_start, step.block_tables) = (Vec::new(), vec![0], Vec::new());
        for &(queries, len) in seqs {
            step.positions.extend((len - queries) as u32..len as u32);
            step.query_start.push(step.positions.len() as u32);
            let used = len.div_ceil(page_size);
            step.block_tables.extend((0..used).map(|_| free.swap_remove(self.numbers.below(free.len()))));
            step.block_tables.extend(std::iter::repeat_n(0, pages_per_seq - used));
        }
    }

    /// Makes NaN of all KV slots that hold no position of a sequence: what lies there does not matter.
    pub(crate) fn forget_unheld(&mut self, pages: [BufferId; 2]) {
        let Case { step, plan, writes, max_dims, .. } = &mut self.case;
        let mut held = vec![false; max_dims.count(Rows::KvSlots)];
        for (s, table) in step.block_tables.chunks_exact(step.pages_per_seq).enumerate() {
            for p in 0..step.seq_len(s) {
                held[table[p / step.page_size] as usize * step.page_size + p % step.page_size] = true;
            }
        }
        for (id, bytes) in writes.iter_mut().filter(|(id, _)| pages.contains(id)) {
            let desc = plan.desc(*id);
            let nan = desc.format.encode(&vec![f32::NAN; desc.cols], desc.cols);
            for (row, _) in bytes.chunks_exact_mut(nan.len()).zip(&held).filter(|(_, held)| !**held) {
                row.copy_from_slice(&nan);
            }
        }
    }

    /// The case that ends with this op and compares these outputs.
    pub(crate) fn finish(mut self, op: impl Into<Op>, outputs: &[(View, usize)]) -> Case {
        let mask_words = self.case.step.mask_words;
        let mut ops = std::mem::take(&mut self.case.plan.ops);
        ops.push(op.into());
        for op in ops {
            self.case.plan.push(op, self.case.max_dims.pages_per_seq, mask_words);
        }
        self.case.outputs = outputs.to_vec();
        self.case
    }
}
