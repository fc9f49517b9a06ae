//! An object of a store, in the version that was looked up.

use crate::error::JobError;
use crate::store::bucket::{Bucket, ObjectVersion};
use crate::store::error::StoreError;
use crate::store::location::ObjectUrl;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// The bytes of a request that reads an object through.
const REQUEST: u64 = 8 << 20;

/// An object, in the version that was looked up. Reading another version is refused.
#[derive(Clone, Debug)]
pub struct Object {
    pub bucket: Arc<dyn Bucket>,
    pub url: ObjectUrl,
    pub version: ObjectVersion,
}

impl Object {
    /// Looks an object up.
    ///
    /// # Errors
    /// [`JobError::Store`], also if it is not there.
    pub fn find(bucket: &Arc<dyn Bucket>, url: ObjectUrl) -> Result<Self, JobError> {
        let Some(version) = bucket.head(&url.key)? else {
            return Err(JobError::Store { doing: "find", url: url.to_string(), error: StoreError::NoObject });
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

    /// Copies its bytes to a file.
    ///
    /// # Errors
    /// [`JobError::Store`] or [`JobError::Io`].
    pub fn fetch(&self, to: &Path) -> Result<(), JobError> {
        let mut file = File::create(to).map_err(JobError::io("create", to))?;
        let size = self.version.size;
        for start in (0..size).step_by(REQUEST as usize) {
            let bytes = self.bucket.read(&self.version, start..(start + REQUEST).min(size))?;
            file.write_all(&bytes).map_err(JobError::io("write", to))?;
        }
        file.sync_all().map_err(JobError::io("write", to))
    }
}
