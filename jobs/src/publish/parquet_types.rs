//! The types of columns that Parquet can hold.

use crate::error::JobError;
use crate::guard::guarded;
use crate::publish::columns::without_dictionaries;
use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::{Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use std::sync::Arc;

/// Refuses columns that the writer of Parquet would refuse when all rows are answered: unions, intervals of three parts,
/// structs without fields, decimals with a scale below zero.
///
/// # Errors
/// [`JobError::Column`] about the first.
pub fn check(schema: &Schema) -> Result<(), JobError> {
    schema.fields().iter().try_for_each(|field| {
        // The writer panics at some.
        let why = match guarded(|| write_null(field)) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic,
        };
        let why = format!(
            "is of a type that Parquet cannot hold, {} ({why}); cast it, or leave it out with --keep",
            field.data_type()
        );
        Err(JobError::Column { column: field.name().clone(), why })
    })
}

fn write_null(field: &Field) -> Result<(), ParquetError> {
    let field = field.clone().with_nullable(true);
    let written = without_dictionaries(&field);
    let null = new_null_array(written.data_type(), 1);
    let row = RecordBatch::try_new(Arc::new(Schema::new(vec![written])), vec![null])?;
    let schema = Arc::new(Schema::new(vec![field]));
    let mut writer = ArrowWriter::try_new(std::io::sink(), schema, None)?;
    writer.write(&row)?;
    writer.close().map(drop)
}
