//! The numeric contract: a row's tokens and log-probabilities have the same bits whatever shares its
//! batch, however prompts are chunked, whether pages were cached or recomputed, whatever the page size, and
//! whether masks are provided before or after the device has started the step.

#![allow(clippy::unwrap_used)]

mod support;

use engine::constraint::{Constraint, Matcher, NoToken};
use engine::dtype::DType;
use engine::format::Format;
use engine::models::{LoadFormat, Model};
use engine::numbers::Numbers;
use engine::request::{Branch, Event, FinishReason, Request, SamplingParams, Score, Scores};
use engine::{Engine, EngineConfig};
use jobs::prompt::tokenizer::Tokenizer;
use jobs::structured::StructuredOutputs;
use jobs::structured::constraint::Structure;
use jobs::structured::vocabulary::Vocabulary;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

/// Everything that is reported for a row, as bits.
#[derive(Clone, Debug, Default, PartialEq)]
struct Answer {
    tokens: Vec<u32>,
    logprobs: Vec<u32>,
    prompt_logprobs: Vec<u32>,
    scores: Vec<Vec<u32>>,
    finish: Option<FinishReason>,
    dead_end: Option<String>,
}

/// Allows two thirds of the tokens, depending on all previous tokens, and now and then only a run of certain tokens.
#[derive(Debug)]
struct TwoThirds {
    vocab: u32,
}

#[derive(Debug)]
struct TwoThirdsMatcher {
    vocab: u32,
    sum: u32,
    forced: VecDeque<u32>,
}

impl Constraint for TwoThirds {
    fn matcher(&self) -> Box<dyn Matcher> {
        Box::new(TwoThirdsMatcher { vocab: self.vocab, sum: 0, forced: VecDeque::new() })
    }
}

impl Matcher for TwoThirdsMatcher {
    fn fill_mask(&mut self, mask: &mut [u32]) -> Result<(), NoToken> {
        if self.forced.is_empty() && self.sum.is_multiple_of(4) {
            self.forced = (0..1 + self.sum % 9).map(|i| (self.sum * 5 + i * 11 + 3) % self.vocab).collect();
        }
        if let Some(token) = self.forced.front() {
            mask[*token as usize / 32] |= 1 << (token % 32);
            return Ok(());
        }
        for token in (0..self.vocab).filter(|token| !(token + self.sum).is_multiple_of(3)) {
            mask[token as usize / 32] |= 1 << (token % 32);
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) {
        match self.forced.pop_front() {
            Some(forced) => assert_eq!(token, forced),
            None => assert!(!(token + self.sum).is_multiple_of(3), "token {token} was not allowed"),
        }
        self.sum += token;
    }

    fn forced(&self) -> Vec<u32> {
        self.forced.iter().copied().collect()
    }
}

/// Rows of many kinds: lengths from 1 to 60, shared prefixes, greedy and drawn, penalties, stops, lists of allowed
/// tokens, constraints, and rows that are only scored.
fn rows(count: usize, vocab: usize, constraints: &[Arc<dyn Constraint>]) -> Vec<Request> {
    let mut numbers = Numbers(1);
    let prefixes: Vec<Vec<u32>> =
        (0..4).map(|_| (0..40).map(|_| numbers.below(vocab) as u32).collect()).collect();
    let row = |id: usize| {
        let mut prompt =
            if id.is_multiple_of(3) { prefixes[id % 4][..8 * (id % 5) + 1].to_vec() } else { Vec::new() };
        prompt.extend((0..1 + numbers.below(20)).map(|_| numbers.below(vocab) as u32));
        let drawn = id % 2 == 1;
        let params = SamplingParams {
            temperature: if drawn { 0.3 + (id % 7) as f32 * 0.2 } else { 0.0 },
            top_k: if id % 5 == 1 { 20 } else { 0 },
            top_p: if id % 7 == 1 { 0.8 } else { 1.0 },
            min_p: if id % 11 == 1 { 0.05 } else { 0.0 },
            repetition_penalty: if id % 13 == 2 { 1.3 } else { 1.0 },
            frequency_penalty: if id % 17 == 3 { 0.5 } else { 0.0 },
            stop_token_ids: if id.is_multiple_of(4) { vec![(id % vocab) as u32, 7, 11] } else { Vec::new() },
            allowed_token_ids: (id % 23 == 5).then(|| (0..vocab as u32).step_by(2).collect()),
            max_tokens: 1 + (id % 19) as u32,
            logprobs: (id % 3) as u32,
            prompt_logprobs: (id % 9 == 4).then_some(1),
            key: numbers.bits(),
            ..SamplingParams::default()
        };
        let constraint = (id % 5 == 3).then(|| constraints[id / 5 % constraints.len()].clone());
        let scores = (id % 4 == 2).then(|| scores(&mut numbers, prompt.len(), vocab));
        Request { id: id as u64, prompt, params, constraint, scores }
    };
    (0..count).map(row).collect()
}

/// Scores of up to all tokens of the vocabulary, at positions of the prompt and of branches that go back to some of it.
fn scores(n: &mut Numbers, prompt: usize, vocab: usize) -> Scores {
    let at = |n: &mut Numbers, start: usize, end: usize| {
        let positions: Vec<usize> = (start..end).filter(|&p| p + 1 == end || n.below(3) == 0).collect();
        let mut targets = |count| (0..count).map(|_| n.below(vocab) as u32).collect();
        let count = |p: usize| if p % 16 == 3 { vocab } else { 1 + p % 5 };
        positions.into_iter().map(|position| Score { position, targets: targets(count(position)) }).collect()
    };
    let of_prompt = at(n, 0, prompt);
    let mut len = prompt;
    let mut branch = |n: &mut Numbers| {
        let (from, count) = (len - n.below(len.min(12)), 1 + n.below(6));
        len = from + count;
        let tokens = (0..count).map(|_| n.below(vocab) as u32).collect();
        Branch { from, tokens, scores: at(n, from, len) }
    };
    let branches = (0..n.below(6)).map(|_| branch(n)).collect();
    Scores { prompt: of_prompt, branches }
}

/// The longest sequence.
const MAX_LEN: usize = 96;

/// The settings and the order of a run.
#[derive(Debug)]
struct Schedule {
    config: EngineConfig,
    order: u64,
    preempt: bool,
    forget: bool,
    trickle: bool,
}

impl Schedule {
    fn random(seed: u64, kv_bytes_per_token: usize, page_sizes: &[usize], base: &EngineConfig) -> Schedule {
        let mut n = Numbers(seed);
        let max_len = MAX_LEN;
        let block_size = page_sizes[n.below(page_sizes.len())];
        // From just enough for one sequence to plenty.
        let tokens = max_len.div_ceil(block_size) * block_size + n.below(12) * max_len / 2;
        let config = EngineConfig {
            max_num_seqs: Some(1 + n.below(40)),
            max_num_batched_tokens: Some(1 + n.below(96)),
            block_size,
            kv_cache_bytes: Some((tokens + block_size) * kv_bytes_per_token),
            enable_prefix_caching: n.below(3) > 0,
            late_masks: n.below(2) == 0,
            force_tokens: n.below(3) > 0,
            ..base.clone()
        };
        Schedule {
            config,
            order: n.bits(),
            preempt: n.below(2) == 0,
            forget: n.below(4) == 0,
            trickle: n.below(2) == 0,
        }
    }
}

/// Runs all rows under a schedule.
fn run(device: &str, model: &Model, rows: &[Request], schedule: &Schedule) -> Option<HashMap<u64, Answer>> {
    let device = support::open(device)?;
    let mut engine = Engine::new(model, device, &schedule.config).unwrap();
    let mut n = Numbers(schedule.order);
    let mut queue = rows.to_vec();
    for i in (1..queue.len()).rev() {
        queue.swap(i, n.below(i + 1));
    }
    let mut answers: HashMap<u64, Answer> = HashMap::new();
    while !queue.is_empty() || !engine.is_idle() {
        let arrivals = if schedule.trickle { n.below(5) } else { queue.len() };
        for request in queue.drain(..arrivals.min(queue.len())) {
            engine.add(request).unwrap();
        }
        if schedule.preempt && n.below(6) == 0 && engine.running() > 0 {
            let victim = n.below(engine.running());
            let id = engine.scheduler_mut().running()[victim].id;
            engine.scheduler_mut().preempt(id);
        }
        if schedule.forget && n.below(10) == 0 {
            engine.scheduler_mut().forget_pages();
        }
        for event in engine.step().unwrap() {
            match event {
                Event::Prompt { id, start, logprobs } => {
                    let answer = answers.entry(id).or_default();
                    assert_eq!(start, answer.prompt_logprobs.len() / 2 + 1, "row {id}: {schedule:?}");
                    let bits = logprobs.iter().flat_map(|l| [l.logprob.to_bits(), l.top[0].1.to_bits()]);
                    answer.prompt_logprobs.extend(bits);
                }
                Event::Scores { id, logprobs } => {
                    let bits = |l: Vec<f32>| l.into_iter().map(f32::to_bits).collect();
                    answers.entry(id).or_default().scores.extend(logprobs.into_iter().map(bits));
                }
                Event::Token { id, token } => {
                    let answer = answers.entry(id).or_default();
                    answer.tokens.push(token.token);
                    answer.logprobs.push(token.logprob.to_bits());
                    answer.logprobs.extend(token.top.iter().flat_map(|t| [t.0, t.1.to_bits()]));
                }
                Event::DeadEnd { id, why } => answers.entry(id).or_default().dead_end = Some(why.to_string()),
                Event::Finished { id, reason, .. } => {
                    let scored = rows[id as usize].scores.is_some();
                    assert_eq!(scored, reason == FinishReason::Scored, "row {id}: {reason:?}");
                    let answer = answers.entry(id).or_default();
                    assert_eq!(answer.finish, None, "row {id} ended twice: {schedule:?}");
                    answer.finish = Some(reason);
                }
            }
        }
    }
    let pool = engine.scheduler_mut().pool();
    assert_eq!(pool.free(), pool.count(), "pages leaked: {schedule:?}");
    Some(answers)
}

/// A made-up constraint, and structures of a model that has a tokenizer.
fn constraints(model: &Path, vocab: usize) -> Vec<Arc<dyn Constraint>> {
    let mut constraints: Vec<Arc<dyn Constraint>> = vec![Arc::new(TwoThirds { vocab: vocab as u32 })];
    if !model.join("tokenizer.json").exists() {
        return constraints;
    }
    let tokenizer = Arc::new(Tokenizer::open(model).unwrap());
    let vocabulary = Arc::new(Vocabulary::new(&tokenizer, vocab, &[7, 11]).unwrap());
    let properties =
        serde_json::json!({ "name": { "type": "string" }, "kind": { "enum": ["mill", "river"] } });
    for outputs in [
        StructuredOutputs::Json(serde_json::json!({
            "type": "object", "properties": properties, "required": ["name", "kind"], "additionalProperties": false
        })),
        StructuredOutputs::Regex("(the mill|the river) is (very ){1,9}(old|new)".into()),
    ] {
        constraints.push(Arc::new(Structure::compile(&outputs, &vocabulary).unwrap()));
    }
    constraints
}

/// The first difference between two runs, in words.
fn difference(want: &HashMap<u64, Answer>, got: &HashMap<u64, Answer>) -> Option<String> {
    let mut ids: Vec<_> = want.keys().collect();
    ids.sort();
    let differs = ids.into_iter().find(|id| want.get(id) != got.get(id));
    differs.map(|id| format!("row {id}: {:?}\nagainst {:?}", want[id], got.get(id)))
}

/// `count` rows of a golden model under `schedules` schedules.
fn keep_their_bits(on: (&str, DType), model: &str, count: usize, schedules: u64, page_sizes: &[usize]) {
    stored_keep_their_bits(on, None, None, model, count, schedules, page_sizes);
}

/// The same with matrices converted to a format, and KV pages in a type.
fn stored_keep_their_bits(
    (device, dtype): (&str, DType),
    quantization: Option<Format>,
    kv_cache_dtype: Option<DType>,
    model: &str,
    count: usize,
    schedules: u64,
    page_sizes: &[usize],
) {
    let folder = support::golden(model);
    let model = Model::open(&folder, LoadFormat::Auto).unwrap();
    let rows = rows(count, model.config.vocab, &constraints(&folder, model.config.vocab));
    let Some(first) = support::open(device).map(|d| d.info().types_for(dtype).kv[0]) else { return };
    let kv_type = kv_cache_dtype.unwrap_or(first);
    let kv = 2 * model.config.layers.len() * model.config.kv_heads * model.config.head_dim * kv_type.size();
    let (max_model_len, dtype) = (Some(MAX_LEN), Some(dtype));
    let base = EngineConfig { max_model_len, dtype, quantization, kv_cache_dtype, ..EngineConfig::default() };
    let plain = Schedule {
        config: EngineConfig { max_num_seqs: Some(1), force_tokens: false, ..base.clone() },
        order: 0,
        preempt: false,
        forget: false,
        trickle: false,
    };
    let Some(want) = run(device, &model, &rows, &plain) else { return };
    assert_eq!(want.len(), rows.len());
    for seed in 1..=schedules {
        let schedule = Schedule::random(seed, kv, page_sizes, &base);
        let Some(got) = run(device, &model, &rows, &schedule) else { return };
        if let Some(difference) = difference(&want, &got) {
            panic!("{difference}\nunder schedule {seed}, {schedule:?}");
        }
    }
    // The negative control: change one bit of one key, and the comparison must notice.
    let mut other = rows.clone();
    let changes =
        |r: &&mut Request| r.scores.is_none() && r.params.temperature > 1.0 && r.params.max_tokens > 10;
    let drawn = other.iter_mut().rfind(changes).unwrap();
    drawn.params.key ^= 1 << 40;
    let Some(got) = run(device, &model, &other, &Schedule::random(1, kv, page_sizes, &base)) else { return };
    assert!(difference(&want, &got).is_some(), "another key gave the same bits: the test sees nothing");
    println!("{device}: {count} rows under {schedules} schedules");
}

#[test]
fn cpu() {
    keep_their_bits(("cpu", DType::F32), "qwen2-window", 240, support::schedules(50), &[1, 4, 8, 16, 24, 64]);
}

/// Soft-caps, alternating windows and norms after each part.
#[test]
fn cpu_gemma2() {
    keep_their_bits(("cpu", DType::F32), "gemma2", 120, support::schedules(15), &[1, 16, 24]);
}

/// Structures that llguidance follows, which force tokens.
#[test]
fn cpu_structures() {
    keep_their_bits(("cpu", DType::F32), "qwen3", 120, support::schedules(15), &[1, 16, 24]);
}

/// KV pages in FP8 and in bf16.
#[test]
fn cpu_narrow_pages() {
    let on = ("cpu", DType::F32);
    for kv in [DType::E4M3, DType::BF16] {
        stored_keep_their_bits(on, None, Some(kv), "qwen2-window", 120, support::schedules(8), &[1, 8, 24]);
    }
}

/// Products of bf16 pairs.
#[test]
fn cpu_medium() {
    keep_their_bits(("cpu-medium", DType::F32), "qwen2-window", 240, support::schedules(20), &[1, 16, 24]);
}

/// Heads of 16 columns: attention on tensor cores.
#[test]
fn cuda() {
    keep_their_bits(("cuda", DType::BF16), "qwen3", 48, support::schedules(4), &[1, 8, 16, 24, 64]);
}

/// The same on a card with wgmma.
#[test]
fn cuda_sm_90a() {
    support::on_sm("90", "cuda");
}

/// Matrices in FP8.
#[test]
fn cuda_fp8() {
    let (on, fp8) = (("cuda", DType::BF16), Some(Format::Fp8));
    stored_keep_their_bits(on, fp8, None, "qwen3", 48, support::schedules(2), &[1, 16, 24]);
}

/// KV pages in FP8.
#[test]
fn cuda_fp8_pages() {
    let (on, fp8) = (("cuda", DType::BF16), Some(DType::E4M3));
    stored_keep_their_bits(on, None, fp8, "qwen3", 48, support::schedules(2), &[1, 16, 24]);
}

/// The same on a card with wgmma.
#[test]
fn cuda_fp8_pages_sm_90a() {
    support::on_sm("90", "cuda_fp8_pages");
}

/// The same on a card with wgmma, where activations are in FP8 too.
#[test]
fn cuda_fp8_sm_90a() {
    support::on_sm("90", "cuda_fp8");
}

/// And where they are in products of `mma.sync`.
#[test]
fn cuda_fp8_sm_89() {
    support::on_sm("89", "cuda_fp8");
}

/// Heads of 8 columns and a window: the plain attention kernel.
#[test]
fn cuda_f32() {
    keep_their_bits(("cuda", DType::F32), "qwen2-window", 48, support::schedules(2), &[4, 16, 24]);
}

/// Keys and values in f16, heads in groups, a window.
#[test]
fn wgpu() {
    keep_their_bits(("wgpu", DType::F32), "qwen2-window", 48, support::schedules(4), &[4, 16, 24]);
}
