//! The bytes of a source by ranges, for the Parquet reader.
//!
//! Of an object, column chunks are fetched ahead in windows, so that pages and their headers are not asked for one by one.

use crate::error::JobError;
use crate::input::local::LocalFile;
use crate::store::object::Object;
use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use std::io::{BufReader, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of an object that are kept at a time: a window for each column chunk that is read.
const WINDOWS: u64 = 64 << 20;

/// Bytes of a window, at least.
const MIN_WINDOW: u64 = 64 << 10;

/// Bytes of a window, at most.
const MAX_WINDOW: u64 = 8 << 20;

/// An open file, for the Parquet reader.
#[derive(Clone)]
pub enum OpenSource {
    Local(Arc<LocalFile>),
    Object(Arc<OpenObject>),
}

/// An object that is being read.
pub struct OpenObject {
    object: Object,
    state: Mutex<ReadState>,
}

struct ReadState {
    /// One for each column chunk that will be read; for the file's tail at first.
    windows: Vec<Window>,
    /// Why a read failed; the Parquet reader keeps of an error the text only.
    failure: Option<JobError>,
}

/// What was read last of a part of the file.
struct Window {
    chunk: Range<u64>,
    /// Where the bytes begin.
    at: u64,
    bytes: Bytes,
}

impl Window {
    fn new(chunk: Range<u64>) -> Self {
        Window { at: chunk.start, chunk, bytes: Bytes::new() }
    }

    /// What it has of the bytes from a place on.
    fn after(&self, start: u64) -> Option<Bytes> {
        let skip = start.checked_sub(self.at).filter(|skip| *skip < self.bytes.len() as u64)?;
        Some(self.bytes.slice(skip as usize..))
    }
}

impl OpenSource {
    /// Says which column chunks will be read; of an object, each is fetched ahead in windows then.
    pub fn will_read(&self, chunks: impl Iterator<Item = Range<u64>>) {
        if let OpenSource::Object(open) = self {
            open.lock().windows = chunks.map(Window::new).collect();
        }
    }

    /// Reads on from a place.
    pub fn reader(&self, start: u64) -> SourceReader {
        match self {
            OpenSource::Local(file) => SourceReader::Local(file.clone(), start),
            OpenSource::Object(open) => SourceReader::Object(open.clone(), start),
        }
    }

    /// The failure of the system or the store, if a read has failed by one and not by what was read.
    pub fn failure(&self) -> Option<JobError> {
        match self {
            OpenSource::Local(file) => file.failure(),
            OpenSource::Object(open) => open.lock().failure.take(),
        }
    }
}

impl OpenObject {
    pub(crate) fn new(object: Object) -> Self {
        let size = object.version.size;
        let tail = vec![Window::new(size.saturating_sub(MIN_WINDOW)..size)];
        OpenObject { object, state: Mutex::new(ReadState { windows: tail, failure: None }) }
    }

    fn lock(&self) -> MutexGuard<'_, ReadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes from a place on: `len` bytes if they must be `whole`, else at least one and at most `len`. None past the end.
    fn read(&self, start: u64, len: u64, whole: bool) -> Result<Bytes, JobError> {
        let size = self.object.version.size;
        let len = len.min(size.saturating_sub(start));
        if len == 0 {
            return Ok(Bytes::new());
        }
        let mut state = self.lock();
        let length = (WINDOWS / (state.windows.len().max(1) as u64)).clamp(MIN_WINDOW, MAX_WINDOW);
        let Some(i) = state.windows.iter().position(|window| window.chunk.contains(&start)) else {
            return self.fetch(&mut state, start..start + len);
        };
        let window = &state.windows[i];
        if let Some(bytes) = window.after(start)
            && (bytes.len() as u64 >= len || !whole)
        {
            return Ok(bytes.slice(..bytes.len().min(len as usize)));
        }
        let chunk = window.chunk.start..window.chunk.end.min(size);
        let fits = chunk.end - chunk.start <= length;
        let from = if fits { chunk.start } else { start };
        let end = chunk.end.min(from + length).max(start + if whole { len } else { 1 });
        let bytes = self.fetch(&mut state, from..end)?;
        state.windows[i] = Window { chunk: state.windows[i].chunk.clone(), at: from, bytes };
        let bytes = state.windows[i].after(start).unwrap_or_default();
        Ok(bytes.slice(..bytes.len().min(len as usize)))
    }

    /// Keeps an error, and gives its text to the Parquet reader.
    fn fetch(&self, state: &mut ReadState, range: Range<u64>) -> Result<Bytes, JobError> {
        self.object.bucket.read(&self.object.version, range).map_err(|error| {
            let shown = JobError::Internal(error.to_string());
            state.failure = Some(error);
            shown
        })
    }
}

impl Length for OpenSource {
    fn len(&self) -> u64 {
        match self {
            OpenSource::Local(file) => file.size(),
            OpenSource::Object(open) => open.object.version.size,
        }
    }
}

impl ChunkReader for OpenSource {
    type T = BufReader<SourceReader>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        // For the header of a page.
        Ok(BufReader::with_capacity(256, self.reader(start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        match self {
            OpenSource::Local(file) => {
                let past = || ParquetError::EOF(format!("{length} bytes at {start} are past the end"));
                if start.checked_add(length as u64).is_none_or(|end| end > file.size()) {
                    return Err(past());
                }
                Ok(file.read(start..start + length as u64)?.into())
            }
            OpenSource::Object(open) => {
                let bytes = open.read(start, length as u64, true);
                let bytes = bytes.map_err(|error| ParquetError::External(Box::new(error)))?;
                if bytes.len() == length {
                    return Ok(bytes);
                }
                Err(ParquetError::EOF(format!("{length} bytes at {start} are past the end")))
            }
        }
    }
}

/// Reads on from a place.
pub enum SourceReader {
    /// Of a file.
    Local(Arc<LocalFile>, u64),
    /// Of an object.
    Object(Arc<OpenObject>, u64),
}

impl Read for SourceReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            SourceReader::Local(file, at) => {
                let read = file.read_at(*at, buffer)?;
                *at += read as u64;
                Ok(read)
            }
            SourceReader::Object(open, at) => {
                let bytes = open.read(*at, buffer.len() as u64, false).map_err(std::io::Error::other)?;
                buffer[..bytes.len()].copy_from_slice(&bytes);
                *at += bytes.len() as u64;
                Ok(bytes.len())
            }
        }
    }
}

#[cfg(test)]
mod tests;
