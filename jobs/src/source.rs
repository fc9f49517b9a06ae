//! A file to read from, on this machine or in an object store.

use crate::error::JobError;
use crate::identity::digest_file;
use crate::location::ObjectUrl;
use crate::objects::{Bucket, ObjectVersion, Trouble};
use crate::ranges::{OpenObject, OpenSource};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// The bytes of a request that reads an object through.
const REQUEST: u64 = 8 << 20;

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
        for start in (0..size).step_by(REQUEST as usize) {
            hasher.update(&self.bucket.read(&self.version, start..(start + REQUEST).min(size))?);
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
