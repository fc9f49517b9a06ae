//! Codecs of Parquet that are not in this build.

use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::Compression;
use parquet::file::metadata::ColumnChunkMetaData;
use std::collections::BTreeMap;

/// The root columns of a codec that is not read, and what to do. A file has one codec for each column as a rule, so that
/// one row group tells at the start; the others are looked at as they come.
pub fn unread_codecs(metadata: &ArrowReaderMetadata) -> BTreeMap<String, String> {
    let (schema, groups) = (metadata.parquet_schema(), metadata.metadata().row_groups());
    let columns = groups.iter().flat_map(|group| group.columns().iter().enumerate());
    let of = |(leaf, column)| Some((schema.get_column_root(leaf).name().to_string(), unread_codec(column)?));
    columns.filter_map(of).collect()
}

/// Why a column chunk is not read, if it is of such a codec.
pub fn unread_codec(column: &ColumnChunkMetaData) -> Option<String> {
    let codec = column.compression();
    (codec == Compression::LZO).then(|| {
        "is compressed with LZO, which is not supported; write it with zstd, or leave the column out with --keep".into()
    })
}
