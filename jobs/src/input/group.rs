//! The rows of one row group, a batch at a time.

use crate::error::JobError;
use crate::input::batches::Batch;
use crate::input::column::Column;
use crate::input::file::{InputFile, broken, guarded};
use crate::input::lost::LostCells;
use crate::input::pages::{self, PageError};
use crate::input::ranges::OpenSource;
use crate::input::sizes::row_bytes;
use crate::input::types::{has_int96, with_bytes};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Compression;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Rows of a batch, unless they are too large.
const BATCH_ROWS: u64 = 1024;

/// Bytes of a batch, roughly.
const BATCH_BYTES: u64 = 16 << 20;

/// Why rows are not read.
#[derive(Debug)]
pub enum ReadError {
    /// What was read is wrong.
    Damaged(String),
    /// The rows are more than an array holds; fewer may not be.
    Overflow(String),
    /// What ends the job.
    Job(JobError),
}

impl ReadError {
    /// By what the Parquet library says, which keeps text only.
    pub fn of(why: String) -> ReadError {
        let overflows = ["index overflow decoding", "offset overflow", "Offset overflow"];
        let overflow = overflows.iter().any(|text| why.contains(text));
        if overflow { ReadError::Overflow(why) } else { ReadError::Damaged(format!("cannot be read: {why}")) }
    }
}

/// An open file, and which of its row groups is read.
pub struct GroupFile {
    pub file: InputFile,
    pub source: OpenSource,
    pub metadata: ArrowReaderMetadata,
    /// The row group.
    pub group: usize,
    /// Rows of it, from the first, that are wanted.
    wanted: usize,
    /// The file with texts as bytes.
    bytes: OnceLock<ArrowReaderMetadata>,
}

impl GroupFile {
    /// Another row group of the file.
    pub fn of_group(&self, group: usize, wanted: usize) -> GroupFile {
        let GroupFile { file, source, metadata, .. } = self;
        GroupFile::new(file.clone(), source.clone(), metadata.clone(), group, wanted)
    }

    /// A row group of an open file.
    pub fn new(
        file: InputFile,
        source: OpenSource,
        metadata: ArrowReaderMetadata,
        group: usize,
        wanted: usize,
    ) -> GroupFile {
        GroupFile { file, source, metadata, group, wanted, bytes: OnceLock::new() }
    }

    /// The metadata that has texts as bytes.
    pub fn bytes(&self) -> Result<&ArrowReaderMetadata, ReadError> {
        if let Some(bytes) = self.bytes.get() {
            return Ok(bytes);
        }
        let bytes = with_bytes(&self.metadata).map_err(|error| self.failed(error.to_string()))?;
        Ok(self.bytes.get_or_init(|| bytes))
    }

    /// Reads root columns from a row of the row group on.
    pub fn reader(
        &self,
        metadata: &ArrowReaderMetadata,
        roots: &[usize],
        from: usize,
        batch: usize,
    ) -> Result<ParquetRecordBatchReader, ReadError> {
        let mask = ProjectionMask::roots(metadata.parquet_schema(), roots.iter().copied());
        let built = guarded(|| {
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.source.clone(), metadata.clone())
                .with_row_groups(vec![self.group])
                .with_projection(mask)
                .with_batch_size(batch)
                .with_offset(from)
                .with_limit(self.wanted.saturating_sub(from))
                .build()
        });
        let built = built.map_err(|panic| self.failed(panic))?;
        built.map_err(|error| self.failed(error.to_string()))
    }

    /// What a failure to read is: of the system or the store, of a file that has changed, or of what was read.
    pub fn failed(&self, why: String) -> ReadError {
        match self.file.check(&self.source) {
            Err(error) => ReadError::Job(error),
            Ok(()) => ReadError::of(why),
        }
    }

    fn broken(&self, column: &str, why: &str) -> JobError {
        broken(&self.file.path, &format!(", row group {}, column {column}", self.group), why)
    }
}

/// Reads the rows of a row group.
pub struct Group {
    file: GroupFile,
    /// The columns' positions in the input, ascending, and their fields.
    columns: Arc<[usize]>,
    schema: SchemaRef,
    /// The number of the row group's first row, and of the row after the last that is wanted.
    start: u64,
    pub end: u64,
    /// Rows of a batch.
    batch: usize,
    /// Columns of the batch that cannot be read any further, and why.
    lost: BTreeMap<usize, String>,
    readers: Readers,
}

enum Readers {
    /// As long as nothing is wrong.
    Together(ParquetRecordBatchReader),
    /// By the column's position in the batch.
    Apart(BTreeMap<usize, Column>),
}

impl Group {
    /// Opens a row group at a row.
    ///
    /// # Errors
    /// What ends the job; a column that is damaged is lost.
    pub fn open(
        file: GroupFile,
        columns: Arc<[usize]>,
        schema: SchemaRef,
        rows: (u64, u64),
        next: u64,
    ) -> Result<Group, JobError> {
        let (start, end) = rows;
        let (lost, row_bytes) = check_columns(&file, &columns)?;
        let batch = (BATCH_BYTES / row_bytes.max(1)).clamp(1, BATCH_ROWS) as usize;
        let readers = Readers::Apart(BTreeMap::new());
        let mut group = Group { file, columns, schema, start, end, batch, lost, readers };
        let dates = group.columns.iter().any(|&root| has_int96(group.file.metadata.metadata(), root));
        if dates {
            group.read_apart(next)?
        } else {
            group.read_together(next)?
        }
        Ok(group)
    }

    /// The file that is open.
    pub fn file(&self) -> &GroupFile {
        &self.file
    }

    /// The rows from `next` on.
    ///
    /// # Errors
    /// What ends the job.
    pub fn read(&mut self, next: u64) -> Result<Batch, JobError> {
        loop {
            let rows = (self.batch as u64).min(self.end - next) as usize;
            match self.arrays(next, rows) {
                Ok((arrays, lost)) => {
                    self.file.file.check(&self.file.source)?;
                    return self.assemble(next, rows, arrays, lost);
                }
                Err(ReadError::Job(error)) => return Err(error),
                Err(ReadError::Overflow(why)) if self.batch == 1 => {
                    let why = format!(
                        "row {next} holds more than an array can ({why}); write it in smaller values, or leave the \
                         column out with --keep"
                    );
                    return Err(broken(
                        &self.file.file.path,
                        &format!(", row group {}", self.file.group),
                        &why,
                    ));
                }
                Err(ReadError::Overflow(_)) => {
                    self.batch = self.batch.min(rows).div_ceil(2).min(self.batch - 1);
                    match self.readers {
                        Readers::Together(_) => self.read_together(next)?,
                        Readers::Apart(_) => self.read_apart(next)?,
                    }
                }
                Err(ReadError::Damaged(_)) => self.read_apart(next)?,
            }
        }
    }

    /// The columns that can be read, by their position in the batch, and the cells that cannot.
    fn arrays(
        &mut self,
        next: u64,
        rows: usize,
    ) -> Result<(BTreeMap<usize, ArrayRef>, Vec<LostCells>), ReadError> {
        let from = (next - self.start) as usize;
        let readable = (0..self.columns.len()).filter(|at| !self.lost.contains_key(at)).collect::<Vec<_>>();
        match &mut self.readers {
            Readers::Together(reader) => match guarded(|| reader.next()) {
                Ok(Some(Ok(batch))) if batch.num_rows() == rows => {
                    Ok((readable.into_iter().zip(batch.columns().iter().cloned()).collect(), Vec::new()))
                }
                Ok(Some(Err(error))) => Err(self.file.failed(error.to_string())),
                Ok(_) => Err(self.file.failed("it holds other rows than the footer says".into())),
                Err(panic) => Err(self.file.failed(panic)),
            },
            Readers::Apart(columns) => {
                let (mut arrays, mut lost) = (BTreeMap::new(), Vec::new());
                for at in readable {
                    let Some(column) = columns.get_mut(&at) else { continue };
                    let read = column.next(&self.file, from, rows)?;
                    for (row, why) in read.lost {
                        note(&mut lost, &self.file, (at, self.schema.field(at).name()), row, why);
                    }
                    if let Some(why) = read.ended {
                        columns.remove(&at);
                        self.lost.insert(at, why);
                    }
                    arrays.insert(at, read.values);
                }
                Ok((arrays, lost))
            }
        }
    }

    fn assemble(
        &self,
        first_row: u64,
        rows: usize,
        mut arrays: BTreeMap<usize, ArrayRef>,
        mut lost: Vec<LostCells>,
    ) -> Result<Batch, JobError> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for (at, field) in self.schema.fields().iter().enumerate() {
            columns.push(arrays.remove(&at).unwrap_or_else(|| {
                let why = self.lost.get(&at).cloned().unwrap_or_default();
                for row in 0..rows {
                    note(&mut lost, &self.file, (at, field.name()), row, why.clone());
                }
                new_null_array(field.data_type(), rows)
            }));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let columns = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|error| JobError::Internal(error.to_string()))?;
        Ok(Batch { first_row, columns, lost })
    }

    fn read_together(&mut self, next: u64) -> Result<(), JobError> {
        let readable = (0..self.columns.len()).filter(|at| !self.lost.contains_key(at));
        let roots: Vec<usize> = readable.map(|at| self.columns[at]).collect();
        let from = (next - self.start) as usize;
        match self.file.reader(&self.file.metadata, &roots, from, self.batch) {
            Ok(reader) => self.readers = Readers::Together(reader),
            Err(ReadError::Job(error)) => return Err(error),
            Err(_) => self.read_apart(next)?,
        }
        Ok(())
    }

    fn read_apart(&mut self, next: u64) -> Result<(), JobError> {
        let from = (next - self.start) as usize;
        let mut columns = BTreeMap::new();
        for (at, &root) in self.columns.iter().enumerate() {
            if self.lost.contains_key(&at) {
                continue;
            }
            match Column::open(&self.file, root, from, self.batch) {
                Ok(column) => drop(columns.insert(at, column)),
                Err(ReadError::Job(error)) => return Err(error),
                Err(ReadError::Damaged(why) | ReadError::Overflow(why)) => drop(self.lost.insert(at, why)),
            }
        }
        self.readers = Readers::Apart(columns);
        Ok(())
    }
}

/// Adds a cell to those that are lost.
fn note(lost: &mut Vec<LostCells>, file: &GroupFile, column: (usize, &str), row: usize, why: String) {
    match lost.last_mut() {
        Some(last) if last.column == column.0 && last.why == why => last.rows.push(row),
        _ => lost.push(LostCells {
            column: column.0,
            name: column.1.to_string(),
            rows: vec![row],
            path: file.file.path.clone(),
            group: file.group,
            why,
        }),
    }
}

/// Walks the pages of columns. Returns those that are damaged, by their position, and the bytes of a row.
fn check_columns(file: &GroupFile, columns: &[usize]) -> Result<(BTreeMap<usize, String>, u64), JobError> {
    let metadata = file.metadata.metadata();
    let (schema, group) = (metadata.file_metadata().schema_descr(), metadata.row_group(file.group));
    let leaves: Vec<(usize, usize)> = (0..group.num_columns())
        .filter_map(|leaf| Some((leaf, columns.binary_search(&schema.get_column_root_idx(leaf)).ok()?)))
        .collect();
    file.source.will_read(leaves.iter().filter_map(|&(leaf, _)| pages::place(group.column(leaf))));
    let (mut lost, mut bytes) = (BTreeMap::new(), 0u64);
    for (leaf, at) in leaves {
        let column = group.column(leaf);
        let path = column.column_path().to_string();
        if let codec @ (Compression::BROTLI(_) | Compression::LZO) = column.compression() {
            let why = format!(
                "is compressed with {codec:?}, which is not supported; write it with zstd, or leave the column out \
                 with --keep"
            );
            return Err(file.broken(&path, &why));
        }
        let checked = pages::check(&file.source, column);
        if checked.is_err() {
            file.file.check(&file.source)?;
        }
        match checked {
            Ok(dictionary) => {
                bytes = bytes.saturating_add(row_bytes(&file.source, column, group.num_rows(), dictionary));
            }
            Err(PageError::Damaged(why)) => drop(lost.insert(at, why)),
            Err(PageError::TooLarge(why)) => return Err(file.broken(&path, &why)),
        }
    }
    Ok((lost, bytes))
}
