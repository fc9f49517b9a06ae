//! The only durable state of a job: its identity, its inputs, and one record for each finished row.
//!
//! A SQLite database `journal.sqlite` in the job's state_dir. Beside it are `lock` and `in-flight`: 8 little-endian bytes
//! for each row that the running worker has started, or finished lately. After a death of the worker, it shows which rows
//! may have caused it.

pub mod answer;
pub mod attempts;
pub mod checkpoint;
pub(crate) mod checksum;
pub mod committed;
pub mod costs;
pub(crate) mod database;
pub mod decisions;
pub mod endings;
pub mod finished;
pub(crate) mod format;
pub mod format1;
pub mod identity;
pub mod length_limits;
pub mod lock;
pub mod note;
pub mod reader;
pub(crate) mod record;
mod repair;
mod resume;
pub mod retry;
pub mod row_set;
pub(crate) mod schema;
pub(crate) mod tables;
pub mod timeline;
mod writer;

use crate::error::JobError;
use crate::journal::answer::Answer;
use crate::journal::attempts::{InFlight, Suspects};
use crate::journal::committed::Committed;
use crate::journal::costs::StartFigures;
use crate::journal::finished::FinishedRows;
use crate::journal::identity::{Identity, InputDigests, JobIdentity};
use crate::journal::lock::JobLock;
use crate::journal::note::Note;
use crate::journal::retry::Retry;
use crate::journal::row_set::RowSet;
use crate::journal::writer::Writer;
pub use reader::JournalReader;
use resume::{count, resume};
use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

/// What to do with a job that was begun before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeMode {
    /// Resume it; begin one if there is none.
    Auto,
    /// Refuse if there is one.
    Never,
    /// Refuse if there is none.
    Require,
    /// Discard it and begin again.
    Fresh,
    /// Resume it, and run rows again; refuse if there is none.
    Retry(Retry),
}

/// The journal of a job that this process works on.
pub struct Journal {
    identity: Identity,
    writer: Writer,
    in_flight: InFlight,
    /// Rows that were admitted, and when.
    running: HashMap<u64, Instant>,
    suspects: Suspects,
    again: RowSet,
    discarded: Option<u64>,
    // Last, so that the lock goes when all else is closed.
    lock: JobLock,
}

impl Journal {
    /// Opens the journal in a state_dir, or begins one.
    ///
    /// A damaged journal is repaired from the records whose checksums hold; what is lost is answered again.
    ///
    /// # Errors
    /// [`JobError::Locked`] if another process works on the job; [`JobError::OtherIdentity`] if it was
    /// begun with another identity or other inputs; [`JobError::JournalFormat`] if its format is not known;
    /// [`JobError::AlreadyBegun`] and [`JobError::NothingToResume`] as `mode` has it; [`JobError::JournalDamaged`] if
    /// its identity cannot be read; [`JobError::Journal`] and [`JobError::Io`].
    pub fn open_or_create(
        state_dir: &Path,
        identity: &JobIdentity,
        inputs: &InputDigests,
        mode: ResumeMode,
    ) -> Result<(Journal, FinishedRows), JobError> {
        std::fs::create_dir_all(state_dir).map_err(JobError::io("create", state_dir))?;
        let lock = JobLock::acquire(state_dir)?;
        let path = schema::path(state_dir);
        let exists = path.try_exists().map_err(JobError::io("look at", &path))?;
        let mut discarded = None;
        match mode {
            ResumeMode::Never if exists => {
                return Err(JobError::AlreadyBegun {
                    state_dir: state_dir.into(),
                    rows: count(&path).unwrap_or(0),
                });
            }
            ResumeMode::Require if !exists => {
                return Err(JobError::NothingToResume { state_dir: state_dir.into() });
            }
            ResumeMode::Retry(_) if !exists => {
                return Err(JobError::NothingToRetry { state_dir: state_dir.into() });
            }
            ResumeMode::Fresh if exists => {
                discarded = Some(count(&path).unwrap_or(0));
                schema::create(&path, &identity.identity, inputs)?;
            }
            _ if !exists => schema::create(&path, &identity.identity, inputs)?,
            _ => {}
        }
        let retry = match mode {
            ResumeMode::Retry(retry) => Some(retry),
            _ => None,
        };
        let (database, mut finished) = match resume(&path, state_dir, identity, inputs, retry) {
            Err(JobError::JournalDamaged { what, .. }) => {
                repair::repair(&path, &what)?;
                resume(&path, state_dir, identity, inputs, retry)?
            }
            other => other?,
        };
        let suspects = attempts::resolve(&database, &mut finished)?;
        let in_flight = InFlight::begin(state_dir)?;
        let identity = database.identity.clone();
        let again = database.again.clone();
        let writer = Writer::spawn(database)?;
        let running = HashMap::new();
        let journal = Journal { identity, writer, in_flight, running, suspects, again, discarded, lock };
        Ok((journal, finished))
    }

    /// The identity with which the job was begun, in the spelling of its format.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How many finished rows `--fresh` has discarded, if there was a job.
    pub fn discarded(&self) -> Option<u64> {
        self.discarded
    }

    /// Rows that were in flight when a worker died, twice: each must run with nothing else in flight
    /// ([`Journal::runs_nothing_but`]), after a [`Journal::commit`]. Those of a third death are finished already, with an error.
    pub fn alone(&self) -> &[u64] {
        &self.suspects.alone
    }

    /// Rows that were in flight when a worker died, once: they are best begun after those beside them.
    pub fn later(&self) -> &[u64] {
        &self.suspects.later
    }

    /// Rows that have an answer and run again nevertheless. Until they are appended, the answer is kept.
    pub fn again(&self) -> &RowSet {
        &self.again
    }

    /// Notes how many rows this start is to answer, the first ones of the input (`--limit`), for
    /// `gristmill status`.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn note_rows(&mut self, rows: u64) -> Result<(), JobError> {
        self.writer.note_rows(rows)
    }

    /// Notes that rows are about to start. Cheap: 8 bytes per row, no sync.
    ///
    /// # Errors
    /// [`JobError::Io`].
    pub fn admit(&mut self, rows: &[u64]) -> Result<(), JobError> {
        self.in_flight.shorten(&self.running)?;
        // A row of several requests is there once.
        let mut new = Vec::new();
        for &row in rows {
            self.running.entry(row).or_insert_with(|| {
                new.push(row);
                Instant::now()
            });
        }
        self.in_flight.add(&new)
    }

    /// Whether every row that was admitted has been appended, but for this one.
    pub fn runs_nothing_but(&self, row: u64) -> bool {
        self.running.keys().all(|&running| running == row)
    }

    /// Adds a finished row. It is committed with the next batch: about a second later, or earlier.
    ///
    /// # Errors
    /// [`JobError::DoubleAnswer`], [`JobError::AnsweredElsewhere`] or [`JobError::Journal`], of this row or of any before it.
    pub fn append(&mut self, answer: Answer) -> Result<(), JobError> {
        let took = self.running.remove(&answer.row).map(|begun| begun.elapsed());
        self.writer.append(answer, false, took)
    }

    /// [`Journal::append`] of a row that took the answer of another row of its prompt, which is counted.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn append_shared(&mut self, answer: Answer) -> Result<(), JobError> {
        self.running.remove(&answer.row);
        // It has waited for another.
        self.writer.append(answer, true, None)
    }

    /// Adds a note of a row that has no answer yet, in place of one that the part had before; `shared` says whether it took the
    /// answer to an equal prompt.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn append_note(&mut self, note: Note, shared: bool) -> Result<(), JobError> {
        self.writer.append_note(note, shared)
    }

    /// Notes what this start has done so far; it is committed with the next rows, or at once where none wait. A journal that
    /// cannot be written says so to the next answer.
    pub fn note_costs(&mut self, figures: StartFigures) {
        self.writer.note_costs(figures);
    }

    /// What this start has committed, also as it goes on.
    pub fn committed(&self) -> Committed {
        self.writer.committed()
    }

    /// Notes the job's prices, which `merge` makes, as JSON, of those that it had before.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn note_prices(
        &mut self,
        merge: impl FnOnce(Option<&str>) -> String + Send + 'static,
    ) -> Result<(), JobError> {
        self.writer.note_prices(Box::new(merge))
    }

    /// Commits all rows added so far: they survive a kill and a power cut.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn commit(&mut self) -> Result<(), JobError> {
        self.writer.commit()
    }

    /// Reads what is committed, while more may be added.
    #[cfg(test)]
    pub(crate) fn reader(&self) -> Result<JournalReader, JobError> {
        JournalReader::open(self.lock.state_dir())
    }

    /// Commits all rows, to read them. Nothing can be added from now on.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn end(mut self) -> Result<EndedJournal, JobError> {
        let database = self.writer.end()?;
        let database = database.ok_or_else(|| JobError::Internal("the journal ended before".into()))?;
        Ok(EndedJournal { reader: JournalReader { database }, lock: self.lock })
    }

    /// Commits all rows and closes the journal. Dropping it does the same, but cannot report errors.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn close(mut self) -> Result<(), JobError> {
        self.writer.end().map(drop)
    }
}

/// The journal of a job that this process has worked on. It is read by the connection that wrote it, whatever lies at its
/// path by now, and the job stays locked.
pub struct EndedJournal {
    pub reader: JournalReader,
    lock: JobLock,
}

impl EndedJournal {
    /// Makes sure that nobody has moved the state_dir away, put another in its place or removed the lock.
    ///
    /// # Errors
    /// [`JobError::StateDirMoved`], [`JobError::LockRemoved`] or [`JobError::Io`].
    pub fn check_in_place(&self) -> Result<(), JobError> {
        self.lock.check_in_place()
    }
}

#[cfg(test)]
pub(crate) mod tests;
