//! The formats of the journal's file.
//!
//! The number is SQLite's `user_version`; none means 1. A job is resumed in the format in which it was begun.
//!
//! The key of a record since format 2 is (row, part). Part 0 is the row's answer; a row may have further parts.
//! `typed_values` is for answers that are not text, `settings` for what a record was made with where that differs from
//! the identity. Both are JSON. In format 2 they are null, and there are no further parts. Format 3 has both: settings
//! ([`crate::journal::length_limits`]), and part 1 is an answer that was set aside ([`crate::journal::retry`]). In format 4
//! a row may have notes, each a part from 2^32 on ([`crate::journal::note`]), and `typed_values` of what a document took.

use crate::journal::checksum::Checksum;
use crate::journal::identity::{Field, Identity};
use crate::journal::length_limits;
use crate::journal::record;
use crate::journal::tables;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Row, params_from_iter};

/// The format of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Format {
    /// Values as [`crate::journal::format1`] spells them, one record for each row, checksums that any job could have made.
    One,
    /// JSON values, several records for each row, checksums keyed with the job.
    Two,
    /// The same, with rows that run again and have settings of their own.
    Three,
    /// The same, with notes of documents.
    Four,
}

/// The format of new journals.
pub(crate) const CURRENT: Format = Format::Four;

/// The part of a row that is its answer.
pub(crate) const ANSWER: i64 = 0;

/// The part of a row that is the answer it had before it was to run again.
pub(crate) const SET_ASIDE: i64 = 1;

/// The first part of a row that is a note.
pub(crate) const FIRST_NOTE: i64 = 1 << 32;

impl Format {
    /// The format of a `user_version`, if it is known.
    pub(crate) fn of_number(number: i64) -> Option<Format> {
        match number {
            0 | 1 => Some(Format::One),
            2 => Some(Format::Two),
            3 => Some(Format::Three),
            4 => Some(Format::Four),
            _ => None,
        }
    }

    /// The `user_version` that is written.
    pub(crate) fn number(self) -> i64 {
        match self {
            Format::One => 0,
            Format::Two => 2,
            Format::Three => 3,
            Format::Four => 4,
        }
    }

    /// The tables.
    pub(crate) fn tables(self) -> &'static [&'static str; 6] {
        match self {
            Format::One => &tables::FORMAT1,
            _ => &tables::FORMAT2,
        }
    }

    /// The columns of a table before its checksum.
    pub(crate) fn columns(self, table: &str) -> usize {
        match (table, self) {
            ("answers", Format::One) => record::COLUMNS,
            ("answers", _) => record::COLUMNS + 3,
            ("inputs", _) => 5,
            _ => 3,
        }
    }

    /// The text of a field's value in the table `identity`.
    pub(crate) fn identity_text(self, field: &Field) -> String {
        match self {
            Format::One => field.shown().into_owned(),
            _ => field.value.clone(),
        }
    }

    /// Reads [`Format::identity_text`] back.
    pub(crate) fn push_field(self, identity: &mut Identity, field: &str, text: &str) {
        match self {
            Format::One => identity.push(field, text),
            _ => identity.push_json(field, text),
        }
    }

    /// The condition on which a record of `answers` is the answer to its row.
    pub(crate) fn is_answer(self) -> &'static str {
        match self {
            Format::One => "TRUE",
            _ => "part = 0",
        }
    }

    /// Inserts a record into a table.
    pub(crate) fn insert(self, table: &str) -> String {
        format!("INSERT INTO {table} VALUES ({}?)", "?, ".repeat(self.columns(table)))
    }

    /// The values of a record of `answers` without its checksum, from the columns of [`record::encode`]. Since format 3 there are
    /// settings and typed values.
    pub(crate) fn to_record(self, mut columns: Vec<Value>, settings: Option<&str>) -> Vec<Value> {
        if self == Format::One {
            // Another identity keeps columns of choices out of a job of this format.
            columns.truncate(record::COLUMNS);
        } else {
            columns.insert(1, Value::Integer(ANSWER));
            columns.push(settings.map_or(Value::Null, |settings| Value::Text(settings.into())));
        }
        columns
    }

    /// The columns of [`record::encode`] from a record of `answers` without its checksum; `None` if it holds what
    /// this version does not know.
    pub(crate) fn to_columns(self, mut values: Vec<ValueRef<'_>>) -> Option<Vec<ValueRef<'_>>> {
        if self == Format::One {
            values.push(ValueRef::Null);
            return Some(values);
        }
        let &[typed_values, settings] = values.split_off(record::COLUMNS + 1).as_slice() else { return None };
        let known = match settings {
            ValueRef::Null => true,
            ValueRef::Text(text) if self >= Format::Three => {
                str::from_utf8(text).is_ok_and(length_limits::are_known)
            }
            _ => false,
        };
        values.remove(1);
        values.push(typed_values);
        (known && (self >= Format::Three || typed_values == ValueRef::Null)).then_some(values)
    }
}

/// Parameters followed by their checksum.
pub(crate) fn with_checksum(
    checksum: Checksum,
    values: impl IntoIterator<Item = Value>,
) -> rusqlite::ParamsFromIter<Vec<Value>> {
    let mut values: Vec<Value> = values.into_iter().collect();
    values.push(Value::Integer(checksum.of(values.iter().map(ValueRef::from))));
    params_from_iter(values)
}

/// The columns of a row whose last is the checksum of the others; `None` if it does not match.
pub(crate) fn checked<'a>(
    checksum: Checksum,
    row: &'a Row<'_>,
    columns: usize,
) -> rusqlite::Result<Option<Vec<ValueRef<'a>>>> {
    let mut values = Vec::with_capacity(columns);
    for column in 0..columns {
        values.push(row.get_ref(column)?);
    }
    let sum = row.get_ref(columns)?;
    Ok((sum == ValueRef::Integer(checksum.of(values.iter().copied()))).then_some(values))
}
