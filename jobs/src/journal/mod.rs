//! The only durable state of a job: its identity, its inputs, and one record for each finished row.
//!
//! A SQLite database `journal.sqlite` in the job's state_dir. Beside it are `lock` and `in-flight`: 8 little-endian bytes
//! for each row that the running worker has started, or finished lately. After a death of the worker, it shows which rows
//! may have caused it.

pub mod answer;
pub mod attempts;
pub(crate) mod checksum;
pub(crate) mod database;
pub mod decisions;
pub mod endings;
pub mod finished;
pub(crate) mod format;
pub mod format1;
pub mod identity;
pub mod lock;
mod reader;
pub(crate) mod record;
mod repair;
pub(crate) mod schema;
mod writer;

use crate::error::JobError;
use crate::journal::answer::Answer;
use crate::journal::attempts::InFlight;
use crate::journal::database::Database;
use crate::journal::finished::FinishedRows;
use crate::journal::format::Format;
use crate::journal::identity::{Identity, InputDigests, JobIdentity};
use crate::journal::lock::JobLock;
use crate::journal::writer::Writer;
pub use reader::JournalReader;
use rusqlite::types::ValueRef;
use std::collections::HashSet;
use std::path::Path;

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
}

/// The journal of a job that this process works on.
pub struct Journal {
    identity: Identity,
    writer: Writer,
    in_flight: InFlight,
    running: HashSet<u64>,
    alone: Vec<u64>,
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
            ResumeMode::Fresh if exists => {
                discarded = Some(count(&path).unwrap_or(0));
                schema::create(&path, &identity.identity, inputs)?;
            }
            _ if !exists => schema::create(&path, &identity.identity, inputs)?,
            _ => {}
        }
        let (database, mut finished) = match resume(&path, state_dir, identity, inputs) {
            Err(JobError::JournalDamaged { what, .. }) => {
                repair::repair(&path, &what)?;
                resume(&path, state_dir, identity, inputs)?
            }
            other => other?,
        };
        let alone = attempts::resolve(&database, &mut finished)?;
        let in_flight = InFlight::begin(state_dir)?;
        let identity = database.identity.clone();
        let writer = Writer::spawn(database)?;
        let running = HashSet::new();
        let journal = Journal { identity, writer, in_flight, running, alone, discarded, lock };
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
    /// ([`Journal::is_idle`]), after a [`Journal::commit`]. Those of a third death are finished already, with an error.
    pub fn alone(&self) -> &[u64] {
        &self.alone
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
        self.running.extend(rows);
        self.in_flight.add(rows)
    }

    /// Whether every row that was admitted has been appended.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Adds a finished row. It is committed with the next batch: about a second later, or earlier.
    ///
    /// # Errors
    /// [`JobError::DoubleAnswer`] or [`JobError::Journal`], of this row or of any before it.
    pub fn append(&mut self, answer: Answer) -> Result<(), JobError> {
        self.running.remove(&answer.row);
        self.writer.append(answer, false)
    }

    /// [`Journal::append`] of a row that took the answer of another row of its prompt, which is counted.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn append_shared(&mut self, answer: Answer) -> Result<(), JobError> {
        self.running.remove(&answer.row);
        self.writer.append(answer, true)
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
    /// Makes sure that nobody has moved the state_dir away or put another in its place.
    ///
    /// # Errors
    /// [`JobError::StateDirMoved`] or [`JobError::Io`].
    pub fn check_in_place(&self) -> Result<(), JobError> {
        self.lock.check_in_place()
    }
}

/// Opens a journal, makes sure that it is this job's, and reads through it.
fn resume(
    path: &Path,
    state_dir: &Path,
    identity: &JobIdentity,
    inputs: &InputDigests,
) -> Result<(Database, FinishedRows), JobError> {
    let database = Database::open(path)?;
    let differences = match database.format {
        Format::One => format1::differences(&database.identity, &identity.format1),
        Format::Two => identity.identity.differences(&database.identity),
    };
    // The same command would not help: it makes other prompts now.
    let version = ["prompts version:", "prompts_version:"].iter().any(|field| differences.contains(field));
    let note = "  it was begun by another version of gristmill, which makes prompts otherwise: finish it with that version";
    let note = if version { note.to_owned() } else { String::new() };
    let differences = [differences, note, inputs.differences(&database.inputs)];
    let differences: Vec<String> = differences.into_iter().filter(|d| !d.is_empty()).collect();
    if !differences.is_empty() {
        return Err(JobError::OtherIdentity {
            state_dir: state_dir.into(),
            differences: differences.join("\n"),
        });
    }
    database.check_structure()?;
    let finished = scan(&database, inputs.rows())?;
    attempts::check(&database)?;
    Ok((database, finished))
}

/// Reads every answer, and makes sure that it is what was written.
fn scan(database: &Database, rows: u64) -> Result<FinishedRows, JobError> {
    let wrong = schema::journal_error(&database.path);
    let mut finished = FinishedRows::none_of(rows);
    let query = format!("SELECT * FROM answers WHERE {} ORDER BY row", database.format.is_answer());
    let mut statement = database.connection.prepare(&query).map_err(&wrong)?;
    let mut records = statement.query([]).map_err(&wrong)?;
    while let Some(record) = records.next().map_err(&wrong)? {
        let values = database.answer_columns(record)?;
        let number = |column: usize| values[column].as_i64_or_null().ok().flatten().unwrap_or(0) as u64;
        if !finished.insert(number(0)) {
            return Err(database.damaged("a row is there twice or does not belong to the job"));
        }
        finished.errors += u64::from(values[1] != ValueRef::Null);
        finished.input_tokens += number(4);
        finished.generated_tokens += number(5);
    }
    Ok(finished)
}

/// Finished rows of a journal.
fn count(path: &Path) -> Result<u64, JobError> {
    Database::open_read_only(path)?.count()
}

#[cfg(test)]
pub(crate) mod tests;
