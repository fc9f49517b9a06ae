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
pub mod open_documents;
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
mod space;

use crate::counted::counted;
use crate::date;
use crate::error::JobError;
use crate::journal::endings::Endings;
use crate::journal::finished::FinishedRows;
use crate::journal::identity::{InputDigests, JobIdentity};
use crate::journal::lock::JobLock;
use crate::journal::schema;
use crate::journal::{EndedJournal, Journal, JournalReader};
use crate::log::note;
use crate::metrics::MetricsTo;
use crate::metrics::figures::{EngineNotes, RunFigures, Teller};
use crate::options::devices;
use crate::options::engine::{EngineOptions, print_engine};
use crate::options::job::JobOptions;
use crate::options::shard::Shard;
use crate::publish::format::OutputFormat;
use crate::publish::local::{ASIDE, clear};
use crate::publish::manifest::{self, Manifest};
use crate::publish::publication::Publication;
use crate::publish::target::Target;
use crate::publish::text::LineEncoder;
use crate::rates::Rates;
use crate::receipt;
use crate::receipt::energy::EnergyMeter;
use crate::run::answer_rows::{Onlookers, answer_rows};
use crate::run::cost_meter::CostMeter;
use crate::run::error_limits::{first_error, place_of_errors};
use crate::run::identity::{identity, input_digests};
use crate::run::job::Job;
use crate::run::kept::check_input;
use crate::run::output::publication;
use crate::run::pilot::{all_but, spread_rows};
use crate::run::progress::Counters;
use crate::run::reading::read_rows;
use crate::run::resume::resume_mode;
use crate::run::shard::ShardRun;
use crate::shards::job::ShardedJob;
use crate::shards::local::refuse_whole;
use crate::shards::place::ShardPlace;
use crate::store::location::Location;
use crate::supervise::signals::Signals;
use crate::supervise::worker::{HeartbeatThread, listen_to_signals};
use engine::Engine;
use engine::device::Device;
use std::sync::Mutex;

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
    let Begun { job, target, shard, device, mut journal, finished } = begin(options, open)?;
    let claim = || match &shard {
        Some(shard) => shard.place.claim(&shard.job),
        None => target.claim(),
    };
    let counters = Counters::resume(&finished);
    if finished.missing(job.range.clone()).is_some() {
        let loaded = load(&job, device)?;
        claim()?;
        if let Some(shard) = shard.as_ref().filter(|_| job.options.fresh || !job.options.retry.is_empty()) {
            // Else a publisher would take what was answered before, as if nothing ran.
            shard.place.withdraw(shard.shard)?;
        }
        receipt::note_prices(&mut journal, &job.options.prices)?;
        drop(heartbeats);
        journal = answer(&job, loaded, journal, &finished, &counters, &signals)?;
    }
    claim()?;
    // The lock is kept until all is published.
    let journal = journal.end()?;
    let endings = Endings::of(&journal.reader, job.range.end)?.shown();
    if job.options.stop_on_errors {
        // Those of earlier runs, too.
        job.error_limits().check(endings.error_rows(), job.rows, first_error(&endings), None)?;
    }
    if let Some(shard) = shard {
        // How many errors there are among all rows shows when all shards are published.
        return shard.finish(&job, &target, &journal);
    }
    let (receipt, lines) = receipt::freeze(&journal, &job.folders.name, &job.options.prices, job.rows)?;
    note_fewer_rows(&job);
    let unreadable = publish(&job, &target, &journal)?;
    receipt::write(&job.options.state_dir, &receipt)?;
    note!("{lines}");
    if let Location::Object(_) = job.options.output {
        note!("receipt: {}, on this machine only", job.options.state_dir.join(receipt::NAME).display());
    }
    drop(journal);
    let endings = endings.with_unreadable(unreadable);
    let column = place_of_errors(&job.options);
    note!("{}", last_line(&job, &endings, &column));
    job.error_limits().check(endings.error_rows(), job.rows, first_error(&endings), Some(&column))
}

/// A job that was checked and holds its journal.
struct Begun {
    job: Job,
    target: Target,
    shard: Option<ShardRun>,
    device: Box<dyn Device>,
    journal: Journal,
    finished: FinishedRows,
}

/// Checks a job, and begins it or takes it up again.
fn begin(
    mut options: JobOptions,
    open: impl FnOnce(&EngineOptions) -> Result<Box<dyn Device>, JobError>,
) -> Result<Begun, JobError> {
    let target = Target::open(&options.output, options.job_dir())?;
    let folder = options.rows_per_file.is_some();
    let place = match &mut options.shard {
        Some(own) => {
            let place = ShardPlace::open(&options.output)?;
            place.check_place()?;
            own.date = place.begun()?.and_then(|begun| date::read(&begun.date));
            Some((own.shard, place))
        }
        None => {
            refuse_whole(&options)?;
            target.check(&options.state_dir, folder)?;
            None
        }
    };
    let job = Job::prepare(options)?;
    job.print();
    job.prompts.check_rows(&job.input, job.rows)?;
    if let Some(documents) = &job.documents {
        documents.check_rows(&job.input, job.rows)?;
    }
    if let Location::Object(_) = job.options.output {
        note!("journal: {} (--state-dir names another place)", job.options.state_dir.display());
    }
    let device = open(&job.options.engine)?;
    let identity = identity(&job, device.info())?;
    let inputs = input_digests(&job)?;
    let shard = match place {
        Some((shard, place)) => shard_run(&job, shard, place, &identity, &inputs)?,
        None => None,
    };
    if job.options.fresh && job.options.state_dir.exists() && shard.is_none() {
        // A place that is refused is refused before the job's rows are discarded.
        let _lock = JobLock::acquire(&job.options.state_dir)?;
        target.prepare(&job.options.state_dir, folder)?;
    }
    let (journal, finished) = open_journal(&job, &identity, &inputs)?;
    match &shard {
        Some(_) => clear(&job.options.state_dir.join(ASIDE))?,
        None => target.prepare(&job.options.state_dir, folder)?,
    }
    Ok(Begun { job, target, shard, device, journal, finished })
}

/// The shard that a job runs, which must be of the job that the other shards are of.
fn shard_run(
    job: &Job,
    shard: Shard,
    place: ShardPlace,
    identity: &JobIdentity,
    inputs: &InputDigests,
) -> Result<Option<ShardRun>, JobError> {
    // Where rows run again with greater limits, the job is what it was begun as; the journal looks at what else differs.
    let state_dir = &job.options.state_dir;
    let begun = match schema::path(state_dir).exists() && !job.options.fresh {
        true => Some(JournalReader::open(state_dir)?),
        false => None,
    };
    let identity = begun.as_ref().map_or(&identity.identity, JournalReader::identity);
    let Some(sharded) = ShardedJob::of(job, identity, inputs) else { return Ok(None) };
    place.check(&sharded)?;
    let run = ShardRun { shard, place, job: sharded };
    run.print(job);
    Ok(Some(run))
}

/// A model that is loaded, and what measures its work.
struct Loaded {
    engine: Engine,
    meter: CostMeter,
    rates: Option<Rates>,
}

/// Loads the model, and begins to measure what it takes.
fn load(job: &Job, device: Box<dyn Device>) -> Result<Loaded, JobError> {
    let meter = CostMeter::begin(EnergyMeter::begin(device.pci_bus_id().as_deref()));
    let rates = Rates::kept(&job.model, device.as_ref(), &job.options.engine);
    let mut engine = Engine::new(&job.model, device, &job.engine_config())?;
    if let Some(rates) = rates {
        engine.compare_with(rates.peaks());
    }
    print_engine(&engine);
    let meter = meter.by_rates_of(rates.map(|rates| rates.measured));
    Ok(Loaded { engine, meter, rates })
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
    let Begun { job, target: _, shard: _, device, mut journal, finished } = begin(options, open)?;
    let rows = spread_rows(job.rows, count);
    let others = all_but(&rows, &finished, job.rows);
    if others.missing(0..job.rows).is_some() {
        let loaded = load(&job, device)?;
        receipt::note_prices(&mut journal, &job.options.prices)?;
        note!("pilot: {} of {}, kept in the job's journal", rows.len(), counted(job.rows, "row"));
        let counters = Counters::resume(&others);
        journal = answer(&job, loaded, journal, &others, &counters, &signals)?;
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

/// Opens the journal, or begins it, and prints what is answered already.
fn open_journal(
    job: &Job,
    identity: &JobIdentity,
    inputs: &InputDigests,
) -> Result<(Journal, FinishedRows), JobError> {
    let mode = resume_mode(&job.options, job.range.end);
    let (mut journal, finished) = Journal::open_or_create(&job.options.state_dir, identity, inputs, mode)?;
    journal.note_rows(job.range.end)?;
    if let Some(rows) = journal.discarded() {
        note!("discarded a job with {} (--fresh)", counted(rows, "finished row"));
    }
    let again = journal.again().count();
    if !job.options.retry.is_empty() {
        let again = counted(again, "row");
        note!("running {again} again (--retry); each keeps its answer until the new one is there");
    }
    if finished.count > 0 {
        let rows = job.range.end - job.range.start;
        let left = finished.missing(job.range.clone()).map_or(0, |(rows, _)| rows);
        note!("resuming: {} of {rows} rows already answered", rows - left);
    } else if again == 0 {
        let columns = [job.kept.as_slice(), job.columns_read()].concat();
        let rows = job.range.clone();
        let kept = check_input(&job.input, columns, job.kept.len(), rows, job.options.on_corrupt)?;
        check_output(job)?;
        if let Location::Local(_) = job.options.output
            && let Some(short) = space::warning(&job.options.state_dir, kept.at_least(&job.input))
        {
            tracing::warn!("{short}");
        }
    }
    Ok((journal, finished))
}

/// Refuses values of kept columns that the format of the output cannot hold.
fn check_output(job: &Job) -> Result<(), JobError> {
    let format = OutputFormat::of(&job.options.output)?;
    if format == OutputFormat::Parquet || job.options.batch {
        return Ok(());
    }
    let encoder = LineEncoder::new(format);
    let rows = job.range.clone();
    read_rows(&job.input, &job.kept, rows, job.options.on_corrupt).try_for_each(|batch| {
        let batch = batch?;
        encoder.encode(&batch.columns, batch.first_row, &mut Vec::new())
    })
}

/// Answers the rows that are left. Returns the journal.
fn answer(
    job: &Job,
    loaded: Loaded,
    journal: Journal,
    finished: &FinishedRows,
    counters: &Counters,
    signals: &Signals,
) -> Result<Journal, JobError> {
    let Loaded { mut engine, meter, rates } = loaded;
    let left = finished.missing(job.range.clone()).map_or(0, |(rows, _)| rows);
    let metrics = job.options.metrics.clone();
    let before = match metrics {
        MetricsTo::Nobody => RunFigures::default(),
        _ => RunFigures::of_journal(&JournalReader::open(&job.options.state_dir)?)?,
    };
    let wanted = job.range.end - job.range.start;
    let mut teller = Teller::begin(metrics, before, journal.committed(), wanted);
    let notes = EngineNotes::default();
    let shared = Mutex::new(journal);
    let told = (&mut teller, &notes);
    let answered = {
        let onlookers = Onlookers { counters, meter, told };
        answer_rows(job, &mut engine, &shared, finished, signals, onlookers)
    };
    let mut journal =
        shared.into_inner().map_err(|_| JobError::Internal("a thread ended with the journal".into()))?;
    // If both fail, the loop's error is the cause.
    let committed = journal.commit();
    teller.end(&notes);
    if let Some(rates) = rates {
        let device = engine.device();
        rates.forget_if_passed(&engine.stats(), &job.model, device, &job.options.engine);
    }
    answered?;
    committed?;
    if let Some(asked) = signals.stop_signal()
        && Counters::get(&counters.finished) < finished.count + left
    {
        return Err(JobError::Interrupted(asked));
    }
    Ok(journal)
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
