//! The input columns that go to the output.

use crate::error::JobError;
use crate::input::Input;
use crate::input::batch::Batch;
use crate::options::job::OnCorrupt;
use arrow::datatypes::{Schema, SchemaRef};
use std::sync::Arc;

/// Reads columns of the first rows, so that what would end the job does so before it begins.
///
/// # Errors
/// What cannot be read; with `row-errors` not what is damaged.
pub fn check_input(
    input: &Input,
    columns: Vec<usize>,
    rows: u64,
    on_corrupt: OnCorrupt,
) -> Result<(), JobError> {
    kept_batches(input, &columns, rows, on_corrupt).try_for_each(|batch| batch.map(drop))
}

/// Columns of the first rows; with `row-errors`, cells that cannot be read are null and named by the batch.
pub fn kept_batches<'a>(
    input: &'a Input,
    columns: &[usize],
    rows: u64,
    on_corrupt: OnCorrupt,
) -> impl Iterator<Item = Result<Batch, JobError>> + use<'a> {
    input.read(columns.to_vec(), 0..rows).map(move |batch| match on_corrupt {
        OnCorrupt::Refuse => batch?.refuse_lost(),
        OnCorrupt::RowErrors => batch,
    })
}

/// The schema of some columns, in their order.
pub fn projected(schema: &Schema, columns: &[usize]) -> SchemaRef {
    let fields: Vec<_> = columns.iter().map(|&i| schema.field(i).clone()).collect();
    Arc::new(Schema::new(fields).with_metadata(schema.metadata().clone()))
}
