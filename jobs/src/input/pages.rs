//! The page headers of a column chunk, looked at before the Parquet library allocates what they claim.
//!
//! A header is a Thrift struct in the compact protocol (parquet.thrift, `PageHeader`): field 1 is the
//! page's type, field 2 its uncompressed and field 3 its compressed size.

use crate::input::thrift::{I32, Walker};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::ChunkReader;
use std::io::Read;
use std::ops::Range;

/// A page that claims to unpack to more bytes is refused, if that is also more than so many times what it takes in the
/// file: some writers put a thousand values into a page, however long they are.
const PAGE_BYTES: u64 = 256 << 20;
const PAGE_RATIO: u64 = 64;

/// The type of a dictionary page.
const DICTIONARY: i64 = 2;

/// Why a column chunk is not read.
#[derive(Debug)]
pub enum PageError {
    /// It is not what Parquet allows.
    Damaged(String),
    /// It is more than is taken.
    TooLarge(String),
}

/// The bytes of pages, unpacked.
#[derive(Clone, Copy, Debug, Default)]
pub struct PageSizes {
    /// Of the dictionary.
    pub dictionary: u64,
    /// Of the largest other page.
    pub largest: u64,
}

/// Walks the page headers of a column chunk.
///
/// # Errors
/// What is wrong with the first bad one.
pub fn check<R: ChunkReader>(file: &R, column: &ColumnChunkMetaData) -> Result<PageSizes, PageError> {
    let damaged = PageError::Damaged;
    let Some(Range { start, end }) = place(column).filter(|place| place.end <= file.len()) else {
        let (size, start) = (column.compressed_size(), first_page(column));
        return Err(damaged(format!("claims {size} bytes at {start}, past the end")));
    };
    let (mut at, mut pages) = (start, PageSizes::default());
    while at < end {
        let reader = file.get_read(at).map_err(|e| damaged(e.to_string()))?;
        let mut header = Walker::new(reader.take(end - at));
        let mut sizes = [None; 3];
        let walked = header.fields(0, |header, field, kind| match (field, kind) {
            (1..=3, I32) => {
                sizes[field as usize - 1] = Some(header.number()?);
                Ok(true)
            }
            _ => Ok(false),
        });
        walked.map_err(|why| damaged(format!("has a bad page header at byte {at}: {why}")))?;
        let header_bytes = header.at();
        let [kind, Some(uncompressed), Some(compressed)] = sizes else {
            return Err(damaged(format!("has a page header without sizes at byte {at}")));
        };
        let (Ok(uncompressed), Ok(compressed)) = (u64::try_from(uncompressed), u64::try_from(compressed))
        else {
            return Err(damaged(format!("has a page with a negative size at byte {at}")));
        };
        if is_too_large(uncompressed, compressed) {
            return Err(PageError::TooLarge(format!(
                "unpacks to more than {} MiB in one page, {PAGE_RATIO} times what it takes in the file or more; write \
                 it with smaller pages, or leave the column out with --keep",
                PAGE_BYTES >> 20,
            )));
        }
        if kind == Some(DICTIONARY) {
            pages.dictionary = uncompressed;
        } else {
            pages.largest = pages.largest.max(uncompressed);
        }
        at = at.saturating_add(header_bytes).saturating_add(compressed);
        if at > end {
            return Err(damaged(format!("has a page of {compressed} bytes that ends past its column chunk")));
        }
    }
    Ok(pages)
}

const fn is_too_large(uncompressed: u64, compressed: u64) -> bool {
    uncompressed > PAGE_BYTES && uncompressed > compressed.saturating_mul(PAGE_RATIO)
}

/// The place of a column chunk by the footer, if it is possible.
pub fn place(column: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let (start, size) = (first_page(column).try_into().ok()?, u64::try_from(column.compressed_size()).ok()?);
    Some(start..size.checked_add(start)?)
}

fn first_page(column: &ColumnChunkMetaData) -> i64 {
    column.dictionary_page_offset().filter(|&at| at > 0).unwrap_or(column.data_page_offset())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_page_is_read_where_the_file_is_as_large() {
        assert!(!is_too_large(PAGE_BYTES, 1));
        assert!(is_too_large(PAGE_BYTES + 1, PAGE_BYTES / PAGE_RATIO));
        assert!(!is_too_large(PAGE_BYTES + PAGE_RATIO, PAGE_BYTES / PAGE_RATIO + 1));
        assert!(!is_too_large(i32::MAX as u64, i32::MAX as u64 / 3));
        assert!(!is_too_large(u64::MAX, u64::MAX));
    }
}
