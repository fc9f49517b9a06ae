//! The input: Parquet files as one long table.
//!
//! Files are named one by one, by glob or by folder, here or in an object store; their schemas must agree. Rows are numbered from 0
//! through all files in order, and that number is what a row is called everywhere else.

pub mod names;
mod pages;
pub mod ranges;
pub mod row;
pub mod source;

use crate::error::JobError;
use crate::input::names::resolve;
use crate::input::ranges::OpenSource;
use crate::input::source::Source;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::reader::{ChunkReader, Length};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most rows of a batch.
const BATCH_ROWS: u64 = 1024;

/// The bytes that a batch should not exceed by much, by what the footer says of its columns.
const BATCH_BYTES: u64 = 16 << 20;

/// The most bytes of a footer; a larger one is refused before it is read.
const FOOTER_BYTES: u64 = 256 << 20;

/// One input file.
#[derive(Clone, Debug)]
pub struct InputFile {
    /// Where it is.
    pub source: Source,
    /// Its name, for people.
    pub path: PathBuf,
    /// The number of its first row.
    pub first_row: u64,
    /// The rows of each row group.
    pub row_groups: Vec<u64>,
}

impl InputFile {
    /// Rows of the file.
    pub fn rows(&self) -> u64 {
        self.row_groups.iter().sum()
    }
}

/// All input files as one table.
#[derive(Clone, Debug)]
pub struct Input {
    /// The files in the order of their rows.
    pub files: Vec<InputFile>,
    /// The columns, the same in every file.
    pub schema: SchemaRef,
    /// Rows in all.
    pub rows: u64,
}

/// Rows that follow one another in the input.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The number of the first.
    pub first_row: u64,
    /// Their columns.
    pub columns: RecordBatch,
}

/// Rows that cannot be read because their row group is corrupt.
#[derive(Debug)]
pub struct CorruptRows {
    /// The numbers of the rows.
    pub rows: Range<u64>,
    /// What is wrong.
    pub error: JobError,
}

impl Input {
    /// Opens files, globs and folders and reads every footer.
    ///
    /// # Errors
    /// [`JobError::Usage`] if nothing is named, [`JobError::Input`] for a file that is not Parquet or whose
    /// columns differ from those of the first.
    pub fn open(names: &[String]) -> Result<Input, JobError> {
        let mut files = Vec::new();
        let mut schema: Option<(SchemaRef, PathBuf)> = None;
        let mut rows = 0u64;
        for source in resolve(names)? {
            let path = source.name();
            let metadata = footer(&source.open()?, &path)?;
            match &schema {
                None => schema = Some((metadata.schema().clone(), path.clone())),
                Some((first, first_path)) => agree(first, first_path, metadata.schema(), &path)?,
            }
            let row_groups = row_counts(&path, &metadata)?;
            let file = InputFile { source, path, first_row: rows, row_groups };
            rows = rows
                .checked_add(file.rows())
                .ok_or_else(|| broken(&file.path, "", "its row counts add up to more than 2^64 rows"))?;
            files.push(file);
        }
        let (schema, _) =
            schema.ok_or_else(|| JobError::Usage("no input: name a file with --input".into()))?;
        // Every column can hold null, as those of rows that cannot be read do in the output.
        let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(Input { files, schema, rows })
    }

    /// The positions of columns by name.
    ///
    /// # Errors
    /// [`JobError::Usage`] with the columns that there are.
    pub fn columns(&self, names: &[String], flag: &str) -> Result<Vec<usize>, JobError> {
        names
            .iter()
            .map(|name| {
                self.schema.index_of(name).map_err(|_| {
                    JobError::Usage(format!(
                        "{flag}: the input has no column `{name}`; it has {}",
                        self.column_list()
                    ))
                })
            })
            .collect()
    }

    /// The names of the columns, for messages.
    pub fn column_list(&self) -> String {
        let names: Vec<_> = self.schema.fields().iter().take(20).map(|f| format!("`{}`", f.name())).collect();
        let more = self.schema.fields().len().saturating_sub(20);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        names.join(", ") + &more
    }

    /// Reads the columns of the rows, a batch at a time.
    ///
    /// After a corrupt row group the reader goes on with the next one.
    pub fn read(&self, columns: Vec<usize>, rows: Range<u64>) -> Batches<'_> {
        let end = rows.end.min(self.rows);
        Batches { input: self, columns, next: rows.start, end, open: None }
    }
}

/// Reads the input in order. See [`Input::read`].
pub struct Batches<'a> {
    input: &'a Input,
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

impl Batches<'_> {
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
        let file = self.input.files.iter().rev().find(|f| f.first_row <= self.next && f.rows() > 0);
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
        let reader = open_group(self.input, file, &source, group, &self.columns, rows)
            .map_err(|error| (end, source.failure().unwrap_or(error)))?;
        Ok(OpenGroup { source, path: file.path.clone(), group, end: self.end.min(end), reader })
    }
}

fn open_group(
    input: &Input,
    file: &InputFile,
    source: &OpenSource,
    group: usize,
    columns: &[usize],
    rows: Range<usize>,
) -> Result<ParquetRecordBatchReader, JobError> {
    let place = format!(", row group {group}");
    let metadata = footer(source, &file.path)?;
    if row_counts(&file.path, &metadata)? != file.row_groups {
        return Err(broken(&file.path, "", "changed while the job ran; start again with the file at rest"));
    }
    agree(&input.schema, &input.files[0].path, metadata.schema(), &file.path)?;
    let mask = ProjectionMask::roots(metadata.parquet_schema(), columns.iter().copied());
    let groups = metadata.metadata().row_group(group);
    let leaves = (0..groups.num_columns()).filter(|&leaf| mask.leaf_included(leaf));
    source.will_read(leaves.clone().filter_map(|leaf| pages::place(groups.column(leaf))));
    let mut bytes = 0u64;
    for leaf in leaves {
        let column = groups.column(leaf);
        pages::check(source, column)
            .map_err(|why| broken(&file.path, &format!("{place}, column {}", column.column_path()), &why))?;
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

/// Reads a footer.
fn footer(source: &OpenSource, path: &Path) -> Result<ArrowReaderMetadata, JobError> {
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
    let why = match guarded(|| ArrowReaderMetadata::load(&bytes, options)) {
        Ok(Ok(metadata)) => return Ok(metadata),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic,
    };
    Err(broken(path, ", footer", &why))
}

fn row_counts(path: &Path, metadata: &ArrowReaderMetadata) -> Result<Vec<u64>, JobError> {
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
        let why = format!("claims {claimed} rows, its row groups do not add up to it; the file is damaged");
        return Err(broken(path, ", footer", &why));
    }
    Ok(counts)
}

/// Refuses a schema that is not the first file's.
fn agree(first: &Schema, first_path: &Path, schema: &Schema, path: &Path) -> Result<(), JobError> {
    let refuse = |column: &str, why: String| {
        Err(broken(path, &format!(", column {column}"), &format!("{why} {}", first_path.display())))
    };
    for field in first.fields() {
        match schema.field_with_name(field.name()) {
            Err(_) => return refuse(field.name(), "is missing, but it is in".into()),
            Ok(other) if other.data_type() != field.data_type() => {
                let why = format!("is {}, but it is {} in", other.data_type(), field.data_type());
                return refuse(field.name(), why);
            }
            Ok(_) => {}
        }
    }
    for (at, field) in schema.fields().iter().enumerate() {
        if first.field_with_name(field.name()).is_err() {
            return refuse(field.name(), "is not in".into());
        }
        if first.fields().get(at).map(|f| f.name()) != Some(field.name()) {
            return refuse(field.name(), "stands at another place than in".into());
        }
    }
    Ok(())
}

fn broken(path: &Path, place: &str, why: &str) -> JobError {
    JobError::Input { path: path.to_path_buf(), place: place.into(), why: why.into() }
}

/// Runs code of the Parquet library, which may panic on a hostile file.
fn guarded<T>(decode: impl FnOnce() -> T) -> Result<T, String> {
    crate::guard::guarded(decode).map_err(|panic| format!("the Parquet reader gave up: {panic}"))
}

/// Writes one Parquet file; for tests of this crate.
#[cfg(test)]
pub(crate) fn write_parquet(path: &Path, columns: &RecordBatch, rows_per_group: usize) {
    #![allow(clippy::unwrap_used)]
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(rows_per_group));
    let file = std::fs::File::create(path).unwrap();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(file, columns.schema(), Some(properties.build())).unwrap();
    writer.write(columns).unwrap();
    writer.close().unwrap();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, StringArray};

    fn table(from: i64, to: i64) -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(from..to));
        let texts: ArrayRef =
            Arc::new(StringArray::from_iter_values((from..to).map(|i| format!("text {i}"))));
        RecordBatch::try_from_iter([("id", ids), ("text", texts)]).unwrap()
    }

    fn name(path: &Path) -> String {
        path.to_str().unwrap().to_string()
    }

    fn ids(input: &Input, rows: Range<u64>) -> Vec<i64> {
        let mut next = rows.start;
        let mut ids = Vec::new();
        for batch in input.read(vec![0], rows) {
            let batch = batch.unwrap();
            assert_eq!(batch.first_row, next);
            next += batch.columns.num_rows() as u64;
            assert_eq!(batch.columns.num_columns(), 1);
            let column = batch.columns.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
            ids.extend(column.values());
        }
        ids
    }

    #[test]
    fn files_of_a_folder_are_one_table_in_natural_order() {
        let folder = tempfile::tempdir().unwrap();
        for (file, from, to) in [("p-10.parquet", 25, 40), ("p-9.parquet", 10, 25), ("p-1.parquet", 0, 10)] {
            write_parquet(&folder.path().join(file), &table(from, to), 4);
        }
        write_parquet(&folder.path().join("p-2.parquet"), &table(0, 0), 4);
        let input = Input::open(&[name(folder.path())]).unwrap();
        assert_eq!(input.rows, 40);
        assert_eq!(ids(&input, 0..u64::MAX), (0..40).collect::<Vec<_>>());
        assert_eq!(ids(&input, 7..29), (7..29).collect::<Vec<_>>());
        let globbed = Input::open(&[name(&folder.path().join("p-?.parquet"))]).unwrap();
        assert_eq!(ids(&globbed, 0..100), (0..25).collect::<Vec<_>>());
    }

    #[test]
    fn schemas_must_agree() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a.parquet"), folder.path().join("b.parquet"));
        write_parquet(&a, &table(0, 3), 10);
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        write_parquet(&b, &RecordBatch::try_from_iter([("id", texts.clone()), ("text", texts)]).unwrap(), 10);
        let error = Input::open(&[name(&a), name(&b)]).unwrap_err().to_string();
        assert!(error.contains("b.parquet, column id: is Utf8, but it is Int64 in"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_file_and_row_group() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write_parquet(&path, &table(0, 3000), 1000);
        let good = std::fs::read(&path).unwrap();
        for cut in [0, 3, 11, good.len() / 2, good.len() - 1] {
            std::fs::write(&path, &good[..cut]).unwrap();
            let error = Input::open(&[name(&path)]).unwrap_err().to_string();
            assert!(error.contains("a.parquet") && error.contains("footer is missing"), "{cut}: {error}");
        }
        // Any damage is a typed error or goes unnoticed, whatever byte it hits; it is never a panic.
        let mut caught = 0;
        for at in (4..good.len()).step_by(131) {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            std::fs::write(&path, &bad).unwrap();
            let Ok(input) = Input::open(&[name(&path)]) else { continue };
            for batch in input.read(vec![0, 1], 0..input.rows) {
                if let Err(corrupt) = batch {
                    let error = corrupt.error.to_string();
                    assert!(error.contains("a.parquet"), "{error}");
                    caught += 1;
                }
            }
        }
        assert!(caught > 0);
    }

    #[test]
    fn rows_after_a_corrupt_row_group_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write_parquet(&path, &table(0, 3000), 1000);
        let input = Input::open(&[name(&path)]).unwrap();
        let group = footer(&input.files[0].source.open().unwrap(), &path)
            .unwrap()
            .metadata()
            .row_group(1)
            .column(1)
            .clone();
        let mut bytes = std::fs::read(&path).unwrap();
        let (start, length) = group.byte_range();
        bytes[start as usize..(start + length) as usize].fill(0xee);
        std::fs::write(&path, &bytes).unwrap();
        let (mut rows, mut lost) = (0, Vec::new());
        for batch in input.read(vec![0, 1], 0..3000) {
            match batch {
                Ok(batch) => rows += batch.columns.num_rows(),
                Err(corrupt) => {
                    assert!(corrupt.error.to_string().contains("row group 1"), "{}", corrupt.error);
                    lost.push(corrupt.rows);
                }
            }
        }
        assert_eq!((rows, lost.as_slice()), (2000, std::slice::from_ref(&(1000..2000))));
    }
}
