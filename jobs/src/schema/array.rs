//! Answers as an Arrow array.

use super::AnswerSchema;
use super::types::{Column, Kind, fields};
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, DictionaryArray, Float64Array, Int32Array, Int64Array, ListArray,
    StringArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::Int32Type;
use chrono::{DateTime, NaiveDate};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

const DAY_IN_MICROSECONDS: i64 = 86_400_000_000;

/// Microseconds and days are counted from here.
const EPOCH: NaiveDate = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a day");

type Values<'a> = [Option<&'a RawValue>];

impl AnswerSchema {
    /// The array of answers, null where there is none, and the places of those that are no such values, which are null
    /// there.
    pub fn array(&self, texts: &[Option<&str>]) -> (ArrayRef, Vec<usize>) {
        let (column, _) = self.column();
        let one = |text: &Option<&str>| -> Result<ArrayRef, String> {
            let values: Vec<Option<&RawValue>> = vec![text.map(raw).transpose()?];
            array(&column, &values)
        };
        let all = |texts: &[Option<&str>]| -> Result<ArrayRef, String> {
            let values: Vec<Option<&RawValue>> =
                texts.iter().map(|text| text.map(raw).transpose()).collect::<Result<_, _>>()?;
            array(&column, &values)
        };
        if let Ok(array) = all(texts) {
            return (array, Vec::new());
        }
        let wrong: Vec<usize> = (0..texts.len()).filter(|&i| one(&texts[i]).is_err()).collect();
        let right: Vec<Option<&str>> =
            texts.iter().enumerate().map(|(i, text)| text.filter(|_| !wrong.contains(&i))).collect();
        let array = all(&right).unwrap_or_else(|_| new_null_array(&column.data_type(), texts.len()));
        (array, wrong)
    }
}

pub(super) fn raw(text: &str) -> Result<&RawValue, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn array(column: &Column, values: &Values<'_>) -> Result<ArrayRef, String> {
    let values: Vec<Option<&RawValue>> =
        values.iter().map(|value| value.filter(|value| value.get() != "null")).collect();
    Ok(match &column.kind {
        Kind::Integer => Arc::new(Int64Array::from(each(&values, parsed)?)),
        Kind::Number => Arc::new(Float64Array::from(each(&values, |text| {
            parsed::<f64>(text).filter(|number| number.is_finite())
        })?)),
        Kind::Boolean => Arc::new(BooleanArray::from(each(&values, parsed)?)),
        Kind::String => Arc::new(StringArray::from(each(&values, unquoted)?)),
        Kind::Json => Arc::new(StringArray::from(each(&values, |text| Some(text.to_string()))?)),
        Kind::Date => Arc::new(Date32Array::from(each(&values, |text| {
            let day = NaiveDate::parse_from_str(&unquoted(text)?, "%Y-%m-%d").ok()?;
            i32::try_from(day.signed_duration_since(EPOCH).num_days()).ok()
        })?)),
        Kind::Time => Arc::new(Time64MicrosecondArray::from(each(&values, |text| {
            // With the offset from UTC taken off, which may lead to the day before or after.
            let time = microseconds(&format!("1970-01-01T{}", unquoted(text)?))?;
            Some(time.rem_euclid(DAY_IN_MICROSECONDS))
        })?)),
        Kind::DateTime => {
            let times = each(&values, |text| microseconds(&unquoted(text)?))?;
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
        }
        Kind::Label(labels) => {
            let places: HashMap<&str, i32> = labels.iter().map(String::as_str).zip(0..).collect();
            let keys = each(&values, |text| places.get(unquoted(text)?.as_str()).copied())?;
            let labels = Arc::new(StringArray::from_iter_values(labels));
            let array = DictionaryArray::<Int32Type>::try_new(Int32Array::from(keys), labels);
            Arc::new(array.map_err(|error| error.to_string())?)
        }
        Kind::List(items) => list(items, &values)?,
        Kind::Struct { properties, others } => structs(properties, *others, &values)?,
    })
}

/// What is made of each value.
fn each<T>(values: &Values<'_>, make: impl Fn(&str) -> Option<T>) -> Result<Vec<Option<T>>, String> {
    let one = |value: &Option<&RawValue>| match value {
        None => Ok(None),
        Some(value) => make(value.get()).map(Some).ok_or_else(|| format!("{value} is not of the schema")),
    };
    values.iter().map(one).collect()
}

fn parsed<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn unquoted(text: &str) -> Option<String> {
    serde_json::from_str(text).ok()
}

fn microseconds(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros())
}

fn list(items: &Column, values: &Values<'_>) -> Result<ArrayRef, String> {
    let (mut flat, mut lengths) = (Vec::new(), Vec::new());
    for value in values {
        let inner: Vec<&RawValue> = match value {
            None => Vec::new(),
            Some(value) => serde_json::from_str(value.get()).map_err(|error| error.to_string())?,
        };
        lengths.push(inner.len());
        flat.extend(inner.into_iter().map(Some));
    }
    let nulls = NullBuffer::from_iter(values.iter().map(Option::is_some));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let array = ListArray::try_new(items.item(), offsets, array(items, &flat)?, Some(nulls));
    Ok(Arc::new(array.map_err(|error| error.to_string())?))
}

fn structs(properties: &[(String, Column)], others: bool, values: &Values<'_>) -> Result<ArrayRef, String> {
    let places: HashMap<&str, usize> = properties.iter().map(|(name, _)| name.as_str()).zip(0..).collect();
    let mut columns: Vec<Vec<Option<&RawValue>>> = vec![vec![None; values.len()]; properties.len()];
    let mut rest: Vec<Option<String>> = vec![None; values.len()];
    for (row, value) in values.iter().enumerate() {
        let Some(value) = value else { continue };
        let Pairs(pairs) = serde_json::from_str(value.get()).map_err(|error| error.to_string())?;
        for (name, value) in pairs {
            match places.get(name.as_str()) {
                Some(&place) => columns[place][row] = Some(value),
                None if others => {
                    let text = rest[row].get_or_insert_with(String::new);
                    text.push(if text.is_empty() { '{' } else { ',' });
                    text.push_str(&serde_json::Value::from(name).to_string());
                    text.push(':');
                    text.push_str(value.get());
                }
                None => return Err(format!("{name:?} is no property of the schema")),
            }
        }
    }
    let mut arrays = Vec::new();
    for ((_, column), values) in properties.iter().zip(&columns) {
        arrays.push(array(column, values)?);
    }
    if others {
        let rest: StringArray = rest.into_iter().map(|text| text.map(|text| text + "}")).collect();
        arrays.push(Arc::new(rest));
    }
    let nulls = NullBuffer::from_iter(values.iter().map(Option::is_some));
    let array = StructArray::try_new(fields(properties, others), arrays, Some(nulls));
    Ok(Arc::new(array.map_err(|error| error.to_string())?))
}

/// The properties of an object as they are written, those of equal names, too.
pub(super) struct Pairs<'a>(pub Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Object)
    }
}
