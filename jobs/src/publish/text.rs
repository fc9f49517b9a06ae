//! Rows as lines: JSON lines and CSV.
//!
//! JSON has every column in each line, a null where there is none. CSV has nothing between its commas for null and two
//! quotes for the empty string, and lists and structs as JSON text.

use crate::error::JobError;
use crate::far_time::why_no_text;
use crate::publish::format::OutputFormat;
use crate::uuid::{self, is_uuid};
use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, MapArray, RecordBatch, new_empty_array};
use arrow::datatypes::{DataType, Field, FieldRef, Float16Type, Float32Type, Float64Type, Schema};
use arrow::error::ArrowError;
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::collections::HashSet;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

/// Writes rows as lines.
pub struct LineEncoder {
    format: OutputFormat,
    options: EncoderOptions,
    wrong: Wrong,
}

/// What a value is that cannot be written, if one was met.
type Wrong = Arc<Mutex<Option<String>>>;

impl LineEncoder {
    /// For JSON lines or CSV.
    pub fn new(format: OutputFormat) -> LineEncoder {
        let wrong = Wrong::default();
        let options = EncoderOptions::default().with_explicit_nulls(true);
        let options = options.with_encoder_factory(Arc::new(Strict { wrong: wrong.clone() }));
        LineEncoder { format, options, wrong }
    }

    /// Refuses columns of types that have no text.
    ///
    /// # Errors
    /// [`JobError::Column`] about the first.
    pub fn check(&self, schema: &Schema) -> Result<(), JobError> {
        schema.fields().iter().try_for_each(|field| {
            let empty = new_empty_array(field.data_type());
            self.encoder(field, &empty).map(drop)
        })
    }

    /// What stands before the rows.
    pub fn header(&self, schema: &Schema) -> Vec<u8> {
        let mut line = Vec::new();
        if self.format == OutputFormat::Csv {
            for (at, field) in schema.fields().iter().enumerate() {
                if at > 0 {
                    line.push(b',');
                }
                write_field(field.name(), &mut line);
            }
            line.push(b'\n');
        }
        line
    }

    /// Adds rows as lines; `first_row` is the number of the first.
    ///
    /// # Errors
    /// [`JobError::Column`] for a value that has no text: NaN, an infinity, a date past year 262,142, a map with a key twice.
    pub fn encode(&self, rows: &RecordBatch, first_row: u64, lines: &mut Vec<u8>) -> Result<(), JobError> {
        let schema = rows.schema();
        let mut encoders = Vec::with_capacity(rows.num_columns());
        for (field, column) in schema.fields().iter().zip(rows.columns()) {
            let name = serde_json::to_string(field.name()).unwrap_or_default();
            encoders.push((field, column, self.encoder(field, column)?, name));
        }
        let json = self.format == OutputFormat::Jsonl;
        let mut text = Vec::new();
        for row in 0..rows.num_rows() {
            for (at, (field, column, encoder, name)) in encoders.iter_mut().enumerate() {
                lines.push(if at > 0 { b',' } else { b'{' });
                if json {
                    lines.extend(name.as_bytes());
                    lines.push(b':');
                } else if at == 0 {
                    lines.pop();
                }
                match (column.is_null(row) || column.data_type().is_null(), json) {
                    (true, true) => lines.extend(b"null"),
                    (true, false) => {}
                    (false, true) => encoder.encode(row, lines),
                    (false, false) => {
                        text.clear();
                        encoder.encode(row, &mut text);
                        write_csv(column, row, &text, lines);
                    }
                }
                if let Some(why) = self.wrong.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    return Err(self.refusal(field.name(), &format!("row {}: {why}", first_row + row as u64)));
                }
            }
            lines.extend(if json { &b"}\n"[..] } else { b"\n" });
        }
        Ok(())
    }

    fn encoder<'a>(
        &'a self,
        field: &'a FieldRef,
        array: &'a ArrayRef,
    ) -> Result<NullableEncoder<'a>, JobError> {
        make_encoder(field, array, &self.options).map_err(|error| {
            let why = match error {
                ArrowError::InvalidArgumentError(why) => why,
                _ => format!("{} has no text", field.data_type()),
            };
            self.refusal(field.name(), &why)
        })
    }

    fn refusal(&self, column: &str, why: &str) -> JobError {
        let format = if self.format == OutputFormat::Csv { "CSV" } else { "JSON" };
        let why = format!(
            "{why}, so that {format} cannot hold it; leave the column out with --keep, or name the output .parquet"
        );
        JobError::Column { column: column.into(), why }
    }
}

/// A value of CSV by its JSON text.
fn write_csv(column: &ArrayRef, row: usize, json: &[u8], line: &mut Vec<u8>) {
    match column.data_type() {
        DataType::Utf8 => write_field(column.as_string::<i32>().value(row), line),
        DataType::LargeUtf8 => write_field(column.as_string::<i64>().value(row), line),
        DataType::Utf8View => write_field(column.as_string_view().value(row), line),
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            let key = dictionary.normalized_keys()[row];
            write_csv(dictionary.values(), key, json, line);
        }
        // Numbers, and dates and times in quotes, which have nothing to escape.
        kind if !kind.is_nested() => line.extend(json.iter().filter(|&&byte| byte != b'"')),
        _ => write_field(&String::from_utf8_lossy(json), line),
    }
}

/// A text, in quotes where a reader needs them, and where it is empty.
fn write_field(text: &str, line: &mut Vec<u8>) {
    if !text.is_empty() && !text.contains([',', '"', '\n', '\r']) {
        return line.extend(text.as_bytes());
    }
    line.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            line.push(b'"');
        }
        line.push(byte);
    }
    line.push(b'"');
}

/// Encodes what Arrow's own encoders would write as null, as the text of an error or in hexadecimal.
#[derive(Debug)]
struct Strict {
    wrong: Wrong,
}

impl EncoderFactory for Strict {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let nulls = array.nulls().cloned();
        let kind = array.data_type();
        let encoder: Box<dyn Encoder + 'a> = match kind {
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                Box::new(Floats { array, wrong: self.wrong.clone() })
            }
            DataType::FixedSizeBinary(_) if is_uuid(below_lists(field)) => {
                Box::new(Uuids(array.as_fixed_size_binary()))
            }
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => {
                return Err(ArrowError::JsonError("bytes have no text".into()));
            }
            kind if kind.is_temporal() => {
                let formatter = ArrayFormatter::try_new(array, &FORMAT)?;
                // A zone that is not known shows when a value is printed.
                if let DataType::Timestamp(_, Some(zone)) = kind {
                    zone.parse::<arrow::array::timezone::Tz>()?;
                }
                Box::new(Times { array, formatter, wrong: self.wrong.clone() })
            }
            DataType::Map(entries, _) => {
                let (maps, DataType::Struct(fields)) = (array.as_map(), entries.data_type()) else {
                    return Ok(None);
                };
                if !maps.keys().data_type().is_string() {
                    let why = format!("a map's keys are {} and not strings", maps.keys().data_type());
                    return Err(ArrowError::InvalidArgumentError(why));
                }
                let keys = make_encoder(&fields[0], maps.keys(), options)?;
                let values = make_encoder(&fields[1], maps.values(), options)?;
                Box::new(Maps { maps, keys, values, wrong: self.wrong.clone() })
            }
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, nulls)))
    }
}

/// The field of what is in lists, of which Arrow's encoders give that of the outermost.
fn below_lists(field: &Field) -> &Field {
    use DataType::{FixedSizeList, LargeList, LargeListView, List, ListView};
    match field.data_type() {
        List(item) | LargeList(item) | ListView(item) | LargeListView(item) | FixedSizeList(item, _) => {
            below_lists(item)
        }
        _ => field,
    }
}

const FORMAT: FormatOptions<'static> = FormatOptions::new().with_display_error(false);

struct Floats<'a> {
    array: &'a dyn Array,
    wrong: Wrong,
}

impl Encoder for Floats<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        // The fewest digits that are read as the same number.
        let (text, finite) = match self.array.data_type() {
            DataType::Float16 => shown(self.array.as_primitive::<Float16Type>().value(row).to_f32()),
            DataType::Float32 => shown(self.array.as_primitive::<Float32Type>().value(row)),
            _ => shown(self.array.as_primitive::<Float64Type>().value(row)),
        };
        if !finite {
            note(&self.wrong, format!("it is {text}"));
        }
        out.extend(text.as_bytes());
    }
}

fn shown<F: Debug + Copy + Into<f64>>(value: F) -> (String, bool) {
    (format!("{value:?}"), value.into().is_finite())
}

struct Uuids<'a>(&'a FixedSizeBinaryArray);

impl Encoder for Uuids<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend(uuid::text(self.0.value(row)).as_bytes());
        out.push(b'"');
    }
}

struct Times<'a> {
    array: &'a dyn Array,
    formatter: ArrayFormatter<'a>,
    wrong: Wrong,
}

impl Encoder for Times<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        match self.formatter.value(row).try_to_string() {
            Ok(text) => {
                let mut quoted = String::new();
                let _ = write!(quoted, "\"{text}\"");
                out.extend(quoted.as_bytes());
            }
            Err(error) => note(&self.wrong, why_no_text(self.array, row, &error)),
        }
    }
}

struct Maps<'a> {
    maps: &'a MapArray,
    keys: NullableEncoder<'a>,
    values: NullableEncoder<'a>,
    wrong: Wrong,
}

impl Encoder for Maps<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let offsets = self.maps.value_offsets();
        let mut seen = HashSet::new();
        out.push(b'{');
        for at in offsets[row] as usize..offsets[row + 1] as usize {
            if !seen.is_empty() {
                out.push(b',');
            }
            let key_at = out.len();
            self.keys.encode(at, out);
            let key = out[key_at..].to_vec();
            if seen.contains(&key) {
                note(&self.wrong, format!("a map has the key {} twice", String::from_utf8_lossy(&key)));
            }
            seen.insert(key);
            out.push(b':');
            match self.values.is_null(at) {
                true => out.extend(b"null"),
                false => self.values.encode(at, out),
            }
        }
        out.push(b'}');
    }
}

/// Keeps the first.
fn note(wrong: &Wrong, why: String) {
    wrong.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow::array::{
        BinaryArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Float64Builder, Int64Array,
        ListArray, MapBuilder, StringArray, StringBuilder, TimestampMillisecondArray,
    };
    use arrow::datatypes::Int32Type;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
            .unwrap()
    }

    fn lines(format: OutputFormat, rows: &RecordBatch) -> Result<String, JobError> {
        let encoder = LineEncoder::new(format);
        let mut lines = encoder.header(&rows.schema());
        encoder.encode(rows, 7, &mut lines)?;
        Ok(String::from_utf8(lines).unwrap())
    }

    #[test]
    fn values_are_written_as_they_are_read() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]);
        let decimal =
            Decimal128Array::from(vec![Some(-105), None, Some(7)]).with_precision_and_scale(5, 2).unwrap();
        let rows = batch(vec![
            ("id", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(9_007_199_254_740_993)]))),
            ("te,xt", Arc::new(StringArray::from(vec![Some("a \"b\"\nc"), Some(""), None]))),
            ("f", Arc::new(Float32Array::from(vec![Some(0.1), Some(1e-30), None]))),
            ("day", Arc::new(Date32Array::from(vec![Some(0), None, Some(-1)]))),
            ("list", Arc::new(list)),
            ("d", Arc::new(decimal)),
            ("null", Arc::new(arrow::array::NullArray::new(3))),
            ("yes", Arc::new(arrow::array::BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ]);
        let json = "{\"id\":-9223372036854775808,\"te,xt\":\"a \\\"b\\\"\\nc\",\"f\":0.1,\"day\":\"1970-01-01\",\
                    \"list\":[1,null],\"d\":-1.05,\"null\":null,\"yes\":true}\n\
                    {\"id\":null,\"te,xt\":\"\",\"f\":1e-30,\"day\":null,\"list\":null,\"d\":null,\"null\":null,\"yes\":null}\n\
                    {\"id\":9007199254740993,\"te,xt\":null,\"f\":null,\"day\":\"1969-12-31\",\"list\":[],\"d\":0.07,\
                    \"null\":null,\"yes\":false}\n";
        assert_eq!(lines(OutputFormat::Jsonl, &rows).unwrap(), json);
        let csv = "id,\"te,xt\",f,day,list,d,null,yes\n\
                   -9223372036854775808,\"a \"\"b\"\"\nc\",0.1,1970-01-01,\"[1,null]\",-1.05,,true\n\
                   ,\"\",1e-30,,,,,\n\
                   9007199254740993,,,1969-12-31,[],0.07,,false\n";
        assert_eq!(lines(OutputFormat::Csv, &rows).unwrap(), csv);
    }

    #[test]
    fn a_map_has_a_key_once() {
        type Entries<'a> = &'a [(&'a str, Option<f64>)];
        let maps = |rows: [Option<Entries<'_>>; 2]| -> ArrayRef {
            let mut maps = MapBuilder::new(None, StringBuilder::new(), Float64Builder::new());
            for row in rows {
                row.unwrap_or_default().iter().for_each(|(key, value)| {
                    maps.keys().append_value(key);
                    maps.values().append_option(*value);
                });
                maps.append(row.is_some()).unwrap();
            }
            Arc::new(maps.finish())
        };
        let once = batch(vec![("m", maps([Some(&[("a\"", Some(0.1)), ("b", None)]), None]))]);
        let json = lines(OutputFormat::Jsonl, &once).unwrap();
        assert_eq!(json, "{\"m\":{\"a\\\"\":0.1,\"b\":null}}\n{\"m\":null}\n");
        assert_eq!(
            lines(OutputFormat::Csv, &once).unwrap(),
            "m\n\"{\"\"a\\\"\"\"\":0.1,\"\"b\"\":null}\"\n\n"
        );
        for wrong in [[("a", Some(0.1)), ("a", None)], [("a", Some(f64::NAN)), ("b", None)]] {
            let rows = batch(vec![("m", maps([Some(&[]), Some(&wrong)]))]);
            let error = lines(OutputFormat::Jsonl, &rows).unwrap_err().to_string();
            assert!(
                error.contains("row 8: a map has the key \"a\" twice") || error.contains("row 8: it is NaN"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_has_no_text_is_refused_by_column_and_row() {
        let hidden = Float64Array::from(vec![Some(1.0), Some(f64::NAN), Some(f64::INFINITY)]);
        let bytes = BinaryArray::from(vec![&b"x"[..]; 3]);
        for format in [OutputFormat::Jsonl, OutputFormat::Csv] {
            let error =
                lines(format, &batch(vec![("score", Arc::new(hidden.clone()))])).unwrap_err().to_string();
            assert!(error.contains("score") && error.contains("row 8: it is NaN"), "{error}");
            let far = TimestampMillisecondArray::from(vec![0, i64::MAX]);
            let error = lines(format, &batch(vec![("at", Arc::new(far))])).unwrap_err().to_string();
            assert!(error.contains("at") && error.contains("row 8"), "{error}");
            let rows = batch(vec![("blob", Arc::new(bytes.clone()))]);
            let error = LineEncoder::new(format).check(&rows.schema()).unwrap_err().to_string();
            assert!(
                error.contains("blob") && error.contains("Binary") && error.contains("--keep"),
                "{error}"
            );
        }
    }
}
