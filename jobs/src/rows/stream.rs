//! A run over rows in memory: a thread that answers, and batches to take as they are done.

use crate::error::JobError;
use crate::journal::finished::FinishedRows;
use crate::rows::LoadedModel;
use crate::rows::reading::Reading;
pub use crate::rows::window::Next;
use crate::rows::window::{Window, WindowSink};
use crate::run::answer_rows::Run;
use crate::run::cost_meter::CostMeter;
use crate::run::job::Job;
use crate::run::progress::{Counters, Progress};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

/// The answers to a stream of rows, in its order. Dropping it ends the run.
pub struct RowStream {
    window: Arc<Window>,
    schema: SchemaRef,
}

impl RowStream {
    /// Begins to answer batches, of the schema that the job was made for; rows are numbered from `first_row`. `done` gets the
    /// model when the run has ended, unless it is of no use any more.
    ///
    /// # Errors
    /// [`JobError::Io`] if no thread can be started.
    pub fn begin(
        mut model: LoadedModel,
        job: Arc<Job>,
        batches: impl Iterator<Item = Result<RecordBatch, JobError>> + Send + 'static,
        first_row: u64,
        done: impl FnOnce(Option<LoadedModel>) + Send + 'static,
    ) -> Result<RowStream, JobError> {
        let window = Arc::new(Window::default());
        let stream = RowStream { window: window.clone(), schema: job.columns.schema().clone() };
        let answer = move || {
            let answered =
                catch_unwind(AssertUnwindSafe(|| answer(&mut model, job, batches, first_row, &window)));
            let lost = "a thread that answered rows ended";
            let answered = answered.unwrap_or_else(|_| Err(JobError::Internal(lost.into())));
            let of_use = !matches!(answered, Err(JobError::Engine(_) | JobError::Internal(_)));
            done(of_use.then_some(model));
            window.end(answered);
        };
        let thread = std::thread::Builder::new().name("rows".into()).spawn(answer);
        thread.map(|_| stream).map_err(JobError::io("start a thread for", "rows"))
    }

    /// The schema of the answers.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next rows with their answers; waits so long for them.
    ///
    /// # Errors
    /// What ended the run, once.
    pub fn next(&self, wait: Duration) -> Result<Next, JobError> {
        self.window.next(wait)
    }

    /// What ends the run from elsewhere.
    pub fn stopper(&self) -> Stop {
        Stop(Arc::downgrade(&self.window))
    }

    /// Ends the run soon: rows that have no answer are given up.
    pub fn stop(&self) {
        self.window.stop();
    }
}

/// Stops a run from elsewhere.
pub struct Stop(Weak<Window>);

impl Stop {
    /// As [`RowStream::stop`], if the run goes on.
    pub fn stop(&self) {
        if let Some(window) = self.0.upgrade() {
            window.stop();
        }
    }

    /// Whether the run goes on, or its answers are still there.
    pub fn is_of_use(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl Drop for RowStream {
    fn drop(&mut self) {
        self.stop();
    }
}

fn answer(
    model: &mut LoadedModel,
    job: Arc<Job>,
    batches: impl Iterator<Item = Result<RecordBatch, JobError>> + Send,
    first_row: u64,
    window: &Arc<Window>,
) -> Result<(), JobError> {
    let reading = Reading::new(batches, job.clone(), window.clone(), first_row);
    let sink = Mutex::new(WindowSink { window: window.clone(), job: job.clone() });
    let (finished, counters) = (FinishedRows::none_of(0), Counters::default());
    let run = Run {
        sink: &sink,
        finished: &finished,
        alone: Vec::new(),
        later: Vec::new(),
        notes: None,
        counters: &counters,
        meter: CostMeter::begin(Err("rows in memory have no receipt".into())),
        stop: &|| window.is_stopped(),
        told: None,
        leaves_idle: true,
    };
    let mut progress = Progress::unseen(&counters);
    run.answer(&job, &mut model.engine, &mut progress, |feeder, out| feeder.feed_batches(reading, out))
}
