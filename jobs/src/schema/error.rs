//! Why a schema is refused.

use thiserror::Error;

/// What of a schema cannot be enforced, and where.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("{}: {why}", if .pointer.is_empty() { "the schema" } else { .pointer.as_str() })]
pub struct SchemaError {
    /// A JSON pointer.
    pub pointer: String,
    /// What is wrong, and what to do.
    pub why: String,
}

impl SchemaError {
    /// At a place.
    pub(super) fn new(pointer: &str, why: impl Into<String>) -> SchemaError {
        SchemaError { pointer: pointer.into(), why: why.into() }
    }
}
