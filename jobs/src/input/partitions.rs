//! Folders that are named after a column and its value, as in `country=no`.

use crate::error::JobError;
use crate::input::found::Partition;
use arrow::array::{ArrayRef, Int32Array, StringArray, new_null_array};
use arrow::datatypes::DataType;
use percent_encoding::percent_decode_str;
use std::sync::Arc;

/// The value that stands for null.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The columns that the folders of a path below an input say.
///
/// # Errors
/// [`JobError::Usage`] for one whose name is not UTF-8 once it is decoded, and for a column that occurs twice.
pub fn partition_of<'a>(folders: impl Iterator<Item = &'a str>) -> Result<Partition, JobError> {
    let mut columns = Partition::new();
    for folder in folders {
        let Some((name, value)) = folder.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            continue;
        };
        let decoded = |text| {
            let text = percent_decode_str(text).decode_utf8();
            let why = format!("the folder {folder} is not UTF-8 once %-signs are decoded; rename it");
            text.map(String::from).map_err(|_| JobError::Usage(why))
        };
        let (name, value) = (decoded(name)?, decoded(value)?);
        if columns.iter().any(|(other, _)| *other == name) {
            let why = format!("the folders above one file name the column {name} twice; rename one of them");
            return Err(JobError::Usage(why));
        }
        columns.push((name, (value != NULL).then_some(value)));
    }
    Ok(columns)
}

/// The type of a column by all its values, as pyarrow takes it: an integer of 32 bits where all are, else a string.
pub fn partition_type<'a>(mut values: impl Iterator<Item = Option<&'a str>>) -> DataType {
    let mut any = false;
    let ints = values.all(|value| match value {
        None => true,
        Some(value) => {
            any = true;
            value.parse::<i32>().is_ok()
        }
    });
    if ints && any { DataType::Int32 } else { DataType::Utf8 }
}

/// One value in every row.
pub fn repeated(value: Option<&str>, kind: &DataType, rows: usize) -> ArrayRef {
    match (value, kind) {
        (Some(value), DataType::Int32) => {
            Arc::new(Int32Array::from_iter(std::iter::repeat_n(value.parse::<i32>().ok(), rows)))
        }
        (Some(value), _) => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, rows))),
        (None, kind) => new_null_array(kind, rows),
    }
}

/// A partition in words, for digests: the values decide prompts and are not among the bytes of the file.
pub fn shown(partition: &Partition) -> String {
    let one = |(name, value): &(String, Option<String>)| format!(", {name:?}={value:?}");
    partition.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn folders_are_columns() {
        let folders = ["data", "year=2024", "a%20b=x%3Dy=z", "=no", "c=__HIVE_DEFAULT_PARTITION__", "d="];
        let found = partition_of(folders.into_iter()).unwrap();
        let expected = [("year", Some("2024")), ("a b", Some("x=y=z")), ("c", None), ("d", Some(""))];
        assert_eq!(found, expected.map(|(name, value)| (name.to_string(), value.map(String::from))));
        for bad in [["a=1", "a=2"], ["a=%ff", "b=1"]] {
            assert!(partition_of(bad.into_iter()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn values_are_integers_of_32_bits_or_texts() {
        let kind = |values: &[Option<&'static str>]| partition_type(values.iter().copied());
        assert_eq!(kind(&[Some("1"), None, Some("02")]), DataType::Int32);
        assert_eq!(kind(&[Some("1"), Some("2147483648")]), DataType::Utf8);
        assert_eq!(kind(&[Some("1"), Some("no")]), DataType::Utf8);
        assert_eq!(kind(&[None]), DataType::Utf8);
    }
}
