//! Columns as texts, which are equal where values are.

use crate::error::JobError;
use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use super::column;

/// Whole numbers from here on are not all a double.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// A column as text. A whole number is written without a fraction whatever its type: a column of integers becomes one of floats in
/// many tools as soon as a value is missing.
///
/// # Errors
/// [`JobError::Usage`] if it is not there, or holds lists or structs.
pub fn texts(batch: &RecordBatch, name: &str) -> Result<StringArray, JobError> {
    let array = column(batch, name)?;
    let refused =
        || JobError::Usage(format!("the column `{name}` is {}, which is no label", array.data_type()));
    if array.data_type().is_nested() {
        return Err(refused());
    }
    let as_type = |kind: &DataType| cast(array, kind).map_err(|_| refused());
    let text = as_type(&DataType::Utf8)?;
    let text = text.as_string::<i32>();
    let kind = match array.data_type() {
        DataType::Dictionary(_, values) => values,
        kind => kind,
    };
    if kind.is_floating() {
        let numbers = as_type(&DataType::Float64)?;
        let numbers = numbers.as_primitive::<Float64Type>();
        let written = |row: usize| {
            let number = numbers.is_valid(row).then(|| numbers.value(row))?;
            let is_whole = number.fract() == 0.0 && number.abs() < WHOLE;
            Some(if is_whole { (number as i64).to_string() } else { text.value(row).to_string() })
        };
        return Ok((0..text.len()).map(written).collect());
    }
    if kind.is_decimal() {
        return Ok(text.iter().map(|text| text.map(without_zeros)).collect());
    }
    Ok(text.clone())
}

/// A decimal without the zeros at the end of its fraction.
fn without_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Decimal128Array, Float32Array, Float64Array, Int64Array, StringArray};
    use std::sync::Arc;

    #[test]
    fn equal_numbers_are_equal_texts() {
        let big = 1_i64 << 60;
        let decimals = Decimal128Array::from(vec![Some(100), None, Some(250), Some(0)]);
        let decimals: ArrayRef = Arc::new(decimals.with_precision_and_scale(10, 2).unwrap());
        for (array, wanted) in [
            (
                Arc::new(Int64Array::from(vec![Some(1), None, Some(big)])) as ArrayRef,
                &["1", "", "1152921504606846976"][..],
            ),
            (
                Arc::new(Float64Array::from(vec![Some(1.0), None, Some(-0.0), Some(2.5)])),
                &["1", "", "0", "2.5"],
            ),
            (Arc::new(Float32Array::from(vec![1e6, 0.1, f32::NAN])), &["1000000", "0.1", "NaN"]),
            (decimals, &["1", "", "2.5", "0"]),
            (Arc::new(StringArray::from(vec!["1.0", "01"])), &["1.0", "01"]),
        ] {
            let plain = RecordBatch::try_from_iter([("n", array.clone())]).unwrap();
            let kind = DataType::Dictionary(Box::new(DataType::Int32), Box::new(array.data_type().clone()));
            let coded = cast(&array, &kind).map(|array| RecordBatch::try_from_iter([("n", array)]).unwrap());
            for batch in [Some(plain), coded.ok()].into_iter().flatten() {
                let found = texts(&batch, "n").unwrap();
                let found: Vec<&str> = found.iter().map(Option::unwrap_or_default).collect();
                assert_eq!(found, wanted);
            }
        }
    }
}
