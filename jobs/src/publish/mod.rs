//! Makes the output of a finished job, and checks it.

pub mod answer_columns;
pub mod choice_columns;
pub mod columns;
mod dictionaries;
mod digest_writer;
pub mod document_columns;
pub mod format;
mod input_rows;
pub(crate) mod local;
pub mod manifest;
pub mod parquet_types;
pub(crate) mod part_writer;
pub mod publication;
pub(crate) mod remote;
mod schema_metadata;
pub(crate) mod sizes;
pub mod target;
pub mod text;
pub mod unheld;
pub mod verify;

/// Whether an output is published, in words; `None` if its store cannot be asked.
pub(crate) fn published_words(published: Option<bool>) -> &'static str {
    match published {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown; its store does not answer now",
    }
}
