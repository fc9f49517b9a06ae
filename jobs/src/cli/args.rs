//! The command line and the job file.
//!
//! A job file is TOML with the flags' names as keys. Its keys are turned into flags, put before those of
//! the command line and parsed by the same parser, so that one rule holds for both.

use crate::error::JobError;
use crate::prompt::PromptOptions;
use crate::run::sampling::SamplingOptions;
use crate::store::location::Location;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

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
    pub model: ModelArgs,
    /// How it runs.
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// The model.
#[derive(Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// A folder, a name on the hub (`org/name` or `org/name@revision`), or `nano` for the built-in model.
    #[arg(long, value_name = "FOLDER|NAME")]
    pub model: Option<String>,
    /// The revision on the hub.
    #[arg(long)]
    pub revision: Option<String>,
    /// A folder or name to take the tokenizer from [default: the model's].
    #[arg(long, value_name = "FOLDER|NAME")]
    pub tokenizer: Option<String>,
    /// Where models from the hub are kept [default: the hub's own cache].
    #[arg(long, value_name = "FOLDER")]
    pub download_dir: Option<PathBuf>,
    /// Where weights come from; `dummy` makes them up and needs config.json only.
    #[arg(long, value_enum, default_value_t)]
    pub load_format: LoadFormat,
}

/// How the model runs.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(next_help_heading = "Engine")]
pub struct EngineArgs {
    /// What the model runs on: auto, cpu, cuda, cuda:1, wgpu, wgpu:1 or wgpu:NAME (part of the adapter's name).
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Threads of the processor [default: one for each core].
    #[arg(long)]
    pub threads: Option<usize>,
    /// The most tokens of a prompt and its answer [default: the model's]. 32k is 32,000 and 32K 32,768.
    #[arg(long, value_name = "TOKENS", value_parser = parse_usize)]
    pub max_model_len: Option<usize>,
    /// The most rows of a step.
    #[arg(long, value_name = "ROWS", value_parser = parse_usize, default_value = "256")]
    pub max_num_seqs: usize,
    /// The most tokens of a step [default: the device's].
    #[arg(long, value_name = "TOKENS", value_parser = parse_usize)]
    pub max_num_batched_tokens: Option<usize>,
    /// Tokens of a KV page.
    #[arg(long, value_name = "TOKENS", default_value_t = 16)]
    pub block_size: usize,
    /// The share of the device's memory that may be used.
    #[arg(long, value_name = "SHARE", default_value_t = 0.9)]
    pub gpu_memory_utilization: f64,
    /// Bytes for KV pages in place of that share.
    #[arg(long, value_name = "BYTES", value_parser = parse_usize)]
    pub kv_cache_memory_bytes: Option<usize>,
    /// The type of weights [auto: the checkpoint's, where the device takes it].
    #[arg(long, value_enum, default_value_t)]
    pub dtype: Dtype,
    /// The type of KV pages [auto: the device's].
    #[arg(long, value_enum, default_value_t)]
    pub kv_cache_dtype: Dtype,
    /// What multiplies matrices on a CUDA card. `cublaslt` is outside the numeric contract: an answer may then depend on
    /// the rows that share its steps.
    #[arg(long, value_enum, default_value_t)]
    pub gemm: Gemm,
    /// How exact products are on the processor: `highest` multiplies f32 values, `medium` bf16 ones, which is faster where
    /// the processor has AVX-512 BF16. Sums are f32 either way.
    #[arg(long, value_enum, default_value_t)]
    pub float32_matmul_precision: Precision,
    /// Reuse the pages of equal prompt beginnings [default: true].
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub enable_prefix_caching: Option<bool>,
}

/// Flags of `bench throughput`.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct ThroughputArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// How it runs.
    #[command(flatten)]
    pub engine: EngineArgs,
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

/// Columns that `--return` adds.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
#[value(rename_all = "snake_case")]
pub enum ReturnColumn {
    /// The generated tokens.
    GeneratedTokens,
    /// The log-probability of each.
    TokenLogprobs,
    /// The alternatives of each.
    Logprobs,
    /// The log-probabilities and alternatives of the prompt's tokens.
    PromptLogprobs,
}

/// Whether to go on with a job that was begun.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    /// Go on if there is one, else begin.
    #[default]
    Auto,
    /// Begin; refuse if there is one.
    Never,
    /// Go on; refuse if there is none.
    Require,
}

/// What to do about a row group that cannot be read.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCorrupt {
    /// The job ends.
    #[default]
    Refuse,
    /// Its rows get an error.
    RowErrors,
}

/// Where weights come from.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadFormat {
    /// The model's safetensors.
    #[default]
    Auto,
    /// Made up.
    Dummy,
}

/// What the model runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The fastest that works here.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// An NVIDIA card through CUDA, by its number.
    Cuda(Option<usize>),
    /// Any card through Vulkan, Metal or DX12, by its number or a part of its name.
    Wgpu(Option<String>),
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<DeviceChoice, String> {
        let (kind, which) = match text.split_once(':') {
            Some((kind, which)) => (kind, Some(which)),
            None => (text, None),
        };
        match (kind, which) {
            ("auto", None) => Ok(DeviceChoice::Auto),
            ("cpu", None) => Ok(DeviceChoice::Cpu),
            ("cuda", None) => Ok(DeviceChoice::Cuda(None)),
            ("cuda", Some(which)) => match which.parse() {
                Ok(index) => Ok(DeviceChoice::Cuda(Some(index))),
                Err(_) => Err(format!("{which:?} is no number of a card, as in cuda:1")),
            },
            ("wgpu", which) => Ok(DeviceChoice::Wgpu(which.map(str::to_owned))),
            _ => Err(format!("{text:?} is not auto, cpu, cuda, cuda:NUMBER, wgpu, wgpu:NUMBER or wgpu:NAME")),
        }
    }
}

/// What multiplies matrices on a CUDA card.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gemm {
    /// gristmill's own kernels.
    #[default]
    Builtin,
    /// NVIDIA's library.
    Cublaslt,
}

/// How exact products are on the processor; the names are those of PyTorch's `set_float32_matmul_precision`.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Products of f32 values.
    #[default]
    Highest,
    /// Products of bf16 values.
    Medium,
}

/// The type of numbers in memory.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtype {
    /// What suits.
    #[default]
    Auto,
    /// 32 bits.
    Float32,
    /// 16 bits with the range of 32.
    Bfloat16,
    /// 16 bits, IEEE 754.
    #[value(alias = "half")]
    Float16,
}

/// Reads a count: `k`, `m`, `g`, `t` are powers of 1,000 and `K`, `M`, `G`, `T` of 1,024, as in vLLM.
fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a count such as 4096, 32k (32,000) or 32K (32,768)");
    let (digits, unit) = match text.char_indices().next_back() {
        Some((at, c)) if c.is_ascii_alphabetic() => (&text[..at], c),
        _ => (text, ' '),
    };
    let base: u64 = if unit.is_ascii_uppercase() { 1024 } else { 1000 };
    let power = match unit.to_ascii_lowercase() {
        ' ' => 0,
        'k' => 1,
        'm' => 2,
        'g' => 3,
        't' => 4,
        _ => return Err(wrong()),
    };
    let unit = base.pow(power);
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.checked_mul(unit).ok_or_else(|| format!("{text:?} is too large"));
    }
    let value = digits.parse::<f64>().map_err(|_| wrong())? * unit as f64;
    if power > 0 && (0.0..9e15).contains(&value) && value.fract() == 0.0 {
        Ok(value as u64)
    } else {
        Err(wrong())
    }
}

fn parse_usize(text: &str) -> Result<usize, String> {
    usize::try_from(parse_size(text)?).map_err(|_| format!("{text:?} is too large"))
}

/// Parses the command line and the job file that it names.
///
/// # Errors
/// The parser's own error, which knows how to show itself and its exit code, or what is wrong with the file.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, ParseError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let matches = Cli::command().try_get_matches_from(&arguments)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let Command::Run(run) = &cli.command else { return Ok(cli) };
    let (Some(path), Some(("run", given))) = (&run.job, matches.subcommand()) else { return Ok(cli) };
    let given = |id: &str| given.value_source(id) == Some(ValueSource::CommandLine);
    let mut all: Vec<OsString> = vec!["gristmill".into(), "run".into()];
    all.extend(file_flags(path, given)?.into_iter().map(OsString::from));
    // Before `run` there can be --log-level only; behind it, the command line as it stands.
    all.push(format!("--log-level={}", cli.log_level).into());
    let run_at = arguments.iter().position(|a| a == "run").map_or(arguments.len(), |at| at + 1);
    all.extend_from_slice(&arguments[run_at..]);
    let in_file = |error: clap::Error| {
        let text = error.to_string();
        let text =
            text.strip_prefix("error: ").unwrap_or(&text).split("\n\nUsage").next().unwrap_or("").trim_end();
        ParseError::File(JobError::Usage(format!("{}: {text}", path.display())))
    };
    Cli::try_parse_from(all).map_err(in_file)
}

/// What is wrong with the command line or the job file.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// The command line, or a call for help.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// The job file.
    #[error(transparent)]
    File(#[from] JobError),
}

/// The keys of a job file as flags, but for those that the command line gives.
fn file_flags(path: &Path, given: impl Fn(&str) -> bool) -> Result<Vec<String>, JobError> {
    let wrong = |why: String| JobError::Usage(format!("{}: {why}", path.display()));
    let bytes = crate::files::read_capped(path, 1 << 20)?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8".into()))?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| wrong(e.to_string()))?;
    let mut command = Cli::command();
    command.build();
    let run = command.find_subcommand("run").ok_or_else(|| wrong("there is no `run`".into()))?;
    let mut flags = Vec::new();
    for (key, value) in table {
        let name = key.replace('_', "-");
        let known = run.get_arguments().find(|arg| {
            let aliases = arg.get_all_aliases().unwrap_or_default();
            arg.get_long() == Some(name.as_str()) || aliases.contains(&name.as_str())
        });
        let Some(arg) = known.filter(|arg| !matches!(arg.get_id().as_str(), "help" | "log_level")) else {
            let near = nearest(&name).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            return Err(wrong(format!("unknown key `{key}`{near}")));
        };
        if !given(arg.get_id().as_str()) {
            let takes_value = arg.get_action().takes_values();
            add_flag(&mut flags, &name, &value, takes_value)
                .map_err(|why| wrong(format!("`{key}` {why}")))?;
        }
    }
    Ok(flags)
}

fn add_flag(
    flags: &mut Vec<String>,
    name: &str,
    value: &toml::Value,
    takes_value: bool,
) -> Result<(), String> {
    use toml::Value::{Array, Boolean, Table};
    match value {
        Boolean(on) if !takes_value => {
            if *on {
                flags.push(format!("--{name}"));
            }
        }
        _ if !takes_value => return Err("is either true or false".into()),
        Array(items) => items.iter().try_for_each(|item| add_flag(flags, name, item, true))?,
        Table(_) => {
            flags.push(format!("--{name}={}", serde_json::to_string(value).map_err(|e| e.to_string())?))
        }
        toml::Value::String(text) => flags.push(format!("--{name}={text}")),
        other => flags.push(format!("--{name}={other}")),
    }
    Ok(())
}

/// The flag whose name is nearest to an unknown one, by the parser's own measure.
fn nearest(name: &str) -> Option<String> {
    let error = Cli::try_parse_from(["gristmill", "run", &format!("--{name}")]).err()?;
    match error.get(ContextKind::SuggestedArg)? {
        ContextValue::String(flag) => Some(flag.trim_start_matches('-').to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn run(arguments: &[&str]) -> Result<RunArgs, String> {
        let arguments = ["gristmill", "run"].iter().chain(arguments).map(OsString::from);
        match parse(arguments).map_err(|e| e.to_string())?.command {
            Command::Run(run) => Ok(*run),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn the_parser_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_have_units() {
        let good = [("4096", 4096), ("32k", 32_000), ("32K", 32_768), ("1.5k", 1500), ("2G", 2 << 30)];
        for (text, expected) in good {
            assert_eq!(parse_size(text), Ok(expected), "{text}");
        }
        for text in ["", "k", "-1", "1.5", "4x", "99999999T", "nan", "infk", "ä"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn flags_go_over_the_job_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.toml");
        let job = r#"
            model = "m"
            input = ["a.parquet", "b.parquet"]
            output = "out.parquet"
            prompt = "--{{ q }}\n"
            max_tokens = 5
            top-k = -1
            stop = ["\n", ","]
            stop-token-ids = [1, 2]
            raw = true
            ignore-eos = false
            skip_special_tokens = false
            max-model-len = "32K"
            logit-bias = { 5 = -1.5, 6 = 2 }
            return = ["logprobs", "token_logprobs"]
            chat-template-kwargs = { enable_thinking = false }
        "#;
        std::fs::write(&path, job).unwrap();
        let path = path.to_str().unwrap();
        let r = run(&["--max-tokens", "7", path, "--stop", "x", "--input=c.parquet"]).unwrap();
        assert_eq!((r.sampling.max_tokens, r.sampling.top_k), (Some(7), Some(-1)));
        assert_eq!(
            (r.sampling.stop.as_slice(), r.input.as_slice()),
            (&["x".into()][..], &["c.parquet".into()][..])
        );
        assert_eq!(r.sampling.stop_token_ids, [1, 2]);
        assert_eq!(r.prompt.prompt.as_deref(), Some("--{{ q }}\n"));
        assert_eq!((r.prompt.raw, r.sampling.ignore_eos), (true, false));
        assert_eq!(r.sampling.skip_special_tokens, Some(false));
        assert_eq!(r.engine.max_model_len, Some(32_768));
        assert_eq!(r.sampling.logit_bias, Some([(5, -1.5), (6, 2.0)].into()));
        assert_eq!(r.returns, [ReturnColumn::Logprobs, ReturnColumn::TokenLogprobs]);
        assert_eq!(r.prompt.chat_template_kwargs.unwrap()["enable_thinking"], false.into());
        let plain = run(&[path]).unwrap();
        assert_eq!((plain.sampling.stop, plain.input.len()), (vec!["\n".to_string(), ",".into()], 2));
    }

    #[test]
    fn wrong_job_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.toml");
        for (job, message) in [
            ("temprature = 1", "job.toml: unknown key `temprature`; did you mean `temperature`?"),
            ("max_new_token = 1", "did you mean `max-new-tokens`?"),
            ("temperature = 'hot'", "invalid value 'hot' for '--temperature"),
            ("raw = 1", "`raw` is either true or false"),
            ("help = true", "unknown key `help`"),
            ("[model", "job.toml: TOML parse error"),
            ("return = 'words'", "invalid value 'words'"),
        ] {
            std::fs::write(&path, job).unwrap();
            let error = run(&[path.to_str().unwrap()]).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
        assert!(run(&["/nowhere/job.toml"]).unwrap_err().contains("/nowhere/job.toml"));
    }

    #[test]
    fn the_field_s_names_are_known() {
        let r =
            run(&["--max-new-tokens=3", "--prompt-template", "x", "--enable-prefix-caching=false"]).unwrap();
        assert_eq!((r.sampling.max_tokens, r.prompt.prompt.as_deref()), (Some(3), Some("x")));
        assert_eq!(r.engine.enable_prefix_caching, Some(false));
        let r = run(&["--top-k", "-1", "--presence-penalty", "-0.5", "--logit-bias", "5:-1.5,6:2"]).unwrap();
        assert_eq!(r.sampling.logit_bias, Some([(5, -1.5), (6, 2.0)].into()));
    }
}
