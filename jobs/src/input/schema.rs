//! The schema of one file.

use crate::error::JobError;
use arrow::datatypes::Schema;
use std::collections::HashSet;
use std::path::Path;

/// Refuses two columns of one name: which is meant, in a prompt or in the output, could not be said.
///
/// # Errors
/// [`JobError::Usage`] names the column.
pub fn refuse_duplicates(schema: &Schema, path: &Path) -> Result<(), JobError> {
    let mut seen = HashSet::new();
    match schema.fields().iter().find(|field| !seen.insert(field.name())) {
        None => Ok(()),
        Some(twice) => Err(JobError::Usage(format!(
            "{}: more than one column is named `{}`; give each a name of its own",
            path.display(),
            twice.name()
        ))),
    }
}
