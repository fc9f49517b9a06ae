//! `gristmill run`: from the flags to the published answers.

use crate::cli::args::RunArgs;
use crate::options::device::Gemm;
use crate::options::engine::{EngineOptions, engine_config, print_engine};
use crate::options::job::{OnCorrupt, Resume, ReturnColumn};
use crate::options::model::LoadFormat;

pub mod detokenize;
pub mod duplicates;
pub mod engine_loop;
pub mod feeder;
pub mod finisher;
pub mod progress;
pub mod row;
pub mod sampling;

use crate::date;
use crate::digest::{digest_bytes, digest_file, digest_files};
use crate::error::JobError;
use crate::input::Input;
use crate::journal::finished::FinishedRows;
use crate::journal::identity::{Identity, InputDigest, InputDigests};
use crate::journal::{Journal, JournalReader, ResumeMode};
use crate::model::ModelFolders;
use crate::options::devices;
use crate::prompt::tokenizer::Tokenizer;
use crate::prompt::{Prompts, template_or_file};
use crate::publish::columns::{OutputColumns, Returns};
use crate::publish::{Publication, Target, Unanswered};
use crate::run::engine_loop::Grinder;
use crate::run::feeder::Feeder;
use crate::run::finisher::{ErrorLimits, Finisher};
use crate::run::progress::{Counters, Progress};
use crate::run::row::KeepLogprobs;
use crate::run::sampling::Sampling;
use crate::store::location::Location;
use crate::supervise::faults;
use crate::supervise::signals::{Asked, Signals};
use crate::supervise::worker::{self, Pacemaker, listen_to_signals};
use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};
use engine::Engine;
use engine::device::Device;
use engine::models::Model;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

/// Rows between the feeder and the engine, and between the engine and the journal.
const QUEUE: usize = 128;

/// The field of the identity that holds the date, where templates tell it.
const DATE: &str = "date";

/// A job with everything checked that can be checked before weights are loaded.
struct Job {
    args: RunArgs,
    output: Location,
    input: Input,
    rows: u64,
    /// The kept columns of the input in its order, and the output's columns.
    kept: Vec<usize>,
    columns: OutputColumns,
    folders: ModelFolders,
    model: Model,
    tokenizer: Arc<Tokenizer>,
    prompts: Prompts,
    sampling: Sampling,
    chat_template: Option<String>,
    max_model_len: usize,
    /// What templates tell, in seconds since 1970.
    date: i64,
}

/// Runs a job on the device that it asks for.
///
/// # Errors
/// What ended it; see [`JobError::exit_code`].
pub fn run(args: RunArgs) -> Result<(), JobError> {
    run_on(args, |args| faults::wrap(devices::open(args)?))
}

/// Runs a job on a device of the caller's, which is opened for the type in which weights will be held.
///
/// # Errors
/// As [`run`].
pub fn run_on(
    args: RunArgs,
    open: impl FnOnce(&EngineOptions) -> Result<Box<dyn Device>, JobError>,
) -> Result<(), JobError> {
    let signals = listen_to_signals()?;
    let pacemaker = Pacemaker::start();
    let job = Job::prepare(args)?;
    job.tell();
    let work = job.output.state_dir(job.args.state_dir.as_deref())?;
    let target = Target::open(&job.output, &work)?;
    target.check(&work)?;
    if let Location::Object(_) = job.output {
        eprintln!("journal: {} (--state-dir names another place)", work.display());
    }
    let device = open(&job.args.engine)?;
    let identity = job.identity(&device.info().kind.to_string())?;
    let inputs = job.input_digests()?;
    let mode = resume_mode(&job.args);
    let (mut journal, finished) = Journal::open_or_create(&work, &identity, &inputs, mode)?;
    journal.note_rows(job.rows)?;
    if let Some(rows) = journal.discarded() {
        eprintln!("discarded a job with {rows} finished rows (--fresh)");
    }
    let left = finished.missing(job.rows).map_or(0, |(rows, _)| rows);
    if finished.count > 0 {
        eprintln!("going on: {} of {} rows are there", job.rows - left, job.rows);
    } else if job.args.on_corrupt == OnCorrupt::Refuse {
        job.check_input()?;
    }
    let counters = Counters::going_on(&finished);
    let mut first_error = None;
    if left > 0 {
        let mut engine = Engine::new(&job.model, device, &engine_config(&job.args.engine))?;
        print_engine(&engine);
        target.claim()?;
        drop(pacemaker);
        let shared = Mutex::new(journal);
        let ground = job.grind(&mut engine, &shared, &finished, &counters, &signals);
        journal =
            shared.into_inner().map_err(|_| JobError::Internal("a thread ended with the journal".into()))?;
        // If both fail, the loop's error is the cause.
        let committed = journal.commit();
        first_error = ground?;
        committed?;
        if let Some(asked) =
            signals.asked().filter(|_| Counters::get(&counters.finished) < finished.count + left)
        {
            return Err(JobError::Interrupted { terminated: asked == Asked::Terminate });
        }
    }
    if left > 0 {
        // A job may run for days, and its rows are read once more now.
        let changes = job.input_digests()?.differences(&inputs);
        if !changes.is_empty() {
            return Err(JobError::OtherIdentity { work, differences: changes });
        }
    }
    // The lock is kept until all is published.
    target.claim()?;
    let reader = journal.reader()?;
    let publication = Publication {
        target: &target,
        work: &work,
        identity: &identity,
        rows: job.rows,
        rows_per_file: job.args.rows_per_file,
        columns: &job.columns,
        unanswered: Unanswered::Refuse,
    };
    let pacemaker = Pacemaker::start();
    publication.publish(&reader, job.kept_batches())?;
    drop((reader, pacemaker));
    journal.close()?;
    eprintln!("{} rows in {}", job.rows, job.output);
    job.error_limits().check(Counters::get(&counters.errors), job.rows, first_error)
}

impl Job {
    fn prepare(mut args: RunArgs) -> Result<Job, JobError> {
        let output =
            args.output.clone().ok_or_else(|| JobError::Usage("name the output with --output".into()))?;
        let returns = resolve_returns(&mut args)?;
        if !(0.0..=1.0).contains(&args.max_error_rate) {
            let why = format!("--max-error-rate is {}; it must be from 0 to 1", args.max_error_rate);
            return Err(JobError::Usage(why));
        }
        let input = Input::open(&args.input)?;
        let rows = input.rows.min(args.limit.unwrap_or(u64::MAX));
        let folders = ModelFolders::find(&args.model)?;
        let format = match args.model.load_format {
            LoadFormat::Auto => engine::models::LoadFormat::Auto,
            LoadFormat::Dummy => engine::models::LoadFormat::Dummy,
        };
        let model = Model::open(&folders.model, format)?;
        let max_model_len = args.engine.max_model_len.unwrap_or(model.config.max_position_embeddings);
        let tokenizer = Arc::new(Tokenizer::open(&folders.tokenizer)?);
        let vocab = model.config.vocab;
        let sampling =
            Sampling::resolve(&args.sampling, Some(&folders.model), &tokenizer, vocab, max_model_len)?;
        let chat_template = tokenizer.chat_template(&folders.tokenizer)?;
        let template = chat_template.clone();
        let date = job_date(&args, &output.state_dir(args.state_dir.as_deref())?);
        let prompts =
            Prompts::new(&args.prompt, &input, tokenizer.clone(), template, max_model_len, vocab, date)?;
        let mut kept = match &args.keep {
            None => (0..input.schema.fields().len()).collect(),
            Some(names) => input.columns(names, "--keep")?,
        };
        kept.sort_unstable();
        kept.dedup();
        let schema = projected(&input.schema, &kept);
        let columns = OutputColumns::new(
            &schema,
            args.keep.as_deref(),
            returns,
            sampling.n as usize,
            &args.column_prefix,
        )?;
        Ok(Job {
            args,
            output,
            input,
            rows,
            kept,
            columns,
            folders,
            model,
            tokenizer,
            prompts,
            sampling,
            chat_template,
            max_model_len,
            date,
        })
    }

    /// Says what was resolved.
    fn tell(&self) {
        eprintln!(
            "model: {} ({}, {} tokens of context); input: {} of {} rows in {} files",
            self.folders.name,
            self.model.config.architecture,
            self.max_model_len,
            self.rows,
            self.input.rows,
            self.input.files.len()
        );
        let how = if self.prompts.uses_chat_template() {
            "through the chat template"
        } else {
            "without a chat template"
        };
        eprintln!("prompts: {how}; sampling: {}", self.sampling.summary());
    }

    fn identity(&self, device: &str) -> Result<Identity, JobError> {
        let mut identity = Identity::new();
        let mut file = |field: &str, path: PathBuf| -> Result<(), JobError> {
            let digest = if path.is_file() { digest_file(&path)? } else { "(none)".into() };
            identity.push(field, digest);
            Ok(())
        };
        file("config", self.folders.model.join("config.json"))?;
        file("tokenizer", self.folders.tokenizer.join("tokenizer.json"))?;
        file("tokenizer config", self.folders.tokenizer.join("tokenizer_config.json"))?;
        let weights = match self.args.model.load_format {
            LoadFormat::Auto => digest_files(&weight_files(&self.folders.model)?)?,
            LoadFormat::Dummy => "dummy".into(),
        };
        identity.push("weights", weights);
        identity.push("device", device);
        identity.push("dtype", format!("{:?}", self.args.engine.dtype));
        identity.push("kv cache dtype", format!("{:?}", self.args.engine.kv_cache_dtype));
        identity.push("gemm", gemm_named(self.args.engine.gemm));
        identity.push(
            "float32 matmul precision",
            format!("{:?}", self.args.engine.float32_matmul_precision).to_lowercase(),
        );
        identity.push("max model len", self.max_model_len.to_string());
        let p = &self.args.prompt;
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "(none)".into());
        identity.push("prompt", text(&p.prompt));
        identity.push("prompt column", text(&p.prompt_column));
        identity.push("messages column", text(&p.messages_column));
        identity.push("prompt tokens column", text(&p.prompt_tokens_column));
        identity.push("system prompt", text(&p.system_prompt));
        // The text, not the name of a file that may hold another text tomorrow.
        let given = p.chat_template.as_deref().map(template_or_file).transpose()?;
        let template = given.as_ref().or(self.chat_template.as_ref());
        let template = template.filter(|_| self.prompts.uses_chat_template());
        identity
            .push("chat template", template.map_or("(none)".into(), |text| digest_bytes(text.as_bytes())));
        identity.push("chat template kwargs", format!("{:?}", p.chat_template_kwargs));
        if self.prompts.tell_date() {
            identity.push(DATE, date::told(self.date));
        }
        for (name, value) in self.sampling.fields() {
            identity.push(name, value);
        }
        identity.push("return", format!("{:?}", self.args.returns));
        Ok(identity)
    }

    fn input_digests(&self) -> Result<InputDigests, JobError> {
        let digest = |file: &crate::input::InputFile| {
            let (size, digest) = file.source.identify()?;
            Ok(InputDigest { path: file.path.clone(), size, rows: file.rows(), digest })
        };
        Ok(InputDigests(self.input.files.iter().map(digest).collect::<Result<_, JobError>>()?))
    }

    /// Reads what the job will read, so that a corrupt row group ends it before it begins.
    fn check_input(&self) -> Result<(), JobError> {
        let mut columns = [self.kept.as_slice(), self.prompts.columns()].concat();
        columns.sort_unstable();
        columns.dedup();
        match self.input.read(columns, 0..self.rows).find_map(Result::err) {
            None => Ok(()),
            Some(corrupt) if !corrupt.error.is_corruption() => Err(corrupt.error),
            Some(corrupt) => {
                let why =
                    format!("{}; with --on-corrupt row-errors its rows get errors instead", corrupt.error);
                Err(JobError::Input { path: PathBuf::from("input"), place: String::new(), why })
            }
        }
    }

    fn error_limits(&self) -> ErrorLimits {
        ErrorLimits { rate: self.args.max_error_rate, count: self.args.max_errors }
    }

    /// Answers all rows that are not finished, or until a signal. Returns the first row error.
    fn grind(
        &self,
        engine: &mut Engine,
        journal: &Mutex<Journal>,
        finished: &FinishedRows,
        counters: &Counters,
        signals: &Signals,
    ) -> Result<Option<String>, JobError> {
        let alone = journal.lock().map(|journal| journal.alone().to_vec()).unwrap_or_default();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let feeder = Feeder {
            input: &self.input,
            prompts: &self.prompts,
            rows: self.rows,
            finished,
            alone,
            on_corrupt: self.args.on_corrupt,
            threads,
            counters,
        };
        let (prepared, rows) = sync_channel(QUEUE);
        let (ground, outcomes) = sync_channel(QUEUE);
        let keep = KeepLogprobs {
            tokens: self.args.returns.contains(&ReturnColumn::TokenLogprobs),
            alternatives: self.args.returns.contains(&ReturnColumn::Logprobs),
        };
        let mut finisher = Finisher {
            sampling: &self.sampling,
            tokenizer: &self.tokenizer,
            journal,
            counters,
            limits: self.error_limits(),
            first_error: None,
        };
        let mut progress = Progress::begin(self.rows, counters);
        let given_up = std::sync::atomic::AtomicBool::new(false);
        let result = std::thread::scope(|scope| {
            scope.spawn(move || feeder.feed(&prepared));
            let (finisher, progress, given_up) = (&mut finisher, &mut progress, &given_up);
            let finishing = scope.spawn(move || {
                let result = finisher.run(&outcomes, progress);
                given_up.store(result.is_err(), std::sync::atomic::Ordering::Relaxed);
                result
            });
            let share = self.args.enable_prompt_sharing.unwrap_or(true);
            let grinder = Grinder::new(engine, &self.sampling, &self.tokenizer, journal, keep, share, ground);
            let stop = || signals.asked().is_some() || given_up.load(std::sync::atomic::Ordering::Relaxed);
            let ground = grinder.run(&rows, stop);
            // Ends the feeder, which may wait for room.
            drop(rows);
            let finished = finishing.join();
            let finished = finished.unwrap_or_else(|_| Err(JobError::Internal("the finisher ended".into())));
            finished.and(ground)
        });
        progress.end();
        eprintln!("{}", progress.summary(counters));
        result.map(|()| finisher.first_error)
    }

    /// The kept columns of all rows; rows that cannot be read have nulls.
    fn kept_batches(&self) -> impl Iterator<Item = Result<RecordBatch, JobError>> + '_ {
        let schema = projected(&self.input.schema, &self.kept);
        self.input.read(self.kept.clone(), 0..self.rows).map(move |batch| match batch {
            Ok(batch) => Ok(batch.columns),
            Err(corrupt) if self.args.on_corrupt == OnCorrupt::RowErrors && corrupt.error.is_corruption() => {
                nulls(&schema, corrupt.rows)
            }
            Err(corrupt) => Err(corrupt.error),
        })
    }
}

fn nulls(schema: &SchemaRef, rows: std::ops::Range<u64>) -> Result<RecordBatch, JobError> {
    let rows = (rows.end - rows.start) as usize;
    let columns = schema.fields().iter().map(|field| new_null_array(field.data_type(), rows)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(|error| JobError::Internal(error.to_string()))
}

fn projected(schema: &Schema, columns: &[usize]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|&i| schema.field(i).clone()).collect::<Vec<_>>()))
}

/// A field of the identity: a job is not begun with one and ended with the other.
fn gemm_named(gemm: Gemm) -> &'static str {
    match gemm {
        Gemm::Builtin => "builtin",
        Gemm::Cublaslt => "cublaslt, outside the numeric contract",
    }
}

/// The weight files of a folder, sorted.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, JobError> {
    let entries = std::fs::read_dir(folder).map_err(JobError::io("list", folder))?;
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(JobError::io("list", folder)))
        .collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|end| end == "safetensors"));
    files.sort();
    Ok(files)
}

fn resume_mode(args: &RunArgs) -> ResumeMode {
    match args.resume {
        _ if worker::goes_on() => ResumeMode::Auto,
        _ if args.fresh => ResumeMode::Fresh,
        Resume::Auto => ResumeMode::Auto,
        Resume::Never => ResumeMode::Never,
        Resume::Require => ResumeMode::Require,
    }
}

/// The date that templates tell: that of the job which goes on, or today's.
fn job_date(args: &RunArgs, work: &Path) -> i64 {
    let begun = JournalReader::open(work).and_then(|journal| journal.identity());
    let begun = begun.ok().filter(|_| resume_mode(args) != ResumeMode::Fresh);
    begun.and_then(|identity| date::read(identity.get(DATE)?)).unwrap_or_else(date::today)
}

/// The columns to return, with the log-probabilities that they need.
fn resolve_returns(args: &mut RunArgs) -> Result<Returns, JobError> {
    let has = |column| args.returns.contains(&column);
    let returns = Returns {
        generated_tokens: has(ReturnColumn::GeneratedTokens),
        token_logprobs: has(ReturnColumn::TokenLogprobs),
        logprobs: has(ReturnColumn::Logprobs),
        prompt_logprobs: has(ReturnColumn::PromptLogprobs),
    };
    let s = &mut args.sampling;
    for (flag, asked, returned) in [
        ("logprobs", &mut s.logprobs, returns.logprobs),
        ("prompt_logprobs", &mut s.prompt_logprobs, returns.prompt_logprobs),
    ] {
        match (asked.is_some(), returned) {
            (true, false) => {
                let name = flag.replace('_', "-");
                let why = format!("--{name} is of no use without --return {flag}");
                return Err(JobError::Usage(why));
            }
            (false, true) => *asked = Some(1),
            _ => {}
        }
    }
    Ok(returns)
}
