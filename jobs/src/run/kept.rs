//! The input columns that go to the output.

use crate::error::JobError;
use crate::input::Input;
use crate::input::batch::Batch;
use crate::options::job::OnCorrupt;
use crate::run::space::KeptBytes;
use arrow::datatypes::{Schema, SchemaRef};
use std::ops::Range;
use std::sync::Arc;

/// Reads columns of rows, so that what would end the job does so before it begins. The first `kept` of the columns
/// go to the output; how large their values are is returned.
///
/// # Errors
/// What cannot be read; with `row-errors` not what is damaged.
pub fn check_input(
    input: &Input,
    columns: Vec<usize>,
    kept: usize,
    rows: Range<u64>,
    on_corrupt: OnCorrupt,
) -> Result<KeptBytes, JobError> {
    let mut bytes = KeptBytes::default();
    let of_output: Vec<usize> = (0..kept).collect();
    for batch in kept_batches(input, &columns, rows, on_corrupt) {
        if let Ok(kept) = batch?.columns.project(&of_output) {
            bytes.add(&kept);
        }
    }
    Ok(bytes)
}

/// Columns of rows; with `row-errors`, cells that cannot be read are null and named by the batch.
pub fn kept_batches<'a>(
    input: &'a Input,
    columns: &[usize],
    rows: Range<u64>,
    on_corrupt: OnCorrupt,
) -> impl Iterator<Item = Result<Batch, JobError>> + use<'a> {
    input.read(columns.to_vec(), rows).map(move |batch| match on_corrupt {
        OnCorrupt::Refuse => batch?.refuse_lost(),
        OnCorrupt::RowErrors => batch,
    })
}

/// The schema of some columns, in their order.
pub fn projected(schema: &Schema, columns: &[usize]) -> SchemaRef {
    let fields: Vec<_> = columns.iter().map(|&i| schema.field(i).clone()).collect();
    Arc::new(Schema::new(fields).with_metadata(schema.metadata().clone()))
}
