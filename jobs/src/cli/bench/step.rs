//! `gristmill bench step`: where the time of one step goes, op by op, beside what the device allows.

use super::write_json;
use crate::cli::args::StepArgs;
use crate::error::JobError;
use crate::files::refuse_unwritable;
use crate::log::print;
use crate::model::ModelFolders;
use crate::options::devices;
use crate::options::engine::{engine_config, print_engine};
use engine::device::Peaks;
use engine::models::Model;
use engine::{Engine, OpsTime, StepShape, StepTimes};
use serde::Serialize;
use std::fmt::Write;

/// The context of a step where none is given.
const CONTEXT: usize = 512;

/// What `--output-json` holds. Times are in seconds.
#[derive(Debug, Serialize)]
struct Figures {
    tokens: usize,
    seqs: usize,
    context: usize,
    /// The step as a job runs it.
    step_time: f64,
    /// The sum over its ops, each measured by itself.
    ops_time: f64,
    bytes_per_second_peak: f64,
    flops_per_second_peak: f64,
    fp8_flops_per_second_peak: f64,
    ops: Vec<OpFigures>,
    device: String,
    model: String,
}

/// All ops of one kind and shape.
#[derive(Debug, Serialize)]
struct OpFigures {
    name: String,
    count: usize,
    time: f64,
    bytes: u64,
    flops: u64,
    /// The least time in which the device could move and compute as much.
    bound: f64,
    /// Whether memory (`copy`) or arithmetic (`flops`) sets it.
    bound_by: &'static str,
}

/// Measures a step and prints its ops.
///
/// # Errors
/// What is wrong with the flags, the model or the device.
pub fn step(args: &StepArgs) -> Result<(), JobError> {
    args.output_json.as_deref().map_or(Ok(()), refuse_unwritable)?;
    let folders = ModelFolders::find(&args.model)?;
    let model = Model::open(&folders.model, args.model.load_format.into())?;
    let shape = shape(args, model.config.max_position_embeddings)?;
    let mut config = engine_config(&args.engine);
    config.max_num_seqs = Some(shape.seqs);
    config.max_num_batched_tokens = Some(shape.tokens);
    config.max_model_len = config.max_model_len.or(Some(shape.context.max(2)));
    let mut device = devices::open(&args.engine)?;
    let types = device.info().types_for(config.dtype.unwrap_or(model.config.dtype)).clone();
    let peaks = device.peaks(types.activations).map_err(engine::EngineError::from)?;
    let mut engine = Engine::new(&model, device, &config)?;
    print_engine(&engine);
    let times = engine.time_step(shape, args.runs)?;
    let device = engine.device().info().name.clone();
    let figures = Figures::new(shape, &times, &peaks, device, folders.name);
    print(&figures.table())?;
    write_json(args.output_json.as_deref(), &figures)
}

/// The shape that the flags ask for.
///
/// # Errors
/// [`JobError::Usage`] for one that no step of the model has.
fn shape(args: &StepArgs, of_model: usize) -> Result<StepShape, JobError> {
    let (seqs, tokens) = (args.seqs, args.tokens.unwrap_or(args.seqs));
    if tokens < seqs {
        let why = format!("--tokens is {tokens}, but each of the {seqs} sequences (--seqs) has at least one");
        return Err(JobError::Usage(why));
    }
    let longest = tokens.div_ceil(seqs.max(1));
    let context = args.context.unwrap_or_else(|| CONTEXT.min(of_model).max(longest));
    if !(longest..=of_model).contains(&context) {
        let why = format!(
            "--context is {context}; it must be from {longest}, a sequence's tokens in the step, to {of_model}, the \
             model's context"
        );
        return Err(JobError::Usage(why));
    }
    Ok(StepShape { tokens, seqs, context })
}

impl Figures {
    fn new(shape: StepShape, times: &StepTimes, peaks: &Peaks, device: String, model: String) -> Figures {
        Figures {
            tokens: shape.tokens,
            seqs: shape.seqs,
            context: shape.context,
            step_time: times.step.as_secs_f64(),
            ops_time: times.ops.iter().map(|ops| ops.time.as_secs_f64()).sum(),
            bytes_per_second_peak: peaks.bytes_per_second,
            flops_per_second_peak: peaks.flops_per_second,
            fp8_flops_per_second_peak: peaks.fp8_flops_per_second,
            ops: times.ops.iter().map(|ops| OpFigures::new(ops, peaks)).collect(),
            device,
            model,
        }
    }

    /// The figures as a table, in Markdown.
    fn table(&self) -> String {
        let (step, sum) = (1e3 * self.step_time, 1e3 * self.ops_time);
        let mut text = format!(
            "step: {} tokens, {} sequences of {}: {step:.3} ms; its ops one by one: {sum:.3} ms\n\
             the device: copies {:.1} GB/s (read and written), multiply-adds {:.1} GFLOP/s, of FP8 {:.1} GFLOP/s\n\
             bound: the time for as many bytes or multiply-adds at these rates; what lies in a cache can be faster\n\n\
             | op | times | ms | share | bound ms | of bound |\n|---|---:|---:|---:|---:|---:|\n",
            self.tokens,
            self.seqs,
            self.context,
            self.bytes_per_second_peak / 1e9,
            self.flops_per_second_peak / 1e9,
            self.fp8_flops_per_second_peak / 1e9,
        );
        for ops in &self.ops {
            let (share, of_bound) = (100.0 * ops.time / self.ops_time, 100.0 * ops.bound / ops.time);
            // A String takes all that is written to it.
            let _ = writeln!(
                text,
                "| {} | {} | {:.3} | {share:.1} % | {:.3} ({}) | {of_bound:.0} % |",
                ops.name,
                ops.count,
                1e3 * ops.time,
                1e3 * ops.bound,
                ops.bound_by
            );
        }
        text
    }
}

impl OpFigures {
    fn new(ops: &OpsTime, peaks: &Peaks) -> OpFigures {
        let (copy, flops) = peaks.seconds(&ops.cost);
        OpFigures {
            name: ops.name.clone(),
            count: ops.count,
            time: ops.time.as_secs_f64(),
            bytes: ops.cost.bytes,
            flops: ops.cost.flops,
            bound: peaks.bound(&ops.cost),
            bound_by: if copy > flops { "copy" } else { "flops" },
        }
    }
}
