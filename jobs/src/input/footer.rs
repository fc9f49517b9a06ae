//! The footer of a Parquet file: schema, row groups, row counts.

use crate::error::JobError;
use crate::input::file::{broken, guarded};
use crate::input::footer_map::FooterMap;
use crate::input::ranges::OpenSource;
use crate::input::types::{with_microseconds, with_times_in_utc, with_values, with_zones};
use crate::input::unknown::without_unknown_types;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetStatisticsPolicy};
use parquet::file::reader::{ChunkReader, Length};
use std::io::{BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A footer of more bytes is refused before it is read.
const FOOTER_BYTES: u64 = 256 << 20;

/// Rows of a job, at most: its journal has a bit in memory for each.
pub const MAX_ROWS: u64 = 1 << 32;

/// Bytes of the footer that are read at a time.
const WINDOW: u64 = 1 << 20;

/// A footer that was walked. What it says of a row group is read when it is asked for.
pub struct Footer {
    path: PathBuf,
    bytes: FooterBytes,
    map: FooterMap,
    /// All but the row groups.
    file: ArrowReaderMetadata,
}

impl Footer {
    /// Reads the footer of a file.
    ///
    /// # Errors
    /// [`JobError::Input`], or what the system or the store says.
    pub fn read(source: &OpenSource, path: &Path) -> Result<Footer, JobError> {
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
        let place = length - 8 - footer..length - 8;
        let reader = source.get_read(place.start).map_err(failed)?.into_inner().take(footer);
        let map = FooterMap::of(BufReader::with_capacity(WINDOW.min(footer) as usize, reader));
        let map = map.map_err(|why| {
            source.failure().unwrap_or_else(|| broken(path, ", footer", &format!("cannot be used: {why}")))
        })?;
        let bytes = FooterBytes { source: source.clone(), place, window: Mutex::default() };
        let file = load(&bytes, path, &map, None)?;
        Ok(Footer { path: path.to_path_buf(), bytes, map, file })
    }

    /// Schema and key-value metadata, without row groups.
    pub fn file(&self) -> &ArrowReaderMetadata {
        &self.file
    }

    /// The file's metadata with one of its row groups, which is number 0 there.
    ///
    /// # Errors
    /// As [`Footer::read`].
    pub fn group(&self, group: usize) -> Result<ArrowReaderMetadata, JobError> {
        load(&self.bytes, &self.path, &self.map, Some(group))
    }

    /// The rows of each row group.
    ///
    /// # Errors
    /// [`JobError::Input`] if they do not add up to what the file claims.
    pub fn row_counts(&self) -> Result<Vec<u64>, JobError> {
        let counts: Vec<u64> = self.map.groups.iter().map(|(_, rows)| *rows).collect();
        let sum = counts.iter().try_fold(0u64, |sum, &n| sum.checked_add(n));
        let claimed = self.map.rows;
        if sum.is_none_or(|sum| sum > MAX_ROWS || u64::try_from(claimed) != Ok(sum)) {
            let why = format!(
                "claims {claimed} rows, but its row groups do not add up to that, or to more than can be read; the file \
                 is damaged"
            );
            return Err(broken(&self.path, ", footer", &why));
        }
        Ok(counts)
    }

    /// The nulls of each root column, where the footer says so: not of nested columns.
    pub fn null_counts(&self) -> Vec<Option<u64>> {
        let schema = self.file.parquet_schema();
        let mut counts = vec![None; self.file.schema().fields().len()];
        for (leaf, column) in schema.columns().iter().enumerate() {
            if schema.get_column_root(leaf).is_primitive()
                && let Some(count) = counts.get_mut(schema.get_column_root_idx(leaf))
            {
                *count = match column.max_def_level() {
                    0 => Some(0),
                    _ => self.map.nulls.get(leaf).copied().flatten(),
                };
            }
        }
        counts
    }
}

/// The bytes of a footer, of which those around the last read are kept.
struct FooterBytes {
    source: OpenSource,
    /// Where it lies in the file.
    place: Range<u64>,
    /// Where the bytes that are kept begin in the file, and they.
    window: Mutex<(u64, Bytes)>,
}

impl FooterBytes {
    fn get(&self, part: Range<u64>) -> Result<Bytes, ParquetError> {
        let (start, len) = (self.place.start + part.start, part.end - part.start);
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if start < window.0 || start + len > window.0 + window.1.len() as u64 {
            let end = (start + len.max(WINDOW)).min(self.place.end);
            *window = (start, self.source.get_bytes(start, (end - start) as usize)?);
        }
        let from = (start - window.0) as usize;
        Ok(window.1.slice(from..from + len as usize))
    }
}

/// Reads all but the row groups, and one of those if it is named.
fn load(
    footer: &FooterBytes,
    path: &Path,
    map: &FooterMap,
    group: Option<usize>,
) -> Result<ArrowReaderMetadata, JobError> {
    let place = group.map_or(", footer".into(), |group| format!(", footer, row group {group}"));
    let failed = |why: &str| footer.source.failure().unwrap_or_else(|| broken(path, &place, why));
    let parts = map.parts(group).map(|part| footer.get(part)).collect::<Result<Vec<Bytes>, _>>();
    let mut bytes = map.assemble(&parts.map_err(|error| failed(&error.to_string()))?, group);
    bytes.extend((bytes.len() as u32).to_le_bytes());
    bytes.extend(b"PAR1");
    let bytes = Bytes::from(bytes);
    let options = ArrowReaderOptions::new()
        .with_page_index_policy(PageIndexPolicy::Skip)
        .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll);
    let loaded = match guarded(|| ArrowReaderMetadata::load(&bytes, options.clone())) {
        Ok(Ok(metadata)) => Ok(Ok(metadata)),
        failed => without_unknown_types(&bytes, options).map_or(failed, |metadata| Ok(Ok(metadata))),
    };
    match loaded {
        Ok(Ok(metadata)) => {
            let typed = with_microseconds(metadata).and_then(with_zones).and_then(with_values);
            let typed = typed.and_then(with_times_in_utc);
            typed.map_err(|error| failed(&error.to_string()))
        }
        Ok(Err(error)) => Err(failed(&error.to_string())),
        Err(panic) => Err(failed(&panic)),
    }
}
