//! CSV: which types its columns have, and its fields as arrays.

use crate::input::group_file::ReadError;
use crate::input::lost::NOT_UTF8;
use crate::input::records::Record;
use crate::input::widen::widened;
use arrow::array::{ArrayRef, StringBuilder};
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{DataType, Date32Type, Field, Schema};
use std::collections::HashMap;
use std::sync::Arc;

/// The types that the fields of a column could all have. A column has a type only where each of its fields is printed
/// again as it stands: `007`, `1.50` and `1e5` stay text.
#[derive(Clone, Copy, Debug)]
struct Kinds {
    int: bool,
    float: bool,
    date: bool,
    /// Whether there is a field that is not empty.
    any: bool,
}

/// What the CSV files of an input have so far, by the name of the column.
#[derive(Default)]
pub struct CsvTypes {
    columns: HashMap<String, Kinds>,
}

impl CsvTypes {
    /// Takes in a field of a column.
    pub fn see(&mut self, column: &str, field: Option<&str>) {
        if !self.columns.contains_key(column) {
            let all = Kinds { int: true, float: true, date: true, any: false };
            self.columns.insert(column.to_string(), all);
        }
        let (Some(kinds), Some(field)) = (self.columns.get_mut(column), field) else { return };
        kinds.any = true;
        kinds.int = kinds.int && is_int(field);
        kinds.float = kinds.float && is_float(field);
        kinds.date = kinds.date && is_date(field);
    }

    /// The schema of a file with these columns.
    pub fn schema(&self, names: &[String]) -> Schema {
        let kind = |name: &String| match self.columns.get(name) {
            Some(Kinds { any: true, int: true, .. }) => DataType::Int64,
            Some(Kinds { any: true, float: true, .. }) => DataType::Float64,
            Some(Kinds { any: true, date: true, .. }) => DataType::Date32,
            _ => DataType::Utf8,
        };
        Schema::new(names.iter().map(|name| Field::new(name, kind(name), true)).collect::<Vec<_>>())
    }
}

/// Whether a number of 64 bits is written without ornament.
fn is_int(field: &str) -> bool {
    let digits = field.strip_prefix('-').unwrap_or(field);
    digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == field || digits != "0")
        && (digits == "0" || !digits.starts_with('0'))
        && field.parse::<i64>().is_ok()
}

/// Whether a number with a point is printed as it stands.
fn is_float(field: &str) -> bool {
    field.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
        && field.contains('.')
        && field.parse::<f64>().is_ok_and(|value| format!("{value:?}") == field)
}

/// Whether a day is written as in 2024-02-29.
fn is_date(field: &str) -> bool {
    field.len() == 10
        && field.as_bytes()[4] == b'-'
        && field.as_bytes()[7] == b'-'
        && Date32Type::parse(field).is_some()
}

/// A field that cannot be read.
pub struct LostField {
    /// The position among the columns.
    pub column: usize,
    pub row: usize,
    /// 0 where it is not known.
    pub line: u64,
    /// Whether the record is wrong as a whole.
    pub whole: bool,
    pub why: String,
}

/// Columns of rows that are being read.
pub struct CsvRows {
    /// Their positions in the file, and their types.
    columns: Vec<(usize, DataType)>,
    texts: Vec<StringBuilder>,
    /// Columns of the file.
    width: usize,
    rows: usize,
    lost: Vec<LostField>,
}

impl CsvRows {
    /// For these columns of a file that has so many.
    pub fn new(columns: Vec<(usize, DataType)>, width: usize) -> CsvRows {
        let texts = columns.iter().map(|_| StringBuilder::new()).collect();
        CsvRows { columns, texts, width, rows: 0, lost: Vec::new() }
    }

    /// Adds a record.
    pub fn push(&mut self, record: &Record) {
        let wrong = wrong_record(record, self.width);
        for (to, ((from, _), texts)) in self.columns.iter().zip(&mut self.texts).enumerate() {
            let text = match &wrong {
                Some(why) => Err(why.clone()),
                None => {
                    record.field(*from).map(std::str::from_utf8).transpose().map_err(|_| NOT_UTF8.to_string())
                }
            };
            match text {
                Ok(text) => texts.append_option(text),
                Err(why) => {
                    texts.append_null();
                    let (line, whole) = (record.line, wrong.is_some());
                    self.lost.push(LostField { column: to, row: self.rows, line, whole, why });
                }
            }
        }
        self.rows += 1;
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of all texts.
    pub fn bytes(&self) -> usize {
        self.texts.iter().map(|texts| texts.values_slice().len()).sum()
    }

    /// The columns in their types. What their types do not hold is lost.
    pub fn finish(mut self) -> Result<(Vec<ArrayRef>, Vec<LostField>), ReadError> {
        let mut arrays = Vec::with_capacity(self.texts.len());
        for (to, (texts, (_, kind))) in self.texts.iter_mut().zip(&self.columns).enumerate() {
            let texts: ArrayRef = Arc::new(texts.finish());
            let (array, wrong) = widened(&texts, kind)?;
            let lost = |(row, why)| LostField { column: to, row, line: 0, whole: false, why };
            self.lost.extend(wrong.into_iter().map(lost));
            arrays.push(array);
        }
        Ok((arrays, self.lost))
    }
}

/// What is wrong with a record as a whole.
pub fn wrong_record(record: &Record, width: usize) -> Option<String> {
    let what = if record.last_line > record.line { "the record" } else { "the line" };
    if record.after_quote {
        return Some(format!(
            "{what} has a field with something behind its closing quote: double the quotes within a field"
        ));
    }
    let fields = record.len();
    (fields != width).then(|| format!("{what} has {fields} fields, but the first has {width} names"))
}

/// Where a record is of which cannot be told how many rows it holds, and why: it must not pass for one.
pub fn unsplit_record(record: &Record, width: usize) -> Option<(String, String)> {
    if let Some(line) = record.open_quote {
        let why = format!(
            "a quoted field that begins in line {line} is not closed by the end of the file: close it"
        );
        return Some((format!(", line {line}"), why));
    }
    let (first, last) = (record.line, record.last_line);
    let why = wrong_record(record, width).filter(|_| last > first)?;
    let why = format!(
        "{why}; how many rows these lines hold cannot be told: look for a quote that is not closed, or not doubled"
    );
    Some((format!(", lines {first} to {last}"), why))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_column_has_a_type_where_nothing_is_lost() {
        let mut types = CsvTypes::default();
        let columns: [(&str, &[&str], DataType); 12] = [
            ("int", &["0", "-7", "9223372036854775807"], DataType::Int64),
            ("zeros", &["1", "007"], DataType::Utf8),
            ("plus", &["+1"], DataType::Utf8),
            ("minus zero", &["-0"], DataType::Utf8),
            ("long", &["9223372036854775808"], DataType::Utf8),
            ("float", &["0.5", "-12.25", "2.0"], DataType::Float64),
            ("price", &["1.5", "1.50"], DataType::Utf8),
            ("digits", &["0.1234567890123456789"], DataType::Utf8),
            ("exponent", &["1e5"], DataType::Utf8),
            ("day", &["2024-02-29", "1999-12-31"], DataType::Date32),
            ("no day", &["2023-02-29"], DataType::Utf8),
            ("mixed", &["1", "0.5"], DataType::Utf8),
        ];
        for (name, fields, _) in &columns {
            types.see(name, None);
            fields.iter().for_each(|field| types.see(name, Some(field)));
        }
        types.see("empty", None);
        types.see("string", Some(""));
        let names = columns.iter().map(|(name, ..)| *name).chain(["empty", "string"]);
        let schema = types.schema(&names.map(String::from).collect::<Vec<_>>());
        let kinds = schema.fields().iter().map(|field| field.data_type().clone());
        let expected = columns.iter().map(|(.., kind)| kind.clone()).chain([DataType::Utf8, DataType::Utf8]);
        for ((kind, expected), field) in kinds.zip(expected).zip(schema.fields()) {
            assert_eq!(kind, expected, "{}", field.name());
        }
    }
}
