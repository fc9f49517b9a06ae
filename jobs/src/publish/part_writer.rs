//! One file of an output while it is written.

use crate::error::JobError;
use crate::publish::dictionaries::NarrowDictionaries;
use crate::publish::digest_writer::DigestWriter;
use crate::publish::format::OutputFormat;
use crate::publish::text::LineEncoder;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowWriter, add_encoded_arrow_schema_to_metadata};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A row group of more encoded bytes ends early, which bounds memory for long rows.
const GROUP_BYTES: usize = 64 << 20;

/// Writes rows in the format of the output.
pub(crate) struct PartWriter {
    path: PathBuf,
    encoder: PartEncoder,
}

enum PartEncoder {
    Parquet(Box<ParquetPart>),
    Lines(Box<(LineEncoder, DigestWriter)>),
}

/// A file of Parquet. What its schema is in Arrow's terms is written at its end.
struct ParquetPart {
    writer: ArrowWriter<DigestWriter>,
    schema: SchemaRef,
    dictionaries: NarrowDictionaries,
}

impl ParquetPart {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        self.dictionaries.note(self.schema.fields(), rows.columns())?;
        self.writer.write(rows)?;
        if self.writer.in_progress_size() >= GROUP_BYTES {
            self.writer.flush()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ParquetError> {
        let mut properties = WriterProperties::default();
        add_encoded_arrow_schema_to_metadata(&self.dictionaries.schema(&self.schema), &mut properties);
        for entry in properties.key_value_metadata().into_iter().flatten() {
            self.writer.append_key_value_metadata(entry.clone());
        }
        self.writer.finish().map(drop)
    }
}

impl PartWriter {
    /// Begins a file; the properties are those of Parquet.
    pub fn create(
        path: &Path,
        format: OutputFormat,
        schema: &SchemaRef,
        properties: WriterProperties,
    ) -> Result<PartWriter, JobError> {
        let file = File::create(path).map_err(JobError::io("create", path))?;
        let mut sink = DigestWriter { file: BufWriter::new(file), hasher: blake3::Hasher::new(), bytes: 0 };
        let encoder = match format {
            OutputFormat::Parquet => {
                let options =
                    ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
                let writer = ArrowWriter::try_new_with_options(sink, schema.clone(), options)
                    .map_err(|error| encode_error(path, error))?;
                let (schema, dictionaries) = (schema.clone(), NarrowDictionaries::default());
                PartEncoder::Parquet(Box::new(ParquetPart { writer, schema, dictionaries }))
            }
            OutputFormat::Jsonl | OutputFormat::Csv => {
                let encoder = LineEncoder::new(format);
                sink.write_all(&encoder.header(schema)).map_err(JobError::io("write", path))?;
                PartEncoder::Lines(Box::new((encoder, sink)))
            }
        };
        Ok(PartWriter { path: path.to_path_buf(), encoder })
    }

    /// Adds rows; `first_row` is the number of the first.
    pub fn write(&mut self, rows: &RecordBatch, first_row: u64) -> Result<(), JobError> {
        let wrong = |error| encode_error(&self.path, error);
        match &mut self.encoder {
            PartEncoder::Parquet(part) => part.write(rows).map_err(wrong),
            PartEncoder::Lines(both) => {
                let (encoder, sink) = &mut **both;
                let mut lines = Vec::new();
                encoder.encode(rows, first_row, &mut lines)?;
                sink.write_all(&lines).map_err(JobError::io("write", &self.path))
            }
        }
    }

    /// Adds a row as a line that is made already, without its end.
    pub fn write_line(&mut self, line: &[u8]) -> Result<(), JobError> {
        match &mut self.encoder {
            PartEncoder::Parquet(_) => Err(JobError::Internal("a line for a file of Parquet".into())),
            PartEncoder::Lines(both) => {
                let sink = &mut both.1;
                let written = sink.write_all(line).and_then(|()| sink.write_all(b"\n"));
                written.map_err(JobError::io("write", &self.path))
            }
        }
    }

    /// Ends a row group.
    pub fn end_group(&mut self) -> Result<(), JobError> {
        match &mut self.encoder {
            PartEncoder::Parquet(part) => {
                part.writer.flush().map_err(|error| encode_error(&self.path, error))
            }
            PartEncoder::Lines(_) => Ok(()),
        }
    }

    /// Ends the file, whose bytes are on the disk then. Returns its digest and its bytes.
    pub fn finish(mut self) -> Result<(String, u64), JobError> {
        // Not by `into_inner`, which would turn an error of the system into one of the writer.
        let sink = match &mut self.encoder {
            PartEncoder::Parquet(part) => {
                part.finish().map_err(|error| encode_error(&self.path, error))?;
                part.writer.inner_mut()
            }
            PartEncoder::Lines(both) => &mut both.1,
        };
        let synced = sink.file.flush().and_then(|()| sink.file.get_ref().sync_all());
        synced.map_err(JobError::io("write", &self.path))?;
        Ok((sink.hasher.finalize().to_hex().to_string(), sink.bytes))
    }
}

/// An error of the Parquet writer, or of the system below it.
fn encode_error(path: &Path, error: ParquetError) -> JobError {
    let source = match error {
        ParquetError::External(cause) => match cause.downcast() {
            Ok(io) => return JobError::io("write", path)(*io),
            Err(cause) => ParquetError::External(cause),
        },
        other => other,
    };
    JobError::Encode { path: path.to_path_buf(), source }
}
