//! What a job would take, before it runs: rows, tokens, memory, time, energy, money. Without a pilot no weight is loaded, and
//! nothing is written but the rates of the device, into the cache.
//!
//! Prompts are made by the feeder that a run has, so that rows, errors and tokens are those of the run.

mod capacity;
mod costs;
mod lengths;
mod pilot;
mod reckon;
mod sample;
mod show;
mod tally;

use crate::error::JobError;
use crate::input::Input;
use crate::journal::decisions::prompt_fields;
use crate::journal::finished::FinishedRows;
use crate::journal::length_limits::LengthLimits;
use crate::journal::{JournalReader, schema};
use crate::model::is_here;
use crate::options::device::Gemm;
use crate::options::devices::Open;
use crate::options::job::JobOptions;
use crate::options::model::LoadFormat;
use crate::rates::Rates;
use crate::run::feeder::{DocumentFeed, Feeder};
use crate::run::identity::{input_digests, prompt_identity};
use crate::run::job::Job;
use crate::run::open_documents::OpenDocuments;
use crate::run::progress::{Counters, Progress};
use crate::run::request::FeederResult;
use capacity::{DevicePlan, devices};
use costs::PlannedCosts;
pub use lengths::{Lengths, Span};
use pilot::Pilot;
use sample::{Sample, spread};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use tally::{AskedChoices, AskedDocuments, ErrorRows, OpenedDocument, Tally, TooLong};

/// Rows between the feeder and who counts them.
const QUEUE: usize = 128;

/// What a job would take. Rows and tokens are those of the rows that were read: of a sample, if one was asked for.
#[derive(Debug, Serialize)]
pub struct Plan {
    pub model: String,
    /// Rows of the job, and of its input.
    pub rows: u64,
    pub input_rows: u64,
    pub files: usize,
    /// Rows that a job of this output has finished; none if no job was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished: Option<u64>,
    /// Which part of the rows was read, if not all, and what that says of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
    /// Rows that would be errors, by the text of their kind.
    pub errors: BTreeMap<String, ErrorRows>,
    /// Rows whose prompts are too long, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub too_long: Option<TooLong>,
    /// Rows that have a prompt. In a job of documents, the prompts of chunks.
    pub prompts: u64,
    pub distinct_prompts: u64,
    /// Tokens of all prompts.
    pub prompt_tokens: Lengths,
    /// Prompts that take the answer to an equal one, at most, and their tokens, without those of the answers.
    pub shared_prompts: u64,
    pub shared_input_tokens: u64,
    /// Positions of prompts, and of branches to labels, to compute, at least, and to find in cached pages, at most.
    pub computed_tokens: u64,
    pub cached_tokens: u64,
    /// Tokens of all answers.
    pub generated_tokens: Span,
    /// What columns of choices ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choices: Option<AskedChoices>,
    /// What documents ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documents: Option<AskedDocuments>,
    /// Whether the bytes of weights are those of the weight files; else config.json alone tells them.
    pub weights_known: bool,
    pub devices: Vec<DevicePlan>,
    /// What rows that were answered say of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pilot: Option<Pilot>,
    /// Time, energy and money, or why they are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub costs: Option<PlannedCosts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_costs: Option<String>,
}

/// How to find out what a job would take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanOptions {
    /// Row groups to read, if not all.
    pub sample: Option<u64>,
    /// Rows to answer first.
    pub pilot: Option<u64>,
    /// Whether the rates of the device are measured anew.
    pub measure_rates: bool,
}

impl Plan {
    /// Reads the input, or a sample of it, and finds out what the job would take; with a pilot, answers some rows first. `open`
    /// opens the device of options.
    ///
    /// # Errors
    /// What a run would refuse before its first row, but for its output.
    pub fn of(mut options: JobOptions, plan: PlanOptions, open: Open<'_>) -> Result<Plan, JobError> {
        let PlanOptions { sample, pilot, measure_rates } = plan;
        if measure_rates {
            let job = Job::prepare(options.clone())?;
            Rates::measured(&job.model, open(&options.engine)?, &options.engine)?;
        }
        let pilot = match pilot {
            Some(count) => Some(pilot::run(&options, count, open)?),
            None => None,
        };
        // A hub would have to send the weights, which only their headers are wanted of.
        let weights_known = options.model.load_format == LoadFormat::Auto && is_here(&options.model);
        if !weights_known {
            options.model.load_format = LoadFormat::Dummy;
        }
        let job = Job::prepare(options)?;
        if pilot.is_none() {
            job.print();
        }
        job.prompts.check_rows(&job.input, job.rows)?;
        if let Some(documents) = &job.documents {
            documents.check_rows(&job.input, job.rows)?;
        }
        let finished = finished(&job)?;
        let groups = groups(&job.input, job.rows);
        let ranges = match sample {
            Some(count) => spread(&groups, count),
            None => groups.clone(),
        };
        let tally = count(&job, &ranges)?;
        let mut plan = Plan {
            model: job.folders.name.clone(),
            rows: job.rows,
            input_rows: job.input.rows,
            files: job.input.files.len(),
            finished,
            sample: sample.map(|_| Sample::new(&tally.groups, &ranges, groups.len(), job.rows)),
            too_long: tally.too_long(),
            prompts: tally.prompts,
            distinct_prompts: tally.distinct(),
            prompt_tokens: tally.lengths.lengths(),
            shared_prompts: tally.shared_prompts,
            shared_input_tokens: tally.shared_input_tokens,
            computed_tokens: tally.positions.computed,
            cached_tokens: tally.positions.cached,
            generated_tokens: tally.generated,
            choices: tally.choices,
            documents: tally.documents,
            pilot: None,
            costs: None,
            no_costs: None,
            devices: devices(&job, &tally.reach.lengths(), open),
            errors: tally.errors,
            weights_known,
        };
        plan.reckon(&job, pilot.as_deref(), open)?;
        Ok(plan)
    }

    /// Rows that would be errors.
    pub fn error_rows(&self) -> u64 {
        self.errors.values().map(|errors| errors.rows).sum()
    }
}

/// Rows of the job that are finished, if it was begun with the same prompts and inputs.
fn finished(job: &Job) -> Result<Option<u64>, JobError> {
    let state_dir = &job.options.state_dir;
    if job.options.fresh
        || !schema::path(state_dir).try_exists().map_err(JobError::io("look at", state_dir))?
    {
        return Ok(None);
    }
    let journal = JournalReader::open(state_dir)?;
    let mut differences = Vec::new();
    if journal.is_of_this_format() {
        differences.push(prompt_identity(job).differences(&prompt_fields(journal.identity())));
    }
    differences.push(input_digests(job)?.differences(journal.inputs()));
    differences.retain(|lines| !lines.is_empty());
    if !differences.is_empty() {
        return Err(JobError::OtherIdentity {
            state_dir: state_dir.clone(),
            differences: differences.join("\n"),
        });
    }
    journal.finished(job.rows).map(Some)
}

/// The row groups of the first rows.
fn groups(input: &Input, rows: u64) -> Vec<Range<u64>> {
    let mut groups = Vec::new();
    let mut start = 0;
    for len in input.files.iter().flat_map(|file| &file.row_groups) {
        let end = (start + len).min(rows);
        if end > start {
            groups.push(start..end);
        }
        start = end;
    }
    groups
}

/// Makes the prompts of rows and counts what comes.
fn count(job: &Job, ranges: &[Range<u64>]) -> Result<Tally, JobError> {
    let open = job
        .documents
        .as_deref()
        .map(|documents| OpenDocuments::new(documents, &job.sampling, job.structure.as_ref()));
    let limits = LengthLimits { max_model_len: job.max_model_len as u64, max_tokens: 0 };
    let feeder = Feeder {
        input: &job.input,
        prompts: &job.prompts,
        choices: job.choices.as_deref(),
        documents: open.as_ref().map(|open| DocumentFeed { open, journal: None, limits }),
        structure: job.structure.as_ref(),
        batch: job.batch.as_ref(),
        sampling: &job.sampling,
        rows: 0..job.rows,
        finished: &FinishedRows::none_of(job.rows),
        alone: Vec::new(),
        later: Vec::new(),
        on_corrupt: job.options.on_corrupt,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    };
    // A library that breaks the numeric contract shares no answers.
    let shares = job.options.share_prompts && job.options.engine.gemm == Gemm::Builtin;
    let mut tally = Tally::new(&job.options.engine, shares, job.max_model_len, ranges);
    if let Some(row) = &job.content_free {
        tally.take_content_free(row);
    }
    let (made, rows) = sync_channel(QUEUE);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new();
        let feed = move || feeder.feed_ranges(ranges, &made);
        thread.spawn_scoped(scope, feed).map_err(JobError::io("start a thread for", "prompts"))?;
        take_all(&rows, &mut tally, open.as_ref(), ranges.iter().map(|range| range.end - range.start).sum())
    })?;
    Ok(tally)
}

fn take_all(
    made: &Receiver<FeederResult>,
    tally: &mut Tally,
    open: Option<&OpenDocuments<'_>>,
    rows: u64,
) -> Result<(), JobError> {
    let counters = Counters::default();
    let mut progress = Progress::begin("rows", rows, &counters).without_tokens();
    let mut result = Ok(());
    for row in made {
        match row {
            Ok(Ok(request)) => {
                let document = open.and_then(|open| {
                    let chunks = open.take(request.row)?.num_chunks() as u64;
                    let (method, scores) = (open.documents.options.method, open.documents.scores());
                    Some(OpenedDocument { chunks, method, scores })
                });
                let follows = request.part.is_some() && document.is_none();
                if !follows {
                    Counters::add(&counters.finished, 1);
                }
                tally.take(&request, document);
            }
            Ok(Err(failed)) => {
                open.and_then(|open| open.take(failed.row));
                Counters::add(&counters.finished, 1);
                tally.fail(&failed);
            }
            Err(error) => {
                result = Err(error);
                break;
            }
        }
        progress.show(&counters);
    }
    progress.end();
    result
}
