//! `gristmill verify`.

use crate::error::JobError;
use crate::log::print;
use crate::publish;
use crate::store::location::Location;

/// Checks a published output, and prints what it holds.
pub fn verify(output: &Location) -> Result<(), JobError> {
    let manifest = publish::verify::verify(output)?;
    print(&format!("{output} is as published: {} rows in {} files\n", manifest.rows, manifest.parts.len()))
}
