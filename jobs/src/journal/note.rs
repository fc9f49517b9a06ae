//! Notes: what was generated for a part of a row on the way to its answer.
//!
//! The answer to a row of a job of documents is made of many requests. Each but the last leaves a note, so that a kill costs
//! only what was in flight. A note says by a digest which prompt it answers, and counts for no other.

use crate::error::JobError;
use crate::journal::answer::{Answer, FinishReason};
use crate::journal::database::Database;
use crate::journal::format::{FIRST_NOTE, with_checksum};
use crate::journal::length_limits::LengthLimits;
use crate::journal::reader::JournalReader;
use crate::journal::record::{self, TypedValues};
use crate::journal::schema::journal_error;
use rusqlite::types::{Value, ValueRef};

/// A request of a row: its level, from the chunks (0) to the last merge, and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    pub level: u32,
    pub index: u32,
}

impl Part {
    /// The number in the journal.
    pub(crate) fn number(self) -> i64 {
        (i64::from(self.level) + 1) << 32 | i64::from(self.index)
    }

    fn of_number(number: i64) -> Option<Part> {
        Some(Part { level: u32::try_from((number >> 32) - 1).ok()?, index: number as u32 })
    }
}

/// What was generated for a part of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    pub part: Part,
    /// The digest of the prompt's tokens.
    pub prompt: String,
    /// With one completion.
    pub answer: Answer,
    /// Settings of its record.
    pub(crate) settings: Option<String>,
}

impl Note {
    /// A note of this run.
    pub fn new(part: Part, prompt: String, answer: Answer) -> Note {
        Note { part, prompt, answer, settings: None }
    }

    /// Whether a job with these settings would come to the same: the note was made with the same limits, or with others but
    /// reached none.
    fn holds(&self, settings: Option<&str>, now: LengthLimits) -> bool {
        let tokens = u64::from(self.answer.num_input_tokens.unwrap_or(u32::MAX));
        let room = now.room(tokens);
        self.settings.as_deref() == settings
            || self
                .answer
                .completions
                .iter()
                .all(|c| c.finish_reason != FinishReason::Length && (c.tokens.len() as u64) < room)
    }
}

impl JournalReader {
    /// The notes of a row that count for a job with these limits, which may be greater than the identity's.
    ///
    /// # Errors
    /// [`JobError::JournalDamaged`] or [`JobError::Journal`].
    pub fn notes(&self, row: u64, now: LengthLimits) -> Result<Vec<Note>, JobError> {
        let database = &self.database;
        let wrong = journal_error(&database.path);
        let begun = LengthLimits::of(&database.identity);
        let settings = begun.and_then(|begun| now.settings(&begun));
        let query = format!("SELECT * FROM answers WHERE row = ? AND part >= {FIRST_NOTE} ORDER BY part");
        let mut statement = database.connection.prepare_cached(&query).map_err(&wrong)?;
        let mut records = statement.query([row as i64]).map_err(&wrong)?;
        let mut notes = Vec::new();
        while let Some(record) = records.next().map_err(&wrong)? {
            let note = database.note(record)?;
            if note.holds(settings.as_deref(), now) {
                notes.push(note);
            }
        }
        Ok(notes)
    }
}

impl Database {
    /// Adds a note, in place of one that the part had before.
    pub(crate) fn insert_note(&self, note: &Note) -> Result<(), JobError> {
        let mut record = self.format.to_record(record::encode(&note.answer), self.settings.as_deref());
        // Behind the row, and before the settings.
        record[1] = Value::Integer(note.part.number());
        record[record::COLUMNS + 1] = TypedValues::Note { prompt: note.prompt.clone() }.json();
        let insert = self.format.insert("answers").replacen("INSERT", "INSERT OR REPLACE", 1);
        let insert = self.connection.prepare_cached(&insert);
        let inserted = insert.and_then(|mut insert| insert.execute(with_checksum(self.checksum, record)));
        inserted.map(drop).map_err(journal_error(&self.path))
    }

    /// The note of a record of `answers`.
    fn note(&self, record: &rusqlite::Row<'_>) -> Result<Note, JobError> {
        let answer = self.answer(record)?;
        let text = |column: usize| match record.get_ref(column) {
            Ok(ValueRef::Text(text)) => str::from_utf8(text).ok().map(str::to_string),
            _ => None,
        };
        let typed = text(record::COLUMNS + 1).and_then(|json| serde_json::from_str(&json).ok());
        let part = record.get(1).ok().and_then(Part::of_number);
        match (typed, part) {
            (Some(TypedValues::Note { prompt }), Some(part)) => {
                Ok(Note { part, prompt, answer, settings: text(record::COLUMNS + 2) })
            }
            _ => Err(self.damaged(&format!("a note of row {}: {}", answer.row, record::UNKNOWN))),
        }
    }
}
