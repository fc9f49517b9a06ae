//! How the file of the journal is made and removed.

use crate::error::JobError;
use crate::files::rename;
use crate::journal::checksum::Checksum;
use crate::journal::format::{self, Format, with_checksum};
use crate::journal::identity::{Identity, InputDigest, InputDigests};
use rusqlite::Connection;
use rusqlite::types::Value;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// "grst": what `file` and SQLite call the application id.
pub(super) const APPLICATION_ID: i64 = 0x6772_7374;

/// The journal in a state_dir.
pub(crate) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("journal.sqlite")
}

/// Refuses a state_dir in which something that is no file stands where a job has its files: SQLite and others would wait on
/// a FIFO for ever, and fail on a folder only after the inputs were read.
///
/// # Errors
/// [`JobError::Usage`] names it; [`JobError::Io`].
pub(crate) fn refuse_other_kinds(state_dir: &Path) -> Result<(), JobError> {
    let kind = |path: &Path| match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(Some("a folder")),
        Ok(found) if found.is_file() => Ok(Some("a file")),
        Ok(_) => Ok(Some("a device, a FIFO or a socket")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => match path.is_symlink() {
            true => Ok(Some("a symbolic link that cannot be followed")),
            false => Err(JobError::io("look at", path)(error)),
        },
    };
    let refuse = |path: &Path, kind: &str, wanted: &str| {
        Err(JobError::Usage(format!(
            "{} is {kind}, where the job has {wanted}: move it away, or choose another place",
            path.display()
        )))
    };
    match kind(state_dir)? {
        None => return Ok(()),
        Some("a folder") => {}
        Some(other) => return refuse(state_dir, other, "a folder of its own"),
    }
    let journal = ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm", "journal.new"];
    for name in journal.iter().chain(&[
        "lock",
        "in-flight",
        "in-flight.new",
        "manifest.json",
        "manifest.next",
        "receipt.json",
        "receipt.next",
        "checkpoint.sqlite",
        "journal.fetched",
        "claim.json",
        "claim.new",
    ]) {
        let path = state_dir.join(name);
        match kind(&path)? {
            None | Some("a file") => {}
            Some(other) => return refuse(&path, other, "a file"),
        }
    }
    Ok(())
}

/// Turns an error of SQLite into the job's. Errors of the system, which may pass, are distinguished from damage, which
/// shows as any other error.
pub(crate) fn journal_error(path: &Path) -> impl Fn(rusqlite::Error) -> JobError {
    use rusqlite::ErrorCode as Code;
    move |source| match source.sqlite_error_code() {
        Some(
            Code::DiskFull
            | Code::SystemIoFailure
            | Code::CannotOpen
            | Code::PermissionDenied
            | Code::ReadOnly
            | Code::OutOfMemory
            | Code::DatabaseBusy
            | Code::DatabaseLocked
            | Code::FileLockingProtocolFailed
            | Code::OperationInterrupted
            | Code::NoLargeFileSupport,
        ) => JobError::Journal { path: path.to_path_buf(), source },
        _ => damaged(path, &source.to_string()),
    }
}

pub(crate) fn damaged(path: &Path, what: &str) -> JobError {
    JobError::JournalDamaged { path: path.to_path_buf(), what: what.to_string() }
}

/// Makes a journal with an identity and inputs, and no answers.
///
/// Made under another name, so that a file of this name always holds a whole journal.
pub(crate) fn create(path: &Path, identity: &Identity, inputs: &InputDigests) -> Result<(), JobError> {
    let new = path.with_extension("new");
    remove(&new)?;
    // A log left by a journal that somebody deleted would be replayed into the new one.
    remove(path)?;
    fill(&new, format::CURRENT, identity, inputs).map_err(journal_error(path))?;
    rename(&new, path)
}

/// Removes a database and its logs, if they exist.
pub(crate) fn remove(path: &Path) -> Result<(), JobError> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_os_string();
        name.push(suffix);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(JobError::io("remove", name)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn fill(
    new: &Path,
    format: Format,
    identity: &Identity,
    inputs: &InputDigests,
) -> rusqlite::Result<()> {
    let mut connection = Connection::open(new)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction()?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", format.number())?;
    for table in format.tables() {
        transaction.execute(table, [])?;
    }
    for (i, field) in identity.fields().iter().enumerate() {
        let value = format.identity_text(field);
        let values = [Value::from(i as i64), field.field.clone().into(), value.into()];
        transaction.execute(&format.insert("identity"), with_checksum(Checksum::Plain, values))?;
    }
    for (i, input) in inputs.0.iter().enumerate() {
        let values = with_checksum(Checksum::Plain, input_values(i, input));
        transaction.execute(&format.insert("inputs"), values)?;
    }
    transaction.commit()
}

fn input_values(i: usize, input: &InputDigest) -> [Value; 5] {
    let path = input.path.display().to_string();
    [
        (i as i64).into(),
        path.into(),
        (input.size as i64).into(),
        (input.rows as i64).into(),
        input.digest.clone().into(),
    ]
}
