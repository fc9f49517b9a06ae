//! Files of lines: JSON lines, CSV and lines as they are. They are read through once when they are opened, for their types
//! and the places of their rows.

use crate::error::JobError;
use crate::input::batch::Batch;
use crate::input::csv::{CsvRows, CsvTypes, LostField, unsplit_record, wrong_record};
use crate::input::file::{InputFile, broken};
use crate::input::group_file::ReadError;
use crate::input::json;
use crate::input::json_types::Shape;
use crate::input::lines::Lines;
use crate::input::lost::LostCells;
use crate::input::ranges::OpenSource;
use crate::input::records::{Record, Records};
use crate::input::text_layout::{Blocks, Dialect, TextLayout};
use arrow::array::{ArrayRef, BinaryArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::file::reader::{ChunkReader, Length};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Rows of a batch, unless they are long.
const BATCH_ROWS: usize = 1024;

/// Bytes of a batch, roughly.
const BATCH_BYTES: usize = 16 << 20;

/// The types of all files of lines of an input.
#[derive(Default)]
pub struct TextTypes {
    pub json: Shape,
    pub csv: CsvTypes,
}

/// A file that was read through.
pub struct Scanned {
    pub layout: TextLayout,
    /// Rows of each block.
    pub rows: Vec<u64>,
    /// The names of a CSV file's columns.
    pub names: Vec<String>,
    /// Rows in which a column is not null, by its name.
    pub values: HashMap<String, u64>,
}

/// Reads a file through.
///
/// # Errors
/// [`JobError::Input`] for a file that is not of the format at all; what the system or the store says.
pub fn scan(
    source: &OpenSource,
    path: &Path,
    dialect: Dialect,
    types: &mut TextTypes,
) -> Result<Scanned, JobError> {
    source.will_read(std::iter::once(0..source.len()));
    let start = source.get_bytes(0, source.len().min(6) as usize);
    let start = start.map_err(|e| source.failure().unwrap_or_else(|| broken(path, "", &e.to_string())))?;
    if start.starts_with(b"PAR1") || start.starts_with(b"ARROW1") {
        let format = if start.starts_with(b"PAR1") { "Parquet" } else { "Arrow" };
        let why =
            format!("is a file of {format}, and is read as text; see --input-format and the file's name");
        return Err(broken(path, "", &why));
    }
    if matches!(&start[..], [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        return Err(broken(path, "", "is written in UTF-16; write it in UTF-8"));
    }
    match dialect {
        Dialect::Json => scan_json(source, path, types),
        Dialect::Csv(delimiter) => scan_csv(source, path, delimiter, types),
        Dialect::Lines => scan_lines(source, path),
    }
}

/// The schema of lines as they are: one column of bytes.
pub fn line_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("line", DataType::Binary, true)]))
}

fn scan_lines(source: &OpenSource, path: &Path) -> Result<Scanned, JobError> {
    let mut lines = Lines::new(source.reader(0), 0, 1);
    let (mut line, mut blocks) = (Vec::new(), Blocks::default());
    while let Some(place) = lines.next(&mut line).map_err(|error| failed(source, path, error))? {
        blocks.push(place.at, place.number);
    }
    let layout = TextLayout { dialect: Dialect::Lines, width: 0, blocks: blocks.blocks };
    Ok(Scanned { layout, rows: blocks.rows, names: Vec::new(), values: HashMap::new() })
}

/// What a failure to read a file is.
fn failed(source: &OpenSource, path: &Path, error: std::io::Error) -> JobError {
    source.failure().unwrap_or_else(|| broken(path, "", &error.to_string()))
}

fn scan_json(source: &OpenSource, path: &Path, types: &mut TextTypes) -> Result<Scanned, JobError> {
    let mut lines = Lines::new(source.reader(0), 0, 1);
    let (mut line, mut blocks, mut values) = (Vec::new(), Blocks::default(), HashMap::new());
    let (mut good, mut first_wrong) = (false, None);
    while let Some(place) = lines.next(&mut line).map_err(|error| failed(source, path, error))? {
        blocks.push(place.at, place.number);
        if let Some(why) = json::wrong_line(&line) {
            if blocks.rows == [1] && json::is_array(&line) {
                let why = "begins an array; write one object a line, as `jq -c '.[]'` does";
                return Err(broken(path, &format!(", line {}", place.number), why));
            }
            first_wrong.get_or_insert((place.number, why));
            continue;
        }
        good = true;
        json::see(&line, &mut types.json);
        json::keys(&line, &mut |key| match values.get_mut(key) {
            Some(count) => *count += 1,
            None => drop(values.insert(key.to_string(), 1)),
        });
    }
    if let Some((number, why)) = first_wrong.filter(|_| !good) {
        let why = format!("{why}; JSON is read as one object a line");
        return Err(broken(path, &format!(", line {number}"), &why));
    }
    let layout = TextLayout { dialect: Dialect::Json, width: 0, blocks: blocks.blocks };
    Ok(Scanned { layout, rows: blocks.rows, names: Vec::new(), values })
}

fn scan_csv(
    source: &OpenSource,
    path: &Path,
    delimiter: u8,
    types: &mut TextTypes,
) -> Result<Scanned, JobError> {
    let mut records = Records::new(source.reader(0), delimiter, 0, 1);
    let (mut record, mut blocks) = (Record::default(), Blocks::default());
    let next = |records: &mut Records, record: &mut Record| {
        records.next(record).map_err(|error| failed(source, path, error))
    };
    if !next(&mut records, &mut record)? {
        return Err(broken(path, "", "is empty; a file of CSV begins with the names of its columns"));
    }
    let refuse_unsplit = |record: &Record, width: usize| match unsplit_record(record, width) {
        Some((place, why)) => Err(broken(path, &place, &why)),
        None => Ok(()),
    };
    refuse_unsplit(&record, record.len())?;
    let first = format!(", line {}", record.line);
    if let Some(why) = wrong_record(&record, record.len()) {
        return Err(broken(path, &first, &why));
    }
    let name = |at| {
        let name = std::str::from_utf8(record.field(at).unwrap_or_default());
        name.map(String::from).map_err(|_| broken(path, &first, "the name of a column is not UTF-8"))
    };
    let names = (0..record.len()).map(name).collect::<Result<Vec<_>, _>>()?;
    let mut counts = vec![0; names.len()];
    records.blank_records = names.len() == 1;
    while next(&mut records, &mut record)? {
        refuse_unsplit(&record, names.len())?;
        blocks.push(record.at, record.line);
        if wrong_record(&record, names.len()).is_some() {
            continue;
        }
        for (at, name) in names.iter().enumerate() {
            // A field that is not UTF-8 is lost, and says nothing of the others.
            let Ok(field) = record.field(at).map(std::str::from_utf8).transpose() else { continue };
            counts[at] += u64::from(field.is_some());
            types.csv.see(name, field);
        }
    }
    let layout = TextLayout { dialect: Dialect::Csv(delimiter), width: names.len(), blocks: blocks.blocks };
    let values = names.iter().cloned().zip(counts).collect();
    Ok(Scanned { layout, rows: blocks.rows, names, values })
}

/// Reads the rows of a block.
pub struct TextGroup {
    layout: Arc<TextLayout>,
    source: OpenSource,
    /// The columns' positions in the file, and their fields.
    columns: Arc<[usize]>,
    schema: SchemaRef,
    lines: LineReader,
    /// The row after the last that is wanted.
    pub end: u64,
}

enum LineReader {
    Json(Lines),
    Plain(Lines),
    Csv(Box<Records>),
}

impl TextGroup {
    /// Opens a block at a row; `start` is the number of its first.
    ///
    /// # Errors
    /// What ends the job.
    pub fn open(
        (file, source): (&InputFile, OpenSource),
        (layout, block): (Arc<TextLayout>, usize),
        columns: Arc<[usize]>,
        schema: SchemaRef,
        (start, end): (u64, u64),
        next: u64,
    ) -> Result<TextGroup, JobError> {
        let place = layout.blocks[block];
        let until = layout.blocks.get(block + 1).map_or(source.len(), |next| next.at);
        source.will_read(std::iter::once(place.at..until));
        let reader = source.reader(place.at);
        let lines = match layout.dialect {
            Dialect::Json => LineReader::Json(Lines::new(reader, place.at, place.line)),
            Dialect::Lines => LineReader::Plain(Lines::new(reader, place.at, place.line)),
            Dialect::Csv(delimiter) => {
                let mut records = Records::new(reader, delimiter, place.at, place.line);
                records.blank_records = layout.width == 1;
                LineReader::Csv(Box::new(records))
            }
        };
        let mut group = TextGroup { layout, source, columns, schema, lines, end };
        for _ in start..next {
            group.skip(file)?;
        }
        Ok(group)
    }

    /// What is open.
    pub fn source(&self) -> &OpenSource {
        &self.source
    }

    /// The rows from `next` on.
    ///
    /// # Errors
    /// What ends the job.
    pub fn read(&mut self, file: &InputFile, next: u64) -> Result<Batch, JobError> {
        let wanted = (self.end - next).min(BATCH_ROWS as u64) as usize;
        let read = match &mut self.lines {
            LineReader::Json(_) => self.read_json(file, wanted),
            LineReader::Plain(_) => self.read_plain(file, wanted),
            LineReader::Csv(_) => self.read_csv(file, wanted),
        };
        file.check(&self.source)?;
        let (rows, columns, lost) = read.map_err(|error| match error {
            ReadError::Job(error) => error,
            ReadError::Damaged(why) | ReadError::Overflow(why) => broken(&file.path, "", &why),
        })?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let columns = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|error| JobError::Internal(error.to_string()))?;
        Ok(Batch { first_row: next, columns, lost })
    }

    fn skip(&mut self, file: &InputFile) -> Result<(), JobError> {
        let there = match &mut self.lines {
            LineReader::Json(lines) | LineReader::Plain(lines) => {
                lines.next(&mut Vec::new()).map(|place| place.is_some())
            }
            LineReader::Csv(records) => records.next(&mut Record::default()),
        };
        match there {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.fewer(file)),
            Err(error) => Err(failed(&self.source, &file.path, error)),
        }
    }

    fn fewer(&self, file: &InputFile) -> JobError {
        match file.check(&self.source) {
            Err(error) => error,
            Ok(()) => broken(
                &file.path,
                "",
                "has fewer rows than when it was opened; run again with the file at rest",
            ),
        }
    }

    /// The next lines and their numbers.
    fn read_lines(&mut self, file: &InputFile, wanted: usize) -> Result<Vec<(Vec<u8>, u64)>, ReadError> {
        let (LineReader::Json(lines) | LineReader::Plain(lines)) = &mut self.lines else { return Ok(vec![]) };
        let (mut read, mut bytes): (Vec<(Vec<u8>, u64)>, usize) = (Vec::new(), 0);
        while read.len() < wanted && bytes < BATCH_BYTES {
            let mut line = Vec::new();
            match lines.next(&mut line) {
                Ok(Some(place)) => {
                    bytes += line.len();
                    read.push((line, place.number));
                }
                Ok(None) => return Err(ReadError::Job(self.fewer(file))),
                Err(error) => return Err(ReadError::Job(failed(&self.source, &file.path, error))),
            }
        }
        Ok(read)
    }

    fn read_plain(&mut self, file: &InputFile, wanted: usize) -> Result<TextRows, ReadError> {
        let read = self.read_lines(file, wanted)?;
        let lines: ArrayRef = Arc::new(BinaryArray::from_iter_values(read.iter().map(|(line, _)| line)));
        Ok((read.len(), vec![lines; self.columns.len()], Vec::new()))
    }

    fn read_json(&mut self, file: &InputFile, wanted: usize) -> Result<TextRows, ReadError> {
        let read = self.read_lines(file, wanted)?;
        let texts: Vec<&[u8]> = read.iter().map(|(line, _)| line.as_slice()).collect();
        let (columns, wrong) = json::decode(&texts, &self.schema)?;
        let mut lost = Vec::new();
        for (row, why) in wrong {
            for to in 0..self.columns.len() {
                let (line, why) = (read[row].1, why.clone());
                lost.push(self.lost(file, LostField { column: to, row, line, whole: true, why }));
            }
        }
        Ok((read.len(), columns, lost))
    }

    fn read_csv(&mut self, file: &InputFile, wanted: usize) -> Result<TextRows, ReadError> {
        let fields = self.columns.iter().zip(self.schema.fields());
        let columns = fields.map(|(&at, field)| (at, field.data_type().clone())).collect();
        let mut rows = CsvRows::new(columns, self.layout.width);
        let LineReader::Csv(records) = &mut self.lines else { return Ok((0, Vec::new(), Vec::new())) };
        let mut record = Record::default();
        while rows.rows() < wanted && rows.bytes() < BATCH_BYTES {
            match records.next(&mut record) {
                Ok(true) => rows.push(&record),
                Ok(false) => return Err(ReadError::Job(self.fewer(file))),
                Err(error) => return Err(ReadError::Job(failed(&self.source, &file.path, error))),
            }
        }
        let count = rows.rows();
        let (columns, wrong) = rows.finish()?;
        let lost = wrong.into_iter().map(|field| self.lost(file, field));
        Ok((count, columns, lost.collect()))
    }

    fn lost(&self, file: &InputFile, field: LostField) -> LostCells {
        let LostField { column, row, line, whole, why } = field;
        let name = if whole { String::new() } else { self.schema.field(column).name().clone() };
        let place = if line > 0 { format!("line {line}") } else { String::new() };
        LostCells { column, name, rows: vec![row], path: file.path.clone(), place, why }
    }
}

/// Rows, their columns, and the cells that are lost.
type TextRows = (usize, Vec<ArrayRef>, Vec<LostCells>);
