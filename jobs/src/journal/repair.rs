//! How a damaged journal is repaired.

use crate::error::JobError;
use crate::files::rename;
use crate::journal::database::Database;
use crate::journal::format::{checked, with_checksum};
use crate::journal::schema::{fill, journal_error, remove};
use rusqlite::Connection;
use rusqlite::types::Value;
use std::path::Path;

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
        let old = Database::open_read_only(path)?;
        remove(&new)?;
        fill(&new, old.format, &old.identity, &old.inputs).map_err(journal_error(&new))?;
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
fn copy_answers(old: &Database, new: &Path) -> rusqlite::Result<()> {
    let mut new = Connection::open(new)?;
    let transaction = new.transaction()?;
    for (table, order) in ["ASC", "DESC"].iter().flat_map(|order| [("answers", order), ("attempts", order)]) {
        let insert = old.format.insert(table).replacen("INSERT", "INSERT OR IGNORE", 1);
        let mut insert = transaction.prepare(&insert)?;
        let query = format!("SELECT * FROM {table} ORDER BY row {order}");
        let Ok(mut statement) = old.connection.prepare(&query) else { continue };
        let Ok(mut rows) = statement.query([]) else { continue };
        while let Ok(Some(row)) = rows.next() {
            if let Ok(Some(values)) = checked(old.checksum, row, old.format.columns(table)) {
                let values = values.into_iter().map(Value::try_from).filter_map(Result::ok);
                insert.execute(with_checksum(old.checksum, values))?;
            }
        }
    }
    transaction.commit()
}
