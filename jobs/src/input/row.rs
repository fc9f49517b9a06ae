//! A row's values as a template sees them.

use crate::far_time::why_no_text;
use crate::uuid::{self, is_uuid};
use arrow::array::timezone::Tz;
use arrow::array::{
    Array, AsArray, BooleanArray, LargeListArray, ListArray, MapArray, RecordBatch, StructArray,
    new_empty_array,
};
use arrow::datatypes::{
    DataType, Field, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
};
use arrow::datatypes::{UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use minijinja::{Error, ErrorKind, Value};
use std::collections::HashSet;

/// How deep a column's lists and structs may be nested.
const DEPTH: usize = 32;

/// Takes each string of a row and gives what the template shall see in its place.
pub type EachString<'a> = &'a mut dyn FnMut(&str) -> Value;

/// A row's columns by name, in order.
///
/// # Errors
/// What is wrong with the row, naming the column.
pub fn row_values(
    columns: &RecordBatch,
    row: usize,
    each: EachString<'_>,
) -> Result<Vec<(String, Value)>, String> {
    let schema = columns.schema_ref();
    schema
        .fields()
        .iter()
        .zip(columns.columns())
        .map(|(field, column)| {
            let value = match (column_value(field, column, row, each), refused_column(field)) {
                (Ok(value), _) => value,
                // An error only where it is used: it may be read with all others as `row`.
                (Err(_), Some(why)) => Value::from(Error::new(ErrorKind::InvalidOperation, why)),
                (Err(why), None) => return Err(format!("column {}: {why}", field.name())),
            };
            Ok((field.name().clone(), value))
        })
        .collect()
}

/// Why a template can have no value of a column, if that is so.
pub fn refused_column(field: &Field) -> Option<String> {
    if is_uuid(field) { None } else { refused(field.data_type()) }
}

/// Why a template can have no value of a type, if that is so. A struct can be had if one of its fields can.
pub fn refused(kind: &DataType) -> Option<String> {
    let why = || format!("a template cannot use {kind}; cast it to a string first");
    match kind {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            Some(why())
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => refused_column(item),
        DataType::Dictionary(_, value) => refused(value),
        DataType::Struct(fields) => {
            let mut fields = fields.iter().map(|field| refused_column(field));
            let first = fields.next()?;
            if fields.all(|field| field.is_some()) { first } else { None }
        }
        kind if kind.is_primitive()
            || kind.is_string()
            || matches!(kind, DataType::Boolean | DataType::Null) =>
        {
            let DataType::Timestamp(_, Some(zone)) = kind else {
                return written(&new_empty_array(kind), None).err().map(|_| why());
            };
            let known = zone.parse::<Tz>();
            known.err().map(|_| {
                format!("the time zone {zone} of {kind} is not known; cast it to UTC or to a string first")
            })
        }
        kind => written(&new_empty_array(kind), None).err().map(|_| why()),
    }
}

/// One value of a column: as [`value`], and UUIDs as their text.
///
/// # Errors
/// What is wrong with the value.
pub fn column_value(
    field: &Field,
    array: &dyn Array,
    row: usize,
    each: EachString<'_>,
) -> Result<Value, String> {
    of_field(field, array, row, each, 0)
}

fn of_field(
    field: &Field,
    array: &dyn Array,
    row: usize,
    each: EachString<'_>,
    depth: usize,
) -> Result<Value, String> {
    match array.as_fixed_size_binary_opt() {
        Some(uuids) if is_uuid(field) && uuids.is_valid(row) => Ok(each(&uuid::text(uuids.value(row)))),
        _ => nested(array, row, each, depth),
    }
}

/// One value: numbers, booleans, null, lists and structs as they are, dates and times as ISO 8601 strings, with the offset from UTC
/// where the type has a time zone.
///
/// # Errors
/// What is wrong with the value.
pub fn value(array: &dyn Array, row: usize, each: EachString<'_>) -> Result<Value, String> {
    nested(array, row, each, 0)
}

fn nested(array: &dyn Array, row: usize, each: EachString<'_>, depth: usize) -> Result<Value, String> {
    if depth > DEPTH {
        return Err(format!("nested deeper than {DEPTH}"));
    }
    if array.is_null(row) {
        return Ok(Value::from(()));
    }
    Ok(match array.data_type() {
        DataType::Null => Value::from(()),
        DataType::Boolean => {
            Value::from(array.as_any().downcast_ref::<BooleanArray>().is_some_and(|a| a.value(row)))
        }
        DataType::Int8 => Value::from(array.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => Value::from(array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => Value::from(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => Value::from(array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => Value::from(array.as_primitive::<UInt8Type>().value(row)),
        DataType::UInt16 => Value::from(array.as_primitive::<UInt16Type>().value(row)),
        DataType::UInt32 => Value::from(array.as_primitive::<UInt32Type>().value(row)),
        DataType::UInt64 => Value::from(array.as_primitive::<UInt64Type>().value(row)),
        DataType::Float16 => Value::from(array.as_primitive::<Float16Type>().value(row).to_f64()),
        DataType::Float32 => Value::from(shortest(array.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => Value::from(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => each(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => each(array.as_string::<i64>().value(row)),
        DataType::Utf8View => each(array.as_string_view().value(row)),
        DataType::Dictionary(..) => {
            // The keys of a slice of one row: those of all rows would be normalised for each row anew.
            let one = array.slice(row, 1);
            let dictionary = one.as_any_dictionary();
            let key = dictionary.normalized_keys()[0];
            nested(dictionary.values(), key, each, depth + 1)?
        }
        DataType::Struct(_) => struct_value(array.as_struct(), row, each, depth)?,
        DataType::List(item) => {
            let list: &ListArray = array.as_list();
            list_value(item, &list.value(row), each, depth)?
        }
        DataType::LargeList(item) => {
            let list: &LargeListArray = array.as_list();
            list_value(item, &list.value(row), each, depth)?
        }
        DataType::FixedSizeList(item, _) => {
            list_value(item, &array.as_fixed_size_list().value(row), each, depth)?
        }
        DataType::Map(..) => map_value(array.as_map(), row, each, depth)?,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            return Err(format!("a template cannot use {}; cast it to a string first", array.data_type()));
        }
        _ => each(&written(array, Some(row))?),
    })
}

fn struct_value(
    array: &StructArray,
    row: usize,
    each: EachString<'_>,
    depth: usize,
) -> Result<Value, String> {
    let fields = array.fields().iter().zip(array.columns());
    let pairs: Vec<(String, Value)> = fields
        .map(|(field, column)| {
            let value = match (of_field(field, column, row, each, depth + 1), refused_column(field)) {
                (Ok(value), _) => value,
                (Err(_), Some(why)) => Value::from(Error::new(ErrorKind::InvalidOperation, why)),
                (Err(why), None) => return Err(why),
            };
            Ok((field.name().clone(), value))
        })
        .collect::<Result<_, String>>()?;
    Ok(Value::from_pairs(pairs))
}

fn list_value(field: &Field, items: &dyn Array, each: EachString<'_>, depth: usize) -> Result<Value, String> {
    let items = (0..items.len()).map(|i| of_field(field, items, i, each, depth + 1));
    Ok(Value::from(items.collect::<Result<Vec<Value>, String>>()?))
}

fn map_value(array: &MapArray, row: usize, each: EachString<'_>, depth: usize) -> Result<Value, String> {
    let entries = array.value(row);
    let mut keys = HashSet::new();
    let pairs: Vec<(Value, Value)> = (0..entries.len())
        .map(|i| {
            let key = of_field(&entries.fields()[0], entries.column(0), i, each, depth + 1)?;
            // Which of the values counts, everybody would say otherwise.
            if !keys.insert(key.clone()) {
                let key = written(entries.column(0), Some(i))?;
                return Err(format!("the map has the key {key:?} twice; keep one of the two"));
            }
            Ok((key, of_field(&entries.fields()[1], entries.column(1), i, each, depth + 1)?))
        })
        .collect::<Result<_, String>>()?;
    Ok(Value::from_pairs(pairs))
}

/// The double that prints as the float does (0.1f32 is 0.1, not 0.10000000149011612).
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// The text of a value; without a row, whether values of the type have one.
fn written(array: &dyn Array, row: Option<usize>) -> Result<String, String> {
    let options = FormatOptions::default();
    let format = ArrayFormatter::try_new(array, &options)
        .map_err(|_| format!("a template cannot use {}; cast it to a string first", array.data_type()))?;
    let text =
        row.map(|row| format.value(row).try_to_string().map_err(|error| why_no_text(array, row, &error)));
    text.unwrap_or_else(|| Ok(String::new()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow::array::*;
    use arrow::datatypes::{Int8Type, TimestampMillisecondType};
    use std::sync::Arc;

    fn shown(array: ArrayRef, row: usize) -> String {
        value(&array, row, &mut |s| Value::from(s)).unwrap().to_string()
    }

    #[test]
    fn every_string_type_is_a_string() {
        let words = vec![Some("eins"), None, Some("drei")];
        let arrays: [ArrayRef; 4] = [
            Arc::new(StringArray::from(words.clone())),
            Arc::new(LargeStringArray::from(words.clone())),
            Arc::new(StringViewArray::from(words.clone())),
            Arc::new(words.into_iter().collect::<DictionaryArray<Int8Type>>()),
        ];
        for array in arrays {
            assert_eq!(shown(array.clone(), 2), "drei");
            assert!(value(&array, 1, &mut |s| Value::from(s)).unwrap().is_none());
            assert_eq!(shown(array.slice(2, 1), 0), "drei");
        }
    }

    #[test]
    fn numbers_dates_and_nested_values_read_as_in_python() {
        assert_eq!(shown(Arc::new(Float32Array::from(vec![0.1])), 0), "0.1");
        assert_eq!(shown(Arc::new(Float64Array::from(vec![2.0])), 0), "2.0");
        assert_eq!(shown(Arc::new(UInt64Array::from(vec![u64::MAX])), 0), u64::MAX.to_string());
        assert_eq!(shown(Arc::new(Date32Array::from(vec![19_723])), 0), "2024-01-01");
        let time = TimestampMillisecondArray::from(vec![1_704_067_200_000]);
        assert_eq!(shown(Arc::new(time.clone()), 0), "2024-01-01T00:00:00");
        let time: PrimitiveArray<TimestampMillisecondType> = time.with_timezone("+00:00");
        assert_eq!(shown(Arc::new(time), 0), "2024-01-01T00:00:00Z");
        let summer = TimestampMillisecondArray::from(vec![1_719_829_800_000]);
        for (zone, expected) in [
            ("UTC", "2024-07-01T10:30:00Z"),
            ("Etc/UTC", "2024-07-01T10:30:00Z"),
            ("Europe/Berlin", "2024-07-01T12:30:00+02:00"),
            ("America/New_York", "2024-07-01T06:30:00-04:00"),
            ("+05:30", "2024-07-01T16:00:00+05:30"),
        ] {
            let time = summer.clone().with_timezone(zone);
            assert_eq!(refused(time.data_type()), None, "{zone}");
            assert_eq!(shown(Arc::new(time), 0), expected, "{zone}");
        }
        let nowhere = summer.with_timezone("Mars/Phobos");
        assert!(refused(nowhere.data_type()).unwrap().contains("the time zone Mars/Phobos"));
        let mut list = ListBuilder::new(Int32Builder::new());
        list.append_value([Some(1), None, Some(3)]);
        let list: ArrayRef = Arc::new(list.finish());
        assert_eq!(shown(list.clone(), 0), "[1, None, 3]");
        let field = arrow::datatypes::Field::new("items", list.data_type().clone(), true);
        let both = StructArray::from(vec![(Arc::new(field), list)]);
        assert_eq!(shown(Arc::new(both), 0), "{'items': [1, None, 3]}");
    }

    #[test]
    fn a_map_has_a_key_once() {
        let mut maps = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
        for row in [&["a", "b"][..], &["a", "b", "a"], &[]] {
            row.iter().for_each(|key| maps.keys().append_value(key));
            maps.values().append_slice(&[1, 2, 3][..row.len()]);
            maps.append(true).unwrap();
        }
        let maps: ArrayRef = Arc::new(maps.finish());
        assert_eq!(shown(maps.clone(), 0), "{'a': 1, 'b': 2}");
        assert_eq!(shown(maps.clone(), 2), "{}");
        let batch = RecordBatch::try_from_iter([("sizes", maps)]).unwrap();
        let wrong = row_values(&batch, 1, &mut |s| Value::from(s)).unwrap_err();
        assert!(wrong.starts_with("column sizes: the map has the key \"a\" twice"), "{wrong}");
    }

    #[test]
    fn binary_is_an_error_with_a_remedy() {
        let array: ArrayRef = Arc::new(BinaryArray::from(vec![&b"x"[..]]));
        assert!(value(&array, 0, &mut |s| Value::from(s)).unwrap_err().contains("cast it to a string"));
        assert!(refused(array.data_type()).unwrap().contains("cannot use Binary"));
        let field = |name: &str, array: &ArrayRef| {
            Arc::new(arrow::datatypes::Field::new(name, array.data_type().clone(), true))
        };
        let path: ArrayRef = Arc::new(StringArray::from(vec!["a.png"]));
        let image: ArrayRef = Arc::new(StructArray::from(vec![
            (field("bytes", &array), array.clone()),
            (field("path", &path), path),
        ]));
        assert_eq!(refused(image.data_type()), None, "its path can be read");
        let image = value(&image, 0, &mut |s| Value::from(s)).unwrap();
        assert_eq!(image.get_attr("path").unwrap().as_str(), Some("a.png"));
        let only: ArrayRef = Arc::new(StructArray::from(vec![(field("bytes", &array), array)]));
        assert!(refused(only.data_type()).is_some());
    }
}
