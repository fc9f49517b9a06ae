//! Which rows may have caused a death of the worker.
//!
//! The worker notes the rows that it starts in the file `in-flight`; the supervisor reads it after a death
//! and counts one against each row that has no answer. A row of two deaths runs alone, so that a third
//! death is certainly its own: it then becomes an error row. Deaths from outside make a row run alone too, but never an
//! error, so that an answer does not depend on who killed or suspended what when. A device that is lost may be lost to
//! all rows alike: that counts only against a row that ran alone.

use crate::error::JobError;
use crate::journal::answer::Answer;
use crate::journal::database::Database;
use crate::journal::finished::FinishedRows;
use crate::journal::format::with_checksum;
use crate::journal::row_set::RowSet;
use crate::journal::schema;
use crate::row_error::RowErrorKind;
use rusqlite::types::Value;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A row with this number of deaths runs alone.
const ALONE: i64 = 2;

/// A row with this number of deaths is given up.
const GIVEN_UP: i64 = 3;

/// The error of a row that is given up.
pub const CRASHED: &str = RowErrorKind::CrashedDevice.text();

/// How a worker died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// By a fault of the program, or by a hang in which it computed.
    Crash,
    /// By its own report: of a device that is lost, or of a bug.
    DeviceLost,
    /// By a signal from outside, or by a hang in which it did not compute.
    Outside,
}

/// A file of more rows is rewritten without those that are done.
const FILE_ROWS: usize = 1 << 14;

/// The rows that the running worker has started.
pub(crate) struct InFlight {
    file: File,
    path: PathBuf,
    rows: usize,
}

impl InFlight {
    /// Begins an empty file.
    pub(crate) fn begin(state_dir: &Path) -> Result<Self, JobError> {
        let path = in_flight(state_dir);
        // Whoever else writes to it, where the lock was removed, leaves no gaps that look like rows.
        let file = File::options().create(true).append(true).open(&path);
        let file =
            file.and_then(|file| file.set_len(0).map(|()| file)).map_err(JobError::io("create", &path))?;
        Ok(InFlight { file, path, rows: 0 })
    }

    /// Notes rows. No sync: the file has to outlive the process, not the machine.
    pub(crate) fn add(&mut self, rows: &[u64]) -> Result<(), JobError> {
        self.rows += rows.len();
        self.file.write_all(&bytes_of(rows)).map_err(JobError::io("write", &self.path))
    }

    /// Drops the rows that are no longer running, if the file has grown long for it.
    pub(crate) fn shorten(&mut self, running: &HashMap<u64, Instant>) -> Result<(), JobError> {
        if self.rows < FILE_ROWS.max(2 * running.len()) {
            return Ok(());
        }
        let rows: Vec<u64> = running.keys().copied().collect();
        let new = self.path.with_extension("new");
        let mut file = File::create(&new).map_err(JobError::io("create", &new))?;
        file.write_all(&bytes_of(&rows)).map_err(JobError::io("write", &new))?;
        std::fs::rename(&new, &self.path).map_err(JobError::io("rename", &new))?;
        (self.file, self.rows) = (file, rows.len());
        Ok(())
    }
}

fn bytes_of(rows: &[u64]) -> Vec<u8> {
    rows.iter().flat_map(|row| row.to_le_bytes()).collect()
}

fn in_flight(state_dir: &Path) -> PathBuf {
    state_dir.join("in-flight")
}

/// What a death says about rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blame {
    /// The number of rows that are given up for it.
    pub given_up: u64,
    /// The row without an answer that was in flight, if there was just one.
    pub alone: Option<u64>,
}

/// Counts a death against the rows that were in flight, and forgets them. Call it after the worker
/// has ended and before the next one starts.
///
/// # Errors
/// [`JobError::JournalDamaged`], [`JobError::Journal`] or [`JobError::Io`].
pub fn record_death(state_dir: &Path, death: Death) -> Result<Blame, JobError> {
    let file = in_flight(state_dir);
    let bytes = match std::fs::read(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Blame::default()),
        other => other.map_err(JobError::io("read", &file))?,
    };
    let database = Database::open(&schema::path(state_dir))?;
    let rows: BTreeSet<i64> = bytes.as_chunks().0.iter().map(|row| i64::from_le_bytes(*row)).collect();
    let blame = count(&database, &rows, death)?;
    File::create(&file).map_err(JobError::io("empty", &file))?;
    Ok(blame)
}

fn count(database: &Database, rows: &BTreeSet<i64>, death: Death) -> Result<Blame, JobError> {
    let mut given_up = 0;
    let before = read(database)?;
    let wrong = schema::journal_error(&database.path);
    let is_answered = format!("SELECT 1 FROM answers WHERE row = ? AND {}", database.format.is_answer());
    let transaction = database.connection.unchecked_transaction().map_err(&wrong)?;
    let mut unanswered = Vec::new();
    for &row in rows {
        let answered = transaction.prepare_cached(&is_answered);
        if !answered.and_then(|mut found| found.exists([row])).map_err(&wrong)? {
            unanswered.push(row);
        }
    }
    let alone = Some(&unanswered[..]).filter(|rows| rows.len() == 1).map(|rows| rows[0] as u64);
    let counts = match death {
        Death::Crash => true,
        Death::DeviceLost => alone.is_some(),
        Death::Outside => false,
    };
    for row in unanswered {
        let (mut deaths, mut kills) = before.iter().find(|a| a.0 == row).map_or((0, 0), |a| (a.1, a.2));
        if counts {
            deaths += 1;
            given_up += u64::from(deaths == GIVEN_UP);
        } else {
            kills += 1;
        }
        write(database, [row, deaths, kills])?;
    }
    transaction.commit().map_err(&wrong)?;
    Ok(Blame { given_up, alone })
}

fn write(database: &Database, attempt: [i64; 3]) -> Result<(), JobError> {
    let values = with_checksum(database.checksum, attempt.map(Value::Integer));
    let replaced = database.connection.execute("INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?)", values);
    replaced.map(drop).map_err(schema::journal_error(&database.path))
}

/// Lets rows that were given up run once more, alone.
///
/// # Errors
/// [`JobError::JournalDamaged`] or [`JobError::Journal`].
pub(crate) fn run_once_more(database: &Database, rows: &RowSet) -> Result<(), JobError> {
    let given_up = |a: &(i64, i64, i64)| a.1 >= GIVEN_UP && rows.contains(a.0 as u64);
    let mut given_up = read(database)?.into_iter().filter(given_up);
    given_up.try_for_each(|(row, _, kills)| write(database, [row, ALONE, kills]))
}

/// Makes sure that the table is what was written.
///
/// # Errors
/// [`JobError::JournalDamaged`] or [`JobError::Journal`].
pub(crate) fn check(database: &Database) -> Result<(), JobError> {
    read(database).map(drop)
}

/// Row, deaths of its own and kills.
fn read(database: &Database) -> Result<Vec<(i64, i64, i64)>, JobError> {
    let mut attempts = Vec::new();
    database.each("attempts", "row", database.checksum, |values| {
        attempts.push((values[0].as_i64()?, values[1].as_i64()?, values[2].as_i64()?));
        Ok(())
    })?;
    Ok(attempts)
}

/// Rows that were in flight when a worker died and have no answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspects {
    /// Those that must run alone, after all others.
    pub alone: Vec<u64>,
    /// The others that died once by themselves, sorted: what may die again is best begun after what will not.
    pub later: Vec<u64>,
}

/// Gives up rows of three deaths, and lists those that must run alone or later.
pub(crate) fn resolve(database: &Database, finished: &mut FinishedRows) -> Result<Suspects, JobError> {
    let mut suspects = Suspects::default();
    let wrong = schema::journal_error(&database.path);
    let transaction = database.connection.unchecked_transaction().map_err(&wrong)?;
    for (row, deaths, kills) in read(database)? {
        let number = row as u64;
        if finished.contains(number) || number >= finished.rows() {
            continue;
        }
        if deaths >= GIVEN_UP {
            let added = database.insert(&Answer::failed(number, None, CRASHED))?;
            finished.insert(number);
            finished.errors += u64::from(added);
        } else if deaths + kills >= ALONE {
            suspects.alone.push(number);
        } else if deaths > 0 {
            suspects.later.push(number);
        }
    }
    transaction.commit().map_err(&wrong)?;
    Ok(suspects)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_file_stays_short() {
        let state_dir = tempfile::tempdir().unwrap();
        let mut rows = InFlight::begin(state_dir.path()).unwrap();
        for row in 0..100_000 {
            rows.shorten(&[row, 7].map(|row| (row, Instant::now())).into()).unwrap();
            rows.add(&[row]).unwrap();
        }
        let bytes = std::fs::read(in_flight(state_dir.path())).unwrap();
        assert!(bytes.len() <= 8 * (FILE_ROWS + 1), "{}", bytes.len());
        let held: BTreeSet<u64> = bytes.as_chunks().0.iter().map(|row| u64::from_le_bytes(*row)).collect();
        assert!(held.contains(&7) && held.contains(&99_999) && !held.contains(&8));
    }
}
