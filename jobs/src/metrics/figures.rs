//! What a worker tells of its work. There is no text of rows in it: numbers, and names of kinds of errors.

use crate::journal::costs::StartFigures;
use crate::metrics::{Metrics, MetricsTo};
use crate::row_error::RowErrorKind;
use crate::run::progress::Counters;
use crate::supervise::worker::HEARTBEAT;
use engine::Engine;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often figures are told.
const EVERY: Duration = Duration::from_millis(500);

/// What a worker, or several one after the other, has done since it began.
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
    /// Adds those of another worker.
    pub fn add(&mut self, other: &RunFigures) {
        let RunFigures {
            rows,
            errors,
            shared_rows,
            input_tokens,
            generated_tokens,
            steps,
            prefill_tokens,
            decode_tokens,
            cached_tokens,
            preemptions,
            microjoules,
        } = other;
        self.rows += rows;
        errors.iter().for_each(|(kind, count)| *self.errors.entry(kind.clone()).or_default() += count);
        self.shared_rows += shared_rows;
        self.input_tokens += input_tokens;
        self.generated_tokens += generated_tokens;
        self.steps += steps;
        self.prefill_tokens += prefill_tokens;
        self.decode_tokens += decode_tokens;
        self.cached_tokens += cached_tokens;
        self.preemptions += preemptions;
        if let Some(more) = microjoules {
            self.microjoules = Some(self.microjoules.unwrap_or(0) + more);
        }
    }
}

/// What a worker tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerFigures {
    pub run: RunFigures,
    /// Of the job, over all of its starts: rows in all, finished, and finished with an error.
    pub rows: u64,
    pub finished: u64,
    pub failed: u64,
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

/// What the engine has done, noted by its thread for the one that tells.
#[derive(Debug, Default)]
pub struct EngineNotes(Mutex<WorkerFigures>);

impl EngineNotes {
    /// Takes what the engine has done so far.
    pub fn note(&self, figures: &StartFigures, engine: &Engine) {
        let Ok(mut notes) = self.0.lock() else { return };
        notes.run = RunFigures {
            steps: figures.steps,
            prefill_tokens: figures.prefill_tokens,
            decode_tokens: figures.decode_tokens,
            cached_tokens: figures.cached_tokens,
            preemptions: figures.preemptions,
            microjoules: figures.energy.as_ref().map(|energy| energy.microjoules),
            ..RunFigures::default()
        };
        (notes.running, notes.waiting) = (engine.running() as u64, engine.waiting() as u64);
        (notes.kv_pages, notes.kv_pages_used) = (engine.pages() as u64, engine.used_pages() as u64);
    }
}

/// Tells the figures of one worker, also while the engine computes.
pub struct Teller<'a> {
    to: MetricsTo,
    counters: &'a Counters,
    engine: &'a EngineNotes,
    rows: u64,
    /// Rows, tokens of prompts and tokens generated that the job had when the worker began.
    before: [u64; 3],
    told: Option<Instant>,
}

impl<'a> Teller<'a> {
    /// One that begins; of a job of so many rows.
    pub fn begin(to: MetricsTo, counters: &'a Counters, engine: &'a EngineNotes, rows: u64) -> Teller<'a> {
        Teller { to, counters, engine, rows, before: counted(counters), told: None }
    }

    /// Tells the figures, if it is time.
    pub fn tell(&mut self) {
        if self.to != MetricsTo::Nobody && self.told.is_none_or(|told| told.elapsed() >= EVERY) {
            self.told = Some(Instant::now());
            self.send(self.figures());
        }
    }

    /// Tells them for the last time, when all rows are with the journal.
    pub fn end(self) {
        let mut figures = self.figures();
        figures.end();
        self.send(figures);
    }

    fn figures(&self) -> WorkerFigures {
        let mut all = self.engine.0.lock().map(|notes| notes.clone()).unwrap_or_default();
        let counters = self.counters;
        let ([finished, input, generated], before) = (counted(counters), self.before);
        all.run.rows = finished.saturating_sub(before[0]);
        all.run.input_tokens = input.saturating_sub(before[1]);
        all.run.generated_tokens = generated.saturating_sub(before[2]);
        all.run.shared_rows = Counters::get(&counters.shared);
        let kinds = RowErrorKind::ALL.iter().zip(&counters.kinds);
        let kinds = kinds.map(|(kind, count)| (kind.text().to_string(), Counters::get(count)));
        all.run.errors = kinds.filter(|(_, count)| *count > 0).collect();
        (all.rows, all.finished, all.failed) = (self.rows, finished, Counters::get(&counters.errors));
        all
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

fn counted(counters: &Counters) -> [u64; 3] {
    [&counters.finished, &counters.input_tokens, &counters.generated_tokens].map(Counters::get)
}

impl Metrics {
    /// Takes a line of a worker, if it tells figures.
    pub fn take_line(&self, line: &[u8]) {
        WorkerFigures::of_line(line).into_iter().for_each(|figures| self.tell(figures));
    }
}
