//! A local input file: read by place, and known again if it is replaced or written to.

use crate::error::JobError;
use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// What a file looks like from outside; it changes when the file is replaced or written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
    /// Device and inode.
    place: (u64, u64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        #[cfg(unix)]
        let place = {
            use std::os::unix::fs::MetadataExt;
            (metadata.dev(), metadata.ino())
        };
        #[cfg(not(unix))]
        let place = (0, 0);
        Stamp { size: metadata.len(), modified: metadata.modified().ok(), place }
    }
}

/// An open file. Its readers share one descriptor.
pub struct LocalFile {
    path: PathBuf,
    file: File,
    size: u64,
    /// Why a read failed; the Parquet reader keeps of an error the text only.
    failure: Mutex<Option<JobError>>,
}

impl LocalFile {
    /// Opens it.
    ///
    /// # Errors
    /// [`JobError::Io`].
    pub fn open(path: &Path) -> Result<LocalFile, JobError> {
        let file = File::open(path).map_err(JobError::io("open", path))?;
        let size = file.metadata().map_err(JobError::io("open", path))?.len();
        Ok(LocalFile { path: path.to_path_buf(), file, size, failure: Mutex::new(None) })
    }

    /// Its bytes when it was opened.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What it looks like now.
    ///
    /// # Errors
    /// [`JobError::Io`].
    pub fn stamp(&self) -> Result<Stamp, JobError> {
        let metadata = self.file.metadata().map_err(JobError::io("read", &self.path))?;
        Ok(Stamp::of(&metadata))
    }

    /// Why a read has failed, if one has.
    pub fn failure(&self) -> Option<JobError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Reads at a place: at least one byte, or none past the end.
    ///
    /// # Errors
    /// That of the system, which is kept as the file's failure.
    pub fn read_at(&self, start: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(start)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        if wanted == 0 {
            return Ok(0);
        }
        let read = loop {
            match read_at(&self.file, start, &mut buffer[..wanted]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // It was longer when it was opened.
                Ok(0) => break Err((changed(&self.path), ErrorKind::UnexpectedEof.into())),
                Ok(read) => break Ok(read),
                Err(error) => {
                    let again = std::io::Error::new(error.kind(), error.to_string());
                    break Err((JobError::io("read", &self.path)(error), again));
                }
            }
        };
        read.map_err(|(failure, error)| {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
            error
        })
    }
}

/// The error of a file that is not as it was when the job began.
pub fn changed(path: &Path) -> JobError {
    let why = "it has changed since the job opened it; finished rows are kept; put the file back and run the \
               same command again when nothing writes to it";
    JobError::io("read", path)(std::io::Error::other(why))
}

#[cfg(unix)]
fn read_at(file: &File, start: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, start)
}

#[cfg(windows)]
fn read_at(file: &File, start: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, start)
}
