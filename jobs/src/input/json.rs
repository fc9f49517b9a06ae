//! JSON lines: whether a line is an object, which types its keys have, and lines as arrays.

use crate::input::group_file::ReadError;
use crate::input::json_types::Shape;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use serde::de::Error as _;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::fmt;

/// What is wrong with a line, if it is not one object.
pub fn wrong_line(line: &[u8]) -> Option<String> {
    if let Err(error) = serde_json::from_slice::<Value>(line) {
        let why = error.to_string().replace(" at line 1 column ", " at byte ");
        // serde_json's own name of a number past the greatest double.
        if let Some(place) = why.strip_prefix("number out of range") {
            return Some(format!("a number does not fit a double{place}"));
        }
        let is_json = error.classify() == Category::Data;
        return Some(if is_json { why } else { format!("the line is not JSON: {why}") });
    }
    match line.trim_ascii_start().first() {
        Some(b'{') => None,
        _ => Some("the line is not an object of JSON, in braces".into()),
    }
}

/// Reads JSON in which no object has a key twice: of two, a map would keep the last.
///
/// # Errors
/// What is wrong, and where.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let value = serde_json::from_str::<Value>(text).and_then(|_| serde_json::from_str(text));
    value.map_err(|error| error.to_string())
}

/// Takes the types of a line in that is right.
pub fn see(line: &[u8], shape: &mut Shape) {
    // A line that is wrong is looked at before.
    let _ = shape.see(&mut serde_json::Deserializer::from_slice(line));
    let long = line.split(|byte| !byte.is_ascii_digit()).any(|digits| digits.len() >= LONG_DIGITS);
    if let Some(text) = long.then(|| serde_json::from_slice::<&RawValue>(line).ok()).flatten() {
        shape.see_long(text.get());
    }
}

/// Integers of fewer digits fit 64 bits.
const LONG_DIGITS: usize = 19;

/// Any value, read through with its numbers and texts, and dropped. No object has a key twice.
struct Value;

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
                Ok(Value)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
                Ok(Value)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
                Ok(Value)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
                Ok(Value)
            }
            fn visit_str<E>(self, _: &str) -> Result<Value, E> {
                Ok(Value)
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                while items.next_element::<Value>()?.is_some() {}
                Ok(Value)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
                let mut keys = HashSet::new();
                while let Some(key) = entries.next_key::<String>()? {
                    if keys.contains(&key) {
                        return Err(A::Error::custom(format!("the key `{key}` comes twice in an object")));
                    }
                    keys.insert(key);
                    entries.next_value::<Value>()?;
                }
                Ok(Value)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Rows that are wrong, and why.
type WrongLines = Vec<(usize, String)>;

/// The columns of lines, and those that are wrong; they have null.
///
/// # Errors
/// [`ReadError::Damaged`].
pub fn decode(lines: &[&[u8]], schema: &SchemaRef) -> Result<(Vec<ArrayRef>, WrongLines), ReadError> {
    let mut wrong: Vec<(usize, String)> = Vec::new();
    for (row, line) in lines.iter().enumerate() {
        wrong.extend(wrong_line(line).map(|why| (row, why)));
    }
    let is_wrong = |wrong: &[(usize, String)], row| wrong.binary_search_by_key(&row, |(row, _)| *row).is_ok();
    let good: Vec<usize> = (0..lines.len()).filter(|&row| !is_wrong(&wrong, row)).collect();
    let of = |rows: &[usize]| batch_of(rows.iter().map(|&row| lines[row]), schema);
    let failed = |error: ArrowError| ReadError::of(error.to_string());
    let (rows, batch) = match of(&good) {
        Ok(batch) => (good, batch),
        Err(_) => {
            // Arrow's reader says what is wrong, and not where.
            let (mut sound, mut batches) = (Vec::new(), Vec::new());
            for row in good {
                match of(&[row]) {
                    Ok(batch) => {
                        sound.push(row);
                        batches.push(batch);
                    }
                    Err(error) => wrong.push((row, error.to_string())),
                }
            }
            (sound, arrow::compute::concat_batches(schema, &batches).map_err(failed)?)
        }
    };
    if rows.len() == lines.len() {
        return Ok((batch.columns().to_vec(), wrong));
    }
    wrong.sort_by_key(|(row, _)| *row);
    let mut places: Vec<Option<u64>> = vec![None; lines.len()];
    rows.iter().zip(0..).for_each(|(&row, place)| places[row] = Some(place));
    let places = UInt64Array::from(places);
    let columns = batch.columns().iter().map(|column| take(column, &places, None)).collect::<Result<_, _>>();
    Ok((columns.map_err(failed)?, wrong))
}

fn batch_of<'a>(
    lines: impl ExactSizeIterator<Item = &'a [u8]>,
    schema: &SchemaRef,
) -> Result<RecordBatch, ArrowError> {
    let count = lines.len();
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    if count == 0 || schema.fields().is_empty() {
        let columns = schema.fields().iter().map(|f| arrow::array::new_empty_array(f.data_type())).collect();
        return RecordBatch::try_new_with_options(schema.clone(), columns, &options);
    }
    let reader = ReaderBuilder::new(schema.clone()).with_batch_size(count + 1).with_coerce_primitive(true);
    let mut decoder = reader.build_decoder()?;
    for line in lines {
        let read = decoder.decode(line)?;
        if read < line.len() || decoder.has_partial_record() {
            return Err(ArrowError::JsonError("the line is not one object".into()));
        }
    }
    match decoder.flush()? {
        Some(batch) if batch.num_rows() == count => Ok(batch),
        _ => Err(ArrowError::JsonError("the lines are not one object each".into())),
    }
}

/// Whether bytes begin like a file of JSON that is one array.
pub fn is_array(line: &[u8]) -> bool {
    line.trim_ascii_start().starts_with(b"[")
}

/// Whether a value is there, and not null, for each key of a line's object.
pub fn keys(line: &[u8], each: &mut dyn FnMut(&str)) {
    struct Keys<'a>(&'a mut dyn FnMut(&str));
    impl<'de> Visitor<'de> for Keys<'_> {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
            while let Some((key, value)) = entries.next_entry::<String, Option<IgnoredAny>>()? {
                if value.is_some() {
                    (self.0)(&key);
                }
            }
            Ok(())
        }
    }
    let _ = serde_json::Deserializer::from_slice(line).deserialize_map(Keys(each));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow::array::Array;
    use std::sync::Arc;

    #[test]
    fn a_wrong_line_is_one_row() {
        let lines: [&[u8]; 9] = [
            br#"{"a": 1, "b": "x"}"#,
            br#"{"a": 2}{"a": 3}"#,
            br#"{"a": 4,"#,
            br#""b": "y"}"#,
            b"[1]",
            br#"{"a": 1e999}"#,
            b"{\"b\": \"\xff\"}",
            br#"{"b": null, "a": 9}"#,
            br#"{"b": "\ud800"}"#,
        ];
        let mut shape = Shape::default();
        lines.iter().filter(|line| wrong_line(line).is_none()).for_each(|line| see(line, &mut shape));
        let schema = Arc::new(shape.schema());
        let (columns, wrong) = decode(&lines, &schema).unwrap();
        let rows: Vec<usize> = wrong.iter().map(|(row, _)| *row).collect();
        assert_eq!(rows, [1, 2, 3, 4, 5, 6, 8]);
        assert!(wrong[0].1.contains("the line is not JSON: trailing characters at byte 9"), "{wrong:?}");
        let shown =
            |column: usize, row| arrow::util::display::array_value_to_string(&columns[column], row).unwrap();
        assert_eq!([shown(0, 0), shown(1, 0), shown(0, 7), shown(1, 7)], ["1", "x", "9", ""]);
        assert!(rows.iter().all(|&row| columns.iter().all(|column| column.is_null(row))));
        assert!(wrong[4].1.contains("a number does not fit a double at byte"), "{wrong:?}");
        for (line, why) in [
            (r#"{"t": "a", "u": 1, "\u0074": "b"}"#, Some("the key `t` comes twice in an object at byte")),
            (r#"{"o": [{"a": 1, "a": 1}]}"#, Some("the key `a` comes twice")),
            (r#"{"o": {"o": 1}, "p": {"o": 1}}"#, None),
        ] {
            let found = wrong_line(line.as_bytes());
            assert_eq!(
                found.as_ref().is_some_and(|found| found.starts_with(why.unwrap_or_default())),
                why.is_some()
            );
        }
    }

    /// Doubles would make one of two identifiers.
    #[test]
    fn an_integer_past_64_bits_stays_as_it_is_written() {
        let lines: [&[u8]; 4] = [
            br#"{"id": 18446744073709551616, "low": -9223372036854775809, "l": [{"a": [1, 18446744073709551617]}]}"#,
            br#"{"id": 18446744073709551617, "low": 1, "f": 1e30, "u": 18446744073709551615, "l": [{"a": [-0.5]}]}"#,
            br#"{"id": 0.5, "low": null, "f": 10000000000000000000000.0, "u": 0, "t": "18446744073709551616"}"#,
            br#"{"id": 7, "i": -9223372036854775808, "l": []}"#,
        ];
        let mut shape = Shape::default();
        lines.iter().for_each(|line| see(line, &mut shape));
        let schema = Arc::new(shape.schema());
        let (columns, wrong) = decode(&lines, &schema).unwrap();
        assert!(wrong.is_empty());
        let shown = |name: &str| {
            let column = &columns[schema.index_of(name).unwrap()];
            let shown = |row| arrow::util::display::array_value_to_string(column, row).unwrap();
            (0..lines.len()).map(shown).collect::<Vec<_>>().join("|")
        };
        assert_eq!(shown("id"), "18446744073709551616|18446744073709551617|0.5|7");
        assert_eq!(shown("low"), "-9223372036854775809|1||");
        assert_eq!(shown("l"), "[{a: [1, 18446744073709551617]}]|[{a: [-0.5]}]||[]");
        let kind = |name| schema.field_with_name(name).unwrap().data_type().to_string();
        assert_eq!(["f", "u", "t", "i"].map(kind), ["Float64", "UInt64", "Utf8", "Int64"]);
    }
}
