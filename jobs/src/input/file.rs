//! One input file, and what can be wrong with it.

use crate::error::JobError;
use crate::guard;
use crate::input::arrow_layout::ArrowLayout;
use crate::input::found::Partition;
use crate::input::place::Place;
use crate::input::ranges::OpenSource;
use crate::input::source::Source;
use crate::input::text_layout::TextLayout;
use arrow::datatypes::SchemaRef;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One input file.
#[derive(Clone, Debug)]
pub struct InputFile {
    /// How it is read.
    pub layout: Layout,
    /// Its columns.
    pub schema: SchemaRef,
    /// Where the columns of the input are.
    pub places: Arc<[Place]>,
    /// What its folders say of its rows.
    pub partition: Partition,
    /// Where it is.
    pub source: Source,
    /// Its name in messages.
    pub path: PathBuf,
    /// The number of its first row.
    pub first_row: u64,
    /// The rows of each row group.
    pub row_groups: Vec<u64>,
}

impl InputFile {
    /// Rows of the file.
    pub fn rows(&self) -> u64 {
        self.row_groups.iter().sum()
    }

    /// Checks that no read of an open file has failed: what was read is the file's own then, for better or worse.
    ///
    /// # Errors
    /// [`JobError::Io`], [`JobError::Changed`] or [`JobError::Store`].
    pub fn check(&self, open: &OpenSource) -> Result<(), JobError> {
        open.failure().map_or(Ok(()), Err)
    }
}

/// How a file is read.
#[derive(Clone, Debug)]
pub enum Layout {
    Parquet,
    Text(Arc<TextLayout>),
    Arrow(Arc<ArrowLayout>),
}

/// Why a column is not read.
#[derive(Clone, Debug)]
pub struct Refusal {
    path: PathBuf,
    place: String,
    why: String,
}

impl Refusal {
    /// Of a column of a file.
    pub fn of_column(path: &Path, column: &str, why: String) -> Refusal {
        Refusal { path: path.into(), place: format!(", column {column}"), why }
    }

    /// The error of a job that needs it.
    pub fn error(&self) -> JobError {
        broken(&self.path, &self.place, &self.why)
    }
}

/// An error of an input file, at a place in it such as ", row group 3".
pub fn broken(path: &Path, place: &str, why: &str) -> JobError {
    JobError::Input { path: path.to_path_buf(), place: place.into(), why: why.into() }
}

/// Runs code of the Parquet library, which may panic on a hostile file.
pub fn guarded<T>(decode: impl FnOnce() -> T) -> Result<T, String> {
    guard::guarded(decode).map_err(|panic| format!("the Parquet reader gave up: {panic}"))
}
