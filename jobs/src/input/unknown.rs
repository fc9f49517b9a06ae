//! Columns of a type that Arrow does not know here, as integers of 128 bits: they are refused by name, and the others
//! are read.

use crate::error::JobError;
use crate::guard::guarded;
use crate::input::file::Refusal;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::convert::try_fb_to_schema;
use arrow::ipc::{self, Schema as Described, root_as_message};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::{ARROW_SCHEMA_META_KEY, encode_arrow_schema};
use parquet::file::metadata::{FileMetaData, KeyValue, ParquetMetaData};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// The key in a field's metadata that holds what its type is.
const UNKNOWN: &str = "gristmill.unknown_type";

/// Reads a footer whose Arrow schema has types that are not known; none if something else is wrong with it.
pub fn without_unknown_types(footer: &Bytes, options: ArrowReaderOptions) -> Option<ArrowReaderMetadata> {
    let skipped = options.clone().with_skip_arrow_metadata(true);
    let plain = guarded(|| ArrowReaderMetadata::load(footer, skipped)).ok()?.ok()?;
    let file = plain.metadata().file_metadata();
    let entries = file.key_value_metadata()?;
    let encoded = entries.iter().find(|entry| entry.key == ARROW_SCHEMA_META_KEY)?.value.as_ref()?;
    let decoded = BASE64_STANDARD.decode(encoded).ok()?;
    // A marker and a length may come before the message.
    let message = if decoded.starts_with(&[255; 4]) { decoded.get(8..)? } else { &decoded };
    let described = root_as_message(message).ok()?.header_as_schema()?;
    let fields = described.fields()?;
    if fields.len() != plain.schema().fields().len() {
        return None;
    }
    let mut unknown = false;
    let fields = plain.schema().fields().iter().zip(fields.iter()).map(|(field, described)| {
        if described.name() != Some(field.name()) {
            return None;
        }
        if let Ok(known) = guarded(|| Field::from(described)) {
            return Some(known);
        }
        unknown = true;
        Some(with_unknown_type(field.as_ref().clone(), &kind_of(described)))
    });
    let fields = fields.collect::<Option<Vec<_>>>()?;
    if !unknown {
        return None;
    }
    // The library takes what the schema says of the other columns, as it does where all are known.
    let schema = Schema::new_with_metadata(fields, entries_of(described));
    let said = KeyValue::new(ARROW_SCHEMA_META_KEY.to_string(), encode_arrow_schema(&schema));
    let others = entries.iter().filter(|entry| entry.key != ARROW_SCHEMA_META_KEY);
    let entries = others.cloned().chain([said]).collect();
    let file = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(String::from),
        Some(entries),
        file.schema_descr_ptr(),
        file.column_orders().cloned(),
    );
    let groups = plain.metadata().row_groups().to_vec();
    let metadata = Arc::new(ParquetMetaData::new(file, groups));
    guarded(|| ArrowReaderMetadata::try_new(metadata, options)).ok()?.ok()
}

/// The schema of an Arrow file. A column of integers of 128 bits, which lie there as 16 bytes each, is marked as one that cannot
/// be read.
///
/// # Errors
/// [`JobError::Input`] that names the column of another type that is not known, without which nobody knows where the others are;
/// `None` if something else is wrong.
pub fn schema_of(described: Described<'_>, path: &Path) -> Result<Schema, Option<JobError>> {
    if let Ok(Ok(known)) = guarded(|| try_fb_to_schema(described)) {
        return Ok(known);
    }
    let (mut unknown, mut fields) = (false, Vec::new());
    for field in described.fields().ok_or(None)? {
        if let Ok(known) = guarded(|| Field::from(field)) {
            fields.push(known);
            continue;
        }
        unknown = true;
        let (name, kind) = (field.name().unwrap_or_default(), kind_of(field));
        let is_plain = field.dictionary().is_none();
        if field.type_as_int().is_none_or(|int| int.bitWidth() != 128 || !is_plain) {
            let why = format!(
                "is {kind}, which cannot be read; cast it to another type, or write the file without it"
            );
            return Err(Some(Refusal::of_column(path, name, why).error()));
        }
        fields.push(with_unknown_type(Field::new(name, DataType::FixedSizeBinary(16), true), &kind));
    }
    if unknown { Ok(Schema::new_with_metadata(fields, entries_of(described))) } else { Err(None) }
}

/// What a schema says besides its fields.
fn entries_of(described: Described<'_>) -> HashMap<String, String> {
    let entries = described.custom_metadata().into_iter().flatten();
    entries.filter_map(|entry| Some((entry.key()?.to_string(), entry.value()?.to_string()))).collect()
}

/// A type that is not known, in words.
fn kind_of(field: ipc::Field<'_>) -> String {
    let below = field.children().into_iter().flatten();
    let mut unknown = below.filter(|below| guarded(|| Field::from(*below)).is_err());
    match (unknown.next(), field.type_as_int()) {
        (Some(below), _) => {
            let above = match field.type_type() {
                ipc::Type::Struct_ => "a struct with",
                ipc::Type::Map => "a map with",
                _ => "a list of",
            };
            format!("{above} {}", kind_of(below))
        }
        (None, Some(int)) => format!("an integer of {} bits", int.bitWidth()),
        (None, None) => format!("{:?}", field.type_type()),
    }
}

/// Why a column cannot be read, if its type is not known.
pub fn unknown_type(field: &Field, path: &Path) -> Option<Refusal> {
    let kind = field.metadata().get(UNKNOWN)?;
    let why = format!(
        "it is {kind}, which cannot be read; cast it to another type, or keep it out of prompt and output (--keep names \
         the columns that stay)"
    );
    Some(Refusal::of_column(path, field.name(), why))
}

/// Marks a field as one of a type that cannot be read.
pub fn with_unknown_type(field: Field, what: &str) -> Field {
    field.with_metadata(HashMap::from([(UNKNOWN.to_string(), what.to_string())]))
}
