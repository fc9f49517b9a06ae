//! What was published: `manifest.json` in the state_dir of a local output, and at `<output>.gristmill/` in a store. Earlier
//! versions put that of a folder among its parts.

use crate::digest::digest_bytes;
use crate::error::JobError;
use crate::files::{rename, write_durably};
use crate::journal::identity::{Identity, InputDigests};
use engine::file::open_regular;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::Path;

/// The file's name.
pub const NAME: &str = "manifest.json";

/// The name of the manifest of what is about to be published.
pub const NEXT: &str = "manifest.next";

/// The last key of a manifest: the digest of all text before it.
const SEAL: &str = "manifest_blake3";

/// A manifest of more bytes is not read.
const MAX_BYTES: u64 = 256 << 20;

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
    /// One digest of what the inputs are known by, which tells jobs of one identity apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs_blake3: Option<String>,
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
    /// The manifest as JSON, sealed with a digest.
    pub fn to_json(&self) -> String {
        // Maps with keys that are not text are all that could fail.
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        let head = text.strip_suffix("\n}").unwrap_or(&text);
        format!("{head}{}", seal(head))
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// [`JobError::Io`], also if it is not a manifest.
    pub fn read(path: &Path) -> Result<Self, JobError> {
        Self::parse(&read_text(path)?, path)
    }

    /// Understands the text of a manifest; the path is for the error.
    ///
    /// # Errors
    /// [`JobError::Io`] if it is not a manifest.
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, JobError> {
        let invalid = |error: serde_json::Error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
        serde_json::from_slice(text).map_err(invalid).map_err(JobError::io("understand", path))
    }

    /// A manifest of a state_dir; none if there is none, or if a kill has left a part of one.
    pub fn find(state_dir: &Path, name: &str) -> Option<Manifest> {
        let text = read_text(&state_dir.join(name)).ok()?;
        let manifest = Self::parse(&text, Path::new(name)).ok()?;
        manifest.is_sealed(&text).then_some(manifest)
    }

    /// Whether it is of a job: whatever machine has published it, and by which path it has named the inputs.
    pub fn is_of(&self, identity: &Identity, inputs: &InputDigests) -> bool {
        let same = |digest: &String| *digest == inputs_digest(inputs);
        self.identity_blake3 == identity.digest() && self.inputs_blake3.as_ref().is_none_or(same)
    }

    /// Whether the text from which it was read is as it was written. Earlier versions wrote no seal.
    pub fn is_sealed(&self, text: &[u8]) -> bool {
        let mark = format!(",\n  \"{SEAL}\"");
        match text.windows(mark.len()).rposition(|bytes| bytes == mark.as_bytes()) {
            Some(end) => String::from_utf8(text[..end].to_vec())
                .is_ok_and(|head| text[end..] == *seal(&head).as_bytes()),
            None => self.inputs_blake3.is_none(),
        }
    }
}

/// The end of a manifest.
fn seal(head: &str) -> String {
    format!(",\n  \"{SEAL}\": \"{}\"\n}}\n", digest_bytes(head.as_bytes()))
}

/// The text of a manifest, which must not be longer than any sound one.
///
/// # Errors
/// [`JobError::Io`].
pub fn read_text(path: &Path) -> Result<Vec<u8>, JobError> {
    let mut text = Vec::new();
    let read = open_regular(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut text));
    read.map_err(JobError::io("read", path))?;
    if text.len() as u64 > MAX_BYTES {
        let why = std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is too long to be a manifest");
        return Err(JobError::io("understand", path)(why));
    }
    Ok(text)
}

/// Keeps the text of a manifest in a state_dir, as that of what is published.
///
/// # Errors
/// [`JobError::Io`].
pub fn keep(state_dir: &Path, text: &str) -> Result<(), JobError> {
    let new = state_dir.join("manifest.new");
    write_durably(&new, text)?;
    rename(&new, &state_dir.join(NAME))
}

/// One digest of what the inputs of a job are known by.
pub fn inputs_digest(inputs: &InputDigests) -> String {
    let mut hasher = blake3::Hasher::new();
    for input in &inputs.0 {
        hasher.update(&input.rows.to_le_bytes());
        hasher.update(&(input.digest.len() as u64).to_le_bytes()).update(input.digest.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
