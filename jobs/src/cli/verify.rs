//! `gristmill verify`.

use crate::error::JobError;
use crate::publish;
use crate::store::location::Location;

/// Checks a published output, and prints what it holds.
pub fn verify(output: &Location) -> Result<(), JobError> {
    let manifest = publish::verify::verify(output)?;
    println!("{output} is as published: {} rows in {} files", manifest.rows, manifest.parts.len());
    Ok(())
}
