//! What a job does with its rows, resolved from flags and job file.

use crate::input::format::InputFormat;
use crate::metrics::MetricsTo;
use crate::options::columns::ColumnOptions;
use crate::options::documents::DocumentOptions;
use crate::options::engine::EngineOptions;
use crate::options::model::ModelOptions;
use crate::options::prices::PriceOptions;
use crate::options::prompt::PromptOptions;
use crate::options::sampling::SamplingOptions;
use crate::options::shard::ShardOptions;
use crate::store::location::Location;
use crate::structured::StructuredOutputs;
use clap::ValueEnum;
use std::path::{Path, PathBuf};

/// All options of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobOptions {
    /// Files, folders, globs or URLs.
    pub input: Vec<String>,
    /// Whether these are batch files, whose lines are requests.
    pub batch: bool,
    /// What requests may call the model, if not by its own name.
    pub served_model_names: Vec<String>,
    /// The format of all input files; by their names if there is none.
    pub input_format: Option<InputFormat>,
    pub output: Location,
    /// The folder of the journal and of all other state of the job, or of the shard.
    pub state_dir: PathBuf,
    /// Process only the first rows of the input.
    pub limit: Option<u64>,
    /// The input columns to keep; all if there is none.
    pub keep: Option<Vec<String>>,
    pub returns: Vec<ReturnColumn>,
    /// Columns of choices; with any, no text is generated.
    pub columns: Vec<ColumnOptions>,
    /// Documents of any length, if rows are that.
    pub documents: Option<DocumentOptions>,
    /// What generated text must be.
    pub structured: Option<StructuredOutputs>,
    /// What ends the reasoning before it.
    pub reasoning_end: Option<String>,
    pub column_prefix: String,
    /// From 0 to 1.
    pub max_error_rate: f64,
    pub max_errors: Option<u64>,
    /// Whether more errors than that end the job at once.
    pub stop_on_errors: bool,
    pub on_corrupt: OnCorrupt,
    pub rows_per_file: Option<u64>,
    /// The shard of the job to run, if not all of it.
    pub shard: Option<ShardOptions>,
    pub resume: Resume,
    /// Go on with a job whose machine is gone.
    pub take_over: Option<TakeOverOptions>,
    /// Discard a job that was begun.
    pub fresh: bool,
    /// Which finished rows run again.
    pub retry: Vec<RetryRows>,
    /// Run rows of the same prompt once, where that changes no answer.
    pub share_prompts: bool,
    /// What the receipt reckons with.
    pub prices: PriceOptions,
    /// Who is told what the run does.
    pub metrics: MetricsTo,
    pub prompt: PromptOptions,
    pub sampling: SamplingOptions,
    pub model: ModelOptions,
    pub engine: EngineOptions,
}

impl JobOptions {
    /// The folder of the state of the whole job.
    pub fn job_dir(&self) -> &Path {
        self.shard.as_ref().map_or(&self.state_dir, |shard| &shard.job_dir)
    }
}

/// A job that a command is to take over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakeOverOptions {
    /// The day on which it was begun, in seconds since 1970, if that is known.
    pub date: Option<i64>,
}

/// Whether to resume a job that was begun.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    /// Resume the job if there is one, else begin it.
    #[default]
    Auto,
    /// Begin the job; refuse if there is one.
    Never,
    /// Resume the job; refuse if there is none.
    Require,
}

/// Finished rows that `--retry` runs again.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryRows {
    /// Those that have an error.
    Errors,
    /// Those of which an answer was cut off, with a greater limit.
    Length,
}

/// What to do with a row group that cannot be read.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCorrupt {
    /// End the job.
    #[default]
    Refuse,
    /// Give its rows an error.
    RowErrors,
}

/// Columns that `--return` adds.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
#[value(rename_all = "snake_case")]
pub enum ReturnColumn {
    /// The generated tokens.
    GeneratedTokens,
    /// The log-probability of each generated token.
    TokenLogprobs,
    /// The likeliest alternatives of each generated token.
    Logprobs,
    /// The log-probabilities and alternatives of the prompt's tokens.
    PromptLogprobs,
    /// For each column of choices the probability of each choice.
    ChoiceProbabilities,
    /// The chunks of a document with their own answers.
    Chunks,
    /// With a JSON Schema, for each enumeration and boolean in it the probability of the value.
    FieldProbabilities,
    /// For each column of choices the share of all continuations that are one of them.
    ChoiceMass,
}

impl ReturnColumn {
    /// Whether it is of columns of choices, and not of generated text.
    pub fn is_of_choices(self) -> bool {
        matches!(self, ReturnColumn::ChoiceProbabilities | ReturnColumn::ChoiceMass)
    }
}
