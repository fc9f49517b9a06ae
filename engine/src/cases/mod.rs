//! Cases of every op, for tests and benches of any device.
//!
//! A case is a plan of one op, or of two that devices may run as one, with its inputs. It is built in the
//! formats of a device; the oracle runs the same case widened to f32, so that it sees the same numbers.

mod check;

use crate::device::{Device, DeviceError, PlanId};
use crate::dtype::DType;
use crate::op::{Activation, Op};
use crate::plan::{BufferId, BufferKind, Dims, Input, Plan, Rows, View};
use crate::step::{Adjustment, NONE, SAMPLED_WORDS, SampleRow, Step, StepOutput};

/// The float types that a case is built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    /// Of activations.
    pub activations: DType,
    /// Of Linear and Embed weights.
    pub weights: DType,
    /// Of KV pages.
    pub kv: DType,
}

impl Formats {
    /// All of them f32.
    pub const F32: Formats = Formats { activations: DType::F32, weights: DType::F32, kv: DType::F32 };

    /// The relative error that one rounding to the activations' type may leave.
    pub fn epsilon(&self) -> f32 {
        match self.activations {
            DType::BF16 => 1.0 / 256.0,
            DType::F16 => 1.0 / 2048.0,
            DType::F32 | DType::U32 => f32::EPSILON,
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
    pub most: Dims,
    /// Bytes for buffers, from row 0 on, in each buffer's own type.
    pub writes: Vec<(BufferId, Vec<u8>)>,
    /// The step to run.
    pub step: Step,
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
        let id = device.compile(&self.plan, &self.most)?;
        for (buffer, bytes) in &self.writes {
            device.write(id, *buffer, 0, bytes)?;
        }
        Ok(id)
    }

    fn submit(&self, device: &mut dyn Device, id: PlanId) -> Result<StepOutput, DeviceError> {
        let ticket = device.submit(id, &self.step)?;
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
            let values = desc.dtype.decode(&device.read(id, view.buffer, 0..rows)?);
            let rows = values.chunks_exact(desc.cols);
            outputs.push(rows.flat_map(|r| r[view.start..][..view.cols].to_vec()).collect());
        }
        Ok(outputs)
    }
}

/// Numbers that look random and are always the same (SplitMix64; Steele, Lea, Flood, 2014).
pub struct Numbers(pub u64);

impl Numbers {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// An integer below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() >> 11) as usize % n
    }

    /// A float in `[-1, 1)`.
    pub fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / 8_388_608.0 - 1.0
    }
}

/// All cases in these formats, small ones first.
pub fn cases(formats: Formats) -> Vec<Case> {
    let mut all = Vec::new();
    for (rows, cols) in [(1, 64), (5, 96), (33, 576)] {
        all.push(embed(formats, rows, 300, cols));
        all.push(rms_norm(formats, rows, cols, cols, false));
        all.push(rms_norm(formats, rows, cols, cols, true));
        all.push(rms_norm(formats, rows, cols, cols / 4, false));
        all.push(rope(formats, rows, cols / 32, 32, 32));
        all.push(gated_mul(formats, rows, cols, Activation::Silu));
        all.push(gated_mul(formats, rows, cols, Activation::GeluTanh));
        all.push(add(formats, rows, cols));
        all.push(gather(formats, rows, cols));
    }
    all.push(rope(formats, 9, 3, 64, 16));
    for rows in [1, 2, 3, 4, 7, 8, 9, 16, 17, 31, 64, 65, 130] {
        all.push(linear(formats, rows, 64, 96, rows % 2 == 1));
    }
    for (rows, k, n) in [(1, 576, 1536), (6, 1536, 576), (40, 576, 960), (3, 40, 33), (20, 130, 257)] {
        all.push(linear(formats, rows, k, n, false));
    }
    for (rows, k, n, bias) in
        [(1, 64, 96, true), (17, 64, 576, false), (70, 576, 96, true), (3, 40, 33, true)]
    {
        all.push(linear_residual(formats, rows, k, n, bias));
    }
    for (heads, kv_heads, head_dim, page_size, window) in [
        (4, 4, 32, 16, None),
        (8, 2, 64, 16, None),
        (9, 3, 64, 32, None),
        (4, 1, 128, 8, Some(40)),
        (2, 2, 16, 16, Some(7)),
        (6, 2, 80, 64, None),
    ] {
        for seqs in [
            &[(1, 1)][..],
            &[(1, 17), (1, 300), (1, 64)],
            &[(70, 70)],
            &[(33, 100), (1, 65), (5, 5), (2, 129)],
        ] {
            all.push(attention(formats, heads, kv_heads, head_dim, page_size, window, seqs));
        }
    }
    all.push(kv_write(formats, 13, 96, 16));
    for (rows, heads, kv_heads, head_dim, rotary) in
        [(1, 4, 2, 64, 64), (21, 6, 3, 32, 16), (5, 2, 1, 20, 20)]
    {
        all.push(rope_kv_write(formats, rows, heads, kv_heads, head_dim, rotary));
    }
    for vocab in [33, 300, 5000] {
        all.push(sample(vocab, false));
        all.push(sample(vocab, true));
    }
    all
}

/// Collects a case.
struct Builder {
    case: Case,
    numbers: Numbers,
}

impl Builder {
    fn new(name: String, dims: Dims) -> Builder {
        let seed = name.bytes().fold(7, |h: u64, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
        let step = Step {
            page_size: dims.page_size,
            pages_per_seq: dims.pages_per_seq,
            query_start: vec![0, dims.tokens as u32],
            seq_lens: vec![dims.tokens as u32],
            block_tables: vec![0; dims.pages_per_seq],
            tokens: vec![0; dims.tokens],
            positions: (0..dims.tokens as u32).collect(),
            slots: (0..dims.tokens as u32).collect(),
            ..Step::default()
        };
        let case =
            Case { name, plan: Plan::default(), most: dims, writes: Vec::new(), step, outputs: Vec::new() };
        Builder { case, numbers: Numbers(seed) }
    }

    fn floats(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| self.numbers.float() * scale).collect()
    }

    fn buffer(&mut self, name: &str, kind: BufferKind, dtype: DType, rows: Rows, cols: usize) -> BufferId {
        self.case.plan.buffer(name, kind, dtype, rows, cols)
    }

    /// A buffer of random numbers in `[-scale, scale)`.
    fn random(
        &mut self,
        name: &str,
        kind: BufferKind,
        dtype: DType,
        rows: Rows,
        cols: usize,
        scale: f32,
    ) -> BufferId {
        let id = self.buffer(name, kind, dtype, rows, cols);
        let values = self.floats(self.case.most.count(rows) * cols, scale);
        self.case.writes.push((id, dtype.encode(&values)));
        id
    }

    fn activation(&mut self, name: &str, dtype: DType, rows: Rows, cols: usize) -> View {
        let id = self.random(name, BufferKind::Activation, dtype, rows, cols, 1.0);
        self.case.plan.view(id)
    }

    fn input(&mut self, input: Input, rows: Rows, cols: usize) -> BufferId {
        self.buffer(&format!("{input:?}"), BufferKind::StepInput(input), DType::U32, rows, cols)
    }

    /// Linear over new buffers, and its output.
    fn linear(&mut self, f: Formats, k: usize, n: usize, bias: bool) -> (Op, View) {
        let x = self.activation("x", f.activations, Rows::Tokens, k);
        let scale = (3.0 / k as f32).sqrt();
        let weight = self.random("weight", BufferKind::Weight, f.weights, Rows::Fixed(n), k, scale);
        let bias = bias.then(|| self.random("bias", BufferKind::Weight, DType::F32, Rows::Fixed(1), n, 1.0));
        let out = self.activation("out", f.activations, Rows::Tokens, n);
        (Op::Linear { x, weight, bias, out }, out)
    }

    fn finish(mut self, op: Op, outputs: &[(View, usize)]) -> Case {
        self.case.plan.ops.push(op);
        self.case.outputs = outputs.to_vec();
        self.case
    }
}

fn dims(tokens: usize) -> Dims {
    Dims {
        tokens,
        seqs: 8,
        outputs: tokens.max(8),
        adjustments: 64,
        masks: 8,
        pages: 64,
        page_size: 16,
        pages_per_seq: 8,
        attended: 0,
    }
}

/// Embed over a table of `vocab` rows, with a token from the last tokens where there are enough rows.
pub fn embed(f: Formats, rows: usize, vocab: usize, cols: usize) -> Case {
    let mut b = Builder::new(format!("Embed {rows}x{vocab}x{cols}"), dims(rows));
    let tokens = b.input(Input::Tokens, Rows::Tokens, 1);
    let last = b.buffer("last", BufferKind::State, DType::U32, Rows::Fixed(8), 1);
    b.case.writes.push((last, bytemuck::cast_slice(&[1_u32, 2, 3, 255, 5, 6, 7, 8]).to_vec()));
    let table = b.random("table", BufferKind::Weight, f.weights, Rows::Fixed(vocab), cols, 1.0);
    let out = b.activation("out", f.activations, Rows::Tokens, cols);
    b.case.step.tokens = (0..rows).map(|_| b.numbers.below(vocab) as u32).collect();
    if rows > 2 {
        b.case.step.tokens[2] = crate::step::from_last(3);
    }
    b.finish(Op::Embed { tokens, last, table, out }, &[(out, rows)])
}

/// RmsNorm over runs of `width` columns.
pub fn rms_norm(f: Formats, rows: usize, cols: usize, width: usize, residual: bool) -> Case {
    let kind = if residual { " residual" } else { "" };
    let mut b = Builder::new(format!("RmsNorm {rows}x{cols}/{width}{kind}"), dims(rows));
    let x = b.activation("x", f.activations, Rows::Tokens, cols);
    let add = residual.then(|| b.activation("add", f.activations, Rows::Tokens, cols));
    let weight = b.random("weight", BufferKind::Weight, DType::F32, Rows::Fixed(1), width, 2.0);
    let in_place = width != cols;
    let out = if in_place { x } else { b.activation("out", f.activations, Rows::Tokens, cols) };
    let mut outputs = vec![(out, rows)];
    if residual {
        outputs.push((x, rows));
    }
    b.finish(Op::RmsNorm { x, add, weight, out, width, eps: 1e-5 }, &outputs)
}

/// Linear from `k` to `n` columns.
pub fn linear(f: Formats, rows: usize, k: usize, n: usize, bias: bool) -> Case {
    let with = if bias { " bias" } else { "" };
    let mut b = Builder::new(format!("Linear {rows}x{k}x{n}{with}"), dims(rows));
    let (op, out) = b.linear(f, k, n, bias);
    b.finish(op, &[(out, rows)])
}

/// Linear whose result a norm adds to the residual: two ops, which devices may run as one.
pub fn linear_residual(f: Formats, rows: usize, k: usize, n: usize, bias: bool) -> Case {
    let with = if bias { " bias" } else { "" };
    let mut b = Builder::new(format!("Linear {rows}x{k}x{n}{with}, RmsNorm"), dims(rows));
    let (op, delta) = b.linear(f, k, n, bias);
    b.case.plan.ops.push(op);
    let x = b.activation("hidden", f.activations, Rows::Tokens, n);
    let weight = b.random("norm", BufferKind::Weight, DType::F32, Rows::Fixed(1), n, 2.0);
    let out = b.activation("normed", f.activations, Rows::Tokens, n);
    let op = Op::RmsNorm { x, add: Some(delta), weight, out, width: n, eps: 1e-5 };
    b.finish(op, &[(out, rows), (x, rows)])
}

/// Rope over the first columns of a wider buffer.
pub fn rope(f: Formats, rows: usize, heads: usize, head_dim: usize, rotary: usize) -> Case {
    let mut b = Builder::new(format!("Rope {rows}x{heads}x{head_dim} rotary {rotary}"), dims(rows));
    let wide = b.activation("qkv", f.activations, Rows::Tokens, (heads + 1) * head_dim);
    let x = View { cols: heads * head_dim, ..wide };
    let positions = b.input(Input::Positions, Rows::Tokens, 1);
    let table = b.random("table", BufferKind::Weight, DType::F32, Rows::Fixed(512), rotary, 1.0);
    b.case.step.positions = (0..rows).map(|_| b.numbers.below(512) as u32).collect();
    b.finish(Op::Rope { x, positions, table, head_dim }, &[(wide, rows)])
}

/// KvWrite of columns of one buffer into scattered slots.
pub fn kv_write(f: Formats, rows: usize, cols: usize, page_size: usize) -> Case {
    let mut b = Builder::new(format!("KvWrite {rows}x{cols}"), Dims { page_size, ..dims(rows) });
    let qkv = b.activation("qkv", f.activations, Rows::Tokens, 3 * cols);
    let (k, v) = (View { start: cols, cols, ..qkv }, View { start: 2 * cols, cols, ..qkv });
    let slots = b.input(Input::Slots, Rows::Tokens, 1);
    let k_pages = b.random("k pages", BufferKind::KvPage, f.kv, Rows::Slots, cols, 1.0);
    let v_pages = b.random("v pages", BufferKind::KvPage, f.kv, Rows::Slots, cols, 1.0);
    let slot = |i: usize| ((i * 37 + 11) % (64 * page_size)) as u32;
    b.case.step.slots = (0..rows).map(slot).collect();
    let pages = [k_pages, v_pages].map(|id| (b.case.plan.view(id), 64 * page_size));
    b.finish(Op::KvWrite { k, v, slots, k_pages, v_pages }, &pages)
}

/// Rope of queries and keys and KvWrite of the keys: two ops, which devices may run as one.
pub fn rope_kv_write(
    f: Formats,
    rows: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    rotary: usize,
) -> Case {
    let name = format!("Rope {rows}x{heads}/{kv_heads}x{head_dim} rotary {rotary}, KvWrite");
    let mut b = Builder::new(name, dims(rows));
    let qkv = b.activation("qkv", f.activations, Rows::Tokens, (heads + 2 * kv_heads) * head_dim);
    let cols = |first: usize, count: usize| View { start: first * head_dim, cols: count * head_dim, ..qkv };
    let (x, k, v) = (cols(0, heads + kv_heads), cols(heads, kv_heads), cols(heads + kv_heads, kv_heads));
    let positions = b.input(Input::Positions, Rows::Tokens, 1);
    let table = b.random("table", BufferKind::Weight, DType::F32, Rows::Fixed(512), rotary, 1.0);
    let slots = b.input(Input::Slots, Rows::Tokens, 1);
    let k_pages = b.random("k pages", BufferKind::KvPage, f.kv, Rows::Slots, kv_heads * head_dim, 1.0);
    let v_pages = b.random("v pages", BufferKind::KvPage, f.kv, Rows::Slots, kv_heads * head_dim, 1.0);
    let place = |i: usize| ((i * 37 + 11) % (64 * 16)) as u32;
    b.case.step.slots = (0..rows).map(place).collect();
    b.case.step.positions = (0..rows).map(|_| b.numbers.below(512) as u32).collect();
    b.case.plan.ops.push(Op::Rope { x, positions, table, head_dim });
    let pages = [k_pages, v_pages].map(|id| (b.case.plan.view(id), 64 * 16));
    b.finish(Op::KvWrite { k, v, slots, k_pages, v_pages }, &[(qkv, rows), pages[0], pages[1]])
}

/// PagedAttention over sequences of `(queries, length)`, whose pages lie scattered.
pub fn attention(
    f: Formats,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    page_size: usize,
    window: Option<usize>,
    seqs: &[(usize, usize)],
) -> Case {
    let tokens: usize = seqs.iter().map(|s| s.0).sum();
    let longest = seqs.iter().map(|s| s.1).max().unwrap_or(1);
    let pages_per_seq = longest.div_ceil(page_size) + 1;
    let pages: usize = seqs.iter().map(|s| s.1.div_ceil(page_size)).sum::<usize>() + 2;
    let most = Dims { pages, page_size, pages_per_seq, seqs: seqs.len(), ..dims(tokens) };
    let window_name = window.map_or(String::new(), |w| format!(" window {w}"));
    let name = format!("PagedAttention {heads}/{kv_heads}x{head_dim} page {page_size}{window_name} {seqs:?}");
    let mut b = Builder::new(name, most);
    let wide = b.activation("qkv", f.activations, Rows::Tokens, (heads + 2 * kv_heads) * head_dim);
    let q = View { cols: heads * head_dim, ..wide };
    let kv_cols = kv_heads * head_dim;
    let k_pages = b.random("k pages", BufferKind::KvPage, f.kv, Rows::Slots, kv_cols, 2.0);
    let v_pages = b.random("v pages", BufferKind::KvPage, f.kv, Rows::Slots, kv_cols, 1.0);
    let positions = b.input(Input::Positions, Rows::Tokens, 1);
    let query_start = b.input(Input::QueryStart, Rows::SeqBounds, 1);
    let seq_lens = b.input(Input::SeqLens, Rows::Seqs, 1);
    let block_tables = b.input(Input::BlockTables, Rows::Seqs, pages_per_seq);
    let out = b.activation("out", f.activations, Rows::Tokens, heads * head_dim);

    let mut free: Vec<u32> = (0..pages as u32).collect();
    let step = &mut b.case.step;
    (step.positions, step.query_start, step.seq_lens, step.block_tables) =
        (Vec::new(), vec![0], Vec::new(), Vec::new());
    for &(queries, len) in seqs {
        step.positions.extend((len - queries) as u32..len as u32);
        step.query_start.push(step.positions.len() as u32);
        step.seq_lens.push(len as u32);
        let used = len.div_ceil(page_size);
        step.block_tables.extend((0..used).map(|_| free.swap_remove(b.numbers.below(free.len()))));
        step.block_tables.extend(std::iter::repeat_n(0, pages_per_seq - used));
    }
    forget_unheld(&mut b.case, [k_pages, v_pages]);
    let scale = 1.0 / (head_dim as f32).sqrt();
    let op = Op::PagedAttention {
        q,
        k_pages,
        v_pages,
        positions,
        query_start,
        seq_lens,
        block_tables,
        out,
        head_dim,
        scale,
        window,
    };
    b.finish(op, &[(out, tokens)])
}

/// Makes NaN of all slots that hold no position of a sequence: what lies there does not matter.
fn forget_unheld(case: &mut Case, pages: [BufferId; 2]) {
    let step = &case.step;
    let mut held = vec![false; case.most.count(Rows::Slots)];
    for (&len, table) in step.seq_lens.iter().zip(step.block_tables.chunks_exact(step.pages_per_seq)) {
        for p in 0..len as usize {
            held[table[p / step.page_size] as usize * step.page_size + p % step.page_size] = true;
        }
    }
    for (id, bytes) in case.writes.iter_mut().filter(|(id, _)| pages.contains(id)) {
        let desc = case.plan.desc(*id);
        let nan = desc.dtype.encode(&vec![f32::NAN; desc.cols]);
        for (row, _) in bytes.chunks_exact_mut(nan.len()).zip(&held).filter(|(_, held)| !**held) {
            row.copy_from_slice(&nan);
        }
    }
}

/// GatedMul.
pub fn gated_mul(f: Formats, rows: usize, cols: usize, act: Activation) -> Case {
    let mut b = Builder::new(format!("GatedMul {act:?} {rows}x{cols}"), dims(rows));
    let id = b.random("x", BufferKind::Activation, f.activations, Rows::Tokens, 2 * cols, 6.0);
    let x = b.case.plan.view(id);
    let out = b.activation("out", f.activations, Rows::Tokens, cols);
    b.finish(Op::GatedMul { x, out, act }, &[(out, rows)])
}

/// Add, in place.
pub fn add(f: Formats, rows: usize, cols: usize) -> Case {
    let mut b = Builder::new(format!("Add {rows}x{cols}"), dims(rows));
    let x = b.activation("a", f.activations, Rows::Tokens, cols);
    let y = b.activation("b", f.activations, Rows::Tokens, cols);
    b.finish(Op::Add { a: x, b: y, out: x }, &[(x, rows)])
}

/// GatherRows of every other row, backwards.
pub fn gather(f: Formats, rows: usize, cols: usize) -> Case {
    let mut b = Builder::new(format!("GatherRows {rows}x{cols}"), dims(rows));
    let x = b.activation("x", f.activations, Rows::Tokens, cols);
    let index = b.input(Input::OutputRows, Rows::Outputs, 1);
    let out = b.activation("out", f.activations, Rows::Outputs, cols);
    b.case.step.output_rows = (0..rows as u32).rev().step_by(2).collect();
    b.case.step.sampling = vec![SampleRow::greedy(); b.case.step.output_rows.len()];
    let count = b.case.step.output_rows.len();
    b.finish(Op::GatherRows { x, rows: index, out }, &[(out, count)])
}

/// Sample: each row another way, over well separated logits, so that devices which round differently
/// still agree. With `drawn`, rows draw at a temperature; without, they are greedy.
pub fn sample(vocab: usize, drawn: bool) -> Case {
    let how = if drawn { "drawn" } else { "greedy" };
    let mut b = Builder::new(format!("Sample {vocab} {how}"), dims(8));
    let words = vocab.div_ceil(32);
    let id = b.buffer("logits", BufferKind::Activation, DType::F32, Rows::Outputs, vocab);
    let logits = b.case.plan.view(id);
    let values: Vec<f32> = (0..8).flat_map(|row| ladder(&mut b.numbers, vocab, row)).collect();
    b.case.writes.push((id, DType::F32.encode(&values)));
    let sampling = b.input(Input::Sampling, Rows::Outputs, 16);
    let adjustments = b.input(Input::Adjustments, Rows::Adjustments, 4);
    let masks = b.input(Input::Masks, Rows::Masks, words);
    let last = b.buffer("last", BufferKind::State, DType::U32, Rows::Fixed(8), 1);
    b.case.writes.push((last, vec![0; 32]));
    let out = b.buffer("sampled", BufferKind::StepOutput, DType::U32, Rows::Outputs, SAMPLED_WORDS);

    let rows = [
        SampleRow { last_slot: 3, ..SampleRow::greedy() },
        SampleRow { logprobs: 5, last_slot: 0, ..SampleRow::greedy() },
        SampleRow { target: 7, logprobs: 20, ..SampleRow::greedy() },
        SampleRow { adjust_start: 0, adjust_len: 3, ..SampleRow::greedy() },
        SampleRow { mask: 0, last_slot: 7, ..SampleRow::greedy() },
        SampleRow { mask: 1, adjust_start: 3, adjust_len: 1, logprobs: 1, ..SampleRow::greedy() },
        SampleRow { top_k: 3, ..SampleRow::greedy() },
        SampleRow { top_p: 0.6, min_p: 0.2, ..SampleRow::greedy() },
    ];
    let step = &mut b.case.step;
    step.output_rows = (0..8).collect();
    step.sampling = rows.to_vec();
    if drawn {
        for (i, row) in step.sampling.iter_mut().enumerate() {
            row.temperature = 0.25 + i as f32 * 0.5;
            (row.key_lo, row.key_hi) = (b.numbers.bits() as u32, b.numbers.bits() as u32);
            row.position = 11 * i as u32;
        }
    }
    let best = |row: usize| {
        let logits = &values[row * vocab..][..vocab];
        (0..vocab).fold(0, |best, i| if logits[i] > logits[best] { i } else { best }) as u32
    };
    let adjustment = |token, repetition, bias| Adjustment { token, repetition, bias, reserved: 0 };
    step.adjustments = vec![
        adjustment(best(3), 1.0, f32::NEG_INFINITY),
        adjustment((best(3) + 1) % vocab as u32, 1.3, 4.0),
        adjustment((best(3) + 2) % vocab as u32, 0.7, -4.0),
        adjustment(best(5), 2.0, -1.0),
    ];
    step.mask_words = words;
    step.masks = (0..2 * words as u32).map(|w| 0x1357_9bdf_u32.rotate_left(w)).collect();
    debug_assert!(step.sampling.iter().all(|row| row.mask == NONE || row.mask < 2));
    let op = Op::Sample { logits, sampling, adjustments, masks, last, out };
    let lasts = b.case.plan.view(last);
    let outputs = [(View { buffer: out, start: 0, cols: 1 }, 8), (lasts, 8)];
    b.finish(op, &outputs)
}

/// Logits half a unit apart, shuffled: no two of the likely ones are close.
fn ladder(numbers: &mut Numbers, vocab: usize, row: usize) -> Vec<f32> {
    let mut logits: Vec<f32> = (0..vocab).map(|i| 6.0 - 0.5 * i as f32).map(|l| l.max(-40.0)).collect();
    for i in (1..vocab).rev() {
        logits.swap(i, numbers.below(i + 1));
    }
    logits.iter().map(|l| l + row as f32).collect()
}
