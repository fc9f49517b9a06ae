//! Where rows are noted as they begin and end: the journal of a job, or the window of rows in memory.

use crate::error::JobError;
use crate::journal::Journal;
use crate::journal::answer::Answer;
use crate::journal::costs::StartFigures;
use crate::journal::note::Note;

/// Takes answers, each once.
pub trait AnswerSink: Send {
    /// Notes that rows are about to start.
    ///
    /// # Errors
    /// What ends the job.
    fn admit(&mut self, rows: &[u64]) -> Result<(), JobError>;

    /// Whether every row that was admitted has been appended, but for this one.
    fn runs_nothing_but(&self, row: u64) -> bool;

    /// Adds a finished row; `shared` says whether it took the answer of another row of its prompt.
    ///
    /// # Errors
    /// What ends the job.
    fn append(&mut self, answer: Answer, shared: bool) -> Result<(), JobError>;

    /// Adds a note of a row that has no answer yet.
    ///
    /// # Errors
    /// What ends the job.
    fn append_note(&mut self, note: Note, shared: bool) -> Result<(), JobError>;

    /// Notes what the engine has done so far.
    fn note_costs(&mut self, figures: StartFigures);

    /// Makes all rows added so far durable, where rows are.
    ///
    /// # Errors
    /// What ends the job.
    fn commit(&mut self) -> Result<(), JobError>;
}

impl AnswerSink for Journal {
    fn admit(&mut self, rows: &[u64]) -> Result<(), JobError> {
        Journal::admit(self, rows)
    }

    fn runs_nothing_but(&self, row: u64) -> bool {
        Journal::runs_nothing_but(self, row)
    }

    fn append(&mut self, answer: Answer, shared: bool) -> Result<(), JobError> {
        if shared { self.append_shared(answer) } else { Journal::append(self, answer) }
    }

    fn append_note(&mut self, note: Note, shared: bool) -> Result<(), JobError> {
        Journal::append_note(self, note, shared)
    }

    fn note_costs(&mut self, figures: StartFigures) {
        Journal::note_costs(self, figures);
    }

    fn commit(&mut self) -> Result<(), JobError> {
        Journal::commit(self)
    }
}
