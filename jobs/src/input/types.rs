//! The Arrow types that columns are read as, where the Parquet library's own choice would lose values.

use crate::guard::guarded;
use crate::leaves::map_leaves;
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use arrow::ipc::convert::try_schema_from_ipc_buffer;
use base64::prelude::{BASE64_STANDARD, Engine};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, ParquetMetaData};
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};
use std::sync::Arc;

/// Where a field's metadata says that its times are adjusted to UTC, for which Arrow has no type: by this key the Parquet library
/// writes such.
pub const IN_UTC: &str = "adjusted_to_utc";

/// Whether a leaf below these root columns, which ascend, is an INT96 date.
pub fn has_int96(metadata: &ParquetMetaData, roots: &[usize]) -> bool {
    let schema = metadata.file_metadata().schema_descr();
    (0..schema.num_columns()).any(|leaf| {
        schema.column(leaf).physical_type() == Physical::INT96
            && roots.binary_search(&schema.get_column_root_idx(leaf)).is_ok()
    })
}

/// Takes INT96 dates as microseconds where the file has no Arrow schema that says otherwise: nanoseconds in 64 bits,
/// which the Parquet library takes, end in 2262.
///
/// # Errors
/// As the Parquet library finds them.
pub fn with_microseconds(metadata: ArrowReaderMetadata) -> Result<ArrowReaderMetadata, ParquetError> {
    let file = metadata.metadata().file_metadata();
    let entries = file.key_value_metadata().map_or(&[][..], |entries| entries);
    let leaves: Vec<Physical> = file.schema_descr().columns().iter().map(|c| c.physical_type()).collect();
    if entries.iter().any(|entry| entry.key == "ARROW:schema") || !leaves.contains(&Physical::INT96) {
        return Ok(metadata);
    }
    let mut leaves = leaves.into_iter();
    let schema = map_schema(metadata.schema(), &mut |kind| match (leaves.next(), kind) {
        (Some(Physical::INT96), DataType::Timestamp(TimeUnit::Nanosecond, zone)) => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
        }
        (_, kind) => kind.clone(),
    });
    with_types(metadata.metadata().clone(), schema)
}

/// Gives times in seconds with a zone their zone. Parquet has no seconds: they are stored as milliseconds, of which the Parquet
/// library takes the zone from the file's Arrow schema only where the unit is that of the schema.
///
/// # Errors
/// As the Parquet library finds them.
pub fn with_zones(metadata: ArrowReaderMetadata) -> Result<ArrowReaderMetadata, ParquetError> {
    let Some(said) = said_schema(&metadata) else { return Ok(metadata) };
    let (mut kinds, mut seconds) = (Vec::new(), false);
    map_schema(&said, &mut |kind| {
        seconds |= matches!(kind, DataType::Timestamp(TimeUnit::Second, Some(_)));
        kinds.push(kind.clone());
        kind.clone()
    });
    if !seconds || kinds.len() != metadata.metadata().file_metadata().schema_descr().num_columns() {
        return Ok(metadata);
    }
    let mut kinds = kinds.into_iter();
    let schema = map_schema(metadata.schema(), &mut |kind| match (kinds.next(), kind) {
        (
            Some(DataType::Timestamp(TimeUnit::Second, zone @ Some(_))),
            DataType::Timestamp(TimeUnit::Millisecond, Some(_)),
        ) => DataType::Timestamp(TimeUnit::Millisecond, zone),
        (_, kind) => kind.clone(),
    });
    with_types(metadata.metadata().clone(), schema)
}

/// Takes the values themselves where a file's Arrow schema has dictionaries of a type of which the Parquet library reads none, or
/// writes none that others read.
///
/// # Errors
/// As the Parquet library finds them.
pub fn with_values(metadata: ArrowReaderMetadata) -> Result<ArrowReaderMetadata, ParquetError> {
    use DataType::{Boolean, Date64, Decimal32, Decimal64, Decimal128, Decimal256, Dictionary, Float16};
    let mut found = false;
    let schema = map_schema(metadata.schema(), &mut |kind| match kind {
        Dictionary(_, value)
            if matches!(
                **value,
                Boolean | Date64 | Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..) | Float16
            ) =>
        {
            found = true;
            (**value).clone()
        }
        kind => kind.clone(),
    });
    if found { with_types(metadata.metadata().clone(), schema) } else { Ok(metadata) }
}

/// Marks times that are adjusted to UTC, as DuckDB's TIMETZ, so that they are written as that again.
///
/// # Errors
/// As the Parquet library finds them.
pub fn with_times_in_utc(metadata: ArrowReaderMetadata) -> Result<ArrowReaderMetadata, ParquetError> {
    let columns = metadata.metadata().file_metadata().schema_descr().columns();
    let in_utc = columns.iter().map(|column| {
        matches!(column.logical_type_ref(), Some(LogicalType::Time(time)) if time.is_adjusted_to_u_t_c)
    });
    let in_utc: Vec<bool> = in_utc.collect();
    if !in_utc.contains(&true) {
        return Ok(metadata);
    }
    let mut in_utc = in_utc.into_iter();
    let mut marked = |leaf: &Field| match in_utc.next() {
        Some(true) => {
            let mut entries = leaf.metadata().clone();
            entries.insert(IN_UTC, "");
            leaf.clone().with_metadata(entries)
        }
        _ => leaf.clone(),
    };
    let schema = metadata.schema();
    let fields = schema.fields().iter().map(|field| Arc::new(map_leaves(field, &mut marked)));
    let schema = Schema::new_with_metadata(fields.collect::<Fields>(), schema.metadata().clone());
    with_types(metadata.metadata().clone(), schema)
}

/// The Arrow schema that a file says it was written of.
fn said_schema(metadata: &ArrowReaderMetadata) -> Option<Schema> {
    let entries = metadata.metadata().file_metadata().key_value_metadata()?;
    let text = entries.iter().find(|entry| entry.key == "ARROW:schema")?.value.as_ref()?;
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    guarded(|| try_schema_from_ipc_buffer(&bytes)).ok()?.ok()
}

/// The same file with INT96 dates in another unit, to compare with.
///
/// # Errors
/// As the Parquet library finds them.
pub fn with_unit(
    metadata: &ArrowReaderMetadata,
    unit: TimeUnit,
) -> Result<ArrowReaderMetadata, ParquetError> {
    let columns = metadata.metadata().file_metadata().schema_descr().columns();
    let mut leaves = columns.iter().map(|column| column.physical_type());
    let schema = map_schema(metadata.schema(), &mut |kind| match (leaves.next(), kind) {
        (Some(Physical::INT96), DataType::Timestamp(..)) if unit == TimeUnit::Nanosecond => {
            DataType::Timestamp(unit, None)
        }
        (Some(Physical::INT96), DataType::Timestamp(_, zone)) => DataType::Timestamp(unit, zone.clone()),
        (_, kind) => kind.clone(),
    });
    with_types(metadata.metadata().clone(), schema)
}

/// The same file with its texts as bytes, so that one that is not UTF-8 does not hide its neighbours.
///
/// # Errors
/// As the Parquet library finds them.
pub fn with_bytes(metadata: &ArrowReaderMetadata) -> Result<ArrowReaderMetadata, ParquetError> {
    let schema = map_schema(metadata.schema(), &mut bytes_of);
    let file = metadata.metadata().file_metadata();
    let root = as_bytes(file.schema_descr().root_schema())?;
    let file = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(String::from),
        None,
        Arc::new(SchemaDescriptor::new(root)),
        None,
    );
    let groups = metadata.metadata().row_groups().to_vec();
    with_types(Arc::new(ParquetMetaData::new(file, groups)), schema)
}

fn with_types(metadata: Arc<ParquetMetaData>, schema: Schema) -> Result<ArrowReaderMetadata, ParquetError> {
    ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new().with_schema(Arc::new(schema)))
}

fn bytes_of(kind: &DataType) -> DataType {
    match kind {
        DataType::Utf8 => DataType::Binary,
        DataType::LargeUtf8 => DataType::LargeBinary,
        DataType::Utf8View => DataType::BinaryView,
        DataType::Dictionary(_, value) if matches!(**value, DataType::Utf8) => DataType::Binary,
        DataType::Dictionary(_, value) if matches!(**value, DataType::LargeUtf8) => DataType::LargeBinary,
        kind => kind.clone(),
    }
}

/// A Parquet type without the word that its bytes are text.
fn as_bytes(of: &Type) -> Result<TypePtr, ParquetError> {
    let info = of.get_basic_info();
    let id = info.has_id().then(|| info.id());
    if of.is_group() {
        let fields = of.get_fields().iter().map(|field| as_bytes(field)).collect::<Result<_, _>>()?;
        let group = Type::group_type_builder(of.name()).with_fields(fields).with_id(id);
        let group = group.with_converted_type(info.converted_type());
        let group = group.with_logical_type(info.logical_type_ref().cloned());
        let group = if info.has_repetition() { group.with_repetition(info.repetition()) } else { group };
        return Ok(Arc::new(group.build()?));
    }
    let text =
        matches!(info.logical_type_ref(), Some(LogicalType::String | LogicalType::Json | LogicalType::Enum))
            || matches!(
                info.converted_type(),
                ConvertedType::UTF8 | ConvertedType::JSON | ConvertedType::ENUM
            );
    if !text || of.get_physical_type() != Physical::BYTE_ARRAY {
        return Ok(Arc::new(of.clone()));
    }
    let leaf = Type::primitive_type_builder(of.name(), Physical::BYTE_ARRAY);
    Ok(Arc::new(leaf.with_repetition(info.repetition()).with_id(id).build()?))
}

/// Changes the types of leaves, visited in the file's order.
fn map_schema(schema: &Schema, map: &mut dyn FnMut(&DataType) -> DataType) -> Schema {
    let mut leaf = |leaf: &Field| leaf.clone().with_data_type(map(leaf.data_type()));
    let fields = schema.fields().iter().map(|field| Arc::new(map_leaves(field, &mut leaf)));
    Schema::new_with_metadata(fields.collect::<Fields>(), schema.metadata().clone())
}
