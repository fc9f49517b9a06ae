//! UUIDs: 16 bytes that Arrow knows as such by their field's metadata.

use arrow::datatypes::{DataType, Field};

/// Whether a column, or what is below one, is of UUIDs.
pub fn is_uuid(field: &Field) -> bool {
    *field.data_type() == DataType::FixedSizeBinary(16) && field.extension_type_name() == Some("arrow.uuid")
}

/// The text of a UUID, as `550e8400-e29b-41d4-a716-446655440000`.
pub fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
