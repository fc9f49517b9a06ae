//! Copies of a journal as it is at one moment, made while a job writes to it.

use crate::error::JobError;
use crate::journal::database::Database;
use crate::journal::identity::{InputDigests, JobIdentity};
use crate::journal::resume::check_copy;
use crate::journal::schema::{self, journal_error};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Pages that are copied at a time: 4 MiB.
const PAGES: i32 = if cfg!(test) { 4 } else { 1024 };

/// A pause after each of them, for whoever else needs the disk.
const PAUSE: Duration = Duration::from_millis(2);

/// Another process may hold a journal for so long.
const BUSY: Duration = Duration::from_secs(10);

/// Makes copies of a journal.
pub struct Checkpoints {
    journal: Connection,
    path: PathBuf,
    /// SQLite's number of the content that was copied last.
    copied: Option<i64>,
}

impl Checkpoints {
    /// Opens the journal of a state_dir, to copy it.
    ///
    /// # Errors
    /// [`JobError::JournalDamaged`] or [`JobError::Journal`].
    pub fn of(state_dir: &Path) -> Result<Checkpoints, JobError> {
        let path = schema::path(state_dir);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let journal = Connection::open_with_flags(&path, flags).map_err(journal_error(&path))?;
        journal.busy_timeout(BUSY).map_err(journal_error(&path))?;
        Ok(Checkpoints { journal, path, copied: None })
    }

    /// Copies the journal, if it has changed since the last copy; `false` if not, or if `stop` says so.
    ///
    /// # Errors
    /// [`JobError::JournalDamaged`], [`JobError::Journal`] or [`JobError::Io`].
    pub fn copy(&mut self, to: &Path, stop: &dyn Fn() -> bool) -> Result<bool, JobError> {
        let wrong = journal_error(&self.path);
        let content = self.journal.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0));
        let content = content.map_err(&wrong)?;
        if self.copied == Some(content) {
            return Ok(false);
        }
        schema::remove(to)?;
        let copied = self.copy_pages(to, stop).map_err(&wrong)?;
        if copied {
            self.copied = Some(content);
        }
        Ok(copied)
    }

    /// The next copy is made even if nothing has changed: the last one has not arrived.
    pub fn forget(&mut self) {
        self.copied = None;
    }

    fn copy_pages(&self, to: &Path, stop: &dyn Fn() -> bool) -> rusqlite::Result<bool> {
        // A transaction of the reader's holds one state of a journal with a write-ahead log, and nobody waits for it. Without it
        // each commit would let the copy begin anew.
        let moment = self.journal.unchecked_transaction()?;
        moment.query_row("SELECT count(*) FROM identity", [], |_| Ok(()))?;
        let mut copy = Connection::open(to)?;
        // It is not read from this disk again.
        copy.pragma_update(None, "synchronous", "OFF")?;
        let backup = Backup::new(&self.journal, &mut copy)?;
        loop {
            match backup.step(PAGES)? {
                StepResult::Done => break,
                _ if stop() => return Ok(false),
                _ => std::thread::sleep(PAUSE),
            }
        }
        drop(backup);
        // All of it in the one file.
        copy.pragma_update(None, "journal_mode", "DELETE")?;
        copy.close().map_err(|(_, error)| error)?;
        Ok(true)
    }
}

/// Makes sure that a copy is whole and of this job, and counts its finished rows. `shown` is where it comes from.
///
/// # Errors
/// [`JobError::CheckpointDamaged`]; [`JobError::OtherIdentity`] names what differs.
pub fn check(
    copy: &Path,
    shown: &str,
    identity: &JobIdentity,
    inputs: &InputDigests,
) -> Result<u64, JobError> {
    check_copy(copy, identity, inputs).map_err(|error| match error {
        JobError::JournalDamaged { what, .. } => {
            JobError::CheckpointDamaged { checkpoint: shown.into(), what }
        }
        JobError::OtherIdentity { differences, .. } => {
            JobError::OtherIdentity { state_dir: shown.into(), differences }
        }
        other => other,
    })
}

/// Makes a copy the journal of a state_dir, whose lock must be held.
///
/// # Errors
/// [`JobError::Io`].
pub fn put_in_place(copy: &Path, state_dir: &Path) -> Result<(), JobError> {
    let path = schema::path(state_dir);
    // A log of the journal before would be replayed into this one.
    schema::remove(&path)?;
    crate::files::rename(copy, &path)
}

/// The finished rows of the journal of a state_dir, if it has one.
///
/// # Errors
/// As [`check`].
pub fn finished_here(
    state_dir: &Path,
    identity: &JobIdentity,
    inputs: &InputDigests,
) -> Result<Option<u64>, JobError> {
    let path = schema::path(state_dir);
    match path.try_exists().map_err(JobError::io("look at", &path))? {
        false => Ok(None),
        true => check(&path, &state_dir.display().to_string(), identity, inputs).map(Some),
    }
}

/// The value of a field of the identity of a copy, for people.
pub(crate) fn field(copy: &Path, name: &str) -> Option<String> {
    let database = Database::open_read_only(copy).ok()?;
    Some(database.identity.get(name)?.shown().into_owned())
}

#[cfg(test)]
mod tests;
