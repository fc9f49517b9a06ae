//! An open file and one of its row groups.

use crate::error::JobError;
use crate::input::file::{InputFile, broken, guarded};
use crate::input::footer::Footer;
use crate::input::ranges::OpenSource;
use crate::input::types::with_bytes;
use arrow::array::ArrayRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use std::sync::{Arc, OnceLock};

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
        // The last: more values than a dictionary's keys can count, which those of fewer rows may not be.
        let overflows = [
            "index overflow decoding",
            "offset overflow",
            "Offset overflow",
            "Dictionary key bigger than the key type",
        ];
        let overflow = overflows.iter().any(|text| why.contains(text));
        if overflow { ReadError::Overflow(why) } else { ReadError::Damaged(format!("cannot be read: {why}")) }
    }
}

/// An open file, and which of its row groups is read.
pub struct GroupFile {
    pub file: Arc<InputFile>,
    pub source: OpenSource,
    footer: Arc<Footer>,
    /// The file's, with this row group only.
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
    ///
    /// # Errors
    /// As [`Footer::group`].
    pub fn of_group(&self, group: usize, wanted: usize) -> Result<GroupFile, JobError> {
        GroupFile::open(self.file.clone(), self.source.clone(), self.footer.clone(), group, wanted)
    }

    /// A row group of an open file.
    ///
    /// # Errors
    /// As [`Footer::group`].
    pub fn open(
        file: Arc<InputFile>,
        source: OpenSource,
        footer: Arc<Footer>,
        group: usize,
        wanted: usize,
    ) -> Result<GroupFile, JobError> {
        let metadata = footer.group(group)?;
        Ok(GroupFile { file, source, footer, metadata, group, wanted, bytes: OnceLock::new() })
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
                .with_row_groups(vec![0])
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

    pub fn broken(&self, column: &str, why: &str) -> JobError {
        broken(&self.file.path, &format!(", row group {}, column {column}", self.group), why)
    }
}

/// Reads the one column of a reader.
pub fn next_array(
    file: &GroupFile,
    reader: &mut ParquetRecordBatchReader,
    rows: usize,
) -> Result<ArrayRef, ReadError> {
    match guarded(|| reader.next()) {
        Ok(Some(Ok(batch))) if batch.num_rows() == rows => Ok(batch.column(0).clone()),
        Ok(Some(Ok(_)) | None) => Err(file.failed("it holds other rows than the footer says".into())),
        Ok(Some(Err(error))) => Err(file.failed(error.to_string())),
        Err(panic) => Err(file.failed(panic)),
    }
}
