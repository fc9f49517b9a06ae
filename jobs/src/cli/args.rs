//! The command line.

use crate::options::engine::EngineOptions;
use crate::options::job::{OnCorrupt, Resume, ReturnColumn};
use crate::options::model::ModelOptions;
use crate::options::prompt::PromptOptions;
use crate::options::sampling::SamplingOptions;
use crate::options::size::{parse_size, parse_usize};
use crate::store::location::Location;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Offline batch inference: a table of prompts goes in, a table of answers comes out.
#[derive(Parser, Clone, Debug, PartialEq)]
#[command(name = "gristmill", version, args_override_self = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What is logged to standard error: error, warn, info, debug or trace, or a filter as in RUST_LOG.
    #[arg(long, global = true, env = "RUST_LOG", default_value = "warn", value_name = "LEVEL")]
    pub log_level: String,
}

/// What gristmill can do.
#[derive(Subcommand, Clone, Debug, PartialEq)]
pub enum Command {
    /// Answer every row of a table.
    ///
    /// Exit codes: 0 done; 1 failed; 2 wrong usage; 3 more error rows than --max-error-rate or
    /// --max-errors; 70 the device failed (only --in-process); 130 stopped by Ctrl-C and 143 by SIGTERM, to be continued by the same command.
    Run(Box<RunArgs>),
    /// Measure speed.
    #[command(subcommand)]
    Bench(Bench),
    /// Show what jobs can run on here, and why not on the rest.
    Devices,
    /// Show how far a job is, also while it runs.
    Status {
        /// The job's output.
        output: Location,
        /// The --state-dir of the job.
        #[arg(long, value_name = "FOLDER")]
        state_dir: Option<PathBuf>,
    },
    /// Check a published output against what the job wrote.
    Verify {
        /// The job's output.
        output: Location,
    },
}

/// What can be measured.
#[derive(Subcommand, Clone, Debug, PartialEq)]
pub enum Bench {
    /// Requests and tokens a second, all requests given at once.
    Throughput(Box<ThroughputArgs>),
}

/// Flags of `run`.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct RunArgs {
    /// A TOML file with the flags' names as keys; flags go over it.
    pub job: Option<PathBuf>,
    /// Parquet files, folders or globs, as paths or as s3://, gs:// or az:// URLs; may be repeated.
    #[arg(short, long, value_name = "PATH|URL")]
    pub input: Vec<String>,
    /// Where the answers go: a path, or an s3://, gs:// or az:// URL.
    #[arg(short, long, value_name = "PATH|URL")]
    pub output: Option<Location>,
    /// Where the journal of an output in an object store lies [default: a folder here, named after the URL].
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// Answer only the first rows, for a try.
    #[arg(long, value_name = "ROWS", value_parser = parse_size)]
    pub limit: Option<u64>,
    /// The input columns to keep [default: all].
    #[arg(long, value_name = "COLUMN,...", value_delimiter = ',')]
    pub keep: Option<Vec<String>>,
    /// Further columns of the output.
    #[arg(long = "return", value_name = "COLUMN,...", value_delimiter = ',', value_enum)]
    pub returns: Vec<ReturnColumn>,
    /// What the names of the generated columns begin with, where an input column has such a name.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub column_prefix: String,
    /// The share of error rows above which the job stops; looked at now and then, and at the end.
    #[arg(long, value_name = "SHARE", default_value_t = 0.9)]
    pub max_error_rate: f64,
    /// The number of error rows above which the job stops.
    #[arg(long, value_name = "ROWS")]
    pub max_errors: Option<u64>,
    /// What to do about a row group that cannot be read.
    #[arg(long, value_enum, default_value_t)]
    pub on_corrupt: OnCorrupt,
    /// Write the answers in parts of so many rows [default: one file].
    #[arg(long, value_name = "ROWS", value_parser = parse_size)]
    pub rows_per_file: Option<u64>,
    /// Whether to go on with a job that was begun.
    #[arg(long, value_enum, default_value_t)]
    pub resume: Resume,
    /// Discard what was begun, and start anew.
    #[arg(long)]
    pub fresh: bool,
    /// Run one of the rows of a prompt for all of them, where sampling is greedy [default: true].
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub enable_prompt_sharing: Option<bool>,
    /// A worker that does no step for so many seconds counts as hung, and is started again.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub hang_timeout: u64,
    /// Run without a supervisor: a device that fails ends the job.
    #[arg(long)]
    pub in_process: bool,
    /// Where prompts come from.
    #[command(flatten)]
    pub prompt: PromptOptions,
    /// How rows are answered.
    #[command(flatten)]
    pub sampling: SamplingOptions,
    /// The model.
    #[command(flatten)]
    pub model: ModelOptions,
    /// How it runs.
    #[command(flatten)]
    pub engine: EngineOptions,
}

/// Flags of `bench throughput`.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct ThroughputArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelOptions,
    /// How it runs.
    #[command(flatten)]
    pub engine: EngineOptions,
    /// Tokens of each prompt.
    #[arg(long, value_name = "TOKENS", value_parser = parse_usize, default_value = "256")]
    pub input_len: usize,
    /// Tokens of each answer.
    #[arg(long, value_name = "TOKENS", value_parser = parse_usize, default_value = "64")]
    pub output_len: usize,
    /// How many prompts.
    #[arg(long, value_parser = parse_usize, default_value = "1000")]
    pub num_prompts: usize,
    /// Lengths vary by this share around those given, in [0, 1).
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub random_range_ratio: f64,
    /// Tokens at the beginning that all prompts share, besides --input-len.
    #[arg(long, value_name = "TOKENS", value_parser = parse_usize, default_value = "0")]
    pub prefix_len: usize,
    /// A Parquet file to take prompts from in place of made-up ones.
    #[arg(long, value_name = "PATH")]
    pub dataset_path: Option<String>,
    /// The column of the dataset.
    #[arg(long, value_name = "COLUMN", default_value = "prompt")]
    pub prompt_column: String,
    /// Where the figures go.
    #[arg(long, value_name = "PATH")]
    pub output_json: Option<PathBuf>,
    /// Seeds the made-up prompts.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}
