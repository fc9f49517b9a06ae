//! What makes two runs the same job: everything that decides the answers, and nothing else.
//!
//! Batch size, token budgets, threads and paths are no part of it: they never change an answer.

use crate::error::JobError;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Grows whenever a change to plans, kernels or sampling changes the bits of an answer.
pub const NUMERICS_VERSION: u32 = 2;

/// One thing that decides the answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name, as in "weights" or "temperature".
    pub field: String,
    /// Its value, or the digest of it if it is long.
    pub value: String,
}

/// An ordered list of all that decides the answers of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity {
    fields: Vec<Field>,
}

impl Identity {
    /// The identity with the fields that gristmill itself decides.
    pub fn new() -> Self {
        let mut identity = Identity::default();
        identity.push("numerics version", NUMERICS_VERSION.to_string());
        identity
    }

    /// Adds a field.
    pub fn push(&mut self, field: impl Into<String>, value: impl Into<String>) {
        self.fields.push(Field { field: field.into(), value: value.into() });
    }

    /// The fields in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The value of a field.
    pub fn get(&self, field: &str) -> Option<&str> {
        self.fields.iter().find(|f| f.field == field).map(|f| f.value.as_str())
    }

    /// One digest of all fields.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for Field { field, value } in &self.fields {
            for text in [field, value] {
                hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// One line for each field that is not as it was when the job was begun; empty if it is the same job.
    pub fn differences(&self, begun: &Identity) -> String {
        let mut lines = String::new();
        let mut line = |field: &str, then: Option<&str>, now: Option<&str>| {
            if then != now {
                let [then, now] = [then, now].map(|value| value.unwrap_or("(none)"));
                let _ = writeln!(lines, "  {field}: begun with {then}, now {now}");
            }
        };
        for Field { field, value } in &begun.fields {
            line(field, Some(value), self.get(field));
        }
        for Field { field, value } in self.fields.iter().filter(|f| begun.get(&f.field).is_none()) {
            line(field, None, Some(value));
        }
        lines.truncate(lines.trim_end().len());
        lines
    }
}

/// An input file, as it is when a job begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputDigest {
    /// Where it is now, a path or a URL; not a part of the identity.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Rows.
    pub rows: u64,
    /// What its content is known by, from [`crate::source::Source::identify`].
    pub digest: String,
}

/// The input files of a job, in the order of their rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputDigests(pub Vec<InputDigest>);

impl InputDigests {
    /// Rows of all files together.
    pub fn rows(&self) -> u64 {
        self.0.iter().map(|input| input.rows).sum()
    }

    /// One line for each file that is not as it was when the job was begun, wherever it is now.
    pub fn differences(&self, begun: &InputDigests) -> String {
        let mut lines = String::new();
        for i in 0..self.0.len().max(begun.0.len()) {
            let line = match (begun.0.get(i), self.0.get(i)) {
                (Some(then), Some(now)) if then.digest == now.digest => continue,
                (Some(then), Some(now)) => format!("{} is not {}", told(now), told(then)),
                (Some(then), None) => format!("{} is missing", told(then)),
                (None, Some(now)) => format!("{} is new", told(now)),
                (None, None) => continue,
            };
            let _ = writeln!(lines, "  input {}: {line}", i + 1);
        }
        lines.truncate(lines.trim_end().len());
        lines
    }
}

/// A file for people.
fn told(input: &InputDigest) -> String {
    let InputDigest { path, size, rows, digest } = input;
    let known = match digest.strip_prefix("etag ") {
        Some(_) => digest.clone(),
        None => format!("blake3 {}", digest.chars().take(16).collect::<String>()),
    };
    format!("{} ({rows} rows, {size} bytes, {known})", path.display())
}

/// The digest (BLAKE3, in hexadecimal) of bytes.
pub fn digest_bytes(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// The digest (BLAKE3, in hexadecimal) of a file's bytes.
///
/// Always of the bytes: a size and a modification time can both stay while the content changes.
///
/// # Errors
/// [`JobError::Io`].
pub fn digest_file(path: &Path) -> Result<String, JobError> {
    Ok(hash_file(path)?.to_hex().to_string())
}

/// One digest of several files: of their names without folders and their bytes, in order of the names.
///
/// # Errors
/// [`JobError::Io`].
pub fn digest_files(paths: &[PathBuf]) -> Result<String, JobError> {
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_os_string();
    let mut paths = paths.to_vec();
    paths.sort_by_key(name);
    let mut all = blake3::Hasher::new();
    for (path, hash) in paths.iter().zip(hash_together(&paths)) {
        let name = name(path);
        let name = name.as_encoded_bytes();
        all.update(&(name.len() as u64).to_le_bytes()).update(name).update(hash?.as_bytes());
    }
    Ok(all.finalize().to_hex().to_string())
}

/// Hashes files side by side, as many at a time as there are processors.
fn hash_together(paths: &[PathBuf]) -> Vec<Result<blake3::Hash, JobError>> {
    let lanes = std::thread::available_parallelism().map_or(1, usize::from);
    let mut hashes = Vec::with_capacity(paths.len());
    for paths in paths.chunks(lanes) {
        std::thread::scope(|scope| {
            let running: Vec<_> = paths.iter().map(|path| scope.spawn(|| hash_file(path))).collect();
            hashes.extend(running.into_iter().zip(paths).map(|(thread, path)| {
                let lost = |_| Err(JobError::io("read", path)(std::io::Error::other("the reader panicked")));
                thread.join().unwrap_or_else(lost)
            }));
        });
    }
    hashes
}

fn hash_file(path: &Path) -> Result<blake3::Hash, JobError> {
    let mut file = File::open(path).map_err(JobError::io("open", path))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(JobError::io("read", path))? {
            0 => return Ok(hasher.finalize()),
            n => hasher.update(&buffer[..n]),
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn identity(fields: &[(&str, &str)]) -> Identity {
        let mut identity = Identity::new();
        fields.iter().for_each(|(field, value)| identity.push(*field, *value));
        identity
    }

    #[test]
    fn differences_name_field_and_both_values() {
        let begun = identity(&[("weights", "aa"), ("temperature", "0"), ("device kind", "cpu")]);
        let now = identity(&[("weights", "aa"), ("temperature", "1"), ("structure", "x")]);
        assert_eq!(
            now.differences(&begun),
            concat!(
                "  temperature: begun with 0, now 1\n",
                "  device kind: begun with cpu, now (none)\n",
                "  structure: begun with (none), now x"
            )
        );
        assert_eq!(begun.differences(&begun), "");
        assert_ne!(begun.digest(), now.digest());
    }

    #[test]
    fn a_moved_input_is_the_same_and_a_changed_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let input = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let digest = digest_file(&path).unwrap();
            InputDigest { path, size: text.len() as u64, rows: 1, digest }
        };
        let begun = InputDigests(vec![input("a", "1"), input("b", "2")]);
        let moved = InputDigests(vec![input("c", "1"), input("d", "2")]);
        assert_eq!(moved.differences(&begun), "");
        let swapped = InputDigests(vec![input("d", "2"), input("c", "1")]);
        assert_eq!(swapped.differences(&begun).lines().count(), 2);
        let fewer = InputDigests(vec![input("c", "1")]);
        assert!(
            fewer.differences(&begun).contains("input 2") && fewer.differences(&begun).contains("missing")
        );
    }

    #[test]
    fn files_digest_alike_in_any_folder_and_order() {
        let [one, two] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let write = |folder: &Path, name: &str, text: &str| {
            std::fs::write(folder.join(name), text).unwrap();
            folder.join(name)
        };
        let there = [write(one.path(), "a", "1"), write(one.path(), "b", "2"), write(one.path(), "c", "3")];
        let here = [write(two.path(), "c", "3"), write(two.path(), "a", "1"), write(two.path(), "b", "2")];
        assert_eq!(digest_files(&there).unwrap(), digest_files(&here).unwrap());
        write(two.path(), "b", "3");
        assert_ne!(digest_files(&there).unwrap(), digest_files(&here).unwrap());
    }
}
