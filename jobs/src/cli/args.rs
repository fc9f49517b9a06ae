//! The command line.

use crate::input::format::InputFormat;
use crate::log::{LogFormat, log_filter};
use crate::metrics::address::address;
use crate::options::batch::BatchOptions;
use crate::options::columns::ColumnsOptions;
use crate::options::documents::DocumentsOptions;
use crate::options::engine::EngineOptions;
use crate::options::job::{OnCorrupt, Resume, RetryRows, ReturnColumn};
use crate::options::model::ModelOptions;
use crate::options::number::{count, real, whole};
use crate::options::prices::{PriceOptions, price};
use crate::options::prompt::PromptOptions;
use crate::options::sampling::SamplingOptions;
use crate::options::shard::Shard;
use crate::options::size::{parse_size, parse_usize};
use crate::options::structured::StructuredOptions;
use crate::store::location::Location;
use clap::{ArgGroup, Args, ColorChoice, Parser, Subcommand};
use clap_complete::Shell;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Offline batch inference: a table of prompts goes in, a table of answers comes out.
#[derive(Parser, Clone, Debug, PartialEq)]
#[command(name = "gristmill", version, args_override_self = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Log level on standard error: error, warn, info, debug or trace, or a filter such as jobs=debug,warn [default:
    /// RUST_LOG, or else warn].
    #[arg(long, global = true, value_name = "LEVEL", value_parser = log_filter)]
    pub log_level: Option<String>,
    /// Whether to color messages [default: in a terminal, unless NO_COLOR is set].
    #[arg(long, global = true, value_name = "WHEN", default_value_t = ColorChoice::Auto, hide_default_value = true)]
    pub color: ColorChoice,
    /// How messages are written to standard error [default: text]; json is an object on each line, without a progress bar.
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub log_format: LogFormat,
}

#[derive(Subcommand, Clone, Debug, PartialEq)]
pub enum Command {
    /// Answer every row of a table.
    ///
    /// Exit codes: 0 done; 1 failed by something that may pass, the same command resumes the job; 2 refused, change
    /// what the message names; 3 published, with more error rows than --max-error-rate or --max-errors allow; 130 stopped by Ctrl-C
    /// and 143 by SIGTERM, the same command resumes the job.
    Run(Box<RunArgs>),
    /// Print a row's prompt as the model gets it, without loading weights. Takes the flags of `run`.
    Show(Box<ShowArgs>),
    /// Say what a job would take before it runs: rows, errors, tokens, memory, time, money. Without --pilot it loads no weights
    /// and writes nothing but the rates of the device into the cache. Takes the flags of `run`.
    Plan(Box<PlanArgs>),
    /// Measure speed.
    #[command(subcommand)]
    Bench(Bench),
    /// List the devices that jobs can run on here, and why the others cannot be used.
    Devices,
    /// Make one output of the shards of a job (`gristmill run --shard`), when all of them are finished. Takes the job file and the
    /// flags of `run`, of which the output, the limits of errors and the prices count.
    ///
    /// Exit codes are those of `run`: 1 where a shard is not finished, 2 where one is of another job or not as it was written,
    /// 3 where all shards together have too many errors.
    Publish(Box<PublishArgs>),
    /// Run shards of a job, one for each file of its output, as they are named on standard input, with a model that is loaded once.
    /// For what starts many of these and shares out the shards, as gristmill-ray does. Takes the flags of `run`.
    #[command(hide = true)]
    RunShards(Box<RunArgs>),
    /// Show the progress of a job, also while it runs.
    Status {
        /// The job's output.
        output: Location,
        /// The job's --state-dir.
        #[arg(long, value_name = "FOLDER")]
        state_dir: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check a published output against what the job wrote.
    Verify {
        /// The job's output.
        output: Location,
    },
    /// Compare an output's labels with the truth: accuracy, classes, confusion, calibration, coverage.
    Evaluate(EvaluateArgs),
    /// Write one HTML file about a published output: what it took, tokens, answers, errors, settings.
    Report(ReportArgs),
    /// Print what makes a shell complete commands and flags.
    Completions { shell: Shell },
    /// Print the manual page of gristmill or of a command, as in `gristmill man bench throughput | man -l -`.
    Man {
        /// The command; gristmill itself if there is none.
        #[arg(value_name = "COMMAND")]
        command: Vec<String>,
        /// Write the pages of all commands to this folder instead.
        #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
        output: Option<PathBuf>,
    },
}

#[derive(Subcommand, Clone, Debug, PartialEq)]
pub enum Bench {
    /// Measure requests and tokens per second, with all requests given at once.
    Throughput(Box<ThroughputArgs>),
    /// Measure where the time of one step goes: each kind of op beside the least time that the device's memory and
    /// arithmetic allow.
    Step(Box<StepArgs>),
}

#[derive(Args, Clone, Debug, PartialEq)]
pub struct RunArgs {
    /// A TOML file with the flags' names as keys; flags override it. Its paths are relative to the file.
    pub job: Option<PathBuf>,
    /// The digest of what was read of it.
    #[arg(skip)]
    pub job_read: Option<String>,
    /// Read these files, folders or globs: paths, or s3://, gs:// or az:// URLs; may be repeated.
    #[arg(short, long, value_name = "PATH|URL")]
    pub input: Vec<String>,
    /// The format of the input files [default: by their names, else Parquet].
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub input_format: Option<InputFormat>,
    /// Write the answers here: a path, or an s3://, gs:// or az:// URL.
    #[arg(short, long, value_name = "PATH|URL")]
    pub output: Option<Location>,
    /// Keep the journal of an output in an object store here [default: a folder here, named after the URL].
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// Process only the first ROWS rows; the same command without it does the rest.
    #[arg(long, value_name = "ROWS", value_parser = parse_size)]
    pub limit: Option<u64>,
    /// Keep these input columns in the output [default: all].
    #[arg(long, value_name = "COLUMN,...", value_delimiter = ',')]
    pub keep: Option<Vec<String>>,
    /// Add these columns to the output.
    #[arg(long = "return", alias = "returns", value_name = "COLUMN,...", value_delimiter = ',', value_enum)]
    pub returns: Vec<ReturnColumn>,
    /// Put this before the names of generated columns, where an input column has the same name.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub column_prefix: String,
    /// Exit with code 3 if more than this share of rows are errors.
    #[arg(long, value_name = "SHARE", value_parser = real::<f64>, default_value_t = 0.1)]
    pub max_error_rate: f64,
    /// Exit with code 3 if more than this number of rows are errors.
    #[arg(long, value_name = "ROWS", value_parser = whole::<u64>)]
    pub max_errors: Option<u64>,
    /// Stop the job, without an output, as soon as more rows are errors than these two allow.
    #[arg(long)]
    pub stop_on_errors: bool,
    /// What to do with a row group that cannot be read [default: refuse].
    #[arg(long, value_enum)]
    pub on_corrupt: Option<OnCorrupt>,
    /// Write a folder of files with ROWS rows each [default: one file].
    #[arg(long, value_name = "ROWS", value_parser = count::<u64>(1, u64::MAX))]
    pub rows_per_file: Option<u64>,
    /// Run only the I-th of N shards, counted from 1, with a journal of its own: a range of rows that are whole files of
    /// --rows-per-file. `gristmill publish` makes one output of all.
    #[arg(long, value_name = "I/N", value_parser = Shard::parse)]
    pub shard: Option<Shard>,
    /// Whether to resume a job that was begun.
    #[arg(long, value_enum, default_value_t)]
    pub resume: Resume,
    /// Take over the job of an output in an object store whose machine is gone: wait until that one has not renewed its claim
    /// for its lease (2 minutes), then go on from the copy of its journal in the store. Without such a job it is begun.
    #[arg(long)]
    pub take_over: bool,
    /// Discard a job that was begun, and start again.
    #[arg(long)]
    pub fresh: bool,
    /// Run rows of a job again, also of a published one, and publish again: those with errors, or those cut off at length
    /// with a greater --max-tokens or --max-model-len.
    #[arg(long, value_name = "ROWS,...", value_delimiter = ',', value_enum)]
    pub retry: Vec<RetryRows>,
    /// Run rows of the same prompt once, where sampling is greedy [default: true].
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub enable_prompt_sharing: Option<bool>,
    /// Restart a worker that has done no step for SECONDS seconds.
    #[arg(long, value_name = "SECONDS", value_parser = count::<u64>(1, 31_536_000), default_value = "600")]
    pub hang_timeout: u64,
    /// Run without a supervisor: a device that fails ends the job.
    #[arg(long)]
    pub in_process: bool,
    /// Serve figures of the run for Prometheus at http://ADDRESS/metrics; a port alone is of 127.0.0.1, and 0 is one that is
    /// free.
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = address)]
    pub metrics: Option<SocketAddr>,
    #[command(flatten)]
    pub prices: PriceOptions,
    #[command(flatten)]
    pub batch: BatchOptions,
    #[command(flatten)]
    pub prompt: PromptOptions,
    #[command(flatten)]
    pub columns: ColumnsOptions,
    #[command(flatten)]
    pub documents: DocumentsOptions,
    #[command(flatten)]
    pub structured: StructuredOptions,
    #[command(flatten)]
    pub sampling: SamplingOptions,
    #[command(flatten)]
    pub model: ModelOptions,
    #[command(flatten)]
    pub engine: EngineOptions,
}

#[derive(Args, Clone, Debug, PartialEq)]
pub struct PublishArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// In how many shards the job was run.
    #[arg(long, value_name = "N", value_parser = Shard::parse_count)]
    pub shards: u64,
}

#[derive(Args, Clone, Debug, PartialEq)]
pub struct ShowArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// The row, counted from 0 over all input files.
    #[arg(long, value_parser = whole::<u64>)]
    pub row: u64,
    /// Print what the job has answered, too.
    #[arg(long)]
    pub answer: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug, PartialEq)]
pub struct PlanArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Read only GROUPS row groups, spread over the input, and say how far off that may be.
    #[arg(long, value_name = "GROUPS", value_parser = count::<u64>(1, u64::MAX))]
    pub sample: Option<u64>,
    /// Answer ROWS rows first, spread over the job, to know how long answers are, how fast they come and what power they take.
    /// They are kept in the job's journal, so that the run does not answer them again.
    #[arg(long, value_name = "ROWS", value_parser = count::<u64>(1, u64::MAX), conflicts_with_all = ["fresh", "retry", "take_over"])]
    pub pilot: Option<u64>,
    /// Measure anew what the device can move and compute, also where that was measured before: for two seconds, in which
    /// nothing else should run.
    #[arg(long)]
    pub measure_rates: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug, PartialEq)]
#[command(group = ArgGroup::new("truths").args(["truth"]).required(true))]
pub struct EvaluateArgs {
    /// The job's output.
    pub output: String,
    #[command(flatten)]
    pub truth: TruthArgs,
    /// Write the rows that differ to this file: Parquet, JSON lines or CSV by its name.
    #[arg(long, value_name = "PATH")]
    pub differences: Option<PathBuf>,
    /// What an hour of the machine cost: with the job's receipt it says what a right label cost, if its column is charged
    /// with the whole job [default: the job's price].
    #[arg(long, value_name = "PRICE", value_parser = price)]
    pub price_per_hour: Option<f64>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What labels are compared with.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct TruthArgs {
    /// Compare the column COLUMN with the column TRUTH; may be repeated.
    #[arg(long, value_name = "COLUMN=TRUTH")]
    pub truth: Vec<String>,
    /// Take the truths from this file, and not from the output.
    #[arg(long, value_name = "PATH", requires = "key", requires = "truth")]
    pub truth_file: Option<String>,
    /// Join that file by this column, or by KEY of the output and OTHER of the file.
    #[arg(long, value_name = "KEY[=OTHER]", requires = "truth_file")]
    pub key: Option<String>,
}

#[derive(Args, Clone, Debug, PartialEq)]
pub struct ReportArgs {
    /// The job's output.
    pub output: Location,
    /// The job's --state-dir.
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// Write the report here [default: beside the output, with the ending .html].
    #[arg(long, value_name = "PATH")]
    pub html: Option<PathBuf>,
    /// Show texts of errors, which may quote rows.
    #[arg(long)]
    pub with_texts: bool,
    #[command(flatten)]
    pub truth: TruthArgs,
}

#[derive(Args, Clone, Debug, PartialEq)]
pub struct ThroughputArgs {
    #[command(flatten)]
    pub model: ModelOptions,
    #[command(flatten)]
    pub engine: EngineOptions,
    /// Tokens per prompt.
    #[arg(long, value_name = "TOKENS", value_parser = count::<usize>(1, 1 << 31), default_value = "256")]
    pub input_len: usize,
    /// Tokens per answer.
    #[arg(long, value_name = "TOKENS", value_parser = count::<usize>(1, 1 << 31), default_value = "64")]
    pub output_len: usize,
    /// Number of prompts.
    #[arg(long, value_parser = count::<usize>(1, u64::MAX), default_value = "1000")]
    pub num_prompts: usize,
    /// Run once with each of these numbers of prompts, as in num-prompts=1,8,64, and print one table.
    #[arg(long, value_name = "num-prompts=N,...", value_parser = sweep, conflicts_with = "num_prompts")]
    pub sweep: Option<Sweep>,
    /// Run so many other prompts first, of which nothing is measured but the time.
    #[arg(long, value_name = "PROMPTS", value_parser = parse_usize, default_value = "2")]
    pub warmup: usize,
    /// Write the figures of all runs here, as CSV.
    #[arg(long, value_name = "PATH")]
    pub output_csv: Option<PathBuf>,
    /// What an hour of this machine costs: the figures then have money for each million tokens.
    #[arg(long, value_name = "PRICE", value_parser = price)]
    pub price_per_hour: Option<f64>,
    /// Vary lengths by this share around those given; at least 0, less than 1.
    #[arg(long, value_name = "SHARE", value_parser = real::<f64>, default_value_t = 0.0)]
    pub random_range_ratio: f64,
    /// Begin all prompts with the same TOKENS tokens, besides --input-len.
    #[arg(long, value_name = "TOKENS", value_parser = parse_usize, default_value = "0")]
    pub prefix_len: usize,
    /// Take prompts from this Parquet file instead of making them up.
    #[arg(long, value_name = "PATH")]
    pub dataset_path: Option<String>,
    /// The dataset's column of prompts.
    #[arg(long, value_name = "COLUMN", default_value = "prompt")]
    pub prompt_column: String,
    /// Write the figures here, as JSON.
    #[arg(long, value_name = "PATH")]
    pub output_json: Option<PathBuf>,
    /// Seed of the made-up prompts.
    #[arg(long, value_parser = whole::<u64>, default_value_t = 0)]
    pub seed: u64,
}

/// Numbers of prompts to run one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep(pub Vec<usize>);

fn sweep(text: &str) -> Result<Sweep, String> {
    let list = text.strip_prefix("num-prompts=");
    let list = list.ok_or_else(|| format!("{text:?} is not num-prompts=N,..., as in num-prompts=1,8,64"))?;
    list.split(',').map(count::<usize>(1, u64::MAX)).collect::<Result<_, _>>().map(Sweep)
}

#[derive(Args, Clone, Debug, PartialEq)]
pub struct StepArgs {
    #[command(flatten)]
    pub model: ModelOptions,
    #[command(flatten)]
    pub engine: EngineOptions,
    /// Sequences in the step.
    #[arg(long, value_parser = count::<usize>(1, 1 << 20), default_value = "1")]
    pub seqs: usize,
    /// Tokens in the step, shared out evenly over its sequences [default: one for each, a decode step].
    #[arg(long, value_parser = count::<usize>(1, 1 << 24))]
    pub tokens: Option<usize>,
    /// The length of each sequence after the step [default: 512, or its tokens in the step].
    #[arg(long, value_name = "TOKENS", value_parser = count::<usize>(1, 1 << 32))]
    pub context: Option<usize>,
    /// Take the median of RUNS runs.
    #[arg(long, value_parser = count::<usize>(1, 1000), default_value = "5")]
    pub runs: usize,
    /// Write the figures here, as JSON.
    #[arg(long, value_name = "PATH")]
    pub output_json: Option<PathBuf>,
}
