//! `gristmill run`: from the options to the published answers.

pub mod answer_rows;
pub mod answer_sink;
pub mod cost_meter;
pub mod detokenize;
mod document_windows;
pub mod duplicates;
pub mod engine_loop;
pub mod error_limits;
pub mod feeder;
pub mod finisher;
pub mod identity;
pub mod job;
pub mod kept;
mod lease;
pub mod open_documents;
mod open_job;
pub mod order;
mod output;
pub mod pilot;
pub mod progress;
pub mod reading;
pub mod request;
pub mod resume;
pub mod row;
pub mod sampling;
mod shard;
pub mod shard_worker;
mod space;
mod stop;
mod take_over;

use crate::counted::counted;
use crate::error::JobError;
use crate::journal::EndedJournal;
use crate::journal::endings::Endings;
use crate::log::note;
use crate::options::devices;
use crate::options::engine::EngineOptions;
use crate::options::job::JobOptions;
use crate::publish::manifest::{self, Manifest};
use crate::publish::publication::Publication;
use crate::publish::target::Target;
use crate::receipt;
use crate::run::error_limits::{first_error, place_of_errors};
use crate::run::job::Job;
use crate::run::open_job::{Begun, OpenJob};
use crate::run::output::publication;
use crate::run::pilot::{all_but, spread_rows};
use crate::run::reading::read_rows;
use crate::run::stop::Stop;
use crate::shards::local::refuse_whole;
use crate::store::location::Location;
use crate::supervise::worker::{HeartbeatThread, listen_to_signals};
use engine::device::Device;

/// Runs a job on the device that its options name.
///
/// # Errors
/// What ended it; see [`JobError::exit_code`].
pub fn run(options: JobOptions) -> Result<(), JobError> {
    run_on(options, open_device)
}

/// Opens the device that options name.
///
/// # Errors
/// [`JobError::Engine`] if it is not there.
pub fn open_device(engine: &EngineOptions) -> Result<Box<dyn Device>, JobError> {
    #[cfg(feature = "faults")]
    if let Some(device) = crate::supervise::pretend::device()? {
        return crate::supervise::faults::wrap(device);
    }
    let device = devices::open(engine)?;
    #[cfg(feature = "faults")]
    let device = crate::supervise::faults::wrap(device)?;
    Ok(device)
}

/// Runs a job on a device of the caller's.
///
/// # Errors
/// As [`run`].
pub fn run_on(
    options: JobOptions,
    open: impl FnOnce(&EngineOptions) -> Result<Box<dyn Device>, JobError>,
) -> Result<(), JobError> {
    let signals = listen_to_signals()?;
    let heartbeats = HeartbeatThread::start();
    let mut open_job = OpenJob::open(options, &signals, open)?;
    let Some(begun) = open_job.begin()? else { return Ok(()) };
    let (shard, journal) = open_job.run(begun, &signals, heartbeats)?;
    let OpenJob { job, target, .. } = &open_job;
    match shard {
        // How many errors there are among all rows shows when all shards are published.
        Some(shard) => shard.finish(job, target, &journal).map(drop),
        None => finish(job, target, journal),
    }
}

/// Publishes the answers to all rows of a job, with its receipt.
fn finish(job: &Job, target: &Target, journal: EndedJournal) -> Result<(), JobError> {
    let endings = Endings::of(&journal.reader, job.range.end)?.shown();
    if job.options.stop_on_errors {
        // Those of earlier runs, too.
        job.error_limits().check(endings.error_rows(), job.rows, first_error(&endings), None)?;
    }
    let (receipt, lines) = receipt::freeze(&journal, &job.folders.name, &job.options.prices, job.rows)?;
    note_fewer_rows(job);
    let unreadable = publish(job, target, &journal)?;
    receipt::write(&job.options.state_dir, &receipt)?;
    note!("{lines}");
    if let Location::Object(_) = job.options.output {
        note!("receipt: {}, on this machine only", job.options.state_dir.join(receipt::NAME).display());
    }
    drop(journal);
    let endings = endings.with_unreadable(unreadable);
    let column = place_of_errors(&job.options);
    note!("{}", last_line(job, &endings, &column));
    job.error_limits().check(endings.error_rows(), job.rows, first_error(&endings), Some(&column))
}

/// Answers so many rows of a job, spread over it, and keeps them in its journal. Gives their numbers.
///
/// # Errors
/// As [`run`].
pub fn pilot(
    options: JobOptions,
    count: u64,
    open: impl FnOnce(&EngineOptions) -> Result<Box<dyn Device>, JobError>,
) -> Result<Vec<u64>, JobError> {
    let signals = listen_to_signals()?;
    let mut open_job = OpenJob::open(options, &signals, open)?;
    let Some(begun) = open_job.begin()? else { return Ok(Vec::new()) };
    let Begun { shard: _, mut journal, finished } = begun;
    let all = open_job.job.rows;
    let rows = spread_rows(all, count);
    let others = all_but(&rows, &finished, all);
    if others.missing(0..all).is_some() {
        open_job.load()?;
        receipt::note_prices(&mut journal, &open_job.job.options.prices)?;
        note!("pilot: {} of {}, kept in the job's journal", rows.len(), counted(all, "row"));
        journal = open_job.answer(journal, &others, &Stop { signals: &signals, lease: None })?;
    }
    journal.close()?;
    Ok(rows)
}

/// Says so if rows that are published are about to leave the output.
fn note_fewer_rows(job: &Job) {
    let published = Manifest::find(&job.options.state_dir, manifest::NAME).filter(|_| !job.options.fresh);
    if let Some(before) = published.map(|manifest| manifest.rows).filter(|&before| before > job.rows) {
        note!(
            "{} has {}; with --limit {} it gets {}, and the journal keeps the answers of the others",
            job.options.output,
            counted(before, "row"),
            job.rows,
            job.rows
        );
    }
}

/// How many rows there are and how they ended; from this share of errors on, where to look.
fn last_line(job: &Job, endings: &Endings, column: &str) -> String {
    const LOOK: f64 = 0.01;
    let (rows, output) = (job.rows, &job.options.output);
    let all = format!("{} in {output}", counted(rows, "row"));
    if *endings == Endings::default() {
        return all;
    }
    let errors = endings.error_rows();
    let see = if errors > 0 && errors as f64 >= LOOK * rows as f64 {
        format!("; {column} says why")
    } else {
        String::new()
    };
    format!("{all}: {endings}{see}")
}

/// Makes the output of the journal and the input. Returns the rows that got an error by that.
fn publish(job: &Job, target: &Target, journal: &EndedJournal) -> Result<u64, JobError> {
    journal.check_in_place()?;
    let results = job.results(journal.reader.identity());
    let may_appear = || {
        refuse_whole(&job.options)?;
        journal.check_in_place()
    };
    let publication =
        Publication { may_appear: &may_appear, ..publication(job, target, journal, results.as_ref()) };
    let _heartbeats = HeartbeatThread::start();
    let kept = read_rows(&job.input, &job.kept, job.range.clone(), job.options.on_corrupt);
    publication.publish(&journal.reader, kept).map(|manifest| manifest.unreadable)
}
