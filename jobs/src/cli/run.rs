//! `gristmill run`.

use crate::choices::refuse_sampling;
use crate::cli::args::RunArgs;
use crate::error::{EXIT_DONE, JobError};
use crate::input::format::InputFormat;
use crate::journal::schema::refuse_other_kinds;
use crate::metrics::{Metrics, MetricsTo};
use crate::options::batch::BatchOptions;
use crate::options::columns::ColumnOptions;
use crate::options::documents::DocumentOptions;
use crate::options::job::{JobOptions, Resume, RetryRows, ReturnColumn, TakeOverOptions};
use crate::options::prompt::PromptOptions;
use crate::options::sampling::SamplingOptions;
use crate::options::shard::ShardOptions;
use crate::publish::format::OutputFormat;
use crate::run;
use crate::shards::local::shard_dir;
use crate::store::location::{Location, refuse_url};
use crate::structured::StructuredOutputs;
use crate::supervise::Supervision;
use crate::supervise::worker::is_worker;
use crate::supervisor_link::supervisor_link;
use clap::ValueEnum;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The pause before a worker that died starts again.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// The command that this process was started with.
pub struct Again {
    /// Program and first arguments; this file if there are none.
    pub program: Vec<OsString>,
    pub arguments: Vec<OsString>,
}

impl Again {
    /// What starts it as a worker.
    ///
    /// # Errors
    /// [`JobError::Io`].
    pub fn command(&self) -> Result<impl Fn() -> std::process::Command, JobError> {
        let this = match self.program.first() {
            Some(program) => program.into(),
            None => std::env::current_exe().map_err(JobError::io("find", "this program"))?,
        };
        Ok(move || {
            let mut command = std::process::Command::new(&this);
            command.args(self.program.iter().skip(1)).args(&self.arguments);
            command
        })
    }
}

/// Runs a job in a child process, which is this one if it has a supervisor, and returns the exit code.
pub fn run(args: RunArgs, again: &Again) -> Result<u8, JobError> {
    // A worker is told by a socket.
    let supervised = cfg!(unix) && !args.in_process && !is_worker();
    let hang = Duration::from_secs(args.hang_timeout);
    let job_read = args.job_read.clone();
    args.refuse_changed()?;
    let served_at = args.metrics.filter(|_| !is_worker());
    let mut options = args.job_options()?;
    refuse_other_kinds(&options.state_dir)?;
    // Before the work: a port that is taken is found at once, and is this command's until it ends.
    let metrics = served_at.map(Metrics::serve).transpose()?;
    if !supervised {
        options.metrics = metrics.map_or(options.metrics, MetricsTo::Here);
        return run::run(options).map(|()| EXIT_DONE);
    }
    let worker = again.command()?;
    Supervision { hang, pause: PAUSE, job_read, metrics }.run(&options.state_dir, worker)
}

impl RunArgs {
    /// Refuses a job file that has changed since the supervisor of this worker has read it: where the output goes and what it
    /// keeps is not part of the identity.
    ///
    /// # Errors
    /// [`JobError::Changed`].
    pub fn refuse_changed(&self) -> Result<(), JobError> {
        match (supervisor_link(), &self.job) {
            (Some(link), Some(path)) if link.job_read != self.job_read => {
                Err(JobError::Changed { path: path.clone() })
            }
            _ => Ok(()),
        }
    }

    /// What the flags mean.
    ///
    /// # Errors
    /// [`JobError::Usage`] names the flag that is missing, out of range, or without effect.
    pub fn job_options(mut self) -> Result<JobOptions, JobError> {
        self.check_batch()?;
        let output = self.output.take();
        let output = output.ok_or_else(|| JobError::Usage("name the output with --output".into()))?;
        output.refuse_malformed("--output")?;
        let state_dir = self.state_dir.take();
        if let Some(folder) = &state_dir {
            let refused = refuse_url(&folder.to_string_lossy());
            refused.map_err(|why| JobError::Usage(format!("--state-dir {why}")))?;
        }
        OutputFormat::of(&output)?;
        let state_dir = output.state_dir(state_dir.as_deref())?;
        self.resolve(output, state_dir)
    }

    /// What the flags mean for what writes nothing, and may have no output.
    ///
    /// # Errors
    /// As [`RunArgs::job_options`].
    pub fn reading_options(self) -> Result<JobOptions, JobError> {
        if self.output.is_some() {
            return self.job_options();
        }
        self.check_batch()?;
        // No job has this folder: an output has a name.
        let state_dir = Location::none().state_dir(None)?;
        self.resolve(Location::none(), state_dir)
    }

    /// What the flags mean for rows in memory, which have no files. What is of files is not among the flags
    /// ([`crate::cli::keywords`]).
    ///
    /// # Errors
    /// As [`RunArgs::job_options`].
    pub fn row_options(self) -> Result<JobOptions, JobError> {
        self.resolve(Location::none(), PathBuf::new())
    }

    fn resolve(self, output: Location, state_dir: PathBuf) -> Result<JobOptions, JobError> {
        let RunArgs {
            job: _,
            job_read: _,
            input,
            input_format,
            output: _,
            state_dir: _,
            limit,
            keep,
            returns,
            column_prefix,
            max_error_rate,
            max_errors,
            stop_on_errors,
            on_corrupt,
            rows_per_file,
            shard,
            resume,
            take_over,
            fresh,
            retry,
            enable_prompt_sharing,
            hang_timeout: _,
            in_process: _,
            metrics,
            prices,
            batch: BatchOptions { batch, served_model_name: served_model_names },
            mut prompt,
            columns,
            documents,
            structured,
            mut sampling,
            model,
            engine,
        } = self;
        let (state_dir, shard) = match shard {
            Some(_) if rows_per_file.is_none() => {
                let why =
                    "--shard runs whole files of the output: give --rows-per-file, the same for all shards";
                return Err(JobError::Usage(why.into()));
            }
            Some(shard) => (
                shard_dir(&state_dir, shard),
                Some(ShardOptions { shard: Some(shard), job_dir: state_dir, date: None }),
            ),
            None => (state_dir, None),
        };
        let columns = columns.resolve()?;
        let documents = documents.documents;
        let reasoning_end = structured.reasoning_end.clone();
        let structured = structured.resolve()?;
        if let Some(documents) = &documents {
            documents.check()?;
            refuse_beside_documents(documents, &prompt, &columns, structured.as_ref(), &sampling)?;
        }
        refuse_returns(&returns, !columns.is_empty(), documents.is_some())?;
        let has_schema = matches!(structured, Some(StructuredOutputs::Json(_)));
        if returns.contains(&ReturnColumn::FieldProbabilities) && !has_schema {
            let why = "--return field_probabilities is of answers under a JSON Schema, and the job has none; give --json-schema";
            return Err(JobError::Usage(why.into()));
        }
        if !columns.is_empty() && documents.is_none() {
            refuse_sampling(&sampling)?;
        }
        if structured.is_some() {
            refuse_beside_structure(&sampling, !columns.is_empty())?;
        }
        prompt.asks = columns.iter().any(|column| column.ask.is_some());
        request_logprobs(&returns, &mut sampling)?;
        if !(0.0..=1.0).contains(&max_error_rate) {
            let why = format!("--max-error-rate is {max_error_rate}; it must be from 0 to 1");
            return Err(JobError::Usage(why));
        }
        refuse_contradictions(resume, fresh, &retry)?;
        if take_over {
            refuse_beside_take_over(&output, shard.is_some(), resume, fresh, &retry)?;
        }
        let is_batch = !batch.is_empty();
        Ok(JobOptions {
            input: if is_batch { batch } else { input },
            batch: is_batch,
            served_model_names,
            input_format: if is_batch { Some(InputFormat::Lines) } else { input_format },
            output,
            state_dir,
            limit,
            keep,
            returns,
            columns,
            documents,
            structured,
            reasoning_end,
            column_prefix,
            max_error_rate,
            max_errors,
            stop_on_errors,
            on_corrupt: on_corrupt.unwrap_or_default(),
            rows_per_file,
            shard,
            resume,
            take_over: take_over.then(TakeOverOptions::default),
            fresh,
            retry,
            share_prompts: enable_prompt_sharing.unwrap_or(true),
            prices,
            metrics: match metrics {
                Some(_) if is_worker() => MetricsTo::Supervisor,
                _ => MetricsTo::Nobody,
            },
            prompt: prompt.with_template_text()?,
            sampling,
            model,
            engine,
        })
    }
}

/// Refuses flags that say two things about a job that was begun.
fn refuse_contradictions(resume: Resume, fresh: bool, retry: &[RetryRows]) -> Result<(), JobError> {
    let why = match (resume, fresh, retry) {
        (Resume::Require, true, _) => {
            "--resume require resumes a job and --fresh discards it; give one of them"
        }
        (_, true, [_, ..]) => "--retry runs rows of a job again and --fresh discards it; give one of them",
        (Resume::Never, _, [_, ..]) => {
            "--retry runs rows of a job again and --resume never refuses one; give one of them"
        }
        _ => return Ok(()),
    };
    Err(JobError::Usage(why.into()))
}

/// Refuses what does not go together with a job of another machine.
fn refuse_beside_take_over(
    output: &Location,
    shard: bool,
    resume: Resume,
    fresh: bool,
    retry: &[RetryRows],
) -> Result<(), JobError> {
    let why = if let Location::Local(path) = output {
        return Err(JobError::Usage(format!(
            "--take-over is for outputs in an object store, which has a copy of the journal; that of {} is beside it, and the same \
             command without --take-over goes on with it",
            path.display()
        )));
    } else if shard {
        "a shard needs no --take-over: any machine runs it again, with --shard alone"
    } else if fresh {
        "--take-over goes on with a job and --fresh discards it; give one of them"
    } else if resume == Resume::Never {
        "--take-over goes on with a job and --resume never refuses to; give one of them"
    } else if !retry.is_empty() {
        "--take-over goes on with a job as it was begun; give --retry when it is published"
    } else {
        return Ok(());
    };
    Err(JobError::Usage(why.into()))
}

/// Refuses what would end an answer elsewhere than its structure does, and columns of choices.
fn refuse_beside_structure(sampling: &SamplingOptions, columns: bool) -> Result<(), JobError> {
    let why = if columns {
        "columns of choices are scored and generate nothing, so that structured outputs do not go together with them; \
         `choice` in [structured-outputs] generates one of its texts"
    } else if !sampling.stop.is_empty() {
        "--stop could end a structured output before it is whole; a structured output ends where its structure does"
    } else if !sampling.stop_token_ids.is_empty() {
        "--stop-token-ids could end a structured output before it is whole; a structured output ends where its structure does"
    } else if sampling.ignore_eos {
        "--ignore-eos leaves a structured output no end; leave it out"
    } else {
        return Ok(());
    };
    Err(JobError::Usage(why.into()))
}

/// Refuses optional columns that a job of this kind does not have.
fn refuse_returns(returns: &[ReturnColumn], choices: bool, documents: bool) -> Result<(), JobError> {
    if !documents && returns.contains(&ReturnColumn::Chunks) {
        return Err(JobError::Usage(
            "--return chunks is of documents, and the job has none; give --documents".into(),
        ));
    }
    if documents && returns.contains(&ReturnColumn::PromptLogprobs) {
        return Err(JobError::Usage(
            "--return prompt_logprobs does not go together with documents, which have many prompts".into(),
        ));
    }
    let of_another_kind = |column: &&ReturnColumn| {
        // Chunks go with both.
        **column != ReturnColumn::Chunks && column.is_of_choices() != choices
    };
    let Some(other) = returns.iter().find(of_another_kind) else { return Ok(()) };
    let name = other.to_possible_value().map_or(String::new(), |value| value.get_name().to_string());
    let why = match choices {
        true => "does not go together with columns of choices, whose answers are not generated",
        false => "is of columns of choices, and the job has none; give --choices",
    };
    Err(JobError::Usage(format!("--return {name} {why}")))
}

/// Refuses what a job of documents cannot have.
fn refuse_beside_documents(
    documents: &DocumentOptions,
    prompt: &PromptOptions,
    columns: &[ColumnOptions],
    structured: Option<&StructuredOutputs>,
    sampling: &SamplingOptions,
) -> Result<(), JobError> {
    if documents.map_columns && !matches!(structured, Some(StructuredOutputs::Json(_))) {
        return Err(JobError::Usage(
            "documents: map-columns answers each chunk under the JSON schema of the job, and the job has none; give \
             --json-schema, or leave it out"
                .into(),
        ));
    }
    if let Some(column) = columns.iter().find(|column| column.calibrate.is_some()) {
        return Err(JobError::Usage(format!(
            "column `{}`: `calibrate` does not go together with documents, of which the last prompt is one or the other; \
             leave it out",
            column.name
        )));
    }
    let given = [
        ("--prompt-column", prompt.prompt_column.is_some()),
        ("--messages-column", prompt.messages_column.is_some()),
        ("--prompt-tokens-column", prompt.prompt_tokens_column.is_some()),
        ("--n above 1", sampling.n.is_some_and(|n| n > 1)),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((flag, _)) => {
            Err(JobError::Usage(format!("{flag} does not go together with documents; leave it out")))
        }
        None => Ok(()),
    }
}

/// Asks for the log-probabilities that the columns need, and refuses those that no column shows.
fn request_logprobs(returns: &[ReturnColumn], sampling: &mut SamplingOptions) -> Result<(), JobError> {
    for (flag, asked, column) in [
        ("logprobs", &mut sampling.logprobs, ReturnColumn::Logprobs),
        ("prompt_logprobs", &mut sampling.prompt_logprobs, ReturnColumn::PromptLogprobs),
    ] {
        match (asked.is_some(), returns.contains(&column)) {
            (true, false) => {
                let name = flag.replace('_', "-");
                return Err(JobError::Usage(format!("--{name} has no effect without --return {flag}")));
            }
            (false, true) => *asked = Some(1),
            _ => {}
        }
    }
    Ok(())
}
