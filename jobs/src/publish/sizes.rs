//! How many rows fit into so many bytes: a function of their values, and not of how they were read.

use arrow::array::{Array, AsArray, OffsetSizeTrait, RecordBatch};
use arrow::datatypes::DataType;

/// The number of rows whose values have at most `limit` bytes together with those counted in `bytes`, which are added.
pub fn rows_that_fit(batch: &RecordBatch, bytes: &mut u64, limit: u64) -> usize {
    let of = |start, end| batch.columns().iter().map(|column| value_bytes(column, start, end)).sum::<u64>();
    let rows = batch.num_rows();
    let all = of(0, rows);
    if bytes.saturating_add(all) <= limit {
        *bytes += all;
        return rows;
    }
    for row in 0..rows {
        let one = of(row, row + 1);
        if bytes.saturating_add(one) > limit {
            return row;
        }
        *bytes += one;
    }
    rows
}

/// Bytes of the texts and binaries in rows of an array, also nested ones; eight for any other value.
fn value_bytes(array: &dyn Array, start: usize, end: usize) -> u64 {
    fn span<O: OffsetSizeTrait>(offsets: &[O], start: usize, end: usize) -> (usize, usize) {
        (offsets[start].as_usize(), offsets[end].as_usize())
    }
    let length = |(start, end): (usize, usize)| (end - start) as u64;
    let below = |child: &dyn Array, (start, end): (usize, usize)| value_bytes(child, start, end);
    match array.data_type() {
        DataType::Utf8 => length(span(array.as_string::<i32>().value_offsets(), start, end)),
        DataType::LargeUtf8 => length(span(array.as_string::<i64>().value_offsets(), start, end)),
        DataType::Binary => length(span(array.as_binary::<i32>().value_offsets(), start, end)),
        DataType::LargeBinary => length(span(array.as_binary::<i64>().value_offsets(), start, end)),
        DataType::Utf8View => (start..end).map(|row| array.as_string_view().value(row).len() as u64).sum(),
        DataType::BinaryView => (start..end).map(|row| array.as_binary_view().value(row).len() as u64).sum(),
        DataType::FixedSizeBinary(size) => *size as u64 * (end - start) as u64,
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            below(list.values(), span(list.value_offsets(), start, end))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            below(list.values(), span(list.value_offsets(), start, end))
        }
        DataType::FixedSizeList(_, size) => {
            let (list, size) = (array.as_fixed_size_list(), *size as usize);
            below(list.values(), (start * size, end * size))
        }
        DataType::Map(..) => {
            let map = array.as_map();
            below(map.entries(), span(map.value_offsets(), start, end))
        }
        DataType::Struct(_) => {
            array.as_struct().columns().iter().map(|column| value_bytes(column, start, end)).sum()
        }
        _ => 8 * (end - start) as u64,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow::array::{ArrayRef, ListArray, StringArray};
    use arrow::datatypes::Int32Type;
    use std::sync::Arc;

    #[test]
    fn rows_are_counted_by_their_values_wherever_they_lie() {
        let texts: ArrayRef =
            Arc::new(StringArray::from(vec![Some("abcd"), None, Some("ef"), Some("ghijkl")]));
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
            Some(vec![Some(1)]),
            Some(vec![]),
            None,
            Some(vec![Some(1), Some(2)]),
        ]));
        let batch =
            RecordBatch::try_from_iter_with_nullable([("t", texts, true), ("l", lists, true)]).unwrap();
        // 12, 0, 2 and 22 bytes.
        for (limit, fit) in [(0, 0), (12, 2), (13, 2), (14, 3), (35, 3), (36, 4)] {
            assert_eq!(rows_that_fit(&batch, &mut 0, limit), fit, "{limit}");
        }
        assert_eq!(rows_that_fit(&batch.slice(2, 2), &mut 0, 23), 1);
        assert_eq!(rows_that_fit(&batch.slice(2, 2), &mut 10, 12), 1);
    }
}
