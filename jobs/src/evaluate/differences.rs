//! The file of the rows that differ from their truths.

use crate::error::JobError;
use crate::files::refuse_unwritable;
use crate::publish::format::OutputFormat;
use crate::publish::part_writer::PartWriter;
use crate::publish::text::LineEncoder;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::file::properties::WriterProperties;
use std::path::{Path, PathBuf};

/// Writes rows in the format that the file's name says.
pub struct Differences {
    path: PathBuf,
    writer: PartWriter,
    rows: u64,
}

impl Differences {
    /// Refuses a place where the file cannot be, before the work: one where a file is, too, since that may be the output
    /// itself, the truth, or anything else.
    ///
    /// # Errors
    /// [`JobError::Usage`] for the name of another format, or of a file that is there; [`JobError::Io`].
    pub fn refuse(path: &Path) -> Result<(), JobError> {
        format_of(path)?;
        if std::fs::metadata(path).is_ok_and(|there| there.is_file()) {
            let path = path.display();
            return Err(JobError::Usage(format!(
                "--differences {path}: this file is there, and evaluate replaces none; remove it, or name another"
            )));
        }
        refuse_unwritable(path)
    }

    /// Begins the file.
    ///
    /// # Errors
    /// [`JobError::Usage`] for the name of another format, or a column that the format cannot hold; [`JobError::Io`].
    pub fn create(path: &Path, schema: SchemaRef) -> Result<Differences, JobError> {
        let format = format_of(path)?;
        if format != OutputFormat::Parquet {
            LineEncoder::new(format).check(&schema).map_err(of_flag(path))?;
        }
        let writer = PartWriter::create(path, format, &schema, WriterProperties::default())?;
        Ok(Differences { path: path.to_path_buf(), writer, rows: 0 })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// [`JobError::Usage`] for a value that the format cannot hold; [`JobError::Encode`]; [`JobError::Io`].
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), JobError> {
        self.writer.write(rows, self.rows).map_err(of_flag(&self.path))?;
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// [`JobError::Encode`]; [`JobError::Io`].
    pub fn finish(self) -> Result<(), JobError> {
        self.writer.finish().map(drop)
    }
}

fn format_of(path: &Path) -> Result<OutputFormat, JobError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    OutputFormat::of_name(&name).map_err(|ending| {
        JobError::Usage(format!(
            "--differences {}: .{ending} is not written; name the file .parquet, .jsonl or .csv",
            path.display()
        ))
    })
}

/// An error about a column in terms of the flag: these columns are the output's, and none of them can be left out.
fn of_flag(path: &Path) -> impl Fn(JobError) -> JobError {
    let path = path.display().to_string();
    move |error| match error {
        JobError::Column { column, why } => {
            let why = why.split("; leave").next().unwrap_or(&why);
            JobError::Usage(format!("--differences {path}: column {column:?}: {why}; name the file .parquet"))
        }
        other => other,
    }
}
