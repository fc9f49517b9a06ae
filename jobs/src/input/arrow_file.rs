//! Arrow IPC: files and streams, read a record batch at a time. Both are the same messages one after another; where each
//! batch is, is found by walking their heads.

use crate::error::JobError;
use crate::input::arrow_layout::{ArrowLayout, Message};
use crate::input::batch::Batch;
use crate::input::file::{InputFile, broken, guarded};
use crate::input::ranges::OpenSource;
use crate::input::unknown::schema_of;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::FileDecoder;
use arrow::ipc::{Block, MessageHeader, MetadataVersion, root_as_footer, root_as_message};
use parquet::file::reader::{ChunkReader, Length};
use std::path::Path;
use std::sync::Arc;

/// The first bytes of a file, and its last.
const MAGIC: &[u8] = b"ARROW1";

/// Before the length of a message, since 2019.
const MARKER: [u8; 4] = [255; 4];

/// A longer head is refused.
const HEAD: u64 = 256 << 20;

/// A record batch of more bytes is refused: it is read whole.
const BODY: u64 = 1 << 30;

/// Rows of a batch.
const BATCH_ROWS: u64 = 1024;

/// Walks the messages of a file. Returns where they are, and the rows of each record batch.
///
/// # Errors
/// [`JobError::Input`] for what is no Arrow; what the system or the store says.
pub fn scan(source: &OpenSource, path: &Path) -> Result<(ArrowLayout, Vec<u64>), JobError> {
    let walk = Walk { source, path };
    let size = source.len();
    let is_file = size >= 8 && walk.bytes(0, 6)? == MAGIC;
    if is_file && (size < 20 || walk.bytes(size - 6, 6)? != MAGIC) {
        return Err(broken(path, "", "is cut short: its last bytes are not those of an Arrow file"));
    }
    if size >= 4 && walk.bytes(0, 4)? == b"FEA1"[..] {
        return Err(broken(path, "", "is Feather of version 1; write it with version 2, which is Arrow IPC"));
    }
    let mut at = if is_file { 8 } else { 0 };
    // Writers may fill up to 64 bytes before the first message.
    while is_file && at < 64 && size > at + 8 && walk.bytes(at, 8)? == [0; 8][..] {
        at += 8;
    }
    let (mut layout, mut rows): (Option<ArrowLayout>, Vec<u64>) = (None, Vec::new());
    let footer = if is_file { walk.footer()? } else { None };
    // The format puts the schema before the batches as well. Some writers put it there in a form of their own, whose first bytes
    // may be taken for a message of another kind; readers of files go by the footer's.
    let by_footer = footer.as_ref().filter(|_| !walk.has_schema(at));
    if let Some(footer) = by_footer {
        let (schema, version) = (footer.schema.clone(), footer.version);
        layout = Some(ArrowLayout { version, schema, batches: Vec::new(), dictionaries: Vec::new() });
        at = footer.first;
    }
    while let Some((message, head)) = walk.head(at)? {
        let damaged = |why: &str| broken(path, &format!(", message at byte {at}"), why);
        let parsed = guarded(|| root_as_message(&head).map_err(|error| error.to_string()));
        let parsed =
            parsed.and_then(|parsed| parsed).map_err(|why| damaged(&format!("is damaged: {why}")))?;
        let body = u64::try_from(parsed.bodyLength()).map_err(|_| damaged("has a negative length"))?;
        let message = Message { body, ..message };
        let end = at.checked_add(message.head).and_then(|end| end.checked_add(body));
        let Some(end) = end.filter(|&end| end <= size) else {
            return Err(damaged("ends past the end of the file; the file is cut short"));
        };
        match (parsed.header_type(), &mut layout) {
            (MessageHeader::Schema, None) => {
                let schema = parsed.header_as_schema().ok_or_else(|| damaged("has no schema"))?;
                let schema = schema_of(schema, path);
                let schema =
                    schema.map_err(|why| why.unwrap_or_else(|| damaged("has no schema that can be read")))?;
                let (batches, dictionaries) = (Vec::new(), Vec::new());
                layout = Some(ArrowLayout {
                    version: parsed.version(),
                    schema: Arc::new(schema),
                    batches,
                    dictionaries,
                });
            }
            (MessageHeader::DictionaryBatch, Some(layout)) => layout.dictionaries.push(message),
            (MessageHeader::RecordBatch, Some(layout)) => {
                let length = parsed.header_as_record_batch().map(|batch| batch.length());
                let length = length.and_then(|length| u64::try_from(length).ok());
                if body > BODY {
                    let why = format!(
                        "is a record batch of {} MiB, which would be read whole; write it in smaller ones",
                        body >> 20
                    );
                    return Err(damaged(&why));
                }
                layout.batches.push((message, layout.dictionaries.len()));
                rows.push(length.ok_or_else(|| damaged("has no row count"))?);
            }
            _ => return Err(damaged("is out of place")),
        }
        at = end;
    }
    let mut layout = layout.ok_or_else(|| broken(path, "", "is not Arrow IPC: it has no schema"))?;
    if by_footer.is_some() {
        // Readers by the footer read all dictionaries first, so their place is free.
        let all = layout.dictionaries.len();
        layout.batches.iter_mut().for_each(|(_, dictionaries)| *dictionaries = all);
    }
    let ended = match is_file {
        true => footer.is_some_and(|footer| footer.batches == layout.batches.len()),
        false => walk.is_end(at)?,
    };
    if !ended {
        let why = match is_file {
            true => "has other record batches than its footer says; the file is damaged",
            false => {
                "has no end: the stream was cut short between two batches, or its writer was not closed; write it again, and \
                 close the writer"
            }
        };
        return Err(broken(path, "", why));
    }
    Ok((layout, rows))
}

/// What the footer of a file says.
struct Footer {
    schema: SchemaRef,
    version: MetadataVersion,
    /// How many record batches there are.
    batches: usize,
    /// Where the first message after the schema is.
    first: u64,
}

struct Walk<'a> {
    source: &'a OpenSource,
    path: &'a Path,
}

impl Walk<'_> {
    fn bytes(&self, at: u64, length: usize) -> Result<bytes::Bytes, JobError> {
        let read = self.source.get_bytes(at, length);
        read.map_err(|error| {
            self.source.failure().unwrap_or_else(|| broken(self.path, "", &error.to_string()))
        })
    }

    /// Whether a stream says at this place that it has ended. Formats allow that it just stops, and then nobody can tell it
    /// from one that was cut short.
    fn is_end(&self, at: u64) -> Result<bool, JobError> {
        let left = self.source.len().saturating_sub(at).min(8) as usize;
        let end = self.bytes(at, left)?;
        Ok(end.starts_with(&[0; 4]) || end.starts_with(&MARKER) && end.ends_with(&[0; 4]) && left == 8)
    }

    /// The footer of a file, if it can be read; an error if it names a column of a type that is not known.
    fn footer(&self) -> Result<Option<Footer>, JobError> {
        let size = self.source.len();
        let tail = self.bytes(size - 10, 4)?;
        let length = tail[..].try_into().map_or(0, u32::from_le_bytes);
        if u64::from(length) > HEAD.min(size - 10) {
            return Ok(None);
        }
        let begin = size - 10 - u64::from(length);
        let footer = self.bytes(begin, length as usize)?;
        let read = || {
            let footer = root_as_footer(&footer).ok()?;
            let schema = match schema_of(footer.schema()?, self.path) {
                Ok(schema) => Arc::new(schema),
                Err(why) => return why.map(Err),
            };
            let batches = footer.recordBatches()?;
            let blocks = footer.dictionaries().into_iter().flatten().chain(batches);
            // Of none, the end of the file.
            let first = blocks.map(|block| u64::try_from(block.offset()).unwrap_or(size)).min();
            Some(Ok(Footer {
                schema,
                version: footer.version(),
                batches: batches.len(),
                first: first.unwrap_or(size),
            }))
        };
        guarded(read).ok().flatten().transpose()
    }

    /// Whether there is a message with a schema at a place.
    fn has_schema(&self, at: u64) -> bool {
        let head = self.head(at).ok().flatten();
        let is_schema = |head: &[u8]| {
            root_as_message(head).is_ok_and(|message| message.header_type() == MessageHeader::Schema)
        };
        head.is_some_and(|(_, head)| guarded(|| is_schema(&head)).unwrap_or(false))
    }

    /// The head of the message at a place; none at the end.
    fn head(&self, at: u64) -> Result<Option<(Message, bytes::Bytes)>, JobError> {
        let left = self.source.len().saturating_sub(at);
        if left < 4 {
            return Ok(None);
        }
        let start = self.bytes(at, left.min(8) as usize)?;
        let number =
            |at: usize| start.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_le_bytes);
        let marked = start[..4] == MARKER;
        let (skip, length) = if marked { (8, number(4)) } else { (4, number(0)) };
        let length = u64::from(length.unwrap_or(0));
        if length == 0 {
            return Ok(None);
        }
        if length > HEAD || skip + length > left {
            let why = "is not Arrow IPC, or is damaged: a message is longer than the file";
            return Err(broken(self.path, &format!(", message at byte {at}"), why));
        }
        let head = self.bytes(at + skip, length as usize)?;
        Ok(Some((Message { at, head: skip + length, body: 0 }, head)))
    }
}

/// Reads the rows of a record batch.
pub struct ArrowGroup {
    source: OpenSource,
    rows: RecordBatch,
    start: u64,
    pub end: u64,
}

impl ArrowGroup {
    /// Reads a record batch, of which the rows from `start` to `end` are wanted.
    ///
    /// # Errors
    /// What ends the job; a batch that is damaged too.
    pub fn open(
        (file, source): (&InputFile, OpenSource),
        (layout, group): (&ArrowLayout, usize),
        columns: &[usize],
        schema: SchemaRef,
        (start, end): (u64, u64),
    ) -> Result<ArrowGroup, JobError> {
        let (message, dictionaries) = &layout.batches[group];
        let walk = Walk { source: &source, path: &file.path };
        let place = format!(", record batch {group}");
        let damaged = |why: String| broken(&file.path, &place, &format!("cannot be read: {why}"));
        let decoder = FileDecoder::new(layout.schema.clone(), layout.version);
        let mut decoder = decoder.with_projection(columns.to_vec());
        for message in &layout.dictionaries[..*dictionaries] {
            let (block, buffer) = walk.message(message)?;
            let read = guarded(|| decoder.read_dictionary(&block, &buffer));
            read.map_err(&damaged)?.map_err(|error| damaged(error.to_string()))?;
        }
        let (block, buffer) = walk.message(message)?;
        let read = guarded(|| decoder.read_record_batch(&block, &buffer)).map_err(&damaged)?;
        let read = read.map_err(|error| damaged(error.to_string()))?;
        let read = read.ok_or_else(|| damaged("it is empty".into()))?;
        if read.num_rows() as u64 != file.row_groups[group] {
            file.check(&source)?;
            return Err(damaged("it has other rows than its head says".into()));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(read.num_rows()));
        let rows = RecordBatch::try_new_with_options(schema, read.columns().to_vec(), &options);
        let rows = rows.map_err(|error| damaged(error.to_string()))?;
        file.check(&source)?;
        Ok(ArrowGroup { source, rows, start, end })
    }

    /// What is open.
    pub fn source(&self) -> &OpenSource {
        &self.source
    }

    /// The rows from `next` on.
    pub fn read(&self, next: u64) -> Batch {
        let rows = (self.end - next).min(BATCH_ROWS) as usize;
        Batch::whole(next, self.rows.slice((next - self.start) as usize, rows))
    }
}

impl Walk<'_> {
    /// A message with its body.
    fn message(&self, message: &Message) -> Result<(Block, Buffer), JobError> {
        let Message { at, head, body } = *message;
        let bytes = self.bytes(at, (head + body) as usize)?;
        Ok((Block::new(at as i64, head as i32, body as i64), Buffer::from(bytes)))
    }
}
