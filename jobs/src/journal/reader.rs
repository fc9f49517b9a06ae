//! Reads a journal, also while a job writes to it.

use crate::error::JobError;
use crate::journal::answer::Answer;
use crate::journal::database::Database;
use crate::journal::format::{FIRST_NOTE, Format};
use crate::journal::identity::{Identity, InputDigests};
use crate::journal::schema;
use std::ops::Range;
use std::path::Path;

/// A journal to read from, also while a job writes to it.
pub struct JournalReader {
    pub(crate) database: Database,
}

impl JournalReader {
    /// Opens the journal of a state_dir.
    ///
    /// # Errors
    /// [`JobError::Usage`] or [`JobError::JournalDamaged`] if it is not one; [`JobError::JournalFormat`];
    /// [`JobError::Journal`].
    pub fn open(state_dir: &Path) -> Result<Self, JobError> {
        schema::refuse_other_kinds(state_dir)?;
        Ok(JournalReader { database: Database::open_read_only(&schema::path(state_dir))? })
    }

    /// Opens the journal of a job that somebody asks about.
    ///
    /// # Errors
    /// [`JobError::Usage`] if there is none; as [`JournalReader::open`].
    pub fn of_begun(state_dir: &Path) -> Result<Self, JobError> {
        schema::refuse_other_kinds(state_dir)?;
        if !schema::path(state_dir).try_exists().map_err(JobError::io("look at", state_dir))? {
            return Err(JobError::Usage(format!(
                "no job of this output was begun: `gristmill run` begins one, and what it has done would be in {}",
                state_dir.display()
            )));
        }
        JournalReader::open(state_dir)
    }

    /// The identity with which the job was begun, in the spelling of its format.
    pub fn identity(&self) -> &Identity {
        &self.database.identity
    }

    /// Whether the identity is spelt as new journals spell it.
    pub fn is_of_this_format(&self) -> bool {
        self.database.format != Format::One
    }

    /// The inputs of the job.
    pub fn inputs(&self) -> &InputDigests {
        &self.database.inputs
    }

    /// The process that has opened the journal last to write to it.
    ///
    /// # Errors
    /// [`JobError::JournalDamaged`] or [`JobError::Journal`].
    pub fn last_process(&self) -> Result<Option<u32>, JobError> {
        let query = "SELECT max(start), pid FROM starts";
        let process = self.database.connection.query_row(query, [], |row| row.get(1));
        process.map_err(schema::journal_error(&self.database.path))
    }

    /// Rows that workers have finished, each as often as it was, and notes of documents; without rows that were given up for
    /// crashing the device.
    ///
    /// # Errors
    /// [`JobError::JournalDamaged`] or [`JobError::Journal`].
    pub fn answered(&self) -> Result<u64, JobError> {
        let rows = "(SELECT coalesce(sum(rows), 0) FROM starts)";
        let query = match self.database.format < Format::Four {
            true => format!("SELECT {rows}"),
            false => format!("SELECT {rows} + count(*) FROM answers WHERE part >= {}", FIRST_NOTE),
        };
        let count = self.database.connection.query_row(&query, [], |row| row.get::<_, i64>(0));
        Ok(count.map_err(schema::journal_error(&self.database.path))? as u64)
    }

    /// Rows among the first `rows` that are finished.
    ///
    /// # Errors
    /// [`JobError::JournalDamaged`] or [`JobError::Journal`].
    pub fn finished(&self, rows: u64) -> Result<u64, JobError> {
        let is_answer = self.database.format.is_answer();
        let query = format!("SELECT count(*) FROM answers WHERE row < ? AND {is_answer}");
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        let count = self.database.connection.query_row(&query, [rows], |row| row.get::<_, i64>(0));
        Ok(count.map_err(schema::journal_error(&self.database.path))? as u64)
    }

    /// The answers of a range of rows, one entry for each row; `None` for a row that is not finished.
    ///
    /// # Errors
    /// [`JobError::JournalDamaged`] if any of them is not what was written; [`JobError::Journal`].
    pub fn answers(&self, rows: Range<u64>) -> Result<Vec<Option<Answer>>, JobError> {
        let wrong = schema::journal_error(&self.database.path);
        let is_answer = self.database.format.is_answer();
        let query = format!("SELECT * FROM answers WHERE row >= ? AND row < ? AND {is_answer} ORDER BY row");
        let mut statement = self.database.connection.prepare_cached(&query).map_err(&wrong)?;
        let mut records = statement.query([rows.start as i64, rows.end as i64]).map_err(&wrong)?;
        let mut answers = vec![None; (rows.end - rows.start) as usize];
        while let Some(record) = records.next().map_err(&wrong)? {
            let answer = self.database.answer(record)?;
            let place = answer.row.checked_sub(rows.start).and_then(|at| answers.get_mut(at as usize));
            let place = place.ok_or_else(|| self.database.damaged("rows are out of order"))?;
            *place = Some(answer);
        }
        Ok(answers)
    }
}
