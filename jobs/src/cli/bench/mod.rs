//! `gristmill bench throughput`: how fast a model answers when all prompts are given at once.
//!
//! Flags and figures are those of `vllm bench throughput`. `gristmill bench step` is in [`step`].

mod figures;
mod requests;
mod step;
mod sweep;

pub use step::step;

use crate::cli::args::ThroughputArgs;
use crate::error::JobError;
use crate::log::print;
use crate::model::ModelFolders;
use crate::options::devices;
use crate::options::engine::{engine_config, print_engine};
use crate::run::progress::{Counters, Progress};
use engine::Engine;
use engine::models::Model;
use engine::request::{Event, Request};
use figures::{Figures, Run};
use requests::requests;
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// Prompts are made before the clock starts, and stay in memory.
const MAX_TOKENS: usize = 1 << 30;

/// Runs the benchmark and prints its figures.
///
/// # Errors
/// What is wrong with the flags, the model, the dataset or the device.
pub fn throughput(args: &ThroughputArgs) -> Result<(), JobError> {
    let Some(sweep) = &args.sweep else {
        let figures = measure(args)?;
        print(&figures.lines())?;
        sweep::write_csv(args.output_csv.as_deref(), std::slice::from_ref(&figures))?;
        return write_json(args.output_json.as_deref(), &figures);
    };
    let run = |&num_prompts: &usize| measure(&ThroughputArgs { num_prompts, ..args.clone() });
    let figures = sweep.0.iter().map(run).collect::<Result<Vec<_>, _>>()?;
    print(&sweep::table(&figures))?;
    sweep::write_csv(args.output_csv.as_deref(), &figures)?;
    write_json(args.output_json.as_deref(), &figures)
}

/// Runs the benchmark once, with an engine of its own.
fn measure(args: &ThroughputArgs) -> Result<Figures, JobError> {
    if !(0.0..1.0).contains(&args.random_range_ratio) {
        return Err(JobError::Usage("--random-range-ratio must be at least 0 and less than 1".into()));
    }
    let tokens = args.input_len.saturating_add(args.prefix_len).saturating_mul(args.num_prompts);
    if args.dataset_path.is_none() && tokens > MAX_TOKENS {
        return Err(JobError::Usage(format!(
            "--num-prompts {}: that is {tokens} tokens of prompts with --input-len and --prefix-len; at most {MAX_TOKENS} \
             are made up",
            args.num_prompts
        )));
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
    Ok(Figures::new(&engine, &run, load, folders.name, &args.engine, args.price_per_hour))
}

/// Writes figures to the file of `--output-json`, if there is one.
fn write_json(path: Option<&Path>, figures: &impl Serialize) -> Result<(), JobError> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(figures).map_err(|e| JobError::Internal(e.to_string()))?;
    std::fs::write(path, text + "\n").map_err(JobError::io("write", path))
}

fn run(engine: &mut Engine, requests: Vec<Request>) -> Result<Run, JobError> {
    let mut run = Run {
        elapsed: Duration::ZERO,
        first_token: Duration::ZERO,
        requests: requests.len(),
        prompt_tokens: requests.iter().map(|r| r.prompt.len() as u64).sum(),
        output_tokens: 0,
    };
    let counters = Counters::default();
    let mut progress = Progress::begin("requests", run.requests as u64, &counters);
    let begun = Instant::now();
    for request in requests {
        engine.add(request)?;
    }
    while !engine.is_idle() {
        for event in engine.step()? {
            match event {
                Event::Token { .. } => {
                    if run.output_tokens == 0 {
                        run.first_token = begun.elapsed();
                    }
                    run.output_tokens += 1;
                    Counters::add(&counters.generated_tokens, 1);
                }
                Event::Finished { .. } | Event::DeadEnd { .. } => Counters::add(&counters.finished, 1),
                Event::Prompt { .. } | Event::Scores { .. } => {}
            }
        }
        progress.show(&counters);
    }
    run.elapsed = begun.elapsed();
    progress.end();
    Ok(run)
}
