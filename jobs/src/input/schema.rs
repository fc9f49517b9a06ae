//! Whether two files have the same columns.

use crate::error::JobError;
use crate::input::file::broken;
use arrow::datatypes::Schema;
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
            return refuse(field.name(), "stands at another place than in".into());
        }
    }
    Ok(())
}
