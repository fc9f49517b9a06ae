//! The page headers of a column chunk, and the footer, looked at before the Parquet library allocates what they claim.
//!
//! A header is a Thrift struct in the compact protocol (parquet.thrift, `PageHeader`): field 1 is the
//! page's type, field 2 its uncompressed and field 3 its compressed size.

use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::ChunkReader;
use std::io::Read;
use std::ops::Range;

/// A page that claims to unpack to more bytes is refused.
const PAGE_BYTES: u64 = 256 << 20;

/// The deepest nesting of a header.
const DEPTH: usize = 16;

/// Walks a footer, Thrift like the headers.
///
/// # Errors
/// What is wrong with it: a list may claim more elements than there are bytes.
pub fn check_footer(footer: &[u8]) -> Result<(), String> {
    Header { source: footer, fields: [None; 3] }.read_struct(0)
}

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

/// Walks the page headers of a column chunk. Returns the bytes of its dictionary, unpacked.
///
/// # Errors
/// What is wrong with the first bad one.
pub fn check<R: ChunkReader>(file: &R, column: &ColumnChunkMetaData) -> Result<u64, PageError> {
    let damaged = PageError::Damaged;
    let Some(Range { start, end }) = place(column).filter(|place| place.end <= file.len()) else {
        let (size, start) = (column.compressed_size(), first_page(column));
        return Err(damaged(format!("claims {size} bytes at {start}, past the end")));
    };
    let (mut at, mut dictionary) = (start, 0);
    while at < end {
        let reader = file.get_read(at).map_err(|e| damaged(e.to_string()))?;
        let mut header = Header { source: reader.take(end - at), fields: [None; 3] };
        header.read_struct(0).map_err(|why| damaged(format!("has a bad page header at byte {at}: {why}")))?;
        let header_bytes = end - at - header.source.limit();
        let [kind, Some(uncompressed), Some(compressed)] = header.fields else {
            return Err(damaged(format!("has a page header without sizes at byte {at}")));
        };
        let (Ok(uncompressed), Ok(compressed)) = (u64::try_from(uncompressed), u64::try_from(compressed))
        else {
            return Err(damaged(format!("has a page with a negative size at byte {at}")));
        };
        if uncompressed > PAGE_BYTES {
            return Err(PageError::TooLarge(format!(
                "unpacks to more than {} MiB in one page; write it with smaller pages, or leave the column out \
                 with --keep",
                PAGE_BYTES >> 20,
            )));
        }
        if kind == Some(DICTIONARY) {
            dictionary = uncompressed;
        }
        at = at.saturating_add(header_bytes).saturating_add(compressed);
        if at > end {
            return Err(damaged(format!("has a page of {compressed} bytes that ends past its column chunk")));
        }
    }
    Ok(dictionary)
}

/// The place of a column chunk by the footer, if it is possible.
pub fn place(column: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let (start, size) = (first_page(column).try_into().ok()?, u64::try_from(column.compressed_size()).ok()?);
    Some(start..size.checked_add(start)?)
}

fn first_page(column: &ColumnChunkMetaData) -> i64 {
    column.dictionary_page_offset().filter(|&at| at > 0).unwrap_or(column.data_page_offset())
}

struct Header<R> {
    source: R,
    /// Type, uncompressed and compressed size.
    fields: [Option<i64>; 3],
}

impl<R: Read> Header<R> {
    fn byte(&mut self) -> Result<u8, String> {
        let mut byte = [0];
        self.source.read_exact(&mut byte).map_err(|_| "cut short".to_string())?;
        Ok(byte[0])
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number without end".into())
    }

    fn zigzag(&mut self) -> Result<i64, String> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn skip_bytes(&mut self, n: u64) -> Result<(), String> {
        let skipped = std::io::copy(&mut self.source.by_ref().take(n), &mut std::io::sink());
        if skipped.is_ok_and(|skipped| skipped == n) { Ok(()) } else { Err("cut short".into()) }
    }

    /// Reads a struct; at depth 0 type and sizes are kept.
    fn read_struct(&mut self, depth: usize) -> Result<(), String> {
        let mut field = 0i64;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            field = if head >> 4 == 0 { self.zigzag()? } else { field + i64::from(head >> 4) };
            match (depth, field, head & 0x0f) {
                (0, 1..=3, 5) => self.fields[field as usize - 1] = Some(self.zigzag()?),
                (_, _, 1 | 2) => {}
                (_, _, kind) => self.skip(kind, depth)?,
            }
        }
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Result<(), String> {
        if depth >= DEPTH {
            return Err("nested too deep".into());
        }
        match kind {
            1..=3 => self.skip_bytes(1),
            4..=6 => self.varint().map(|_| ()),
            7 => self.skip_bytes(8),
            8 => self.varint().and_then(|n| self.skip_bytes(n)),
            9 | 10 => {
                let head = self.byte()?;
                let n = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
                if n > 0 && matches!(head & 0x0f, 1 | 2) {
                    // To the Parquet library these take no byte, so that it would count to 2^31; the format has none here.
                    return Err("a list of booleans".into());
                }
                // Each element takes a byte at least, so that a forged count ends with the source.
                (0..n).try_for_each(|_| self.skip(head & 0x0f, depth + 1))
            }
            12 => self.read_struct(depth + 1),
            _ => Err(format!("a field of unknown type {kind}")),
        }
    }
}
