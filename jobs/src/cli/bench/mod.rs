//! `gristmill bench throughput`: how fast a model answers when all prompts are given at once.
//!
//! Flags and figures are those of `vllm bench throughput`. `gristmill bench step` is in [`step`].

mod figures;
mod percentiles;
mod requests;
mod step;
mod sweep;

pub use step::step;

use crate::cli::args::ThroughputArgs;
use crate::error::JobError;
use crate::files::refuse_unwritable;
use crate::log::{note, print, print_filled};
use crate::model::ModelFolders;
use crate::options::devices;
use crate::options::engine::{engine_config, print_engine};
use crate::receipt::energy::EnergyMeter;
use crate::run::progress::{Counters, Progress};
use engine::models::Model;
use engine::request::{Event, Request};
use engine::{Engine, Stats};
use figures::{Figures, Run};
use requests::requests;
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often counters of energy are read.
const READ_ENERGY: Duration = Duration::from_secs(10);

/// Prompts are made before the clock starts, and stay in memory.
const MAX_TOKENS: usize = 1 << 30;

/// Runs the benchmark and prints its figures.
///
/// # Errors
/// What is wrong with the flags, the model, the dataset or the device.
pub fn throughput(args: &ThroughputArgs) -> Result<(), JobError> {
    // Before the work whose figures go there.
    [&args.output_json, &args.output_csv]
        .into_iter()
        .flatten()
        .try_for_each(|path| refuse_unwritable(path))?;
    let Some(sweep) = &args.sweep else {
        let figures = measure(args)?;
        print_filled(&figures.lines())?;
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
    // Other prompts, so that none of the run finds their pages.
    let seed = args.seed.wrapping_add(1);
    let made = ThroughputArgs { num_prompts: args.warmup, seed, dataset_path: None, ..args.clone() };
    let warmup = requests(&made, &folders, &model)?;
    let requests = requests(args, &folders, &model)?;
    let device = devices::open(&args.engine)?;
    let mut config = engine_config(&args.engine);
    // The whole context of a large model would take KV pages that no prompt here can fill.
    let longest = requests
        .iter()
        .chain(&warmup)
        .map(|r| r.prompt.len() + r.params.max_tokens as usize)
        .max()
        .unwrap_or(1);
    config.max_model_len = config.max_model_len.or(Some(longest.min(model.config.max_position_embeddings)));
    let begun = Instant::now();
    let mut engine = Engine::new(&model, device, &config)?;
    let load = begun.elapsed();
    print_engine(&engine);
    let begun = Instant::now();
    finish_all(&mut engine, warmup)?;
    let run = Run { warmup: begun.elapsed(), ..run(&mut engine, requests)? };
    note!(
        "energy: {}",
        run.energy.as_ref().map_or_else(|why| format!("not measured: {why}"), |e| e.source.clone())
    );
    Ok(Figures::new(&engine, &run, load, folders.name, &args.engine, args.price_per_hour))
}

/// Writes figures to the file of `--output-json`, if there is one.
fn write_json(path: Option<&Path>, figures: &impl Serialize) -> Result<(), JobError> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(figures).map_err(|e| JobError::Internal(e.to_string()))?;
    std::fs::write(path, text + "\n").map_err(JobError::io("write", path))
}

/// Time in steps.
fn busy(stats: &Stats) -> Duration {
    stats.prefill_time + stats.decode_time
}

/// Runs requests of which nothing is measured.
fn finish_all(engine: &mut Engine, requests: Vec<Request>) -> Result<(), JobError> {
    requests.into_iter().try_for_each(|request| engine.add(request))?;
    while !engine.is_idle() {
        engine.step()?;
    }
    Ok(())
}

fn run(engine: &mut Engine, requests: Vec<Request>) -> Result<Run, JobError> {
    let before = engine.stats();
    let mut energy = EnergyMeter::begin(engine.device().pci_bus_id().as_deref());
    let mut run = Run {
        warmup: Duration::ZERO,
        stats: Stats::default(),
        step_times: Vec::new(),
        latencies: Vec::with_capacity(requests.len()),
        energy: Err(String::new()),
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
    let (mut steps, mut took, mut read) = (before.steps, busy(&before), Instant::now());
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
                Event::Finished { .. } | Event::DeadEnd { .. } => {
                    run.latencies.push(begun.elapsed());
                    Counters::add(&counters.finished, 1);
                }
                Event::Prompt { .. } | Event::Scores { .. } => {}
            }
        }
        let now = engine.stats();
        if now.steps > steps {
            run.step_times.push(busy(&now) - took);
            (steps, took) = (now.steps, busy(&now));
        }
        if read.elapsed() >= READ_ENERGY {
            // Before a counter can begin again twice.
            let _ = energy.as_mut().map(EnergyMeter::so_far);
            read = Instant::now();
        }
        progress.show(&counters);
    }
    run.elapsed = begun.elapsed();
    run.energy = energy.and_then(|mut meter| {
        meter.so_far().ok_or_else(|| "a counter could not be read any more".to_string())
    });
    run.stats = engine.stats().since(&before);
    progress.end();
    Ok(run)
}
