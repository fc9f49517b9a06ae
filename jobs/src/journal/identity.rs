//! What makes two runs the same job: everything that decides the answers, and nothing else.
//!
//! Batch size, token budgets, threads and paths are no part of it: they never change an answer.

use crate::counted::counted;
use engine::device::DeviceKind;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::PathBuf;

/// The version of a kind of device's arithmetic. Grows whenever a change to plans, kernels or sampling changes the bits
/// of an answer there.
pub fn numerics_version(kind: DeviceKind) -> u32 {
    match kind {
        DeviceKind::Cpu => 2,
        DeviceKind::Cuda => 3,
        DeviceKind::Wgpu => 2,
    }
}

/// One thing that decides the answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name, as in "weights" or "temperature".
    pub field: String,
    /// Its value as JSON: resolved, and the digest of it if it is long.
    #[serde(with = "raw_json")]
    pub value: String,
}

impl Field {
    /// The value for people: a string without its quotes.
    pub fn shown(&self) -> Cow<'_, str> {
        match serde_json::from_str(&self.value) {
            Ok(serde_json::Value::String(text)) => text.into(),
            _ => self.value.as_str().into(),
        }
    }
}

/// JSON text within JSON, byte for byte: a number that is read and written again may change its digits.
mod raw_json {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::Error};
    use serde_json::value::RawValue;

    pub fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(text.to_string()).map_err(S::Error::custom)?.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        Ok(Box::<RawValue>::deserialize(deserializer)?.get().to_string())
    }
}

/// An ordered list of all that decides the answers of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity {
    fields: Vec<Field>,
}

impl Identity {
    /// Adds a field. A value that is null is left out: what a job does not use is no part of what it is, also in a version
    /// that does not know of it.
    pub fn push(&mut self, field: &str, value: impl Serialize) {
        // Only maps with keys that are not text have no JSON.
        let value = serde_json::to_string(&value).unwrap_or_default();
        if value != "null" {
            self.fields.push(Field { field: field.into(), value });
        }
    }

    /// Changes a field that is there.
    pub(crate) fn set(&mut self, field: &str, value: u64) {
        self.fields.iter_mut().filter(|f| f.field == field).for_each(|f| f.value = value.to_string());
    }

    /// Adds a field whose JSON is there already.
    pub(crate) fn push_json(&mut self, field: &str, value: &str) {
        self.fields.push(Field { field: field.into(), value: value.into() });
    }

    /// The fields in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// A field by its name.
    pub fn get(&self, field: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.field == field)
    }

    /// Those of its fields that have these names.
    pub(crate) fn only(&self, names: &[&str]) -> Identity {
        let fields = self.fields.iter().filter(|field| names.contains(&field.field.as_str()));
        Identity { fields: fields.cloned().collect() }
    }

    /// One digest of all fields.
    pub fn digest(&self) -> String {
        /// Tells values apart that are no strings; a length never has this bit.
        const JSON: u64 = 1 << 63;
        let mut hasher = blake3::Hasher::new();
        for field in &self.fields {
            let name = &field.field;
            hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
            let value = field.shown();
            let tag = if field.value.starts_with('"') { 0 } else { JSON };
            hasher.update(&(value.len() as u64 | tag).to_le_bytes()).update(value.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// One line for each field that is not as it was when the job was begun; empty if it is the same job.
    pub fn differences(&self, begun: &Identity) -> String {
        let mut lines = String::new();
        for then in &begun.fields {
            let now = self.get(&then.field);
            if now != Some(then) {
                difference(&mut lines, &then.field, Some(&then.shown()), now.map(Field::shown).as_deref());
            }
        }
        for now in self.fields.iter().filter(|f| begun.get(&f.field).is_none()) {
            difference(&mut lines, &now.field, None, Some(&now.shown()));
        }
        lines.truncate(lines.trim_end().len());
        lines
    }
}

/// Adds a line for a field that differs.
pub(crate) fn difference(lines: &mut String, field: &str, then: Option<&str>, now: Option<&str>) {
    // The flag that decides about it is not part of the identity by its name.
    let none =
        if matches!(field, "chat_template" | "chat template") { "(none, as with --raw)" } else { "(none)" };
    let [then, now] = [then, now].map(|value| value.filter(|value| *value != "(none)").unwrap_or(none));
    let _ = writeln!(lines, "  {field}: begun with {then}, now {now}");
}

/// A field of the identity in format 1.
#[derive(Clone, Debug, PartialEq)]
pub struct OldField {
    /// Its name there.
    pub name: &'static str,
    /// How the present options are spelt there; `None` where nothing is written.
    pub value: Option<String>,
    /// What a journal says that does not have the field; `None` if every journal has it.
    pub absent: Option<&'static str>,
}

/// The identity of a job as the formats of the journal write it.
#[derive(Clone, Debug, PartialEq)]
pub struct JobIdentity {
    /// Of new journals.
    pub identity: Identity,
    /// As format 1 has it.
    pub format1: Vec<OldField>,
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
    format!("{} ({}, {size} bytes, {known})", path.display(), counted(*rows, "row"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::digest::digest_bytes;

    fn identity(fields: &[(&str, &str)]) -> Identity {
        let mut identity = Identity::default();
        fields.iter().for_each(|(field, value)| identity.push_json(field, value));
        identity
    }

    #[test]
    fn differences_name_field_and_both_values() {
        let begun = identity(&[("weights", "\"aa\""), ("temperature", "0.0"), ("device", "\"cpu\"")]);
        let now = identity(&[("weights", "\"aa\""), ("temperature", "1.0"), ("stop", "[\"x\"]")]);
        assert_eq!(
            now.differences(&begun),
            concat!(
                "  temperature: begun with 0.0, now 1.0\n",
                "  device: begun with cpu, now (none)\n",
                "  stop: begun with (none), now [\"x\"]"
            )
        );
        assert_eq!(begun.differences(&begun), "");
        assert_ne!(begun.digest(), now.digest());
        let raw = identity(&[]).differences(&identity(&[("chat_template", "\"aa\"")]));
        assert_eq!(raw, "  chat_template: begun with aa, now (none, as with --raw)");
    }

    #[test]
    fn strings_and_other_values_are_told_apart() {
        for (one, other) in [("1", "\"1\""), ("[]", "\"[]\""), ("0.1", "0.10")] {
            let [one, other] = [one, other].map(|value| identity(&[("a", value)]));
            assert_ne!(one.digest(), other.digest());
            assert_ne!(one.differences(&other), "");
        }
    }

    #[test]
    fn values_pass_through_json_byte_for_byte() {
        let mut identity = Identity::default();
        identity.push("temperature", 1e-30f32);
        identity.push("stop", ["a \"b\"\n"]);
        identity.push("prompt", None::<&str>);
        let json = serde_json::to_string(&identity).unwrap();
        assert_eq!(json, r#"[{"field":"temperature","value":1e-30},{"field":"stop","value":["a \"b\"\n"]}]"#);
        assert_eq!(serde_json::from_str::<Identity>(&json).unwrap(), identity);
    }

    #[test]
    fn a_moved_input_is_the_same_and_a_changed_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let input = |name: &str, text: &str| {
            let path = folder.path().join(name);
            let digest = digest_bytes(text.as_bytes());
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
