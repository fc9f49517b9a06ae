//! The footer of a Parquet file: schema, row groups, row counts.

use crate::error::JobError;
use crate::input::file::{broken, guarded};
use crate::input::pages;
use crate::input::ranges::OpenSource;
use crate::input::types::with_microseconds;
use crate::input::unknown::without_unknown_types;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::reader::{ChunkReader, Length};
use std::collections::BTreeMap;
use std::path::Path;

/// A footer of more bytes is refused before it is read.
const FOOTER_BYTES: u64 = 256 << 20;

/// Reads a footer.
///
/// # Errors
/// [`JobError::Input`], or what the store says.
pub fn footer(source: &OpenSource, path: &Path) -> Result<ArrowReaderMetadata, JobError> {
    let length = source.len();
    let failed =
        |error: ParquetError| source.failure().unwrap_or_else(|| broken(path, "", &error.to_string()));
    let mut tail = [0; 8];
    if length >= 12 {
        tail.copy_from_slice(&source.get_bytes(length - 8, 8).map_err(failed)?);
    }
    if !matches!(&tail[4..], b"PAR1" | b"PARE") {
        return Err(broken(path, "", "is not a Parquet file, or is cut short: its footer is missing"));
    }
    let footer = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    if footer > FOOTER_BYTES || footer + 12 > length {
        let why = format!("its footer claims {footer} bytes in a file of {length}; the file is damaged");
        return Err(broken(path, "", &why));
    }
    let bytes = source.get_bytes(length - 8 - footer, footer as usize + 8).map_err(failed)?;
    pages::check_footer(&bytes).map_err(|why| broken(path, ", footer", &format!("is damaged: {why}")))?;
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Skip);
    let loaded = match guarded(|| ArrowReaderMetadata::load(&bytes, options.clone())) {
        Ok(Ok(metadata)) => Ok(Ok(metadata)),
        failed => without_unknown_types(&bytes, options).map_or(failed, |metadata| Ok(Ok(metadata))),
    };
    let why = match loaded {
        Ok(Ok(metadata)) => {
            return with_microseconds(metadata).map_err(|error| broken(path, ", footer", &error.to_string()));
        }
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic,
    };
    Err(broken(path, ", footer", &why))
}

/// The rows of each row group.
///
/// # Errors
/// [`JobError::Input`] if they do not add up to what the file claims.
pub fn row_counts(path: &Path, metadata: &ArrowReaderMetadata) -> Result<Vec<u64>, JobError> {
    let groups = metadata.metadata().row_groups().iter().enumerate();
    let counts: Vec<u64> = groups
        .map(|(i, group)| {
            u64::try_from(group.num_rows()).map_err(|_| {
                broken(path, &format!(", row group {i}"), &format!("claims {} rows", group.num_rows()))
            })
        })
        .collect::<Result<_, _>>()?;
    let sum = counts.iter().try_fold(0u64, |sum, &n| sum.checked_add(n));
    let claimed = metadata.metadata().file_metadata().num_rows();
    if sum.is_none_or(|sum| u64::try_from(claimed) != Ok(sum)) {
        let why =
            format!("claims {claimed} rows, but its row groups do not add up to that; the file is damaged");
        return Err(broken(path, ", footer", &why));
    }
    Ok(counts)
}

/// The nulls of each root column, where the footer says so: not of nested columns.
pub fn null_counts(metadata: &ArrowReaderMetadata) -> Vec<Option<u64>> {
    let schema = metadata.parquet_schema();
    let mut counts = vec![None; metadata.schema().fields().len()];
    for (leaf, column) in schema.columns().iter().enumerate() {
        let root = schema.get_column_root_idx(leaf);
        if !schema.get_column_root(leaf).is_primitive() {
            continue;
        }
        let groups = metadata.metadata().row_groups().iter();
        let nulls = groups.map(|group| match column.max_def_level() {
            0 => Some(0),
            _ => group.column(leaf).statistics()?.null_count_opt(),
        });
        if let Some(count) = counts.get_mut(root) {
            *count = nulls.sum();
        }
    }
    counts
}

/// The columns of a codec that this build does not read, and what to do.
pub fn unread_codecs(metadata: &ArrowReaderMetadata) -> BTreeMap<String, String> {
    let (schema, mut columns) = (metadata.parquet_schema(), BTreeMap::new());
    for group in metadata.metadata().row_groups() {
        for (leaf, column) in group.columns().iter().enumerate() {
            if column.compression() == Compression::LZO {
                let why = "is compressed with LZO, which is not supported; write it with zstd, or leave the column out with \
                           --keep";
                columns.insert(schema.get_column_root(leaf).name().to_string(), why.to_string());
            }
        }
    }
    columns
}
