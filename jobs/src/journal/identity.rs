//! What makes two runs the same job: everything that decides the answers, and nothing else.
//!
//! Batch size, token budgets, threads and paths are no part of it: they never change an answer.

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::PathBuf;

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
    pub size: u64,
    /// Rows.
    pub rows: u64,
    /// What its content is known by, from [`crate::input::source::Source::identify`].
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
                (Some(then), Some(now)) => format!("{} is not {}", described(now), described(then)),
                (Some(then), None) => format!("{} is missing", described(then)),
                (None, Some(now)) => format!("{} is new", described(now)),
                (None, None) => continue,
            };
            let _ = writeln!(lines, "  input {}: {line}", i + 1);
        }
        lines.truncate(lines.trim_end().len());
        lines
    }
}

/// A file for people.
fn described(input: &InputDigest) -> String {
    let InputDigest { path, size, rows, digest } = input;
    let known = match digest.strip_prefix("etag ") {
        Some(_) => digest.clone(),
        None => format!("blake3 {}", digest.chars().take(16).collect::<String>()),
    };
    format!("{} ({rows} rows, {size} bytes, {known})", path.display())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::digest::digest_file;

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
}
