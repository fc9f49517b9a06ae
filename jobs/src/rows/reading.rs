//! Batches as they are handed in, on their way to the feeder.

use crate::error::JobError;
use crate::input::batch::Batch;
use crate::input::footer::MAX_ROWS;
use crate::input::lost::{LostCells, NOT_UTF8};
use crate::rows::ROWS;
use crate::rows::readable::readable;
use crate::rows::window::Window;
use crate::run::job::Job;
use arrow::array::{Array, RecordBatch, RecordBatchOptions};
use std::sync::Arc;

/// Rows that are held and given back together.
const BATCH_ROWS: usize = 1024;

/// Numbers the rows, puts what the output keeps of them into the window, and gives what prompts are made of.
pub(super) struct Reading<I> {
    batches: I,
    /// The columns that prompts need, ascending.
    read: Vec<usize>,
    job: Arc<Job>,
    window: Arc<Window>,
    /// What is left of a batch.
    rest: Option<Batch>,
    next_row: u64,
}

impl<I: Iterator<Item = Result<RecordBatch, JobError>>> Reading<I> {
    pub fn new(batches: I, job: Arc<Job>, window: Arc<Window>, first_row: u64) -> Reading<I> {
        let mut read = job.columns_read().to_vec();
        read.sort_unstable();
        read.dedup();
        Reading { batches, read, job, window, rest: None, next_row: first_row }
    }

    /// The next rows that are there.
    fn rows(&mut self) -> Option<Result<Batch, JobError>> {
        loop {
            if let Some(batch) = self.rest.take() {
                let rows = batch.columns.num_rows().min(BATCH_ROWS);
                let first = batch.first(rows);
                self.rest = batch.from_row(first.first_row + rows as u64);
                return Some(Ok(first));
            }
            match self.batches.next()? {
                Ok(batch) if batch.num_rows() == 0 => {}
                Ok(batch) => match self.numbered(batch) {
                    Ok(batch) => self.rest = Some(batch),
                    Err(error) => return Some(Err(error)),
                },
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The rows of a batch as the job knows them: every column may hold null there, and does where a text cannot be read.
    fn numbered(&mut self, batch: RecordBatch) -> Result<Batch, JobError> {
        let (first_row, rows) = (self.next_row, batch.num_rows());
        if first_row.saturating_add(rows as u64) > MAX_ROWS {
            return Err(wrong(first_row, "have numbers beyond 2^32; begin another run"));
        }
        self.next_row += rows as u64;
        let schema = self.job.input.schema.clone();
        let (mut columns, mut lost) = (Vec::with_capacity(batch.num_columns()), Vec::new());
        for (at, column) in batch.columns().iter().enumerate() {
            let name = || schema.fields().get(at).map(|field| field.name().clone()).unwrap_or_default();
            let readable = readable(column);
            let (column, rows) = readable
                .map_err(|why| wrong(first_row, &format!("cannot be read in column {}: {why}", name())))?;
            columns.push(column);
            if !rows.is_empty() {
                let (path, why) = (ROWS.into(), NOT_UTF8.into());
                lost.push(LostCells { column: at, name: name(), rows, path, place: String::new(), why });
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let columns = RecordBatch::try_new_with_options(schema, columns, &options);
        let columns = columns.map_err(|error| {
            wrong(first_row, &format!("are not of the schema that they came with: {error}"))
        })?;
        Ok(Batch { first_row, columns, lost })
    }

    fn take(&mut self, batch: Batch) -> Result<Option<Batch>, JobError> {
        let kept = batch.project(&self.job.kept)?;
        let columns = kept.columns.columns().iter();
        let bytes = columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum();
        let (errors, read) = (kept.lost_rows(), batch.project(&self.read)?);
        let kept = self.job.columns.keep_as_they_are(&kept.columns)?;
        Ok(self.window.add(batch.first_row, kept, errors, bytes).then_some(read))
    }
}

impl<I: Iterator<Item = Result<RecordBatch, JobError>>> Iterator for Reading<I> {
    type Item = Result<Batch, JobError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.rows()?;
        batch.and_then(|batch| self.take(batch)).transpose()
    }
}

fn wrong(row: u64, why: &str) -> JobError {
    JobError::Input { path: ROWS.into(), place: format!(" from row {row} on"), why: why.into() }
}
