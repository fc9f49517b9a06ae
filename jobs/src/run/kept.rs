//! The input columns that go to the output.

use crate::error::JobError;
use crate::input::Input;
use crate::options::job::OnCorrupt;
use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};
use std::path::PathBuf;
use std::sync::Arc;

/// Reads columns of the first rows, so that a corrupt row group ends the job before it begins.
///
/// # Errors
/// What cannot be read.
pub fn check_input(input: &Input, mut columns: Vec<usize>, rows: u64) -> Result<(), JobError> {
    columns.sort_unstable();
    columns.dedup();
    match input.read(columns, 0..rows).find_map(Result::err) {
        None => Ok(()),
        Some(corrupt) if !corrupt.error.is_corruption() => Err(corrupt.error),
        Some(corrupt) => {
            let why = format!("{}; with --on-corrupt row-errors its rows get errors instead", corrupt.error);
            Err(JobError::Input { path: PathBuf::from("input"), place: String::new(), why })
        }
    }
}

/// The kept columns of the first rows; with `row-errors`, rows that cannot be read have nulls.
pub fn kept_batches<'a>(
    input: &'a Input,
    kept: &[usize],
    rows: u64,
    on_corrupt: OnCorrupt,
) -> impl Iterator<Item = Result<RecordBatch, JobError>> + use<'a> {
    let schema = projected(&input.schema, kept);
    input.read(kept.to_vec(), 0..rows).map(move |batch| match batch {
        Ok(batch) => Ok(batch.columns),
        Err(corrupt) if on_corrupt == OnCorrupt::RowErrors && corrupt.error.is_corruption() => {
            nulls(&schema, corrupt.rows)
        }
        Err(corrupt) => Err(corrupt.error),
    })
}

fn nulls(schema: &SchemaRef, rows: std::ops::Range<u64>) -> Result<RecordBatch, JobError> {
    let rows = (rows.end - rows.start) as usize;
    let columns = schema.fields().iter().map(|field| new_null_array(field.data_type(), rows)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(|error| JobError::Internal(error.to_string()))
}

/// The schema of some columns, in their order.
pub fn projected(schema: &Schema, columns: &[usize]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|&i| schema.field(i).clone()).collect::<Vec<_>>()))
}
