//! What a worker tells of its work. There is no text of rows in it: numbers, and names of kinds of errors.
//!
//! Counters are of what the journal has: what a worker has done and not committed is lost with it, and done again.

use crate::error::JobError;
use crate::journal::committed::{Committed, StartTallies};
use crate::journal::costs::{StartFigures, Totals};
use crate::journal::endings::Endings;
use crate::journal::reader::JournalReader;
use crate::metrics::{Metrics, MetricsTo};
use crate::supervise::worker::HEARTBEAT;
use engine::{Engine, Occupancy};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often figures are told.
const EVERY: Duration = Duration::from_millis(500);

/// What was done for a job, by all of its starts or since some time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunFigures {
    pub rows: u64,
    /// By the texts of their kinds.
    pub errors: BTreeMap<String, u64>,
    pub shared_rows: u64,
    pub input_tokens: u64,
    pub generated_tokens: u64,
    pub steps: u64,
    pub prefill_tokens: u64,
    pub decode_tokens: u64,
    pub cached_tokens: u64,
    pub preemptions: u64,
    /// None if it is not measured.
    pub microjoules: Option<u64>,
}

impl RunFigures {
    /// What a journal has.
    ///
    /// # Errors
    /// [`JobError::JournalDamaged`] or [`JobError::Journal`].
    pub fn of_journal(journal: &JournalReader) -> Result<RunFigures, JobError> {
        let Totals { rows, input_tokens, generated_tokens } = journal.database.totals()?;
        let errors = Endings::of(journal, journal.inputs().rows())?.errors;
        let mut all = RunFigures { rows, errors, input_tokens, generated_tokens, ..RunFigures::default() };
        for start in journal.database.starts()? {
            all.shared_rows += start.shared_rows;
            start.figures.iter().for_each(|figures| all.add_figures(figures));
        }
        Ok(all)
    }

    /// With what a start has committed since.
    fn with(mut self, start: &StartTallies) -> RunFigures {
        self.rows += start.rows;
        for (&kind, count) in &start.errors {
            *self.errors.entry(kind.to_string()).or_default() += count;
        }
        self.shared_rows += start.shared_rows;
        self.input_tokens += start.input_tokens;
        self.generated_tokens += start.generated_tokens;
        start.figures.iter().for_each(|figures| self.add_figures(figures));
        self
    }

    fn add_figures(&mut self, figures: &StartFigures) {
        self.steps += figures.steps;
        self.prefill_tokens += figures.prefill_tokens;
        self.decode_tokens += figures.decode_tokens;
        self.cached_tokens += figures.cached_tokens;
        self.preemptions += figures.preemptions;
        if let Some(energy) = &figures.energy {
            self.microjoules = Some(self.microjoules.unwrap_or(0) + energy.microjoules);
        }
    }

    /// What was done since it was that much.
    pub fn since(&self, before: &RunFigures) -> RunFigures {
        let since = |now: u64, before: u64| now.saturating_sub(before);
        let errors = self.errors.iter().map(|(kind, &count)| {
            (kind.clone(), since(count, before.errors.get(kind).copied().unwrap_or(0)))
        });
        RunFigures {
            rows: since(self.rows, before.rows),
            errors: errors.filter(|(_, count)| *count > 0).collect(),
            shared_rows: since(self.shared_rows, before.shared_rows),
            input_tokens: since(self.input_tokens, before.input_tokens),
            generated_tokens: since(self.generated_tokens, before.generated_tokens),
            steps: since(self.steps, before.steps),
            prefill_tokens: since(self.prefill_tokens, before.prefill_tokens),
            decode_tokens: since(self.decode_tokens, before.decode_tokens),
            cached_tokens: since(self.cached_tokens, before.cached_tokens),
            preemptions: since(self.preemptions, before.preemptions),
            microjoules: self.microjoules.map(|now| since(now, before.microjoules.unwrap_or(0))),
        }
    }
}

/// What a worker tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerFigures {
    /// What the job had when the worker began, and what it has now, by all of its starts.
    pub before: RunFigures,
    pub job: RunFigures,
    /// Rows of the job, finished or not.
    pub rows: u64,
    /// Energy that this worker has used until now, committed or not.
    pub microjoules: Option<u64>,
    /// At this moment.
    pub running: u64,
    pub waiting: u64,
    pub kv_pages: u64,
    pub kv_pages_used: u64,
}

impl WorkerFigures {
    /// Forgets what was so at a moment that is over.
    pub fn end(&mut self) {
        (self.running, self.waiting, self.kv_pages_used) = (0, 0, 0);
    }

    /// What a line of a worker's standard output tells, if it is one that does.
    pub fn of_line(line: &[u8]) -> Option<WorkerFigures> {
        serde_json::from_slice(line.strip_prefix(HEARTBEAT.as_bytes())?).ok()
    }
}

/// What the engine does, noted by its thread for the one that tells.
#[derive(Debug, Default)]
pub struct EngineNotes(Mutex<WorkerFigures>);

impl EngineNotes {
    /// Takes what the engine does now.
    pub fn note(&self, figures: &StartFigures, engine: &Engine) {
        let Ok(mut notes) = self.0.lock() else { return };
        notes.microjoules = figures.energy.as_ref().map(|energy| energy.microjoules);
        let Occupancy { seqs, pages } = engine.occupancy();
        (notes.running, notes.waiting) = (seqs as u64, engine.waiting() as u64);
        (notes.kv_pages, notes.kv_pages_used) = (engine.pages() as u64, pages as u64);
    }
}

/// Tells the figures of one worker, also while the engine computes.
pub struct Teller {
    to: MetricsTo,
    committed: Committed,
    rows: u64,
    before: RunFigures,
    told: Option<Instant>,
}

impl Teller {
    /// One that begins, of a job of so many rows that had this before; what it tells first is that.
    pub fn begin(to: MetricsTo, before: RunFigures, committed: Committed, rows: u64) -> Teller {
        let mut teller = Teller { to, committed, rows, before, told: None };
        teller.tell(&EngineNotes::default());
        teller
    }

    /// Tells the figures, if it is time.
    pub fn tell(&mut self, engine: &EngineNotes) {
        if self.to != MetricsTo::Nobody && self.told.is_none_or(|told| told.elapsed() >= EVERY) {
            self.told = Some(Instant::now());
            self.send(self.figures(engine));
        }
    }

    /// Tells them for the last time, when all rows are committed.
    pub fn end(self, engine: &EngineNotes) {
        let mut figures = self.figures(engine);
        figures.end();
        self.send(figures);
    }

    fn figures(&self, engine: &EngineNotes) -> WorkerFigures {
        let notes = engine.0.lock().map(|notes| notes.clone()).unwrap_or_default();
        let job = self.before.clone().with(&self.committed.get());
        WorkerFigures { before: self.before.clone(), job, rows: self.rows, ..notes }
    }

    fn send(&self, figures: WorkerFigures) {
        match &self.to {
            MetricsTo::Nobody => {}
            MetricsTo::Here(metrics) => metrics.tell(figures),
            MetricsTo::Supervisor => {
                let line = serde_json::to_string(&figures).unwrap_or_default();
                let mut output = std::io::stdout().lock();
                // The end of the supervisor is noticed on standard input.
                let _ = writeln!(output, "{HEARTBEAT}{line}").and_then(|()| output.flush());
            }
        }
    }
}

impl Metrics {
    /// Takes a line of a worker, if it tells figures.
    pub fn take_line(&self, line: &[u8]) {
        WorkerFigures::of_line(line).into_iter().for_each(|figures| self.tell(figures));
    }
}
