//! The kept columns of the input, in batches of any size.

use crate::error::JobError;
use crate::publish::columns::OutputColumns;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use std::collections::VecDeque;

pub(super) struct InputRows<'a, I> {
    inputs: I,
    ready: VecDeque<RecordBatch>,
    columns: &'a OutputColumns,
}

impl<'a, I: Iterator<Item = Result<RecordBatch, JobError>>> InputRows<'a, I> {
    pub fn new(inputs: I, columns: &'a OutputColumns) -> InputRows<'a, I> {
        InputRows { inputs, ready: VecDeque::new(), columns }
    }

    /// The next `rows` rows.
    pub fn take(&mut self, rows: usize) -> Result<RecordBatch, JobError> {
        let mut slices = Vec::new();
        let mut wanted = rows;
        while wanted > 0 {
            let Some(batch) = self.ready.pop_front() else {
                let batch = self.inputs.next().ok_or_else(|| JobError::Column {
                    column: "(all)".into(),
                    why: "the input has fewer rows now than when the job was begun".into(),
                })?;
                self.ready.push_back(self.columns.keep(&batch?)?);
                continue;
            };
            let len = batch.num_rows().min(wanted);
            slices.push(batch.slice(0, len));
            if len < batch.num_rows() {
                self.ready.push_front(batch.slice(len, batch.num_rows() - len));
            }
            wanted -= len;
        }
        concat_batches(&self.columns.kept_schema(), &slices)
            .map_err(|error| JobError::Column { column: "(all)".into(), why: error.to_string() })
    }
}
