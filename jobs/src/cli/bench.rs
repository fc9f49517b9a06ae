//! `gristmill bench throughput`: how fast a model answers when all prompts are given at once.
//!
//! Flags and figures are those of `vllm bench throughput`.

use crate::cli::args::ThroughputArgs;
use crate::error::JobError;
use crate::input::Input;
use crate::model::ModelFolders;
use crate::options::devices;
use crate::options::engine::{EngineOptions, engine_config, print_engine};
use crate::options::prompt::PromptOptions;
use crate::prompt::prompts::Prompts;
use crate::prompt::tokenizer::Tokenizer;
use engine::models::Model;
use engine::request::{Event, Request, SamplingParams};
use engine::sample::philox;
use engine::{Engine, Stats};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What `--output-json` holds. Times are in seconds.
#[derive(Debug, Serialize)]
struct Figures {
    elapsed_time: f64,
    num_requests: usize,
    total_num_tokens: u64,
    requests_per_second: f64,
    /// Prompt and generated tokens together, vLLM's name.
    tokens_per_second: f64,
    total_tokens_per_second: f64,
    output_tokens_per_second: f64,
    num_prompt_tokens: u64,
    num_output_tokens: u64,
    load_time: f64,
    time_to_first_token: f64,
    /// In steps that computed prompts, also where other rows decoded beside them.
    prefill_time: f64,
    prefill_tokens_per_second: f64,
    /// In steps that only decoded.
    decode_time: f64,
    decode_tokens_per_second: f64,
    cached_tokens: u64,
    preemptions: u64,
    kv_pages: usize,
    kv_peak_occupancy: f64,
    kv_mean_occupancy: f64,
    steps: u64,
    host_seconds_per_step: f64,
    device: String,
    gemm: String,
    float32_matmul_precision: String,
    model: String,
}

/// Runs the benchmark and prints its figures.
///
/// # Errors
/// What is wrong with the flags, the model, the dataset or the device.
pub fn throughput(args: &ThroughputArgs) -> Result<(), JobError> {
    if !(0.0..1.0).contains(&args.random_range_ratio) {
        return Err(JobError::Usage("--random-range-ratio must be at least 0 and less than 1".into()));
    }
    let folders = ModelFolders::find(&args.model)?;
    let model = Model::open(&folders.model, args.model.load_format.into())?;
    let requests = requests(args, &folders, &model)?;
    let device = devices::open(&args.engine)?;
    let mut config = engine_config(&args.engine);
    // The whole context of a large model would take KV pages that no prompt here can fill.
    let longest = requests.iter().map(|r| r.prompt.len() + r.params.max_tokens as usize).max().unwrap_or(1);
    config.max_model_len = config.max_model_len.or(Some(longest.min(model.config.max_position_embeddings)));
    let begun = Instant::now();
    let mut engine = Engine::new(&model, device, &config)?;
    let load = begun.elapsed();
    print_engine(&engine);
    let run = run(&mut engine, requests)?;
    let figures = figures(&engine, &run, load, folders.name, &args.engine);
    println!(
        "Throughput: {:.2} requests/s, {:.2} total tokens/s, {:.2} output tokens/s",
        figures.requests_per_second, figures.total_tokens_per_second, figures.output_tokens_per_second
    );
    println!(
        "Prefill: {:.2} tokens/s in {:.2} s; decode: {:.2} tokens/s in {:.2} s; KV pages: {:.1} % at most; host: {:.3} \
         ms a step",
        figures.prefill_tokens_per_second,
        figures.prefill_time,
        figures.decode_tokens_per_second,
        figures.decode_time,
        100.0 * figures.kv_peak_occupancy,
        1000.0 * figures.host_seconds_per_step
    );
    if let Some(path) = &args.output_json {
        let text = serde_json::to_string_pretty(&figures).map_err(|e| JobError::Internal(e.to_string()))?;
        std::fs::write(path, text + "\n").map_err(JobError::io("write", path))?;
    }
    Ok(())
}

/// What was measured.
struct Run {
    elapsed: Duration,
    first_token: Duration,
    requests: usize,
    prompt_tokens: u64,
    output_tokens: u64,
}

fn run(engine: &mut Engine, requests: Vec<Request>) -> Result<Run, JobError> {
    let mut run = Run {
        elapsed: Duration::ZERO,
        first_token: Duration::ZERO,
        requests: requests.len(),
        prompt_tokens: requests.iter().map(|r| r.prompt.len() as u64).sum(),
        output_tokens: 0,
    };
    let begun = Instant::now();
    for request in requests {
        engine.add(request)?;
    }
    while !engine.is_idle() {
        for event in engine.step()? {
            if matches!(event, Event::Token { .. }) {
                if run.output_tokens == 0 {
                    run.first_token = begun.elapsed();
                }
                run.output_tokens += 1;
            }
        }
    }
    run.elapsed = begun.elapsed();
    Ok(run)
}

fn figures(engine: &Engine, run: &Run, load: Duration, model: String, args: &EngineOptions) -> Figures {
    let Stats { steps, prefill_tokens, decode_tokens, prefill_time, decode_time, .. } = engine.stats();
    let stats = engine.stats();
    let rate = |n: u64, time: Duration| if time.is_zero() { 0.0 } else { n as f64 / time.as_secs_f64() };
    let total = run.prompt_tokens + run.output_tokens;
    let pages = engine.pages().max(1) as f64;
    Figures {
        elapsed_time: run.elapsed.as_secs_f64(),
        num_requests: run.requests,
        total_num_tokens: total,
        requests_per_second: rate(run.requests as u64, run.elapsed),
        tokens_per_second: rate(total, run.elapsed),
        total_tokens_per_second: rate(total, run.elapsed),
        output_tokens_per_second: rate(run.output_tokens, run.elapsed),
        num_prompt_tokens: run.prompt_tokens,
        num_output_tokens: run.output_tokens,
        load_time: load.as_secs_f64(),
        time_to_first_token: run.first_token.as_secs_f64(),
        prefill_time: prefill_time.as_secs_f64(),
        prefill_tokens_per_second: rate(prefill_tokens, prefill_time),
        decode_time: decode_time.as_secs_f64(),
        decode_tokens_per_second: rate(decode_tokens, decode_time),
        cached_tokens: stats.cached_tokens,
        preemptions: stats.preemptions,
        kv_pages: engine.pages(),
        kv_peak_occupancy: stats.peak_pages as f64 / pages,
        kv_mean_occupancy: stats.page_steps as f64 / steps.max(1) as f64 / pages,
        steps,
        host_seconds_per_step: stats.host_time.as_secs_f64() / steps.max(1) as f64,
        device: engine.device().info().name.clone(),
        gemm: format!("{:?}", args.gemm).to_lowercase(),
        float32_matmul_precision: format!("{:?}", args.float32_matmul_precision).to_lowercase(),
        model,
    }
}

/// The prompts, of a dataset or made up; every answer has the length that was asked for.
fn requests(args: &ThroughputArgs, folders: &ModelFolders, model: &Model) -> Result<Vec<Request>, JobError> {
    let vocab = model.config.vocab;
    let mut dice = Dice { key: [args.seed as u32, (args.seed >> 32) as u32], next: 0 };
    let prompts = match &args.dataset_path {
        Some(path) => dataset(args, path, folders, model)?,
        None => {
            let prefix: Vec<u32> = (0..args.prefix_len).map(|_| dice.below(vocab)).collect();
            let mut prompt = |_| {
                let len = dice.around(args.input_len, args.random_range_ratio);
                prefix
                    .iter()
                    .copied()
                    .chain((0..len).map(|_| dice.below(vocab)).collect::<Vec<_>>())
                    .collect()
            };
            (0..args.num_prompts).map(&mut prompt).collect::<Vec<Vec<u32>>>()
        }
    };
    let request = |(id, prompt)| {
        let max_tokens = dice.around(args.output_len, args.random_range_ratio) as u32;
        let params = SamplingParams { temperature: 1.0, max_tokens, key: id, ..SamplingParams::default() };
        Request::new(id, prompt, params)
    };
    Ok((0u64..).zip(prompts).map(request).collect())
}

fn dataset(
    args: &ThroughputArgs,
    path: &str,
    folders: &ModelFolders,
    model: &Model,
) -> Result<Vec<Vec<u32>>, JobError> {
    let input = Input::open(&[path.to_string()])?;
    let tokenizer = Arc::new(Tokenizer::open(&folders.tokenizer)?);
    let options =
        PromptOptions { prompt_column: Some(args.prompt_column.clone()), raw: true, ..Default::default() };
    let limit = args.engine.max_model_len.unwrap_or(model.config.max_position_embeddings);
    let limit = limit.saturating_sub(args.output_len).max(2);
    let prompts = Prompts::new(&options, &input, tokenizer, None, limit, model.config.vocab, 0)?;
    let mut made = Vec::new();
    for batch in input.read(prompts.columns().to_vec(), 0..args.num_prompts as u64) {
        let batch = batch.map_err(|corrupt| corrupt.error)?;
        for row in 0..batch.columns.num_rows() {
            let number = batch.first_row + row as u64;
            let prompt = prompts.of_row(&batch.columns, row);
            made.push(
                prompt
                    .map_err(|why| JobError::Usage(format!("--dataset-path {path}, row {number}: {why}")))?,
            );
        }
    }
    Ok(made)
}

/// Numbers that depend on the seed only.
struct Dice {
    key: [u32; 2],
    next: u32,
}

impl Dice {
    fn below(&mut self, end: usize) -> u32 {
        let [word, ..] = philox([self.next, 1, 0, 0], self.key);
        self.next = self.next.wrapping_add(1);
        ((u64::from(word) * end as u64) >> 32) as u32
    }

    /// A length within a share of another; at least 1.
    fn around(&mut self, len: usize, ratio: f64) -> usize {
        let spread = (len as f64 * ratio) as usize;
        (len - spread + self.below(2 * spread + 1) as usize).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_stay_in_their_range_and_depend_on_the_seed() {
        let lengths = |seed| {
            let mut dice = Dice { key: [seed, 0], next: 0 };
            (0..1000).map(|_| dice.around(100, 0.2)).collect::<Vec<_>>()
        };
        let some = lengths(1);
        assert!(some.iter().all(|len| (80..=120).contains(len)));
        assert_eq!((some.iter().min(), some.iter().max()), (Some(&80), Some(&120)));
        assert_eq!(some, lengths(1));
        assert_ne!(some, lengths(2));
        assert_eq!(Dice { key: [0, 0], next: 0 }.around(7, 0.0), 7);
    }
}
