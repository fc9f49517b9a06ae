//! Checksums of the journal's records: a flipped bit is never believed, nor a record of another job.

use crate::journal::identity::{Identity, InputDigests};
use rusqlite::types::ValueRef;

/// How the checksum of a record is made: the head of a BLAKE3 of its columns.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Checksum {
    /// Of the columns alone: what says which job it is, and every record of format 1.
    Plain,
    /// Keyed with the job.
    Keyed([u8; 32]),
}

impl Checksum {
    /// The checksum that is keyed with a job: its identity and what its inputs are known by.
    pub(crate) fn of_job(identity: &Identity, inputs: &InputDigests) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("gristmill journal records 2");
        hasher.update(identity.digest().as_bytes());
        for input in &inputs.0 {
            hasher.update(&(input.digest.len() as u64).to_le_bytes()).update(input.digest.as_bytes());
        }
        Checksum::Keyed(*hasher.finalize().as_bytes())
    }

    /// The checksum of any columns: of kind, length and bytes of each.
    pub(crate) fn of<'a>(&self, values: impl Iterator<Item = ValueRef<'a>>) -> i64 {
        // One buffer and one call: a journal of a million answers is read through in seconds.
        let mut buffer = Vec::with_capacity(512);
        let mut part = |kind: u8, bytes: &[u8]| {
            buffer.push(kind);
            buffer.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            buffer.extend_from_slice(bytes);
        };
        for value in values {
            match value {
                ValueRef::Null => part(0, &[]),
                ValueRef::Integer(number) => part(1, &number.to_le_bytes()),
                ValueRef::Real(number) => part(2, &number.to_le_bytes()),
                ValueRef::Text(bytes) => part(3, bytes),
                ValueRef::Blob(bytes) => part(4, bytes),
            }
        }
        let hash = match self {
            Checksum::Plain => blake3::hash(&buffer),
            Checksum::Keyed(key) => blake3::keyed_hash(key, &buffer),
        };
        let mut head = [0; 8];
        head.copy_from_slice(&hash.as_bytes()[..8]);
        i64::from_le_bytes(head)
    }
}
