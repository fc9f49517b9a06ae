//! Whether two files have the same columns.

use crate::error::JobError;
use crate::input::file::broken;
use arrow::datatypes::Schema;
use std::collections::HashSet;
use std::path::Path;

/// Refuses a schema that is not the first file's.
///
/// # Errors
/// [`JobError::Input`] names the column.
pub fn agree(first: &Schema, first_path: &Path, schema: &Schema, path: &Path) -> Result<(), JobError> {
    let refuse = |column: &str, why: String| {
        Err(broken(path, &format!(", column {column}"), &format!("{why} {}", first_path.display())))
    };
    for field in first.fields() {
        match schema.field_with_name(field.name()) {
            Err(_) => return refuse(field.name(), "is missing, but it is in".into()),
            Ok(other) if other.data_type() != field.data_type() => {
                let why = format!("is {}, but it is {} in", other.data_type(), field.data_type());
                return refuse(field.name(), why);
            }
            Ok(_) => {}
        }
    }
    for (at, field) in schema.fields().iter().enumerate() {
        if first.field_with_name(field.name()).is_err() {
            return refuse(field.name(), "is not in".into());
        }
        if first.fields().get(at).map(|f| f.name()) != Some(field.name()) {
            return refuse(field.name(), "is at another position than in".into());
        }
    }
    Ok(())
}

/// Refuses two columns of one name: which is meant, in a prompt or in the output, could not be said.
///
/// # Errors
/// [`JobError::Usage`] names the column.
pub fn refuse_duplicates(schema: &Schema, path: &Path) -> Result<(), JobError> {
    let mut seen = HashSet::new();
    match schema.fields().iter().find(|field| !seen.insert(field.name())) {
        None => Ok(()),
        Some(twice) => Err(JobError::Usage(format!(
            "{}: more than one column is named `{}`; write the file with names that differ",
            path.display(),
            twice.name()
        ))),
    }
}
