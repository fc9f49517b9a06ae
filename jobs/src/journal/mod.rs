//! The only durable state of a job: its identity, its inputs, and one record for each finished row.
//!
//! A SQLite database `journal.sqlite` in the job's state_dir. Beside it are `lock` and `in-flight`: 8 little-endian bytes
//! for each row that the running worker has started, or finished lately. After a death of the worker, it shows which rows
//! may have caused it.

pub mod answer;
pub mod attempts;
pub mod finished;
pub mod identity;
pub mod lock;
pub(crate) mod record;
pub(crate) mod schema;
mod writer;

use crate::error::JobError;
use crate::journal::answer::Answer;
use crate::journal::attempts::InFlight;
use crate::journal::finished::FinishedRows;
use crate::journal::identity::{Identity, InputDigests};
use crate::journal::lock::JobLock;
use crate::journal::writer::Writer;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

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
    path: PathBuf,
    writer: Writer,
    in_flight: InFlight,
    running: HashSet<u64>,
    alone: Vec<u64>,
    discarded: Option<u64>,
    // Last, so that the lock goes when all else is closed.
    _lock: JobLock,
}

impl Journal {
    /// Opens the journal in a state_dir, or begins one.
    ///
    /// A damaged journal is repaired from the records whose checksums hold; what is lost is answered again.
    ///
    /// # Errors
    /// [`JobError::Locked`] if another process works on the job; [`JobError::OtherIdentity`] if it was
    /// begun with another identity or other inputs; [`JobError::AlreadyBegun`] and
    /// [`JobError::NothingToResume`] as `mode` has it; [`JobError::JournalDamaged`] if its identity cannot
    /// be read; [`JobError::Journal`] and [`JobError::Io`].
    pub fn open_or_create(
        state_dir: &Path,
        identity: &Identity,
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
                schema::create(&path, identity, inputs)?;
            }
            _ if !exists => schema::create(&path, identity, inputs)?,
            _ => {}
        }
        let (connection, mut finished) = match resume(&path, state_dir, identity, inputs) {
            Err(JobError::JournalDamaged { what, .. }) => {
                schema::repair(&path, &what)?;
                resume(&path, state_dir, identity, inputs)?
            }
            other => other?,
        };
        let alone = attempts::resolve(&connection, &path, &mut finished)?;
        let in_flight = InFlight::begin(state_dir)?;
        let writer = Writer::spawn(connection, &path)?;
        let running = HashSet::new();
        Ok((Journal { path, writer, in_flight, running, alone, discarded, _lock: lock }, finished))
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

    /// Opens the journal for reading all that is committed.
    ///
    /// # Errors
    /// [`JobError::Journal`].
    pub fn reader(&self) -> Result<JournalReader, JobError> {
        JournalReader::open_file(self.path.clone())
    }

    /// Commits all rows and closes the journal. Dropping it does the same, but cannot report errors.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn close(mut self) -> Result<(), JobError> {
        self.writer.close()
    }
}

/// Opens a journal, makes sure that it is this job's, and reads through it.
fn resume(
    path: &Path,
    state_dir: &Path,
    identity: &Identity,
    inputs: &InputDigests,
) -> Result<(Connection, FinishedRows), JobError> {
    let connection = schema::open(path)?;
    let begun = schema::read_identity(&connection, path)?;
    let differences =
        [identity.differences(&begun), inputs.differences(&schema::read_inputs(&connection, path)?)];
    let differences: Vec<String> = differences.into_iter().filter(|d| !d.is_empty()).collect();
    if !differences.is_empty() {
        return Err(JobError::OtherIdentity {
            state_dir: state_dir.into(),
            differences: differences.join("\n"),
        });
    }
    schema::check_structure(&connection, path)?;
    let finished = scan(&connection, path, inputs.rows())?;
    Ok((connection, finished))
}

/// Reads every answer, and makes sure that it is what was written.
fn scan(connection: &Connection, path: &Path, rows: u64) -> Result<FinishedRows, JobError> {
    let wrong = schema::journal_error(path);
    let mut finished = FinishedRows::none_of(rows);
    let query = format!("{} ORDER BY row", schema::SELECT_ANSWERS);
    let mut statement = connection.prepare(&query).map_err(&wrong)?;
    let mut records = statement.query([]).map_err(&wrong)?;
    while let Some(record) = records.next().map_err(&wrong)? {
        let Some(values) = schema::checked(record, record::COLUMNS).map_err(&wrong)? else {
            return Err(schema::damaged(path, "the checksum of an answer does not match"));
        };
        let number = |column: usize| values[column].as_i64_or_null().ok().flatten().unwrap_or(0) as u64;
        if !finished.insert(number(0)) {
            return Err(schema::damaged(path, "a row is there twice or does not belong to the job"));
        }
        finished.errors += u64::from(values[1] != ValueRef::Null);
        finished.input_tokens += number(4);
        finished.generated_tokens += number(5);
    }
    Ok(finished)
}

/// Finished rows of a journal.
fn count(path: &Path) -> Result<u64, JobError> {
    let query = "SELECT count(*) FROM answers";
    let count = schema::open_read_only(path)?.query_row(query, [], |row| row.get::<_, i64>(0));
    Ok(count.map_err(schema::journal_error(path))? as u64)
}

/// A journal to read from, also while a job writes to it.
pub struct JournalReader {
    pub(crate) path: PathBuf,
    pub(crate) connection: Connection,
}

impl JournalReader {
    /// Opens the journal of a state_dir.
    ///
    /// # Errors
    /// [`JobError::JournalDamaged`] if it is not one; [`JobError::Journal`].
    pub fn open(state_dir: &Path) -> Result<Self, JobError> {
        Self::open_file(schema::path(state_dir))
    }

    fn open_file(path: PathBuf) -> Result<Self, JobError> {
        let connection = schema::open_read_only(&path)?;
        Ok(JournalReader { path, connection })
    }

    /// The identity of the job.
    ///
    /// # Errors
    /// [`JobError::JournalDamaged`] or [`JobError::Journal`].
    pub fn identity(&self) -> Result<Identity, JobError> {
        schema::read_identity(&self.connection, &self.path)
    }

    /// The inputs of the job.
    ///
    /// # Errors
    /// [`JobError::JournalDamaged`] or [`JobError::Journal`].
    pub fn inputs(&self) -> Result<InputDigests, JobError> {
        schema::read_inputs(&self.connection, &self.path)
    }

    /// The process that has opened the journal last to write to it.
    ///
    /// # Errors
    /// [`JobError::JournalDamaged`] or [`JobError::Journal`].
    pub fn last_process(&self) -> Result<Option<u32>, JobError> {
        let query = "SELECT max(start), pid FROM starts";
        let process = self.connection.query_row(query, [], |row| row.get(1));
        process.map_err(schema::journal_error(&self.path))
    }

    /// Finished rows, without those that were given up for crashing the device.
    ///
    /// # Errors
    /// [`JobError::JournalDamaged`] or [`JobError::Journal`].
    pub fn answered(&self) -> Result<u64, JobError> {
        let query = "SELECT (SELECT count(*) FROM answers) - (SELECT count(*) FROM answers WHERE error = ?)";
        let count = self.connection.query_row(query, [attempts::CRASHED], |row| row.get::<_, i64>(0));
        Ok(count.map_err(schema::journal_error(&self.path))? as u64)
    }

    /// The answers of a range of rows, one entry for each row; `None` for a row that is not finished.
    ///
    /// # Errors
    /// [`JobError::JournalDamaged`] if any of them is not what was written; [`JobError::Journal`].
    pub fn answers(&self, rows: Range<u64>) -> Result<Vec<Option<Answer>>, JobError> {
        let wrong = schema::journal_error(&self.path);
        let query = format!("{} WHERE row >= ? AND row < ? ORDER BY row", schema::SELECT_ANSWERS);
        let mut statement = self.connection.prepare_cached(&query).map_err(&wrong)?;
        let mut records = statement.query([rows.start as i64, rows.end as i64]).map_err(&wrong)?;
        let mut answers = vec![None; (rows.end - rows.start) as usize];
        while let Some(record) = records.next().map_err(&wrong)? {
            let answer = self.decode(record)?;
            let place = answer.row.checked_sub(rows.start).and_then(|at| answers.get_mut(at as usize));
            let place = place.ok_or_else(|| schema::damaged(&self.path, "rows are out of order"))?;
            *place = Some(answer);
        }
        Ok(answers)
    }

    fn decode(&self, record: &Row<'_>) -> Result<Answer, JobError> {
        let mut values = Vec::with_capacity(record::COLUMNS + 1);
        for column in 0..=record::COLUMNS {
            values.push(record.get_ref(column).map_err(schema::journal_error(&self.path))?);
        }
        let row = values[0].as_i64().unwrap_or(-1);
        let wrong = |what| schema::damaged(&self.path, &format!("the answer to row {row}: {what}"));
        record::decode(&values).map_err(wrong)
    }
}

#[cfg(test)]
pub(crate) mod tests;
