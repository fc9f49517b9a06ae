//! The rows on their way, in their order: a batch is held until each of its rows has an answer, and until it is taken.

use crate::error::JobError;
use crate::journal::answer::Answer;
use crate::journal::costs::StartFigures;
use crate::journal::note::Note;
use crate::publish::columns::OutputColumns;
use crate::publish::publication::note_error;
use crate::run::answer_sink::AnswerSink;
use crate::run::job::Job;
use arrow::array::RecordBatch;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Rows that are held, at most, unless one batch has more. One row may keep all behind it waiting, so they are many times
/// those of a step.
const MAX_ROWS: usize = 65_536;

/// Bytes of the input that are held, at most, unless one batch has more.
const MAX_BYTES: usize = 256 << 20;

/// The rows between the reader and who takes the answers.
#[derive(Default)]
pub(super) struct Window {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Batches of which rows have no answer yet, in order.
    held: VecDeque<Held>,
    /// Batches with all their answers, which nobody has taken yet, and what they count.
    ready: VecDeque<(RecordBatch, Size)>,
    size: Size,
    /// How the run ended.
    ended: Option<Result<(), JobError>>,
    stopped: bool,
}

struct Held {
    first_row: u64,
    kept: RecordBatch,
    /// What is wrong with kept cells of rows.
    errors: BTreeMap<u64, String>,
    answers: Vec<Option<Answer>>,
    /// Rows without an answer.
    left: usize,
    size: Size,
}

#[derive(Clone, Copy, Default)]
struct Size {
    rows: usize,
    bytes: usize,
}

/// What comes next.
#[derive(Debug)]
pub enum Next {
    Batch(RecordBatch),
    /// Nothing yet.
    Waits,
    End,
}

impl Window {
    /// Takes the kept columns of rows that are about to be fed, and what is wrong with cells of them; waits for room. Returns
    /// whether anybody wants them still.
    pub fn add(
        &self,
        first_row: u64,
        kept: RecordBatch,
        errors: BTreeMap<u64, String>,
        bytes: usize,
    ) -> bool {
        let size = Size { rows: kept.num_rows(), bytes };
        let full = |state: &mut State| {
            let (rows, bytes) = (state.size.rows + size.rows, state.size.bytes + size.bytes);
            !state.stopped && state.size.rows > 0 && (rows > MAX_ROWS || bytes > MAX_BYTES)
        };
        let waited = self.changed.wait_while(self.lock(), full);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.size.rows += size.rows;
        state.size.bytes += size.bytes;
        let left = size.rows;
        state.held.push_back(Held { first_row, kept, errors, answers: vec![None; left], left, size });
        !state.stopped
    }

    /// The next rows with their answers; waits so long for them.
    ///
    /// # Errors
    /// What ended the run, once.
    pub fn next(&self, wait: Duration) -> Result<Next, JobError> {
        let nothing = |state: &mut State| state.ready.is_empty() && state.ended.is_none();
        let waited = self.changed.wait_timeout_while(self.lock(), wait, nothing);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some((batch, size)) = state.ready.pop_front() {
            state.size.rows -= size.rows;
            state.size.bytes -= size.bytes;
            self.changed.notify_all();
            return Ok(Next::Batch(batch));
        }
        match &mut state.ended {
            None => Ok(Next::Waits),
            Some(ended) => std::mem::replace(ended, Ok(())).map(|()| Next::End),
        }
    }

    /// Ends the run: rows that have no answer are given up.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Says how the run ended.
    pub fn end(&self, result: Result<(), JobError>) {
        let mut state = self.lock();
        let unanswered = state.held.iter().find(|held| held.left > 0).map(|held| held.first_row);
        let result = match unanswered {
            // A row that is lost would be a table that is too short.
            Some(row) if result.is_ok() && !state.stopped => {
                Err(JobError::Internal(format!("a row from {row} on has no answer")))
            }
            _ => result,
        };
        state.ended.get_or_insert(result);
        self.changed.notify_all();
    }

    fn take(&self, answer: Answer, columns: &OutputColumns) -> Result<(), JobError> {
        let mut state = self.lock();
        let row = answer.row;
        // One of a window of few batches.
        let at = state.held.partition_point(|held| held.first_row <= row).checked_sub(1);
        let held = at.and_then(|at| state.held.get_mut(at));
        let place = held.and_then(|held| {
            let answer = held.answers.get_mut((row - held.first_row) as usize)?;
            Some((answer, &mut held.left))
        });
        match place {
            None => return Err(JobError::Internal(format!("row {row} has an answer and is not on its way"))),
            Some((Some(_), _)) => return Err(JobError::DoubleAnswer { row }),
            Some((none, left)) => {
                *none = Some(answer);
                *left -= 1;
            }
        }
        while let Some(mut whole) = state.held.pop_front_if(|held| held.left == 0) {
            for (row, error) in std::mem::take(&mut whole.errors) {
                note_error(&mut whole.answers[(row - whole.first_row) as usize], Some(error));
            }
            let batch = columns.join(&whole.kept, &whole.answers)?;
            state.ready.push_back((batch, whole.size));
            self.changed.notify_all();
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A window as that which takes answers.
pub(super) struct WindowSink {
    pub window: Arc<Window>,
    pub job: Arc<Job>,
}

impl AnswerSink for WindowSink {
    fn admit(&mut self, _: &[u64]) -> Result<(), JobError> {
        Ok(())
    }

    fn runs_nothing_but(&self, _: u64) -> bool {
        // Only a job with a journal knows rows that must run alone.
        true
    }

    fn append(&mut self, answer: Answer, _: bool) -> Result<(), JobError> {
        self.window.take(answer, &self.job.columns)
    }

    fn append_note(&mut self, _: Note, _: bool) -> Result<(), JobError> {
        // The document has it.
        Ok(())
    }

    fn note_costs(&mut self, _: StartFigures) {}

    fn commit(&mut self) -> Result<(), JobError> {
        Ok(())
    }
}
