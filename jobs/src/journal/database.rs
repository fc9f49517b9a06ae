//! An open journal: which job and which format it is, and what its records hold.

use crate::error::JobError;
use crate::journal::answer::Answer;
use crate::journal::checksum::Checksum;
use crate::journal::format::{ANSWER, Format, SET_ASIDE, checked, with_checksum};
use crate::journal::identity::{Identity, InputDigest, InputDigests};
use crate::journal::record;
use crate::journal::row_set::RowSet;
use crate::journal::schema::{APPLICATION_ID, damaged, journal_error};
use crate::journal::tables;
use crate::row_error::RowErrorKind;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::ffi::SQLITE_READONLY_ROLLBACK;
use rusqlite::types::{FromSqlResult, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Another process may hold a journal for so long.
const BUSY: Duration = Duration::from_secs(10);

/// An open journal.
pub(crate) struct Database {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
    pub(crate) format: Format,
    /// Of answers and attempts.
    pub(crate) checksum: Checksum,
    pub(crate) identity: Identity,
    pub(crate) inputs: InputDigests,
    /// What answers are made with that is not the identity's, as records have it.
    pub(crate) settings: Option<String>,
    /// Rows whose answers are set aside.
    pub(crate) again: RowSet,
}

impl Database {
    /// Opens a journal to write, and makes sure that it is one.
    ///
    /// Write-ahead log with a sync at each commit: a killed process loses what was not yet committed (a second
    /// or so), and so does a power cut. A commit a second makes the sync's price nothing.
    pub(crate) fn open(path: &Path) -> Result<Self, JobError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(journal_error(path))?;
        let format = prepare(&connection, path)?;
        if connection.is_readonly("main").map_err(journal_error(path))? {
            return Err(damaged(path, "it says that only a later version of SQLite can write to it"));
        }
        let set =
            |name, value: &str| connection.pragma_update(None, name, value).map_err(journal_error(path));
        set("journal_mode", "WAL")?;
        set("synchronous", "FULL")?;
        Database::read(connection, path, format)
    }

    /// Opens a journal to read, also while another process writes to it, and also on a read-only file system.
    pub(crate) fn open_read_only(path: &Path) -> Result<Self, JobError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = |name: &OsStr, flags| {
            let connection = Connection::open_with_flags(name, flags).map_err(journal_error(path))?;
            let format = prepare(&connection, path)?;
            Database::read(connection, path, format)
        };
        let opened = match open(path.as_os_str(), flags) {
            // A process was killed in the middle of a change without the write-ahead log, as its first one.
            Err(JobError::Journal { source, .. })
                if source
                    .sqlite_error()
                    .is_some_and(|error| error.extended_code == SQLITE_READONLY_ROLLBACK) =>
            {
                roll_back(path).map_err(journal_error(path))?;
                open(path.as_os_str(), flags)
            }
            opened => opened,
        };
        match opened {
            // SQLite cannot make the files beside it that readers and a writer share. Without a log there is no writer.
            Err(JobError::Journal { source, .. })
                if source.sqlite_error_code() == Some(ErrorCode::CannotOpen) && !has_log(path) =>
            {
                let name = percent_encode(path.as_os_str().as_encoded_bytes(), IN_URI);
                let name = format!("file:{name}?immutable=1");
                open(OsStr::new(&name), flags | OpenFlags::SQLITE_OPEN_URI)
            }
            other => other,
        }
    }

    /// Reads what says which job it is.
    fn read(connection: Connection, path: &Path, format: Format) -> Result<Self, JobError> {
        let mut database = Database {
            connection,
            path: path.to_path_buf(),
            format,
            checksum: Checksum::Plain,
            identity: Identity::default(),
            inputs: InputDigests::default(),
            settings: None,
            again: RowSet::default(),
        };
        database.identity = database.read_identity()?;
        database.inputs = database.read_inputs()?;
        if format != Format::One {
            database.checksum = Checksum::of_job(&database.identity, &database.inputs);
        }
        Ok(database)
    }

    fn read_identity(&self) -> Result<Identity, JobError> {
        let mut identity = Identity::default();
        self.each("identity", "ordinal", Checksum::Plain, |values| {
            if values[0].as_i64()? == identity.fields().len() as i64 {
                self.format.push_field(&mut identity, values[1].as_str()?, values[2].as_str()?);
            }
            Ok(())
        })?;
        Ok(identity)
    }

    fn read_inputs(&self) -> Result<InputDigests, JobError> {
        let mut inputs = InputDigests::default();
        self.each("inputs", "ordinal", Checksum::Plain, |values| {
            inputs.0.push(InputDigest {
                path: values[1].as_str()?.into(),
                size: values[2].as_i64()? as u64,
                rows: values[3].as_i64()? as u64,
                digest: values[4].as_str()?.into(),
            });
            Ok(())
        })?;
        Ok(inputs)
    }

    /// Asks SQLite whether the file's structure is sound.
    pub(crate) fn check_structure(&self) -> Result<(), JobError> {
        let answer = self.connection.pragma_query_value(None, "quick_check", |row| row.get::<_, String>(0));
        match answer.map_err(journal_error(&self.path))?.as_str() {
            "ok" => Ok(()),
            what => Err(self.damaged(what)),
        }
    }

    /// Gives each record of a small table to `take`, if its checksum matches.
    pub(crate) fn each(
        &self,
        table: &str,
        order: &str,
        checksum: Checksum,
        mut take: impl FnMut(&[ValueRef<'_>]) -> FromSqlResult<()>,
    ) -> Result<(), JobError> {
        let wrong = journal_error(&self.path);
        let query = format!("SELECT * FROM {table} ORDER BY {order}");
        let mut statement = self.connection.prepare(&query).map_err(&wrong)?;
        let mut rows = statement.query([]).map_err(&wrong)?;
        while let Some(row) = rows.next().map_err(&wrong)? {
            let values = checked(checksum, row, self.format.columns(table)).map_err(&wrong)?;
            let values =
                values.ok_or_else(|| self.damaged(&format!("a checksum of its {table} does not match")))?;
            take(&values).map_err(|error| self.damaged(&error.to_string()))?;
        }
        Ok(())
    }

    /// The columns of [`record::encode`] from a record of `answers`.
    ///
    /// # Errors
    /// [`JobError::JournalDamaged`] if they are not what was written; [`JobError::Journal`].
    pub(crate) fn answer_columns<'a>(&self, row: &'a Row<'_>) -> Result<Vec<ValueRef<'a>>, JobError> {
        let number = row.get_ref(0).ok().and_then(|row| row.as_i64().ok()).unwrap_or(-1);
        let values =
            checked(self.checksum, row, self.format.columns("answers")).map_err(journal_error(&self.path))?;
        let wrong = |what| self.damaged(&format!("the answer to row {number}: {what}"));
        let values = values.ok_or_else(|| wrong("its checksum does not match"))?;
        self.format.to_columns(values).ok_or_else(|| wrong(record::UNKNOWN))
    }

    /// The answer of a record of `answers`.
    ///
    /// # Errors
    /// As [`Database::answer_columns`].
    pub(crate) fn answer(&self, row: &Row<'_>) -> Result<Answer, JobError> {
        let columns = self.answer_columns(row)?;
        let number = columns[0].as_i64().unwrap_or(-1);
        let answer = record::decode(&columns);
        answer.ok_or_else(|| self.damaged(&format!("the answer to row {number}: {}", record::UNKNOWN)))
    }

    /// Adds an answer, in place of the one that was set aside for it. An error does not replace an answer: then that is put
    /// back. Whether the new one was added.
    pub(crate) fn insert(&self, answer: &Answer) -> Result<bool, JobError> {
        let row = answer.row as i64;
        if self.again.contains(answer.row) {
            if let Some(error) = &answer.error
                && self.was_answered(row)?
            {
                // The detail of an error may quote the row.
                let kind = RowErrorKind::of(error).map_or("an error", RowErrorKind::text);
                tracing::warn!(
                    "row {row} ended with {kind:?} when it ran again, and keeps the answer that it had"
                );
                self.put_back(row)?;
                return Ok(false);
            }
            self.remove(row, SET_ASIDE)?;
        }
        let record = self.format.to_record(record::encode(answer), self.settings.as_deref());
        let insert = self.connection.prepare_cached(&self.format.insert("answers"));
        match insert.and_then(|mut insert| insert.execute(with_checksum(self.checksum, record))) {
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
                Err(JobError::DoubleAnswer { row: answer.row })
            }
            other => other.map(|_| true).map_err(journal_error(&self.path)),
        }
    }

    /// Makes the answer that was set aside the row's answer again, unless it has a new one.
    pub(crate) fn put_back(&self, row: i64) -> Result<(), JobError> {
        let new = "SELECT 1 FROM answers WHERE row = ? AND part = ?";
        let new = self.connection.prepare_cached(new).and_then(|mut new| new.exists([row, ANSWER]));
        if new.map_err(journal_error(&self.path))? {
            return self.remove(row, SET_ASIDE);
        }
        self.move_record(row, SET_ASIDE, ANSWER)
    }

    /// Makes a record one of another part of its row.
    pub(crate) fn move_record(&self, row: i64, from: i64, to: i64) -> Result<(), JobError> {
        let wrong = journal_error(&self.path);
        let read = "SELECT * FROM answers WHERE row = ? AND part = ?";
        let mut read = self.connection.prepare_cached(read).map_err(&wrong)?;
        let mut records = read.query([row, from]).map_err(&wrong)?;
        let Some(record) = records.next().map_err(&wrong)? else {
            return Err(self.damaged(&format!("the answer to row {row} is missing")));
        };
        let values = checked(self.checksum, record, self.format.columns("answers")).map_err(&wrong)?;
        let mut values = values
            .ok_or_else(|| self.damaged(&format!("the answer to row {row}: its checksum does not match")))?;
        values[1] = ValueRef::Integer(to);
        let checksum = self.checksum.of(values.into_iter());
        drop(records);
        let update = "UPDATE answers SET part = ?, checksum = ? WHERE row = ? AND part = ?";
        let updated = self.connection.prepare_cached(update);
        updated.and_then(|mut update| update.execute([to, checksum, row, from])).map(drop).map_err(&wrong)
    }

    fn remove(&self, row: i64, part: i64) -> Result<(), JobError> {
        let delete = self.connection.prepare_cached("DELETE FROM answers WHERE row = ? AND part = ?");
        let deleted = delete.and_then(|mut delete| delete.execute([row, part]));
        deleted.map(drop).map_err(journal_error(&self.path))
    }

    /// Whether what was set aside for a row is an answer and no error.
    fn was_answered(&self, row: i64) -> Result<bool, JobError> {
        let query = "SELECT error IS NULL FROM answers WHERE row = ? AND part = ?";
        let query = self.connection.prepare_cached(query);
        let answered =
            query.and_then(|mut query| query.query_row([row, SET_ASIDE], |row| row.get(0)).optional());
        answered.map(|answered| answered.unwrap_or(false)).map_err(journal_error(&self.path))
    }

    pub(crate) fn damaged(&self, what: &str) -> JobError {
        damaged(&self.path, what)
    }

    /// How many answers there are.
    pub(crate) fn count(&self) -> Result<u64, JobError> {
        let query = format!("SELECT count(*) FROM answers WHERE {}", self.format.is_answer());
        let count = self.connection.query_row(&query, [], |row| row.get::<_, i64>(0));
        Ok(count.map_err(journal_error(&self.path))? as u64)
    }
}

/// All that has a meaning of its own in a URI, but for the slashes between folders.
const IN_URI: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// Whether there are commits in the log of a journal that are not in the file itself.
/// Takes back the change of a process that was killed, which whoever reads alone may not.
fn roll_back(path: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
}

fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_os_string();
    log.push("-wal");
    std::fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

/// Makes sure that a file is a journal of a known format.
fn prepare(connection: &Connection, path: &Path) -> Result<Format, JobError> {
    let set = |name, value: &str| connection.pragma_update(None, name, value).map_err(journal_error(path));
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    connection.busy_timeout(BUSY).map_err(journal_error(path))?;
    set("trusted_schema", "OFF")?;
    set("cell_size_check", "ON")?;
    if number("application_id").map_err(journal_error(path))? != APPLICATION_ID {
        return Err(damaged(path, "it is not a journal of gristmill"));
    }
    let version = number("user_version").map_err(journal_error(path))?;
    let Some(format) = Format::of_number(version) else {
        return Err(JobError::JournalFormat { path: path.into(), format: version });
    };
    if tables(connection).map_err(journal_error(path))? != format.tables() {
        return Err(damaged(path, "its tables are not those of its format"));
    }
    Ok(format)
}

fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT sql FROM sqlite_schema ORDER BY rowid")?;
    let tables: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    // A journal of any format may have those of costs and of timelines.
    let is_own = |table: &str| tables::COSTS.contains(&table) || table == tables::TIMELINES;
    Ok(tables.into_iter().filter(|table| !is_own(table)).collect())
}
