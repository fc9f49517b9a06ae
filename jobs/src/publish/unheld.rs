//! Values that Parquet has no place for, though it has their type: dates with a time of day, and seconds that are no
//! milliseconds of 64 bits.

use crate::error::JobError;
use crate::leaves::has_leaf;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date64Type, Field, Time32SecondType, TimeUnit, TimestampSecondType};
use arrow::temporal_conversions::date64_to_datetime;

/// Milliseconds.
const DAY: i64 = 86_400_000;

/// Whether a column is of a type of whose values Parquet may have no place for some.
pub fn may_be_unheld(field: &Field) -> bool {
    has_leaf(field, &|kind| {
        matches!(
            kind,
            DataType::Date64 | DataType::Timestamp(TimeUnit::Second, _) | DataType::Time32(TimeUnit::Second)
        )
    })
}

/// Refuses rows, of which `first_row` is the number of the first, that have such a value.
///
/// # Errors
/// [`JobError::Column`] about the first.
pub fn refuse_unheld(rows: &RecordBatch, first_row: u64) -> Result<(), JobError> {
    let schema = rows.schema_ref();
    let columns = schema.fields().iter().zip(rows.columns()).filter(|(field, _)| may_be_unheld(field));
    // Which row it is, is asked only where there is one.
    for (field, column) in columns.filter(|(_, column)| unheld(column).is_some()) {
        for row in 0..column.len() {
            if let Some(why) = unheld(&column.slice(row, 1)) {
                let why = format!(
                    "row {}: {why}; cast the column to a timestamp in milliseconds, leave it out with --keep, or name the output \
                     .jsonl",
                    first_row + row as u64
                );
                return Err(JobError::Column { column: field.name().clone(), why });
            }
        }
    }
    Ok(())
}

/// What is wrong with the first value below an array that is wrong.
fn unheld(array: &dyn Array) -> Option<String> {
    let rows = || (0..array.len()).filter(|&row| array.is_valid(row));
    match array.data_type() {
        DataType::Date64 => array.as_primitive::<Date64Type>().iter().flatten().find_map(date),
        DataType::Timestamp(TimeUnit::Second, _) => {
            let mut seconds = array.as_primitive::<TimestampSecondType>().iter().flatten();
            seconds.find(|seconds| seconds.checked_mul(1000).is_none()).map(late)
        }
        DataType::Time32(TimeUnit::Second) => {
            let mut seconds = array.as_primitive::<Time32SecondType>().iter().flatten();
            seconds.find(|seconds| seconds.checked_mul(1000).is_none()).map(|seconds| late(seconds.into()))
        }
        DataType::Struct(_) => {
            let columns = array.as_struct().columns();
            rows().find_map(|row| columns.iter().find_map(|column| unheld(&column.slice(row, 1))))
        }
        DataType::Map(..) => rows().find_map(|row| unheld(&array.as_map().value(row))),
        DataType::List(_) => rows().find_map(|row| unheld(&array.as_list::<i32>().value(row))),
        DataType::LargeList(_) => rows().find_map(|row| unheld(&array.as_list::<i64>().value(row))),
        DataType::ListView(_) => rows().find_map(|row| unheld(&array.as_list_view::<i32>().value(row))),
        DataType::LargeListView(_) => rows().find_map(|row| unheld(&array.as_list_view::<i64>().value(row))),
        DataType::FixedSizeList(..) => rows().find_map(|row| unheld(&array.as_fixed_size_list().value(row))),
        DataType::Dictionary(_, values) => cast(array, values).ok().and_then(|values| unheld(&values)),
        _ => None,
    }
}

fn date(milliseconds: i64) -> Option<String> {
    let held = milliseconds % DAY == 0 && i32::try_from(milliseconds / DAY).is_ok();
    let shown = || match date64_to_datetime(milliseconds) {
        Some(time) => format!("{time:?}"),
        None => format!("{milliseconds} ms after 1970"),
    };
    (!held).then(|| format!("the Date64 {} is no day that a date of Parquet can be", shown()))
}

fn late(seconds: i64) -> String {
    format!("{seconds} s after 1970 are more milliseconds than Parquet counts")
}
