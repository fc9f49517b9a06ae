//! The input columns that go to the output.

use crate::error::JobError;
use crate::input::Input;
use crate::options::job::OnCorrupt;
use crate::run::reading::read_rows;
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
    for batch in read_rows(input, &columns, rows, on_corrupt) {
        if let Ok(kept) = batch?.columns.project(&of_output) {
            bytes.add(&kept);
        }
    }
    Ok(bytes)
}

/// The schema of some columns, in their order.
pub fn projected(schema: &Schema, columns: &[usize]) -> SchemaRef {
    let fields: Vec<_> = columns.iter().map(|&i| schema.field(i).clone()).collect();
    Arc::new(Schema::new(fields).with_metadata(schema.metadata().clone()))
}
