//! A local input file, read by place. Once it was digested, only what was digested is read of it.

use crate::error::JobError;
use engine::file::OpenFile;
use std::io::{Error, ErrorKind};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// An open file. Its readers share one descriptor.
pub struct LocalFile {
    file: OpenFile,
    /// Why a read failed; the Parquet reader keeps of an error the text only.
    failure: Mutex<Option<JobError>>,
}

impl LocalFile {
    /// Takes an open file.
    pub fn new(file: OpenFile) -> LocalFile {
        LocalFile { file, failure: Mutex::new(None) }
    }

    /// Its bytes.
    pub fn size(&self) -> u64 {
        self.file.size()
    }

    /// Why a read has failed, if one has: by the system, or because the file has changed.
    pub fn failure(&self) -> Option<JobError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Reads bytes, which must lie in the file.
    ///
    /// # Errors
    /// Its text; the error itself is kept as the file's failure.
    pub fn read(&self, range: Range<u64>) -> std::io::Result<Vec<u8>> {
        self.file.read(range).map_err(|error| {
            let shown = Error::other(error.to_string());
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.into());
            shown
        })
    }

    /// Reads at a place: as many bytes as there are and fit.
    ///
    /// # Errors
    /// As [`LocalFile::read`].
    pub fn read_at(&self, start: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let end = start.saturating_add(buffer.len() as u64).min(self.size());
        if start >= end {
            return Ok(0);
        }
        let bytes = self.read(start..end)?;
        buffer.get_mut(..bytes.len()).ok_or(ErrorKind::InvalidInput)?.copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}
