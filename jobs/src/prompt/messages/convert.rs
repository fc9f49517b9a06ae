//! A conversation as a template sees it, of Arrow's values or of JSON text.

use crate::input::row::{EachString, value};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// How deep lists and structs may be nested.
const DEPTH: usize = 32;

/// A row of a column of conversations. A struct's field that is null is absent; one that a template cannot be given is
/// an error only where the template uses it.
///
/// # Errors
/// What is wrong with the row.
pub fn conversation(column: &dyn Array, row: usize, each: EachString<'_>) -> Result<Value, String> {
    match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..) => {
            let text = value(column, row, &mut |text: &str| Value::from(text))?;
            json(text.as_str().unwrap_or_default(), each)
        }
        _ => nested(column, row, each, 0),
    }
}

fn nested(array: &dyn Array, row: usize, each: EachString<'_>, depth: usize) -> Result<Value, String> {
    if depth > DEPTH {
        return Err(format!("nested deeper than {DEPTH}"));
    }
    if array.is_null(row) {
        return Ok(Value::from(()));
    }
    let items: ArrayRef = match array.data_type() {
        DataType::Struct(fields) => {
            let mut pairs = Vec::new();
            for (field, column) in fields.iter().zip(array.as_struct().columns()) {
                if column.is_null(row) {
                    continue;
                }
                let value = nested(column, row, each, depth + 1).unwrap_or_else(|why| {
                    let why = format!("field {} of this row: {why}", field.name());
                    Value::from(Error::new(ErrorKind::InvalidOperation, why))
                });
                pairs.push((field.name().clone(), value));
            }
            return Ok(Value::from_pairs(pairs));
        }
        DataType::List(_) => array.as_list::<i32>().value(row),
        DataType::LargeList(_) => array.as_list::<i64>().value(row),
        DataType::FixedSizeList(..) => array.as_fixed_size_list().value(row),
        _ => return value(array, row, each),
    };
    let items = (0..items.len()).map(|i| nested(&items, i, each, depth + 1));
    Ok(Value::from(items.collect::<Result<Vec<_>, _>>()?))
}

/// The conversation of a text. What is null there is null.
///
/// # Errors
/// What is wrong with the text.
pub fn json(text: &str, each: EachString<'_>) -> Result<Value, String> {
    let parsed: Value = serde_json::from_str(text)
        .map_err(|error| format!("the text is not a JSON list of messages with role and content: {error}"))?;
    Ok(each_string(&parsed, each))
}

/// A value with another one for each of its strings but keys.
pub fn each_string(value: &Value, each: EachString<'_>) -> Value {
    let items = |value: &Value| value.try_iter().into_iter().flatten().collect::<Vec<_>>();
    match value.kind() {
        ValueKind::String => each(value.as_str().unwrap_or_default()),
        ValueKind::Seq => {
            Value::from(items(value).iter().map(|item| each_string(item, each)).collect::<Vec<_>>())
        }
        ValueKind::Map => Value::from_pairs(items(value).into_iter().map(|key| {
            let item = value.get_item(&key).unwrap_or_default();
            (key, each_string(&item, each))
        })),
        _ => value.clone(),
    }
}
