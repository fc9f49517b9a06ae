//! Reads the rows of input files in batches.

use crate::error::JobError;
use crate::input::file::{InputFile, broken, guarded};
use crate::input::footer::{footer, row_counts};
use crate::input::pages;
use crate::input::ranges::OpenSource;
use crate::input::schema::agree;
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use std::ops::Range;
use std::path::PathBuf;

/// Rows of a batch, unless they are too large.
const BATCH_ROWS: u64 = 1024;

/// Bytes of a batch, roughly, by the footer's sizes of its columns.
const BATCH_BYTES: u64 = 16 << 20;

/// Rows that follow one another in the input.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The number of the first.
    pub first_row: u64,
    pub columns: RecordBatch,
}

/// Rows that cannot be read because their row group is corrupt.
#[derive(Debug)]
pub struct CorruptRows {
    /// The numbers of the rows.
    pub rows: Range<u64>,
    pub error: JobError,
}

/// Reads files in order, a row group at a time.
pub struct Batches<'a> {
    files: &'a [InputFile],
    schema: &'a Schema,
    columns: Vec<usize>,
    next: u64,
    end: u64,
    open: Option<OpenGroup>,
}

struct OpenGroup {
    source: OpenSource,
    path: PathBuf,
    group: usize,
    end: u64,
    reader: ParquetRecordBatchReader,
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch, CorruptRows>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let group = match self.open.take() {
            Some(group) => group,
            None => match self.open_group() {
                Ok(group) => group,
                Err((end, error)) => return Some(Err(self.skip(end, error))),
            },
        };
        Some(self.next_batch(group))
    }
}

impl<'a> Batches<'a> {
    /// Reads columns of rows; `end` is at most the rows of all files.
    pub fn new(
        files: &'a [InputFile],
        schema: &'a Schema,
        columns: Vec<usize>,
        rows: Range<u64>,
    ) -> Batches<'a> {
        Batches { files, schema, columns, next: rows.start, end: rows.end, open: None }
    }

    fn skip(&mut self, end: u64, error: JobError) -> CorruptRows {
        let rows = self.next..end.min(self.end);
        self.next = rows.end;
        CorruptRows { rows, error }
    }

    fn next_batch(&mut self, mut group: OpenGroup) -> Result<Batch, CorruptRows> {
        let place = format!(", row group {}", group.group);
        let corrupt = |why: String| {
            let failure = group.source.failure();
            failure.unwrap_or_else(|| broken(&group.path, &place, &format!("cannot be read: {why}")))
        };
        let error = match guarded(|| group.reader.next()) {
            Ok(Some(Ok(columns))) if columns.num_rows() as u64 > group.end - self.next => {
                corrupt("it holds more rows than the footer says".into())
            }
            Ok(Some(Ok(columns))) => {
                let first_row = self.next;
                self.next += columns.num_rows() as u64;
                if self.next < group.end {
                    self.open = Some(group);
                }
                return Ok(Batch { first_row, columns });
            }
            Ok(Some(Err(error))) => corrupt(error.to_string()),
            Ok(None) => corrupt("it holds fewer rows than the footer says".into()),
            Err(panic) => corrupt(panic),
        };
        Err(self.skip(group.end, error))
    }

    /// Opens the row group of the next row; the error comes with the end of the rows it concerns.
    fn open_group(&self) -> Result<OpenGroup, (u64, JobError)> {
        let file = self.files.iter().rev().find(|f| f.first_row <= self.next && f.rows() > 0);
        let file =
            file.ok_or_else(|| (self.end, JobError::Internal("a row before the first file".into())))?;
        let (mut group, mut start) = (0, file.first_row);
        while start + file.row_groups[group] <= self.next {
            start += file.row_groups[group];
            group += 1;
        }
        let end = start + file.row_groups[group];
        let rows = (self.next - start) as usize..(self.end.min(end) - start) as usize;
        let source = file.source.open().map_err(|error| (end, error))?;
        let reader = self
            .open_reader(file, &source, group, rows)
            .map_err(|error| (end, source.failure().unwrap_or(error)))?;
        Ok(OpenGroup { source, path: file.path.clone(), group, end: self.end.min(end), reader })
    }

    fn open_reader(
        &self,
        file: &InputFile,
        source: &OpenSource,
        group: usize,
        rows: Range<usize>,
    ) -> Result<ParquetRecordBatchReader, JobError> {
        let place = format!(", row group {group}");
        let metadata = footer(source, &file.path)?;
        if row_counts(&file.path, &metadata)? != file.row_groups {
            return Err(broken(
                &file.path,
                "",
                "changed while the job ran; start again with the file at rest",
            ));
        }
        agree(self.schema, &self.files[0].path, metadata.schema(), &file.path)?;
        let mask = ProjectionMask::roots(metadata.parquet_schema(), self.columns.iter().copied());
        let groups = metadata.metadata().row_group(group);
        let leaves = (0..groups.num_columns()).filter(|&leaf| mask.leaf_included(leaf));
        source.will_read(leaves.clone().filter_map(|leaf| pages::place(groups.column(leaf))));
        let mut bytes = 0u64;
        for leaf in leaves {
            let column = groups.column(leaf);
            pages::check(source, column).map_err(|why| {
                broken(&file.path, &format!("{place}, column {}", column.column_path()), &why)
            })?;
            bytes = bytes.saturating_add(column.uncompressed_size().max(0) as u64);
        }
        let row_bytes = (bytes / (groups.num_rows().max(1) as u64)).max(1);
        let batch = (BATCH_BYTES / row_bytes).clamp(1, BATCH_ROWS);
        let handle = source.again(&file.path)?;
        guarded(|| {
            ParquetRecordBatchReaderBuilder::new_with_metadata(handle, metadata)
                .with_row_groups(vec![group])
                .with_projection(mask)
                .with_batch_size(batch as usize)
                .with_offset(rows.start)
                .with_limit(rows.end - rows.start)
                .build()
        })
        .map_err(|panic| broken(&file.path, &place, &panic))?
        .map_err(|error| broken(&file.path, &place, &error.to_string()))
    }
}
