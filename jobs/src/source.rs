//! A file to read from, on this machine or in an object store, and its bytes by ranges.

use crate::error::JobError;
use crate::identity::digest_file;
use crate::location::ObjectUrl;
use crate::objects::{Bucket, ObjectVersion, Trouble};
use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of an object that are kept at a time: a window for each column chunk that is read.
const WINDOWS: u64 = 64 << 20;

/// The least bytes of a window.
const LEAST: u64 = 64 << 10;

/// The most bytes of a window, and of a request that reads an object through.
const MOST: u64 = 8 << 20;

/// Where a file is.
#[derive(Clone, Debug)]
pub enum Source {
    /// On this machine.
    Local(PathBuf),
    /// In an object store.
    Object(Object),
}

/// An object, in the version that was looked up. Reading another version is refused.
#[derive(Clone, Debug)]
pub struct Object {
    /// Where it lies.
    pub bucket: Arc<dyn Bucket>,
    /// Its URL, for people.
    pub url: ObjectUrl,
    /// The version.
    pub version: ObjectVersion,
}

impl Object {
    /// Looks an object up.
    ///
    /// # Errors
    /// [`JobError::Store`], also if it is not there.
    pub fn find(bucket: &Arc<dyn Bucket>, url: ObjectUrl) -> Result<Self, JobError> {
        let Some(version) = bucket.head(&url.key)? else {
            return Err(JobError::Store { doing: "find", url: url.to_string(), trouble: Trouble::NoObject });
        };
        Ok(Object { bucket: bucket.clone(), url, version })
    }

    /// The digest (BLAKE3, in hexadecimal) of its bytes.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub fn digest(&self) -> Result<String, JobError> {
        let mut hasher = blake3::Hasher::new();
        let size = self.version.size;
        for start in (0..size).step_by(MOST as usize) {
            hasher.update(&self.bucket.read(&self.version, start..(start + MOST).min(size))?);
        }
        Ok(hasher.finalize().to_hex().to_string())
    }
}

impl Source {
    /// Its name, for people.
    pub fn name(&self) -> PathBuf {
        match self {
            Source::Local(path) => path.clone(),
            Source::Object(object) => object.url.to_string().into(),
        }
    }

    /// Opens it.
    ///
    /// # Errors
    /// [`JobError::Io`].
    pub fn open(&self) -> Result<OpenSource, JobError> {
        match self {
            Source::Local(path) => {
                File::open(path).map(OpenSource::Local).map_err(JobError::io("open", path))
            }
            Source::Object(object) => {
                let size = object.version.size;
                let tail = vec![Window::new(size.saturating_sub(LEAST)..size)];
                let state = Mutex::new(ReadState { windows: tail, failure: None });
                Ok(OpenSource::Object(Arc::new(OpenObject { object: object.clone(), state })))
            }
        }
    }

    /// Its size and what its content is known by, both as they are now: the digest of a file's bytes; the ETag
    /// of an object, which the store changes with the content and which every read insists on, where a digest
    /// would read the whole of it at each start.
    ///
    /// # Errors
    /// [`JobError::Io`] or [`JobError::Store`].
    pub fn identify(&self) -> Result<(u64, String), JobError> {
        match self {
            Source::Local(path) => {
                let size = std::fs::metadata(path).map_err(JobError::io("read", path))?.len();
                Ok((size, digest_file(path)?))
            }
            Source::Object(object) => {
                let now = Object::find(&object.bucket, object.url.clone())?.version;
                Ok((now.size, format!("etag {}", now.etag)))
            }
        }
    }

    /// The digest (BLAKE3, in hexadecimal) of its bytes.
    ///
    /// # Errors
    /// [`JobError::Io`] or [`JobError::Store`].
    pub fn digest(&self) -> Result<String, JobError> {
        match self {
            Source::Local(path) => digest_file(path),
            Source::Object(object) => object.digest(),
        }
    }
}

/// An open file, for the Parquet reader.
pub enum OpenSource {
    /// On this machine.
    Local(File),
    /// In an object store.
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
    /// The part.
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

    /// The failure of the store, if a read has failed by one and not by what was read.
    pub fn failure(&self) -> Option<JobError> {
        match self {
            OpenSource::Local(_) => None,
            OpenSource::Object(open) => open.lock().failure.take(),
        }
    }

    /// The same open file once more.
    ///
    /// # Errors
    /// [`JobError::Io`], with the name that is given.
    pub fn again(&self, name: &std::path::Path) -> Result<Self, JobError> {
        match self {
            OpenSource::Local(file) => {
                file.try_clone().map(OpenSource::Local).map_err(JobError::io("open", name))
            }
            OpenSource::Object(open) => Ok(OpenSource::Object(open.clone())),
        }
    }
}

impl OpenObject {
    fn lock(&self) -> std::sync::MutexGuard<'_, ReadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes from a place on: `most` if they shall be whole, else at least one and at most so many. None past the end.
    fn read(&self, start: u64, most: u64, whole: bool) -> Result<Bytes, JobError> {
        let size = self.object.version.size;
        let most = most.min(size.saturating_sub(start));
        if most == 0 {
            return Ok(Bytes::new());
        }
        let mut state = self.lock();
        let length = (WINDOWS / (state.windows.len().max(1) as u64)).clamp(LEAST, MOST);
        let Some(i) = state.windows.iter().position(|window| window.chunk.contains(&start)) else {
            return self.fetch(&mut state, start..start + most);
        };
        let window = &state.windows[i];
        if let Some(bytes) = window.after(start)
            && (bytes.len() as u64 >= most || !whole)
        {
            return Ok(bytes.slice(..bytes.len().min(most as usize)));
        }
        let chunk = window.chunk.start..window.chunk.end.min(size);
        let fits = chunk.end - chunk.start <= length;
        let from = if fits { chunk.start } else { start };
        let end = chunk.end.min(from + length).max(start + if whole { most } else { 1 });
        let bytes = self.fetch(&mut state, from..end)?;
        state.windows[i] = Window { chunk: state.windows[i].chunk.clone(), at: from, bytes };
        let bytes = state.windows[i].after(start).unwrap_or_default();
        Ok(bytes.slice(..bytes.len().min(most as usize)))
    }

    /// Keeps an error, and gives its text to the Parquet reader.
    fn fetch(&self, state: &mut ReadState, range: Range<u64>) -> Result<Bytes, JobError> {
        self.object.bucket.read(&self.object.version, range).map_err(|error| {
            let told = JobError::Internal(error.to_string());
            state.failure = Some(error);
            told
        })
    }
}

impl Length for OpenSource {
    fn len(&self) -> u64 {
        match self {
            OpenSource::Local(file) => file.len(),
            OpenSource::Object(open) => open.object.version.size,
        }
    }
}

impl ChunkReader for OpenSource {
    type T = BufReader<SourceReader>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let reader = match self {
            OpenSource::Local(file) => {
                let mut file = file.try_clone()?;
                file.seek(SeekFrom::Start(start))?;
                SourceReader::Local(file)
            }
            OpenSource::Object(open) => SourceReader::Object(open.clone(), start),
        };
        // For the header of a page.
        Ok(BufReader::with_capacity(256, reader))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        match self {
            OpenSource::Local(file) => file.get_bytes(start, length),
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
    Local(File),
    /// Of an object.
    Object(Arc<OpenObject>, u64),
}

impl Read for SourceReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            SourceReader::Local(file) => file.read(buffer),
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
