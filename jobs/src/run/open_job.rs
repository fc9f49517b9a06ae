//! A job with its input, model and device at hand: for one run of its rows, or for shard after shard of them.

use crate::counted::counted;
use crate::date;
use crate::error::JobError;
use crate::input::batch::Batch;
use crate::journal::finished::FinishedRows;
use crate::journal::identity::{InputDigests, JobIdentity};
use crate::journal::lock::JobLock;
use crate::journal::schema;
use crate::journal::{EndedJournal, Journal, JournalReader};
use crate::log::note;
use crate::metrics::MetricsTo;
use crate::metrics::figures::{EngineNotes, RunFigures, Teller};
use crate::options::engine::{EngineOptions, print_engine};
use crate::options::job::JobOptions;
use crate::options::shard::Shard;
use crate::publish::format::OutputFormat;
use crate::publish::local::{ASIDE, clear};
use crate::publish::target::Target;
use crate::publish::text::LineEncoder;
use crate::publish::unheld::{may_be_unheld, refuse_unheld};
use crate::rates::Rates;
use crate::receipt;
use crate::receipt::energy::EnergyMeter;
use crate::run::answer_rows::{Onlookers, answer_rows};
use crate::run::cost_meter::CostMeter;
use crate::run::identity::{identity, input_digests};
use crate::run::job::Job;
use crate::run::kept::check_input;
use crate::run::lease::{CheckpointThread, Lease, Ownership};
use crate::run::progress::Counters;
use crate::run::reading::read_rows;
use crate::run::resume::resume_mode;
use crate::run::shard::ShardRun;
use crate::run::space;
use crate::run::stop::Stop;
use crate::run::take_over::TakeOver;
use crate::shards::job::ShardedJob;
use crate::shards::local::{refuse_whole, shard_dir};
use crate::shards::place::ShardPlace;
use crate::store::location::Location;
use crate::supervise::signals::Signals;
use crate::supervise::worker::HeartbeatThread;
use engine::Engine;
use engine::device::Device;
use std::sync::{Arc, Mutex};

/// A job that was opened and checked.
pub struct OpenJob {
    pub job: Job,
    pub target: Target,
    /// Where its shards are, if it runs in shards.
    place: Option<ShardPlace>,
    /// Where it is taken over from another machine.
    taken: Option<TakeOver>,
    ownership: Ownership,
    power: Power,
    identity: JobIdentity,
    inputs: InputDigests,
}

/// What answers rows.
enum Power {
    /// A device on which no model was loaded yet.
    Device(Box<dyn Device>),
    Model(Box<LoadedEngine>),
    /// Neither, as loading failed.
    Lost,
}

/// A model that is loaded.
struct LoadedEngine {
    engine: Engine,
    rates: Option<Rates>,
    /// What measures the first run, from before it was loaded.
    meter: Option<CostMeter>,
}

/// A job, or a shard of it, that holds its journal.
pub struct Begun {
    pub shard: Option<ShardRun>,
    pub journal: Journal,
    pub finished: FinishedRows,
}

impl OpenJob {
    /// Opens a job, and checks it before anything is written.
    ///
    /// # Errors
    /// What is wrong with its options, its files or the device.
    pub fn open(
        mut options: JobOptions,
        signals: &Signals,
        open: impl FnOnce(&EngineOptions) -> Result<Box<dyn Device>, JobError>,
    ) -> Result<OpenJob, JobError> {
        let target = Target::open(&options.output, options.job_dir())?;
        let stop = || signals.stop_signal().map_or(Ok(()), |asked| Err(JobError::Interrupted(asked)));
        let state_dir = options.state_dir.clone();
        let taken = match (&mut options.take_over, target.remote()) {
            (Some(wanted), Some(remote)) => {
                let taken = TakeOver::begin(remote, &state_dir, &stop)?;
                wanted.date = taken.as_ref().and_then(TakeOver::date);
                taken
            }
            _ => None,
        };
        let place = match &mut options.shard {
            Some(own) => {
                let place = ShardPlace::open(&options.output)?;
                place.check_place()?;
                own.date = place.begun()?.and_then(|begun| date::read(&begun.date));
                Some(place)
            }
            None => {
                refuse_whole(&options)?;
                if taken.is_none() {
                    target.check(&options.state_dir, options.rows_per_file.is_some())?;
                }
                None
            }
        };
        // Nobody shall take over a job while it is checked and its model loads. Shards have no owner: each may be run anew by
        // any machine.
        let mut ownership = Ownership::default();
        let remote = target.remote().filter(|_| place.is_none() && !options.fresh);
        remote.map_or(Ok(()), |remote| ownership.resume(remote))?;
        let job = Job::prepare(options)?;
        job.print();
        job.prompts.check_rows(&job.input, job.rows)?;
        if let Some(documents) = &job.documents {
            documents.check_rows(&job.input, job.rows)?;
        }
        let device = open(&job.options.engine)?;
        let identity = identity(&job, device.info())?;
        let inputs = input_digests(&job)?;
        Ok(OpenJob { job, target, place, taken, ownership, power: Power::Device(device), identity, inputs })
    }

    /// What all shards of the job have in common, which must be what is begun at their place; none without shards.
    ///
    /// # Errors
    /// As [`ShardPlace::check`].
    pub fn sharded(&self) -> Result<Option<ShardedJob>, JobError> {
        let Some(place) = &self.place else { return Ok(None) };
        let sharded = ShardedJob::of(&self.job, &self.identity.identity, &self.inputs);
        sharded.iter().try_for_each(|sharded| place.check(sharded))?;
        Ok(sharded)
    }

    /// Makes a shard the one to run.
    pub fn take_shard(&mut self, shard: Shard) {
        let Some(own) = &mut self.job.options.shard else { return };
        own.shard = Some(shard);
        self.job.options.state_dir = shard_dir(&own.job_dir, shard);
        self.job.range = shard.rows(self.job.rows, self.job.options.rows_per_file.unwrap_or(u64::MAX));
    }

    /// Begins the job or its shard, or takes it up again; none if it was to be taken over and is published.
    ///
    /// # Errors
    /// What is wrong with its journal, or with the place of its output.
    pub fn begin(&mut self) -> Result<Option<Begun>, JobError> {
        let shard = self.shard_run()?;
        let (job, target) = (&self.job, &self.target);
        let folder = job.options.rows_per_file.is_some();
        if job.options.fresh && job.options.state_dir.exists() && shard.is_none() {
            // A place that is refused is refused before the job's rows are discarded.
            let _lock = JobLock::acquire(&job.options.state_dir)?;
            target.prepare(&job.options.state_dir, folder)?;
        }
        if let Some(taken) = self.taken.take()
            && !taken.end(&job.options.output, job.rows, &self.identity, &self.inputs)?
        {
            return Ok(None);
        }
        let remote = target.remote().filter(|_| shard.is_none() && !job.options.fresh);
        remote.map_or(Ok(()), |remote| self.ownership.resume(remote))?;
        let (journal, finished) = open_journal(job, &self.identity, &self.inputs)?;
        if let Location::Object(_) = job.options.output
            && finished.missing(job.range.clone()).is_some()
        {
            note!("journal: {} (--state-dir names another place)", job.options.state_dir.display());
        }
        match &shard {
            Some(_) => clear(&job.options.state_dir.join(ASIDE))?,
            None => target.prepare(&job.options.state_dir, folder)?,
        }
        Ok(Some(Begun { shard, journal, finished }))
    }

    /// The shard to run, which must be of the job that the other shards are of.
    fn shard_run(&self) -> Result<Option<ShardRun>, JobError> {
        let options = &self.job.options;
        let shard = options.shard.as_ref().and_then(|own| own.shard);
        let (Some(shard), Some(place)) = (shard, &self.place) else { return Ok(None) };
        // Where rows run again with greater limits, the job is what it was begun as; the journal looks at what else differs.
        let begun = match schema::path(&options.state_dir).exists() && !options.fresh {
            true => Some(JournalReader::open(&options.state_dir)?),
            false => None,
        };
        let identity = begun.as_ref().map_or(&self.identity.identity, JournalReader::identity);
        let Some(sharded) = ShardedJob::of(&self.job, identity, &self.inputs) else { return Ok(None) };
        place.check(&sharded)?;
        let run = ShardRun { shard, place: place.clone(), job: sharded };
        run.print(&self.job);
        Ok(Some(run))
    }

    /// Answers the rows of the job or of its shard that are left, and ends the journal, whose lock is kept until all is
    /// published. `heartbeats` are sent until rows are answered.
    ///
    /// # Errors
    /// What ended it.
    pub fn run(
        &mut self,
        begun: Begun,
        signals: &Signals,
        heartbeats: HeartbeatThread,
    ) -> Result<(Option<ShardRun>, EndedJournal), JobError> {
        let Begun { shard, mut journal, finished } = begun;
        if finished.missing(self.job.range.clone()).is_some() {
            self.load()?;
            let lease = self.claim(shard.as_ref())?;
            let remote = self.target.remote().filter(|_| shard.is_none());
            let checkpoints =
                remote.map(|remote| CheckpointThread::start(remote, &self.job.options.state_dir));
            let checkpoints = checkpoints.transpose()?;
            let options = &self.job.options;
            if let Some(shard) = shard.as_ref().filter(|_| options.fresh || !options.retry.is_empty()) {
                // Else a publisher would take what was answered before, as if nothing ran.
                shard.place.withdraw(shard.shard)?;
            }
            receipt::note_prices(&mut journal, &self.job.options.prices)?;
            drop(heartbeats);
            let answered = self.answer(journal, &finished, &Stop { signals, lease });
            let _heartbeats = HeartbeatThread::start();
            // Whoever is stopped may be about to lose the machine.
            if matches!(answered, Ok(_) | Err(JobError::Interrupted(_))) {
                checkpoints.into_iter().for_each(CheckpointThread::end);
            }
            journal = answered?;
        }
        self.claim(shard.as_ref())?;
        Ok((shard, journal.end()?))
    }

    /// Claims the output; of one in a store the claim is renewed from then on.
    fn claim(&mut self, shard: Option<&ShardRun>) -> Result<Option<Arc<Lease>>, JobError> {
        match (shard, self.target.remote()) {
            (Some(shard), _) => shard.place.claim(&shard.job).map(|()| None),
            (None, Some(remote)) => self.ownership.claim(remote).map(Some),
            (None, None) => self.target.claim().map(|()| None),
        }
    }

    /// Loads the model, unless it is, and begins to measure what it takes.
    ///
    /// # Errors
    /// What is wrong with its weights or the device.
    pub fn load(&mut self) -> Result<(), JobError> {
        let job = &self.job;
        match std::mem::replace(&mut self.power, Power::Lost) {
            Power::Device(device) => {
                let meter = CostMeter::begin(EnergyMeter::begin(device.pci_bus_id().as_deref()));
                let rates = Rates::kept(&job.model, device.as_ref(), &job.options.engine);
                let mut engine = Engine::new(&job.model, device, &job.engine_config())?;
                if let Some(rates) = rates {
                    engine.compare_with(rates.peaks());
                }
                print_engine(&engine);
                self.power = Power::Model(Box::new(LoadedEngine { engine, rates, meter: Some(meter) }));
            }
            loaded => self.power = loaded,
        }
        Ok(())
    }

    /// Answers the rows that are left, once the model is loaded. Returns the journal.
    ///
    /// # Errors
    /// What ended it.
    pub fn answer(
        &mut self,
        journal: Journal,
        finished: &FinishedRows,
        stop: &Stop<'_>,
    ) -> Result<Journal, JobError> {
        let job = &self.job;
        let Power::Model(loaded) = &mut self.power else {
            return Err(JobError::Internal("there is no model to answer rows".into()));
        };
        let LoadedEngine { engine, rates, meter } = &mut **loaded;
        let meter = meter.take().unwrap_or_else(|| {
            let energy = EnergyMeter::begin(engine.device().pci_bus_id().as_deref());
            CostMeter::begin(energy).behind(engine)
        });
        let meter = meter.by_rates_of(rates.map(|rates| rates.measured));
        let counters = Counters::resume(finished);
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
        let onlookers = Onlookers { counters: &counters, meter, told: (&mut teller, &notes) };
        let answered = answer_rows(job, engine, &shared, finished, &|| stop.is_asked(), onlookers);
        let mut journal =
            shared.into_inner().map_err(|_| JobError::Internal("a thread ended with the journal".into()))?;
        // If both fail, the loop's error is the cause.
        let committed = journal.commit();
        teller.end(&notes);
        if let Some(rates) = rates {
            rates.forget_if_passed(&engine.stats(), &job.model, engine.device(), &job.options.engine);
        }
        answered?;
        committed?;
        stop.lease.iter().try_for_each(|lease| lease.check())?;
        if let Some(asked) = stop.signals.stop_signal()
            && Counters::get(&counters.finished) < finished.count + left
        {
            return Err(JobError::Interrupted(asked));
        }
        Ok(journal)
    }
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
    let parquet = format == OutputFormat::Parquet;
    let looked_at = |at: &&usize| !parquet || may_be_unheld(job.input.schema.field(**at));
    let columns: Vec<usize> = job.kept.iter().filter(looked_at).copied().collect();
    if job.options.batch || columns.is_empty() {
        return Ok(());
    }
    let encoder = LineEncoder::new(format);
    let rows = job.range.clone();
    read_rows(&job.input, &columns, rows, job.options.on_corrupt).try_for_each(|batch| {
        let Batch { columns, first_row, .. } = batch?;
        match parquet {
            true => refuse_unheld(&columns, first_row),
            false => encoder.encode(&columns, first_row, &mut Vec::new()),
        }
    })
}
