//! How the finished rows of a job have ended.

use crate::counted::counted;
use crate::error::JobError;
use crate::journal::format::{ANSWER, Format, SET_ASIDE};
use crate::journal::reader::JournalReader;
use crate::journal::schema;
use crate::row_error::{RowErrorKind, shown};
use rusqlite::OptionalExtension;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// How the finished rows of a job have ended, as far as it is not as it should.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endings {
    /// Rows that have an error, by the text of their kind.
    pub errors: BTreeMap<String, u64>,
    /// Rows of which an answer was cut off at `--max-tokens` or the end of the context.
    pub cut: u64,
    /// Notes of documents that were cut off at `--max-tokens`, and the rows that they are of.
    pub cut_notes: (u64, u64),
    /// The first row that has an error, and the error.
    pub first_error: Option<(u64, String)>,
}

/// Rows that run again, or have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Again {
    /// Rows whose answers are set aside until the new ones are there.
    pub waiting: u64,
    /// Rows that were answered with limits that are not the identity's.
    pub own_limits: u64,
}

impl Again {
    /// Those of the first `rows` rows.
    ///
    /// # Errors
    /// [`JobError::JournalDamaged`] or [`JobError::Journal`].
    pub fn of(journal: &JournalReader, rows: u64) -> Result<Again, JobError> {
        let database = &journal.database;
        if database.format < Format::Three {
            return Ok(Again::default());
        }
        let query = format!(
            "SELECT count(*) FILTER (WHERE part = {SET_ASIDE}), \
             count(*) FILTER (WHERE part = {ANSWER} AND settings IS NOT NULL) FROM answers WHERE row < ?"
        );
        let counted = database.connection.query_row(&query, [rows as i64], |row| {
            Ok(Again { waiting: row.get::<_, i64>(0)? as u64, own_limits: row.get::<_, i64>(1)? as u64 })
        });
        counted.map_err(schema::journal_error(&database.path))
    }
}

impl Endings {
    /// The same as the screen and other files than the journal may have them: without text of rows.
    #[must_use]
    pub fn shown(self) -> Endings {
        let first_error = self.first_error.map(|(row, error)| (row, shown(&error)));
        Endings { first_error, ..self }
    }

    /// Those of the first `rows` rows.
    ///
    /// # Errors
    /// [`JobError::JournalDamaged`] or [`JobError::Journal`].
    pub fn of(journal: &JournalReader, rows: u64) -> Result<Endings, JobError> {
        let database = &journal.database;
        Endings::read(&database.connection, database.format.is_answer(), rows)
            .map_err(schema::journal_error(&database.path))
    }

    fn read(connection: &rusqlite::Connection, is_answer: &str, rows: u64) -> rusqlite::Result<Endings> {
        let first = |what: &str| format!("FROM answers WHERE {what} AND row < ? AND {is_answer}");
        let errors = format!("SELECT error, count(*) {} GROUP BY error", first("error IS NOT NULL"));
        let mut statement = connection.prepare(&errors)?;
        let mut records = statement.query([rows as i64])?;
        let mut errors = BTreeMap::new();
        while let Some(record) = records.next()? {
            let error: String = record.get(0)?;
            let kind = RowErrorKind::text_of(&error);
            *errors.entry(kind.to_string()).or_default() += record.get::<_, i64>(1)? as u64;
        }
        // Several completions of a row are a list of JSON.
        let cut = first("(finish_reason = 'length' OR finish_reason LIKE '%\"length\"%') AND error IS NULL");
        let cut: i64 =
            connection.query_row(&format!("SELECT count(*) {cut}"), [rows as i64], |record| record.get(0))?;
        let cut_notes = match is_answer {
            // Formats before the fourth have no documents.
            "TRUE" => (0, 0),
            _ => {
                let notes = "CASE WHEN typed_values LIKE '{\"document\":%' AND json_valid(typed_values) \
                             THEN json_extract(typed_values, '$.document.num_cut_notes') END";
                let cut =
                    format!("SELECT coalesce(sum({notes}), 0), count(*) {}", first(&format!("{notes} > 0")));
                connection.query_row(&cut, [rows as i64], |record| {
                    Ok((record.get::<_, i64>(0)? as u64, record.get::<_, i64>(1)? as u64))
                })?
            }
        };
        let first_error = format!("SELECT row, error {} ORDER BY row LIMIT 1", first("error IS NOT NULL"));
        let first_error = connection
            .query_row(&first_error, [rows as i64], |record| {
                Ok((record.get::<_, i64>(0)? as u64, record.get(1)?))
            })
            .optional()?;
        Ok(Endings { errors, cut: cut as u64, cut_notes, first_error })
    }

    /// With rows that have an answer, and an error besides, as a kept cell of theirs cannot be read. They show when the
    /// output is written.
    pub fn with_unreadable(mut self, rows: u64) -> Endings {
        if rows > 0 {
            self.errors.insert("kept cell that cannot be read".into(), rows);
        }
        self
    }

    /// Rows that have an error.
    pub fn error_rows(&self) -> u64 {
        self.errors.values().sum()
    }
}

impl fmt::Display for Endings {
    /// `3 errors (2 null prompt, 1 prompt too long), 17 cut off at length`, or nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.errors.is_empty() {
            let kinds: Vec<String> =
                self.errors.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            parts.push(format!("{} ({})", counted(self.error_rows(), "error"), kinds.join(", ")));
        }
        if self.cut > 0 {
            parts.push(format!("{} cut off at length", self.cut));
        }
        if let (notes @ 1.., rows) = self.cut_notes {
            parts.push(format!("{} cut off at length in {}", counted(notes, "note"), counted(rows, "row")));
        }
        f.write_str(&parts.join(", "))
    }
}
