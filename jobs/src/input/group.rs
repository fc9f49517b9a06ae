//! The rows of one row group, a batch at a time.

use crate::error::JobError;
use crate::input::batch::Batch;
use crate::input::codecs::unread_codec;
use crate::input::column::Column;
use crate::input::file::{broken, guarded};
use crate::input::group_file::{GroupFile, ReadError};
use crate::input::lost::LostCells;
use crate::input::pages::{self, PageError};
use crate::input::sizes::row_bytes;
use crate::input::types::has_int96;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows of a batch, unless they are too large.
const BATCH_ROWS: u64 = 1024;

/// Pages that unpack to more bytes, of all columns together, are not held at a time.
const PAGES_BYTES: u64 = 512 << 20;

/// Bytes of the columns of one row, at most, where pages or rows are as large as that.
const ROW_BYTES: u64 = 256 << 20;

/// Bytes of a batch, roughly.
const BATCH_BYTES: u64 = 16 << 20;

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
    /// Pages that take too much memory together: each column is opened for each batch. The bytes of a row of each.
    Singly(Vec<u64>),
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
        let Checked { lost, columns: bytes, pages } = check_columns(&file, &columns)?;
        let row_bytes = bytes.iter().fold(0u64, |all, bytes| all.saturating_add(*bytes));
        let singly = pages > PAGES_BYTES || row_bytes > ROW_BYTES;
        // To unpack a page again for each batch, batches are large.
        let more = if singly { 16 } else { 1 };
        let batch = (BATCH_BYTES / row_bytes.max(1)).clamp(1, more * BATCH_ROWS) as usize;
        let readers = if singly { Readers::Singly(bytes) } else { Readers::Apart(BTreeMap::new()) };
        let mut group = Group { file, columns, schema, start, end, batch, lost, readers };
        if singly {
            return Ok(group);
        }
        if has_int96(group.file.metadata.metadata(), &group.columns) {
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
                        Readers::Singly(_) => {}
                    }
                }
                Err(ReadError::Damaged(why)) if matches!(self.readers, Readers::Singly(_)) => {
                    return Err(JobError::Internal(why));
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
            Readers::Singly(bytes) => {
                let (mut arrays, mut lost, mut left) = (BTreeMap::new(), Vec::new(), ROW_BYTES);
                for at in readable {
                    let field = self.schema.field(at);
                    if rows == 1 && bytes[at] > left {
                        let why = format!(
                            "the row unpacks to more than {} MiB; leave columns out with --keep",
                            ROW_BYTES >> 20
                        );
                        note(&mut lost, &self.file, (at, field.name()), 0, why);
                        arrays.insert(at, new_null_array(field.data_type(), 1));
                        continue;
                    }
                    let read = Column::open(&self.file, self.columns[at], from, rows)
                        .and_then(|mut column| column.next(&self.file, from, rows));
                    let read = match read {
                        Err(ReadError::Damaged(why)) => {
                            self.lost.insert(at, why);
                            continue;
                        }
                        read => read?,
                    };
                    for (row, why) in read.lost {
                        note(&mut lost, &self.file, (at, field.name()), row, why);
                    }
                    if let Some(why) = read.ended {
                        self.lost.insert(at, why);
                    }
                    left = left.saturating_sub(read.values.get_buffer_memory_size() as u64);
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
            place: format!("row group {}", file.group),
            why,
        }),
    }
}

/// What the page headers of columns say.
struct Checked {
    /// The columns that are damaged, by their position.
    lost: BTreeMap<usize, String>,
    /// The bytes of a row of each column.
    columns: Vec<u64>,
    /// The bytes of a page of each column, together.
    pages: u64,
}

/// Walks the pages of columns.
fn check_columns(file: &GroupFile, columns: &[usize]) -> Result<Checked, JobError> {
    let metadata = file.metadata.metadata();
    let (schema, group) = (metadata.file_metadata().schema_descr(), metadata.row_group(0));
    let leaves: Vec<(usize, usize)> = (0..group.num_columns())
        .filter_map(|leaf| Some((leaf, columns.binary_search(&schema.get_column_root_idx(leaf)).ok()?)))
        .collect();
    file.source.will_read(leaves.iter().filter_map(|&(leaf, _)| pages::place(group.column(leaf))));
    let mut all = Checked { lost: BTreeMap::new(), columns: vec![0; columns.len()], pages: 0 };
    for (leaf, at) in leaves {
        let column = group.column(leaf);
        let path = column.column_path().to_string();
        if let Some(why) = unread_codec(column) {
            return Err(file.broken(&path, &why));
        }
        let checked = pages::check(&file.source, column);
        if checked.is_err() {
            file.file.check(&file.source)?;
        }
        match checked {
            Ok(pages) => {
                let bytes = row_bytes(&file.source, column, group.num_rows(), pages.dictionary);
                all.columns[at] = all.columns[at].saturating_add(bytes);
                all.pages = all.pages.saturating_add(pages.dictionary).saturating_add(pages.largest);
            }
            Err(PageError::Damaged(why)) => drop(all.lost.insert(at, why)),
            Err(PageError::TooLarge(why)) => return Err(file.broken(&path, &why)),
        }
    }
    Ok(all)
}
