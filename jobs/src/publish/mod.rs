//! Makes the output of a finished job, and checks it.

pub mod columns;
mod digest_writer;
mod input_rows;
pub(crate) mod local;
pub mod manifest;
pub mod publication;
pub(crate) mod remote;
mod schema_metadata;
mod sizes;
pub mod target;
pub mod verify;
