//! The tables of the journal, and how its file is made, opened and repaired.

use crate::error::JobError;
use crate::files::rename;
use crate::journal::identity::{Identity, InputDigest, InputDigests};
use crate::journal::record;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, Row, params_from_iter};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// "grst": what `file` and SQLite call the application id.
const APPLICATION_ID: i64 = 0x6772_7374;

/// The tables, word for word as the file must hold them.
///
/// `starts` has one row for each start of a worker and only serves `gristmill status`; what
/// decides an answer has a checksum.
const TABLES: [&str; 6] = [
    "CREATE TABLE identity (ordinal INTEGER PRIMARY KEY, field TEXT, value TEXT, checksum INTEGER)",
    "CREATE TABLE inputs (ordinal INTEGER PRIMARY KEY, path TEXT, size INTEGER, rows INTEGER, digest TEXT, \
     checksum INTEGER)",
    "CREATE TABLE answers (row INTEGER PRIMARY KEY, error TEXT, text TEXT, finish_reason TEXT, \
     num_input_tokens INTEGER, num_generated_tokens INTEGER, tokens BLOB, token_logprobs BLOB, \
     logprobs BLOB, prompt_logprobs BLOB, checksum INTEGER)",
    "CREATE TABLE attempts (row INTEGER PRIMARY KEY, deaths INTEGER, kills INTEGER, checksum INTEGER)",
    "CREATE TABLE starts (start INTEGER PRIMARY KEY, version TEXT, pid INTEGER, began INTEGER, \
     job_rows INTEGER, elapsed_ms INTEGER, rows INTEGER, shared INTEGER, errors INTEGER, input_tokens INTEGER, \
     generated_tokens INTEGER)",
    "CREATE INDEX errors ON answers (error) WHERE error IS NOT NULL",
];

/// Reads all columns of an answer, in the order of [`record::decode`].
pub(crate) const SELECT_ANSWERS: &str = "SELECT row, error, text, finish_reason, num_input_tokens, \
     num_generated_tokens, tokens, token_logprobs, logprobs, prompt_logprobs, checksum FROM answers";

/// Writes them.
pub(crate) const INSERT_ANSWER: &str = "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// The journal in a state_dir.
pub(crate) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("journal.sqlite")
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
    fill(&new, identity, inputs).map_err(journal_error(path))?;
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

fn fill(new: &Path, identity: &Identity, inputs: &InputDigests) -> rusqlite::Result<()> {
    let mut connection = Connection::open(new)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction()?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    for table in TABLES {
        transaction.execute(table, [])?;
    }
    for (i, field) in identity.fields().iter().enumerate() {
        let values = [Value::from(i as i64), field.field.clone().into(), field.value.clone().into()];
        transaction.execute("INSERT INTO identity VALUES (?, ?, ?, ?)", with_checksum(values))?;
    }
    for (i, input) in inputs.0.iter().enumerate() {
        transaction
            .execute("INSERT INTO inputs VALUES (?, ?, ?, ?, ?, ?)", with_checksum(input_values(i, input)))?;
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

/// Parameters followed by the checksum of them.
pub(crate) fn with_checksum(values: impl IntoIterator<Item = Value>) -> rusqlite::ParamsFromIter<Vec<Value>> {
    let mut values: Vec<Value> = values.into_iter().collect();
    values.push(Value::Integer(record::checksum(values.iter().map(ValueRef::from))));
    params_from_iter(values)
}

/// The columns of a row whose last is the checksum of the others; `None` if it does not match.
pub(crate) fn checked<'a>(row: &'a Row<'_>, columns: usize) -> rusqlite::Result<Option<Vec<ValueRef<'a>>>> {
    let mut values = Vec::with_capacity(columns);
    for column in 0..columns {
        values.push(row.get_ref(column)?);
    }
    let sum = row.get_ref(columns)?;
    Ok((sum == ValueRef::Integer(record::checksum(values.iter().copied()))).then_some(values))
}

/// Opens a journal to write, and makes sure that it is one.
///
/// Write-ahead log with a sync at each commit: a killed process loses what was not yet committed (a second
/// or so), and so does a power cut. A commit a second makes the sync's price nothing.
pub(crate) fn open(path: &Path) -> Result<Connection, JobError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(journal_error(path))?;
    prepare(&connection, path)?;
    if connection.is_readonly("main").map_err(journal_error(path))? {
        return Err(damaged(path, "it says that only a later version of SQLite can write to it"));
    }
    let set = |name, value: &str| connection.pragma_update(None, name, value).map_err(journal_error(path));
    set("journal_mode", "WAL")?;
    set("synchronous", "FULL")?;
    Ok(connection)
}

/// Opens a journal to read, also while another process writes to it.
pub(crate) fn open_read_only(path: &Path) -> Result<Connection, JobError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(journal_error(path))?;
    prepare(&connection, path)?;
    Ok(connection)
}

fn prepare(connection: &Connection, path: &Path) -> Result<(), JobError> {
    let set = |name, value: &str| connection.pragma_update(None, name, value).map_err(journal_error(path));
    connection.busy_timeout(Duration::from_secs(10)).map_err(journal_error(path))?;
    set("trusted_schema", "OFF")?;
    set("cell_size_check", "ON")?;
    let id = connection.pragma_query_value(None, "application_id", |row| row.get::<_, i64>(0));
    if id.map_err(journal_error(path))? != APPLICATION_ID {
        return Err(damaged(path, "it is not a journal of gristmill"));
    }
    if tables(connection).map_err(journal_error(path))? != TABLES {
        return Err(damaged(path, "its tables are not those of this version of gristmill"));
    }
    Ok(())
}

fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT sql FROM sqlite_schema ORDER BY rowid")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// Asks SQLite whether the file's structure is sound.
pub(crate) fn check_structure(connection: &Connection, path: &Path) -> Result<(), JobError> {
    let answer = connection.pragma_query_value(None, "quick_check", |row| row.get::<_, String>(0));
    match answer.map_err(journal_error(path))?.as_str() {
        "ok" => Ok(()),
        what => Err(damaged(path, what)),
    }
}

/// Reads the identity.
pub(crate) fn read_identity(connection: &Connection, path: &Path) -> Result<Identity, JobError> {
    let mut identity = Identity::default();
    each(connection, path, "SELECT * FROM identity ORDER BY ordinal", 3, |values| {
        if values[0].as_i64()? == identity.fields().len() as i64 {
            identity.push(values[1].as_str()?, values[2].as_str()?);
        }
        Ok(())
    })?;
    Ok(identity)
}

/// Reads the inputs.
pub(crate) fn read_inputs(connection: &Connection, path: &Path) -> Result<InputDigests, JobError> {
    let mut inputs = InputDigests::default();
    each(connection, path, "SELECT * FROM inputs ORDER BY ordinal", 5, |values| {
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

/// Gives each row of a small table to `take`, if its checksum matches.
pub(crate) fn each(
    connection: &Connection,
    path: &Path,
    query: &str,
    columns: usize,
    mut take: impl FnMut(&[ValueRef<'_>]) -> rusqlite::types::FromSqlResult<()>,
) -> Result<(), JobError> {
    let wrong = journal_error(path);
    let mut statement = connection.prepare(query).map_err(&wrong)?;
    let mut rows = statement.query([]).map_err(&wrong)?;
    while let Some(row) = rows.next().map_err(&wrong)? {
        let values = checked(row, columns).map_err(&wrong)?;
        let values = values.ok_or_else(|| damaged(path, "a checksum of its identity does not match"))?;
        take(&values).map_err(|error| damaged(path, &error.to_string()))?;
    }
    Ok(())
}

/// Makes a sound journal of what can still be read of a damaged one, which is kept beside it.
///
/// Answers are read from the front to the first damage and from the back to the last; each has its own
/// checksum. Those between are answered again.
///
/// # Errors
/// [`JobError::JournalDamaged`] if the identity cannot be read.
pub(crate) fn repair(path: &Path, why: &str) -> Result<(), JobError> {
    let new = path.with_extension("new");
    let damaged_file = path.with_extension("damaged");
    {
        let old = open_read_only(path)?;
        let (identity, inputs) = (read_identity(&old, path)?, read_inputs(&old, path)?);
        remove(&new)?;
        fill(&new, &identity, &inputs).map_err(journal_error(&new))?;
        copy_answers(&old, &new).map_err(journal_error(&new))?;
    }
    remove(&damaged_file)?;
    rename(path, &damaged_file)?;
    remove(path)?;
    rename(&new, path)?;
    tracing::warn!(
        "the journal {} was damaged ({why}); a sound one was made of what could be read, the rest is \
         answered again; the damaged file is kept as {}",
        path.display(),
        damaged_file.display()
    );
    Ok(())
}

/// Copies what can be read. Errors of the old file end a pass; those of the new one end it all.
fn copy_answers(old: &Connection, new: &Path) -> rusqlite::Result<()> {
    let mut new = Connection::open(new)?;
    let transaction = new.transaction()?;
    for (table, order) in ["ASC", "DESC"].iter().flat_map(|order| [("answers", order), ("attempts", order)]) {
        let columns = if table == "answers" { record::COLUMNS } else { 3 };
        let insert = format!("INSERT OR IGNORE INTO {table} VALUES ({}?)", "?, ".repeat(columns));
        let mut insert = transaction.prepare(&insert)?;
        let query = format!("SELECT * FROM {table} ORDER BY row {order}");
        let Ok(mut statement) = old.prepare(&query) else { continue };
        let Ok(mut rows) = statement.query([]) else { continue };
        while let Ok(Some(row)) = rows.next() {
            if let Ok(Some(values)) = checked(row, columns) {
                insert
                    .execute(with_checksum(values.into_iter().map(Value::try_from).filter_map(Result::ok)))?;
            }
        }
    }
    transaction.commit()
}
