//! Dates and times that are past those that have a text.

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::error::ArrowError;

/// What is wrong with a value of a row that was found to have no text, in words where it is a date or a time.
pub fn why_no_text(array: &dyn Array, row: usize, error: &ArrowError) -> String {
    let kind = array.data_type();
    let is_date = matches!(kind, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..));
    let number = cast(&array.slice(row, 1), &DataType::Int64).ok();
    match number.as_ref().and_then(|number| number.as_primitive_opt::<Int64Type>()) {
        Some(number) if is_date => format!(
            "the {kind} {} is past the dates that have a text, as the infinity of DuckDB is",
            number.value(0)
        ),
        _ => error.to_string(),
    }
}
