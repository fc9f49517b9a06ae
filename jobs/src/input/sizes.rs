//! How large the rows of a column are once they are decoded.

use crate::input::file::guarded;
use crate::input::ranges::OpenSource;
use parquet::basic::{Encoding, Type as Physical};
use parquet::column::page::{Page, PageReader};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::serialized_reader::SerializedPageReader;
use std::sync::Arc;

/// A dictionary of fewer bytes cannot make rows large.
const SMALL_DICTIONARY: u64 = 16 << 10;

/// The bytes of a row: those of the file on average or, as a value of a dictionary may stand in every row, those of the
/// longest value of the dictionary.
pub fn row_bytes(source: &OpenSource, column: &ColumnChunkMetaData, rows: i64, dictionary: u64) -> u64 {
    let rows = rows.max(1) as u64;
    let average = column.uncompressed_size().max(0) as u64 / rows;
    if dictionary < SMALL_DICTIONARY || column.column_type() != Physical::BYTE_ARRAY {
        return average;
    }
    let values_per_row = (column.num_values().max(0) as u64).div_ceil(rows).max(1);
    let longest = guarded(|| longest_value(source, column)).ok().flatten().unwrap_or(dictionary);
    average.max(longest.saturating_mul(values_per_row))
}

/// The bytes of the longest value of a column's dictionary; none if there is none, or it is damaged.
fn longest_value(source: &OpenSource, column: &ColumnChunkMetaData) -> Option<u64> {
    let mut pages = SerializedPageReader::new(Arc::new(source.clone()), column, 0, None).ok()?;
    let Page::DictionaryPage { buf, num_values, encoding, .. } = pages.get_next_page().ok()?? else {
        return None;
    };
    if !matches!(encoding, Encoding::PLAIN | Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY) {
        return None;
    }
    let (mut left, mut longest) = (&buf[..], 0u64);
    for _ in 0..num_values {
        let (length, rest) = left.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length);
        left = rest.get(length as usize..)?;
        longest = longest.max(u64::from(length));
    }
    Some(longest)
}
