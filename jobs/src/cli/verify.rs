//! `gristmill verify`.

use crate::counted::counted;
use crate::error::JobError;
use crate::log::print;
use crate::publish;
use crate::store::location::Location;

/// Checks a published output, and prints what it holds.
pub fn verify(output: &Location) -> Result<(), JobError> {
    let verified = publish::verify::verify(output)?;
    let (rows, files) = (counted(verified.rows, "row"), counted(verified.files as u64, "file"));
    print(&match verified.without_manifest {
        None => format!("{output} is as published: {rows} in {files}\n"),
        Some(manifest) => format!(
            "{output} is whole by the footers of its files alone: {rows} in {files} of one job. There is no \
             manifest ({manifest}), so that neither their bytes were checked nor whether files are missing at the end\n"
        ),
    })
}
