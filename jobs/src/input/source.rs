//! A file to read from, on this machine or in an object store.

use crate::error::JobError;
use crate::input::local::LocalFile;
use crate::input::ranges::{OpenObject, OpenSource};
use crate::store::object::Object;
use engine::file::VerifiedFile;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a file is.
#[derive(Clone, Debug)]
pub enum Source {
    Local(Arc<VerifiedFile>),
    Object(Object),
}

impl Source {
    /// A file of this machine.
    pub fn local(path: impl Into<PathBuf>) -> Source {
        Source::Local(Arc::new(VerifiedFile::new(path)))
    }

    /// Its name in messages.
    pub fn name(&self) -> PathBuf {
        match self {
            Source::Local(file) => file.path().to_path_buf(),
            Source::Object(object) => object.url.to_string().into(),
        }
    }

    /// Opens it.
    ///
    /// # Errors
    /// [`JobError::Io`], or [`JobError::Changed`] if it has another size than before.
    pub fn open(&self) -> Result<OpenSource, JobError> {
        match self {
            Source::Local(file) => Ok(OpenSource::Local(Arc::new(LocalFile::new(file.open()?)))),
            Source::Object(object) => Ok(OpenSource::Object(Arc::new(OpenObject::new(object.clone())))),
        }
    }

    /// Its size and what its content is known by: the digest of a file's bytes, which all that is read later is held
    /// against; the ETag of an object, which the store changes with the content and which every read insists on, where
    /// a digest would read the whole of it at each start.
    ///
    /// # Errors
    /// [`JobError::Io`], [`JobError::Changed`] or [`JobError::Store`].
    pub fn identify(&self) -> Result<(u64, String), JobError> {
        match self {
            Source::Local(file) => Ok((file.open()?.size(), file.digest()?.to_hex().to_string())),
            Source::Object(object) => {
                let version = &object.version;
                Ok((version.size, format!("etag {}", version.etag)))
            }
        }
    }

    /// The digest (BLAKE3, in hexadecimal) of its bytes.
    ///
    /// # Errors
    /// [`JobError::Io`] or [`JobError::Store`].
    pub fn digest(&self) -> Result<String, JobError> {
        match self {
            Source::Local(file) => Ok(file.digest()?.to_hex().to_string()),
            Source::Object(object) => object.digest(),
        }
    }
}
