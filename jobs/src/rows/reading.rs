//! Batches as they are handed in, on their way to the feeder.

use crate::error::JobError;
use crate::input::batch::Batch;
use crate::input::footer::MAX_ROWS;
use crate::rows::ROWS;
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
    rest: Option<RecordBatch>,
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
    fn slice(&mut self) -> Option<Result<RecordBatch, JobError>> {
        loop {
            if let Some(batch) = self.rest.take().filter(|batch| batch.num_rows() > 0) {
                let rows = batch.num_rows().min(BATCH_ROWS);
                self.rest = Some(batch.slice(rows, batch.num_rows() - rows));
                return Some(Ok(batch.slice(0, rows)));
            }
            match self.batches.next()? {
                Ok(batch) => self.rest = Some(batch),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The rows as the job knows them. Every column may hold null there.
    fn conform(&self, batch: &RecordBatch) -> Result<RecordBatch, JobError> {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let schema = self.job.input.schema.clone();
        RecordBatch::try_new_with_options(schema, batch.columns().to_vec(), &options).map_err(|error| {
            wrong(self.next_row, &format!("are not of the schema that they came with: {error}"))
        })
    }

    fn take(&mut self, batch: RecordBatch) -> Result<Option<Batch>, JobError> {
        let (first_row, rows) = (self.next_row, batch.num_rows() as u64);
        if first_row.saturating_add(rows) > MAX_ROWS {
            return Err(wrong(first_row, "have numbers beyond 2^32; begin another run"));
        }
        let batch = self.conform(&batch)?;
        let project =
            |columns: &[usize]| batch.project(columns).map_err(|error| JobError::Internal(error.to_string()));
        let kept = project(&self.job.kept)?;
        let bytes = kept.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0));
        let bytes = bytes.sum();
        let (kept, read) = (self.job.columns.keep(&kept)?, project(&self.read)?);
        self.next_row += rows;
        Ok(self.window.add(first_row, kept, bytes).then(|| Batch::whole(first_row, read)))
    }
}

impl<I: Iterator<Item = Result<RecordBatch, JobError>>> Iterator for Reading<I> {
    type Item = Result<Batch, JobError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.slice()?;
        batch.and_then(|batch| self.take(batch)).transpose()
    }
}

fn wrong(row: u64, why: &str) -> JobError {
    JobError::Input { path: ROWS.into(), place: format!(" from row {row} on"), why: why.into() }
}
