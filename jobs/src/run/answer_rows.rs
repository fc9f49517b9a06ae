//! Feeder, engine loop and finisher, each on a thread of its own.

use crate::error::JobError;
use crate::journal::finished::FinishedRows;
use crate::journal::length_limits::LengthLimits;
use crate::journal::{Journal, JournalReader};
use crate::log::note;
use crate::metrics::figures::{EngineNotes, Teller};
use crate::run::answer_sink::AnswerSink;
use crate::run::cost_meter::CostMeter;
use crate::run::engine_loop::{EngineLoop, FollowUps};
use crate::run::feeder::{DocumentFeed, Feeder};
use crate::run::finisher::Finisher;
use crate::run::job::Job;
use crate::run::open_documents::OpenDocuments;
use crate::run::progress::{Counters, Progress};
use crate::run::request::FeederResult;
use engine::Engine;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, channel, sync_channel};

/// Rows between the feeder and the engine, and between the engine and the journal.
const QUEUE: usize = 128;

/// Who keeps count while rows are answered.
pub struct Onlookers<'a> {
    pub counters: &'a Counters,
    pub meter: CostMeter,
    pub told: (&'a mut Teller, &'a EngineNotes),
}

/// Answers all rows of a job that are not finished, or until `stop` says so.
///
/// # Errors
/// What ended the job.
pub fn answer_rows(
    job: &Job,
    engine: &mut Engine,
    journal: &Mutex<Journal>,
    finished: &FinishedRows,
    stop: &dyn Fn() -> bool,
    onlookers: Onlookers,
) -> Result<(), JobError> {
    let Onlookers { counters, meter, told } = onlookers;
    let suspects = journal.lock().map(|journal| [journal.alone(), journal.later()].map(<[u64]>::to_vec));
    let [alone, later] = suspects.unwrap_or_default();
    let notes = match job.documents {
        None => None,
        Some(_) => Some(JournalReader::open(&job.options.state_dir)?),
    };
    let wanted = job.range.end - job.range.start;
    let mut progress = Progress::begin("rows", wanted, counters);
    if job.choices.is_some() && job.documents.is_none() {
        progress = progress.without_tokens();
    }
    let run = Run {
        sink: journal,
        finished,
        alone,
        later,
        notes,
        counters,
        meter,
        stop,
        told: Some(told),
        leaves_idle: false,
    };
    let result = run.answer(job, engine, &mut progress, |feeder, out| feeder.feed(out));
    note!("{}", progress.summary(counters));
    result
}

/// Rows to answer, where their answers go, and who looks on.
pub struct Run<'a> {
    pub sink: &'a Mutex<dyn AnswerSink>,
    /// Rows that are not to be done again.
    pub finished: &'a FinishedRows,
    /// As in [`Feeder`].
    pub alone: Vec<u64>,
    pub later: Vec<u64>,
    /// Where documents have notes of earlier runs.
    pub notes: Option<JournalReader>,
    pub counters: &'a Counters,
    pub meter: CostMeter,
    /// Whether rows that are not finished are to be given up.
    pub stop: &'a dyn Fn() -> bool,
    /// Who tells figures of the run, and what the engine notes for that.
    pub told: Option<(&'a mut Teller, &'a EngineNotes)>,
    /// Whether the engine goes on to other rows afterwards.
    pub leaves_idle: bool,
}

impl Run<'_> {
    /// Answers the rows that `feed` sends.
    ///
    /// # Errors
    /// What ended the job.
    pub fn answer(
        self,
        job: &Job,
        engine: &mut Engine,
        progress: &mut Progress,
        feed: impl FnOnce(&Feeder<'_>, &SyncSender<FeederResult>) + Send,
    ) -> Result<(), JobError> {
        let Run { sink, finished, alone, later, notes, counters, meter, stop, told, leaves_idle } = self;
        let choices = job.choices.as_deref();
        let content_free = match choices {
            Some(choices) => choices.calibrate(job.content_free.as_ref(), engine)?,
            None => Vec::new(),
        };
        let open = job
            .documents
            .as_deref()
            .map(|documents| OpenDocuments::new(documents, &job.sampling, job.structure.as_ref()));
        let documents = match &open {
            None => None,
            Some(open) => {
                let max_tokens = u64::from(job.sampling.params.max_tokens);
                let limits = LengthLimits { max_model_len: job.max_model_len as u64, max_tokens };
                Some(DocumentFeed { open, journal: notes, limits })
            }
        };
        let (next_requests, follow_ups) = channel();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let feeder = Feeder {
            input: &job.input,
            prompts: &job.prompts,
            choices,
            documents,
            structure: job.structure.as_ref(),
            batch: job.batch.as_ref(),
            sampling: &job.sampling,
            rows: job.range.clone(),
            finished,
            alone,
            later,
            on_corrupt: job.options.on_corrupt,
            threads,
        };
        let room = job.batch.as_ref().map(|batch| batch.structures.room());
        room.iter().for_each(|room| room.close(false));
        let (prepared, rows) = sync_channel(QUEUE);
        let (done, outcomes) = sync_channel(QUEUE);
        let mut finisher = Finisher {
            tokenizer: &job.tokenizer,
            sink,
            counters,
            choices,
            content_free,
            reasoning: job.reasoning(),
            documents: open.as_ref().map(|open| (open, next_requests)),
            limits: job.error_limits(),
            rows: job.rows,
            first_error: None,
        };
        let given_up = AtomicBool::new(false);
        let engine_notes = told.as_ref().map(|(_, notes)| *notes);
        let result = std::thread::scope(|scope| {
            let start = |what| JobError::io("start a thread for", what);
            let thread = std::thread::Builder::new();
            thread.spawn_scoped(scope, move || feed(&feeder, &prepared)).map_err(start("prompts"))?;
            let (finisher, progress, given_up) = (&mut finisher, &mut *progress, &given_up);
            let finish = move || {
                let result = finisher.run(&outcomes, progress, told);
                given_up.store(result.is_err(), Ordering::Relaxed);
                result
            };
            let finishing =
                std::thread::Builder::new().spawn_scoped(scope, finish).map_err(start("answers"))?;
            let share = job.options.share_prompts;
            let documents = open.as_ref().map(|open| FollowUps { open, requests: follow_ups });
            let engine_loop = EngineLoop::new(engine, &job.tokenizer, sink, share, documents, meter, done);
            let engine_loop = match engine_notes {
                Some(notes) => engine_loop.noting(notes),
                None => engine_loop,
            };
            let engine_loop = match job.documents {
                Some(_) => engine_loop,
                None => engine_loop.counting(counters),
            };
            let engine_loop = if leaves_idle { engine_loop.leaving_idle() } else { engine_loop };
            let stop = || stop() || given_up.load(Ordering::Relaxed);
            let ended = engine_loop.run(&rows, stop);
            // Ends the feeder, which may wait for room.
            room.iter().for_each(|room| room.close(true));
            drop(rows);
            let finished = finishing.join();
            let finished = finished.unwrap_or_else(|_| Err(JobError::Internal("the finisher ended".into())));
            finished.and(ended)
        });
        progress.end();
        result
    }
}
