//! Texts that were handed over as UTF-8 and are not, which a library that checks none may bring from a file.

use crate::guard::guarded;
use arrow::array::{Array, ArrayData, ArrayRef, UInt64Array};
use arrow::compute::{cast, take};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use std::sync::Arc;

/// An array with null in the rows that cannot be read, and these rows, ascending. Reading them as they are would be undefined.
///
/// # Errors
/// What is wrong with an array that has no rows that could be told from each other.
pub(super) fn readable(array: &ArrayRef) -> Result<(ArrayRef, Vec<usize>), String> {
    if is_readable(&array.to_data()) {
        return Ok((Arc::clone(array), Vec::new()));
    }
    guarded(|| without_lost(array).map_err(|error| error.to_string())).unwrap_or_else(Err)
}

/// Whether all texts are UTF-8. Other values are not looked at: below a null, anything may stand.
fn is_readable(data: &ArrayData) -> bool {
    match data.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => data.validate_values().is_ok(),
        _ => data.child_data().iter().all(is_readable),
    }
}

fn without_lost(array: &ArrayRef) -> Result<(ArrayRef, Vec<usize>), ArrowError> {
    // A row of a dictionary would still have all its values.
    let plain = match array.data_type() {
        DataType::Dictionary(_, value) => cast(array, value)?,
        _ => Arc::clone(array),
    };
    let mut places = Vec::with_capacity(plain.len());
    for row in 0..plain.len() as u64 {
        // Not a slice, which of a list would have the other rows' items.
        let one = take(&plain, &UInt64Array::from(vec![row]), None)?;
        places.push((plain.is_valid(row as usize) && is_readable(&one.to_data())).then_some(row));
    }
    let lost = (0..plain.len()).filter(|&row| places[row].is_none() && plain.is_valid(row)).collect();
    let rest = take(&plain, &UInt64Array::from(places), None)?;
    Ok((cast(&rest, array.data_type())?, lost))
}
