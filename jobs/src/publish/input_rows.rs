//! The kept columns of the input, in batches of any size.

use crate::error::JobError;
use crate::guard::guarded;
use crate::input::batch::Batch;
use crate::publish::columns::OutputColumns;
use crate::publish::manifest::ColumnNulls;
use crate::publish::sizes::rows_that_fit;
use arrow::array::{Array, RecordBatch};
use arrow::compute::concat_batches;
use std::collections::{BTreeMap, VecDeque};

/// Bytes of the rows that are encoded at a time; one row may have more.
const BYTES: u64 = 64 << 20;

pub(super) struct InputRows<'a, I> {
    inputs: I,
    ready: VecDeque<RecordBatch>,
    columns: &'a OutputColumns,
    /// What is wrong with rows that have cells that cannot be read.
    errors: BTreeMap<u64, String>,
    /// What was null so far, by kept column.
    nulls: Vec<ColumnNulls>,
}

impl<'a, I: Iterator<Item = Result<Batch, JobError>>> InputRows<'a, I> {
    pub fn new(inputs: I, columns: &'a OutputColumns) -> InputRows<'a, I> {
        let kept = columns.kept_schema();
        let shown = kept.fields().iter().take(columns.kept_in_output());
        let nulls = shown.map(|field| ColumnNulls::none(field.name()));
        let nulls = nulls.collect();
        InputRows { inputs, ready: VecDeque::new(), columns, errors: BTreeMap::new(), nulls }
    }

    /// The next rows: at most so many, at least one, and no more than fit into memory. How many depends on their
    /// values only.
    pub fn take(&mut self, rows: usize) -> Result<RecordBatch, JobError> {
        let (mut slices, mut wanted, mut bytes) = (Vec::new(), rows, 0);
        while wanted > 0 {
            let Some(batch) = self.ready.pop_front() else {
                self.read()?;
                continue;
            };
            let len = batch.num_rows().min(wanted);
            let fit = rows_that_fit(&batch.slice(0, len), &mut bytes, BYTES);
            let fit = if slices.is_empty() { fit.max(1) } else { fit };
            if fit > 0 {
                slices.push(batch.slice(0, fit));
            }
            if fit < batch.num_rows() {
                self.ready.push_front(batch.slice(fit, batch.num_rows() - fit));
            }
            if fit < len {
                break;
            }
            wanted -= len;
        }
        concat_batches(&self.columns.kept_schema(), &slices)
            .map_err(|error| JobError::Column { column: "(all)".into(), why: error.to_string() })
    }

    /// What is wrong with a row that was taken, if a cell of it cannot be read.
    pub fn error(&mut self, row: u64) -> Option<String> {
        self.errors.remove(&row)
    }

    /// What was null in all rows.
    pub fn nulls(self) -> Vec<ColumnNulls> {
        self.nulls
    }

    fn read(&mut self) -> Result<(), JobError> {
        let batch = self.inputs.next().ok_or_else(|| JobError::Column {
            column: "(all)".into(),
            why: "the input has fewer rows now than when the job was begun".into(),
        })??;
        self.errors.append(&mut batch.lost_rows());
        for lost in &batch.lost {
            if let Some(nulls) = self.nulls.iter_mut().find(|nulls| nulls.column == lost.name) {
                nulls.unreadable += lost.rows.len() as u64;
            }
        }
        let from = self.ready.len();
        self.keep(&batch.columns)?;
        for batch in self.ready.iter().skip(from) {
            for (nulls, column) in self.nulls.iter_mut().zip(batch.columns()) {
                nulls.null += column.logical_null_count() as u64;
            }
        }
        Ok(())
    }

    /// Takes the kept columns of rows, in halves where their values are too long for one array.
    fn keep(&mut self, batch: &RecordBatch) -> Result<(), JobError> {
        let rows = batch.num_rows();
        let kept = guarded(|| self.columns.keep(batch));
        match kept {
            Ok(Ok(kept)) => self.ready.push_back(kept),
            Ok(Err(error)) if rows < 2 => return Err(error),
            Err(panic) if rows < 2 => return Err(JobError::Internal(panic)),
            _ => {
                self.keep(&batch.slice(0, rows / 2))?;
                self.keep(&batch.slice(rows / 2, rows - rows / 2))?;
            }
        }
        Ok(())
    }
}
