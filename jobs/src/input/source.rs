//! A file to read from, on this machine or in an object store.

use crate::digest::digest_file;
use crate::error::JobError;
use crate::input::local::LocalFile;
use crate::input::ranges::{OpenObject, OpenSource};
use crate::store::object::Object;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a file is.
#[derive(Clone, Debug)]
pub enum Source {
    Local(PathBuf),
    Object(Object),
}

impl Source {
    /// Its name in messages.
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
            Source::Local(path) => LocalFile::open(path).map(|file| OpenSource::Local(Arc::new(file))),
            Source::Object(object) => Ok(OpenSource::Object(Arc::new(OpenObject::new(object.clone())))),
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
