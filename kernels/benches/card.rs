//! What a card does: its ceilings, and how near the kernels come to them.
//!
//! Each figure stands beside its limit, measured in the same run: copies and matrix products of NVIDIA's
//! own libraries. Usage: `card [copy|linear|tiles|tiles-fp8|prefill|decode|sample|overhead]...`, all but tiles if none is named.
//! `CARD_SCALE=n` divides sizes by n, to try the program out where there is no card.
#![allow(clippy::unwrap_used)]

use cudarc::driver::{CudaContext, CudaStream, result};
use engine::cases::{Attention, Case, Formats, attention, linear, sample_filtered};
use engine::device::Device;
use engine::dtype::DType;
use engine::format::Format;
use engine::op::Op;
use engine::plan::BufferKind;
use engine::step::{SampleRow, Step};
use kernels::{CudaDevice, Gemm, Options};
use std::sync::Arc;
use std::time::Instant;

const BF16: Formats =
    Formats { activations: DType::BF16, weights: Format::Plain(DType::BF16), kv: DType::BF16 };

/// Weights in FP8; on sm_90 with what rounding activations takes.
const FP8: Formats = Formats { weights: Format::Fp8, ..BF16 };

/// FP8 pages.
const FP8_PAGES: Formats = Formats { kv: DType::E4M3, ..BF16 };

/// Linear shapes of Llama-3.1-8B: name, K, N.
const LAYERS: [(&str, usize, usize); 5] = [
    ("qkv", 4096, 6144),
    ("o", 4096, 4096),
    ("gate_up", 4096, 28672),
    ("down", 14336, 4096),
    ("lm_head", 4096, 128_256),
];

/// The heads of Llama-3.1-8B.
const HEADS: Attention = Attention::new(32, 8, 128, 16);

fn main() {
    let named: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wants = |what: &str| named.is_empty() || named.iter().any(|n| n == what);
    let scale = std::env::var("CARD_SCALE").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let wgmma = match CudaDevice::open(None) {
        Ok(device) => {
            println!("card: {}, {}", device.info().name, device.info().family);
            device.info().family == "cuda sm_90a"
        }
        Err(why) => {
            eprintln!("SKIPPED: {why}");
            std::process::exit(i32::from(std::env::var_os("REQUIRE_DEVICE").is_some()));
        }
    };
    let context = CudaContext::new(0).unwrap();
    let stream = context.new_stream().unwrap();
    let copied = copy_rate(&stream, (1 << 30) / scale);
    println!("copy: {:.1} GB/s, read and written", copied / 1e9);
    if wants("linear") {
        linears(scale);
    }
    // It takes long, and only whoever fits the cost model wants it.
    for (name, formats) in [("tiles", BF16), ("tiles-fp8", FP8)] {
        if wgmma && named.iter().any(|n| n == name) {
            tiles(formats, scale);
        }
    }
    if wants("decode") {
        decode(copied, scale);
    }
    if wants("prefill") {
        prefill(wgmma, scale);
    }
    if wants("sample") {
        samples(copied, scale);
    }
    if wants("overhead") {
        overhead();
    }
}

/// The best of a few times, in seconds.
fn best(mut run: impl FnMut() -> f64) -> f64 {
    (0..5).map(|_| run()).fold(f64::INFINITY, f64::min)
}

/// Bytes read and written a second by a copy within the card's memory.
fn copy_rate(stream: &Arc<CudaStream>, bytes: usize) -> f64 {
    // SAFETY: two allocations of this length; their values do not matter, but they are set.
    unsafe {
        let (a, b) = (result::malloc_sync(bytes).unwrap(), result::malloc_sync(bytes).unwrap());
        result::memset_d8_async(a, 1, bytes, stream.cu_stream()).unwrap();
        stream.synchronize().unwrap();
        let copies = 10;
        let seconds = best(|| {
            let start = Instant::now();
            for _ in 0..copies {
                result::memcpy_dtod_async(b, a, bytes, stream.cu_stream()).unwrap();
            }
            stream.synchronize().unwrap();
            start.elapsed().as_secs_f64() / f64::from(copies)
        });
        result::free_sync(a).unwrap();
        result::free_sync(b).unwrap();
        2.0 * bytes as f64 / seconds
    }
}

/// Seconds of a case's op alone, by steps: a plan with many of them against one with few, so that what a step costs
/// beside its kernels cancels out. Each repetition has buffers of its own kind `fresh`, as many as keep
/// the cache from holding them.
fn seconds_of(case: &Case, steps: &[Step], fresh: BufferKind, budget: usize, options: &Options) -> Vec<f64> {
    let each: usize = case.plan.bytes(&case.max_dims, |kind| kind == fresh).max(1);
    let copies = (budget / each).clamp(1, 24);
    let time = |repeats: usize| -> Vec<f64> {
        let case = repeated(case, repeats, copies, fresh);
        // A device of its own, so that its memory is free again afterwards.
        let mut device = CudaDevice::open_with(options.clone()).unwrap();
        let (id, _) = case.run(&mut device).unwrap();
        let mut run = |step: &Step| {
            let start = Instant::now();
            let ticket = device.submit(id, step).unwrap();
            device.wait(ticket).unwrap();
            start.elapsed().as_secs_f64()
        };
        steps.iter().map(|step| best(|| run(step))).collect()
    };
    let (few, many) = (copies.max(4), 5 * copies.max(4));
    let times = time(many).into_iter().zip(time(few));
    times.map(|(many_s, few_s)| (many_s - few_s) / (many - few) as f64).collect()
}

/// The case with its op `repeats` times, over `copies` sets of buffers of kind `fresh`.
fn repeated(case: &Case, repeats: usize, copies: usize, fresh: BufferKind) -> Case {
    let mut plan = case.plan.clone();
    let mut writes = case.writes.clone();
    let mut sets = vec![Vec::new(); copies];
    for (id, desc) in case.plan.iter().filter(|(_, d)| d.kind == fresh) {
        sets[0].push((id, id));
        for set in &mut sets[1..] {
            let new = plan.buffer(desc.name.clone(), desc.kind, desc.format, desc.rows, desc.cols);
            let bytes = case.writes.iter().find(|(w, _)| *w == id).map(|(_, b)| b.clone());
            writes.extend(bytes.map(|b| (new, b)));
            set.push((id, new));
        }
    }
    let op = plan.ops.remove(0);
    for i in 0..repeats {
        let set = &sets[i % copies];
        let swap = |id| set.iter().find(|(old, _)| *old == id).map_or(id, |(_, new)| *new);
        let mut op = op;
        match &mut op {
            Op::Linear(op) => op.weight = swap(op.weight),
            Op::PagedAttention(op) => {
                (op.k_pages, op.v_pages) = (swap(op.k_pages), swap(op.v_pages));
            }
            _ => {}
        }
        plan.ops.push(op);
    }
    Case { plan, writes, ..case.clone() }
}

/// The first rows of a step of one sequence.
fn first(step: &Step, rows: usize) -> Step {
    let mut step = step.clone();
    for of_tokens in [&mut step.tokens, &mut step.positions, &mut step.kv_slots] {
        of_tokens.truncate(rows);
    }
    Step { query_start: vec![0, rows as u32], ..step }
}

/// A Linear of so many rows at most, and its steps of fewer: its weights are made once.
fn linear_steps(formats: Formats, rows: &[usize], k: usize, n: usize) -> (Case, Vec<Step>) {
    let case = linear(formats, rows.iter().copied().max().unwrap_or(1), k, n, false);
    let steps = rows.iter().map(|&rows| first(&case.step, rows)).collect();
    (case, steps)
}

/// Those of the row counts that a layer of so many features runs with: its results fit, and only few rows are sampled.
fn rows_of(rows: &[usize], n: usize, scale: usize) -> Vec<usize> {
    let fits = |rows: &usize| rows * n <= 1 << 28 && (n <= 100_000 || *rows <= 256);
    let mut rows: Vec<usize> = rows.iter().map(|rows| (rows / scale).max(1)).filter(fits).collect();
    rows.dedup();
    rows
}

/// Linear at the shapes of Llama-3.1-8B against cuBLASLt, and in FP8.
fn linears(scale: usize) {
    let yardstick = CudaDevice::open_with(Options { gemm: Gemm::CublasLt, ..Options::default() });
    let yardstick = yardstick.map_err(|why| eprintln!("linear has no yardstick: {why}")).is_ok();
    println!(
        "linear: layer rows | TFLOP/s, GB/s of weights | cuBLASLt TFLOP/s | ratio (limit 0.95 with wgmma, else 0.75 from 256 rows) | FP8 TFLOP/s, GB/s"
    );
    for (name, k, n) in LAYERS {
        let (k, n) = (k / scale / 8 * 8, n / scale / 8 * 8);
        let rows = rows_of(&[1, 16, 64, 128, 256, 512, 2048, 8192], n, scale);
        let (case, steps) = linear_steps(BF16, &rows, k, n);
        let seconds = |case: &Case, gemm| {
            let options = Options { gemm, ..Options::default() };
            seconds_of(case, &steps, BufferKind::Weight, (256 << 20) / scale, &options)
        };
        // One after the other, so that both see the card at the same temperature.
        let other = yardstick.then(|| seconds(&case, Gemm::CublasLt));
        let built_in = seconds(&case, Gemm::Builtin);
        let fp8 = seconds(&linear_steps(FP8, &rows, k, n).0, Gemm::Builtin);
        for (i, rows) in rows.into_iter().enumerate() {
            let rate = |seconds: f64| 2.0 * (rows * k * n) as f64 / seconds / 1e12;
            let ours = rate(built_in[i]);
            let theirs = other.as_ref().map(|other| rate(other[i]));
            let theirs = theirs.map_or("-".into(), |theirs| format!("{theirs:.1} | {:.2}", ours / theirs));
            let bytes = |element: f64, seconds: f64| element * (n * k) as f64 / seconds / 1e9;
            let (bf16, e4m3) = (bytes(2.0, built_in[i]), bytes(1.0, fp8[i]));
            println!(
                "linear: {name} {rows} | {ours:.1}, {bf16:.0} | {theirs} | {:.1}, {e4m3:.0}",
                rate(fp8[i])
            );
        }
    }
}

/// Linear with each tile that may serve so many rows, as lines of `benches/results/2026-11-27-h200-linear.tsv`: the cost
/// model is fitted to them. Those of FP8 take what rounding activations takes too.
fn tiles(formats: Formats, scale: usize) {
    println!("tiles: layer, rows, features, K, warpgroups, tokens of a tile, slots, microseconds");
    for (name, k, n) in LAYERS {
        let (k, n) = (k / scale / 8 * 8, n / scale / 8 * 8);
        let rows = rows_of(&[1, 16, 64, 128, 256, 384, 512, 1024], n, scale);
        let (case, _) = linear_steps(formats, &rows, k, n);
        for (warpgroups, tokens, slots) in kernels::linear_tiles() {
            // Much narrower or wider ones are never chosen.
            let may =
                |rows: &usize| tokens <= rows.next_power_of_two().max(8) && tokens * 8 >= (*rows).min(1024);
            let rows: Vec<usize> = rows.iter().copied().filter(may).collect();
            let steps: Vec<Step> = rows.iter().map(|&rows| first(&case.step, rows)).collect();
            let options = Options { linear_tile: Some((warpgroups, tokens)), ..Options::default() };
            let seconds = seconds_of(&case, &steps, BufferKind::Weight, (256 << 20) / scale, &options);
            for (rows, seconds) in rows.into_iter().zip(seconds) {
                println!("{name}\t{rows}\t{n}\t{k}\t{warpgroups}\t{tokens}\t{slots}\t{:.1}", seconds * 1e6);
            }
        }
    }
}

/// Decode attention with the heads of Llama-3.1-8B, in bytes of KV a second; then over FP8 pages, which have half as many.
fn decode(copied: f64, scale: usize) {
    println!(
        "decode: sequences x length | time | GB/s | of the copy rate (limit 0.75 where there is work for the card)"
    );
    let wide = [(1, 512), (16, 512), (256, 512), (256, 1024), (128, 4096), (16, 16384), (1, 65536)];
    let narrow = [(1, 512), (256, 512), (256, 1024), (128, 4096), (16, 16384)];
    let all = wide.map(|shape| (BF16, shape)).into_iter().chain(narrow.map(|shape| (FP8_PAGES, shape)));
    for (formats, (seqs, len)) in all {
        let (seqs, len) = ((seqs / scale).max(1), (len / scale).max(16));
        let case = attention(formats, HEADS, &vec![(1, len); seqs]);
        let steps = [case.step.clone()];
        let seconds =
            seconds_of(&case, &steps, BufferKind::KvPage, (512 << 20) / scale, &Options::default())[0];
        let rate = (seqs * len * 2 * 8 * 128 * formats.kv.size()) as f64 / seconds;
        let pages = if formats == FP8_PAGES { ", FP8 pages" } else { "" };
        println!(
            "decode: {seqs} x {len}{pages} | {:.1} us | {:.0} | {:.2}",
            seconds * 1e6,
            rate / 1e9,
            rate / copied
        );
    }
}

/// Prefill attention with the heads of Llama-3.1-8B, counting what the causal mask leaves; with `wgmma` beside the kernel of
/// other cards. Then over FP8 pages.
fn prefill(wgmma: bool, scale: usize) {
    println!("prefill: sequences x length | TFLOP/s{}", if wgmma { " | by mma.sync" } else { "" });
    let shapes = [(16, 512), (8, 1024), (4, 2048), (1, 8192)];
    let narrow = [(16, 512), (4, 2048)];
    let all = shapes.map(|shape| (BF16, shape)).into_iter().chain(narrow.map(|shape| (FP8_PAGES, shape)));
    for (formats, (seqs, len)) in all {
        let (seqs, len) = ((seqs / scale).max(1), (len / scale).max(16));
        let case = attention(formats, HEADS, &vec![(len, len); seqs]);
        let flops = seqs as f64 * 4.0 * 32.0 * 128.0 * (len * (len + 1) / 2) as f64;
        let rate = |mma_prefill| {
            let options = Options { mma_prefill, ..Options::default() };
            flops
                / seconds_of(&case, std::slice::from_ref(&case.step), BufferKind::KvPage, 1, &options)[0]
                / 1e12
        };
        let other = if wgmma { format!(" | {:.1}", rate(true)) } else { String::new() };
        let pages = if formats == FP8_PAGES { ", FP8 pages" } else { "" };
        println!("prefill: {seqs} x {len}{pages} | {:.1}{other}", rate(false));
    }
}

/// Sample over the vocabulary of Llama 3, greedy and in the ways that generation configs ask for.
fn samples(copied: f64, scale: usize) {
    println!("sample: rows, how | time | that of reading the logits once at half the copy rate");
    let vocab = (128_256 / scale / scale).max(64);
    let greedy = SampleRow::greedy();
    let drawn = SampleRow { temperature: 0.7, key_lo: 7, ..greedy };
    let ways = [
        ("greedy", greedy),
        ("temperature 0.7", drawn),
        ("top_p 0.9", SampleRow { top_p: 0.9, ..drawn }),
        ("top_k 20, top_p 0.8", SampleRow { top_k: 20, top_p: 0.8, ..drawn }),
        ("20 log-probabilities", SampleRow { logprobs: 20, ..greedy }),
    ];
    // Looking for tokens one by one takes the stand-in long.
    let wanted = if scale == 1 { ways.len() } else { 2 };
    for (name, how) in ways.into_iter().take(wanted) {
        for rows in [1, 16, 256].map(|rows| (rows / scale).max(1)) {
            let mut case = sample_filtered(vocab);
            case.max_dims.outputs = rows.max(8);
            case.step.output_rows = vec![0; rows];
            case.step.sampling = vec![how; rows];
            let logits = &mut case.writes[0].1;
            *logits = logits.repeat(rows.div_ceil(8));
            let steps = [case.step.clone()];
            let seconds = seconds_of(&case, &steps, BufferKind::KvPage, 1, &Options::default())[0];
            let bound = (rows * vocab * 4) as f64 / (copied / 2.0);
            println!("sample: {rows}, {name} | {:.1} us | {:.1} us", seconds * 1e6, bound * 1e6);
        }
    }
}

/// What a step costs beside its kernels: steps of one small op, one after another.
fn overhead() {
    let mut device = CudaDevice::open(None).unwrap();
    let case = attention(BF16, HEADS, &[(1, 16); 256]);
    let (id, _) = case.run(&mut device).unwrap();
    let steps = 200;
    let start = Instant::now();
    let mut queued = std::collections::VecDeque::new();
    for _ in 0..steps {
        queued.push_back(device.submit(id, &case.step).unwrap());
        if queued.len() > 1 {
            device.wait(queued.pop_front().unwrap()).unwrap();
        }
    }
    queued.into_iter().for_each(|ticket| drop(device.wait(ticket).unwrap()));
    let micros = start.elapsed().as_secs_f64() * 1e6 / f64::from(steps);
    println!("overhead: {micros:.0} us a step of 256 rows with one small op (inputs, graph, read-back)");
}
