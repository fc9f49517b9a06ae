//! The input: Parquet files as one long table.
//!
//! Files are named one by one, by glob or by folder, here or in an object store; their schemas must agree. Rows are numbered from 0
//! through all files in order, and that number is what a row is called everywhere else.

pub mod batch;
pub mod batches;
mod column;
mod dates;
pub mod file;
pub mod footer;
mod footer_map;
mod group;
mod group_file;
pub mod local;
pub mod lost;
pub mod names;
mod pages;
pub mod ranges;
pub mod row;
mod schema;
mod sizes;
pub mod source;
mod thrift;
mod types;
mod unknown;

use crate::error::JobError;
use arrow::datatypes::{Schema, SchemaRef};
use batches::Batches;
use file::{InputFile, broken};
use footer::{Footer, MAX_ROWS};
use names::resolve;
use schema::{agree, refuse_duplicates};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use types::has_days;
use unknown::refuse_unknown;

/// All input files as one table.
#[derive(Clone, Debug)]
pub struct Input {
    /// The files in the order of their rows.
    pub files: Vec<InputFile>,
    /// The columns, the same in every file.
    pub schema: SchemaRef,
    /// Rows in all.
    pub rows: u64,
    /// Nulls of each column by the footers, where they all say so.
    pub nulls: Vec<Option<u64>>,
    /// Whether every Date64 is stored as a date, in whole days, and none as a number of milliseconds.
    pub days: bool,
}

impl Input {
    /// Opens files, globs and folders and reads every footer.
    ///
    /// # Errors
    /// [`JobError::Usage`] if nothing is named or two columns have one name, [`JobError::Input`] for a file that is not Parquet or whose
    /// columns differ from those of the first.
    pub fn open(names: &[String]) -> Result<Input, JobError> {
        let mut files = Vec::new();
        let mut schema: Option<(SchemaRef, PathBuf)> = None;
        let mut rows = 0u64;
        let (mut nulls, mut days): (Vec<Option<u64>>, bool) = (Vec::new(), true);
        for source in resolve(names)? {
            let path = source.name();
            let open = source.open()?;
            let footer = Footer::read(&open, &path)?;
            let metadata = footer.file();
            refuse_duplicates(metadata.schema(), &path)?;
            match &schema {
                None => schema = Some((metadata.schema().clone(), path.clone())),
                Some((first, first_path)) => agree(first, first_path, metadata.schema(), &path)?,
            }
            days &= has_days(metadata);
            nulls.resize(metadata.schema().fields().len(), Some(0));
            for (all, more) in nulls.iter_mut().zip(footer.null_counts()) {
                *all = all.zip(more).map(|(all, more)| all.saturating_add(more));
            }
            let row_groups = footer.row_counts()?;
            let file = InputFile { source, path, first_row: rows, row_groups };
            rows = rows
                .checked_add(file.rows())
                .filter(|rows| *rows <= MAX_ROWS)
                .ok_or_else(|| broken(&file.path, "", "the files up to this one have more than 2^32 rows"))?;
            files.push(file);
        }
        let (schema, _) =
            schema.ok_or_else(|| JobError::Usage("no input: name a file with --input".into()))?;
        // Every column can hold null, as those of rows that cannot be read do in the output.
        let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let fields = fields.collect::<Vec<_>>();
        let schema = Arc::new(Schema::new(fields).with_metadata(schema.metadata().clone()));
        Ok(Input { files, schema, rows, nulls, days })
    }

    /// The positions of columns by name.
    ///
    /// # Errors
    /// [`JobError::Usage`] with the columns that there are.
    pub fn columns(&self, names: &[String], flag: &str) -> Result<Vec<usize>, JobError> {
        names
            .iter()
            .map(|name| {
                self.schema.index_of(name).map_err(|_| {
                    JobError::Usage(format!(
                        "{flag}: the input has no column `{name}`; it has {}",
                        self.column_list()
                    ))
                })
            })
            .collect()
    }

    /// Refuses columns of a type that cannot be read.
    ///
    /// # Errors
    /// [`JobError::Usage`] names the first.
    pub fn refuse_unknown(&self, columns: &[usize]) -> Result<(), JobError> {
        let path = self.files.first().map(|file| file.path.clone()).unwrap_or_default();
        columns.iter().try_for_each(|&at| refuse_unknown(self.schema.field(at), &path))
    }

    /// The names of the columns, for messages.
    pub fn column_list(&self) -> String {
        let names: Vec<_> = self.schema.fields().iter().take(20).map(|f| format!("`{}`", f.name())).collect();
        let more = self.schema.fields().len().saturating_sub(20);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        names.join(", ") + &more
    }

    /// Reads the columns of the rows, a batch at a time.
    ///
    /// Cells that cannot be read are null and named by the batch; an error ends the reading.
    pub fn read(&self, columns: Vec<usize>, rows: Range<u64>) -> Batches<'_> {
        Batches::new(self, columns, rows)
    }
}

#[cfg(test)]
pub(crate) mod tests;
