//! What was published: `manifest.json` in the state_dir, and beside the parts of a folder.

use crate::error::JobError;
use crate::journal::identity::Identity;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file's name.
pub const NAME: &str = "manifest.json";

/// The key of the identity in the footer of each part.
pub const IDENTITY_KEY: &str = "gristmill.identity";

/// The key of gristmill's version in the footer of each part.
pub const VERSION_KEY: &str = "gristmill.version";

/// The key of the part's first input row in its footer.
pub const FIRST_ROW_KEY: &str = "gristmill.first_row";

/// What a job has published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of gristmill that wrote the output.
    pub version: String,
    /// What decided the answers.
    pub identity: Identity,
    /// The digest of the identity: the short name of the job.
    pub identity_blake3: String,
    /// Rows of all parts.
    pub rows: u64,
    /// Rows that were published without an answer (`finish_reason` "abort").
    pub aborted: u64,
    /// Rows that have an answer and an error besides, as a kept cell of theirs cannot be read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreadable: u64,
    /// What is null in the kept columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nulls: Vec<ColumnNulls>,
    /// The parts, in the order of their rows.
    pub parts: Vec<Part>,
}

/// What is null in a kept column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnNulls {
    pub column: String,
    /// Rows that were published with null.
    pub null: u64,
    /// Rows among them whose value cannot be read; each has an error.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreadable: u64,
    /// Rows with null in the input by its footers, where they say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<u64>,
}

impl ColumnNulls {
    /// A column without nulls.
    pub fn none(column: &str) -> ColumnNulls {
        ColumnNulls { column: column.into(), null: 0, unreadable: 0, input: None }
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// One Parquet file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name in the output folder, or the name of the output itself.
    pub name: String,
    /// Its first input row.
    pub first_row: u64,
    pub rows: u64,
    pub bytes: u64,
    /// The digest (BLAKE3) of its bytes.
    pub blake3: String,
}

impl Manifest {
    /// The manifest as JSON.
    pub fn to_json(&self) -> String {
        // Maps with keys that are not text are all that could fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// [`JobError::Io`], also if it is not a manifest.
    pub fn read(path: &Path) -> Result<Self, JobError> {
        let text = std::fs::read(path).map_err(JobError::io("read", path))?;
        Self::parse(&text, path)
    }

    /// Understands the text of a manifest; the path is for the error.
    ///
    /// # Errors
    /// [`JobError::Io`] if it is not a manifest.
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, JobError> {
        let manifest = serde_json::from_slice(text).map_err(std::io::Error::from);
        manifest.map_err(JobError::io("understand", path))
    }
}
