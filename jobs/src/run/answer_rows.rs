//! Feeder, engine loop and finisher, each on a thread of its own.

use crate::error::JobError;
use crate::journal::finished::FinishedRows;
use crate::journal::length_limits::LengthLimits;
use crate::journal::{Journal, JournalReader};
use crate::log::note;
use crate::metrics::figures::{EngineNotes, Teller};
use crate::run::cost_meter::CostMeter;
use crate::run::engine_loop::{EngineLoop, FollowUps};
use crate::run::feeder::{DocumentFeed, Feeder};
use crate::run::finisher::Finisher;
use crate::run::job::Job;
use crate::run::open_documents::OpenDocuments;
use crate::run::progress::{Counters, Progress};
use crate::supervise::signals::Signals;
use engine::Engine;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, sync_channel};

/// Rows between the feeder and the engine, and between the engine and the journal.
const QUEUE: usize = 128;

/// Answers all rows that are not finished, or until a signal.
///
/// # Errors
/// What ended the job.
pub fn answer_rows(
    job: &Job,
    engine: &mut Engine,
    journal: &Mutex<Journal>,
    finished: &FinishedRows,
    counters: &Counters,
    signals: &Signals,
    meter: CostMeter,
) -> Result<(), JobError> {
    let suspects = journal.lock().map(|journal| [journal.alone(), journal.later()].map(<[u64]>::to_vec));
    let [alone, later] = suspects.unwrap_or_default();
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
            let journal = Some(JournalReader::open(&job.options.state_dir)?);
            Some(DocumentFeed { open, journal, limits })
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
    let (prepared, rows) = sync_channel(QUEUE);
    let (done, outcomes) = sync_channel(QUEUE);
    let mut finisher = Finisher {
        tokenizer: &job.tokenizer,
        journal,
        counters,
        choices,
        content_free,
        reasoning: job.reasoning(),
        documents: open.as_ref().map(|open| (open, next_requests)),
        limits: job.error_limits(),
        rows: job.rows,
        first_error: None,
    };
    let wanted = job.range.end - job.range.start;
    let mut progress = Progress::begin("rows", wanted, counters);
    if choices.is_some() && job.documents.is_none() {
        progress = progress.without_tokens();
    }
    let given_up = AtomicBool::new(false);
    let notes = EngineNotes::default();
    let mut teller = Teller::begin(job.options.metrics.clone(), counters, &notes, wanted);
    let result = std::thread::scope(|scope| {
        let start = |what| JobError::io("start a thread for", what);
        let thread = std::thread::Builder::new();
        thread.spawn_scoped(scope, move || feeder.feed(&prepared)).map_err(start("prompts"))?;
        let (finisher, progress, given_up) = (&mut finisher, &mut progress, &given_up);
        let teller = &mut teller;
        let finish = move || {
            let result = finisher.run(&outcomes, progress, teller);
            given_up.store(result.is_err(), Ordering::Relaxed);
            result
        };
        let finishing = std::thread::Builder::new().spawn_scoped(scope, finish).map_err(start("answers"))?;
        let share = job.options.share_prompts;
        let documents = open.as_ref().map(|open| FollowUps { open, requests: follow_ups });
        let engine_loop =
            EngineLoop::new(engine, &job.tokenizer, journal, share, documents, meter, done).noting(&notes);
        let engine_loop = match job.documents {
            Some(_) => engine_loop,
            None => engine_loop.counting(counters),
        };
        let stop = || signals.stop_signal().is_some() || given_up.load(Ordering::Relaxed);
        let ended = engine_loop.run(&rows, stop);
        // Ends the feeder, which may wait for room.
        drop(rows);
        let finished = finishing.join();
        let finished = finished.unwrap_or_else(|_| Err(JobError::Internal("the finisher ended".into())));
        finished.and(ended)
    });
    teller.end();
    progress.end();
    note!("{}", progress.summary(counters));
    result
}
