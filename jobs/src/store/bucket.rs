//! Object stores, as far as jobs need them.
//!
//! Calls block. Nothing is opened, and no socket made, before the first object is named.

use crate::error::JobError;
use bytes::Bytes;
use std::fmt::Debug;
use std::ops::Range;
use std::path::Path;

/// A bucket. Keys have no slash at their beginning or end.
pub trait Bucket: Debug + Send + Sync {
    /// Looks an object up; `None` if it does not exist.
    ///
    /// # Errors
    /// [`JobError::Store`], as of every method.
    fn head(&self, key: &str) -> Result<Option<ObjectVersion>, JobError>;

    /// The objects of a folder, sorted by key; with `deep` those of its folders too.
    ///
    /// # Errors
    /// See [`Bucket::head`].
    fn list(&self, folder: &str, deep: bool) -> Result<Vec<ObjectVersion>, JobError>;

    /// Reads bytes of an object, which must still be the one that was looked up.
    ///
    /// # Errors
    /// With `StoreError::Changed` if it is not; see [`Bucket::head`].
    fn read(&self, object: &ObjectVersion, range: Range<u64>) -> Result<Bytes, JobError>;

    /// Reads a small object; `None` if it does not exist.
    ///
    /// # Errors
    /// See [`Bucket::head`].
    fn get(&self, key: &str) -> Result<Option<Bytes>, JobError> {
        Ok(self.get_revision(key)?.map(|(bytes, _)| bytes))
    }

    /// The same with the revision that [`Bucket::replace`] takes.
    ///
    /// # Errors
    /// See [`Bucket::head`].
    fn get_revision(&self, key: &str) -> Result<Option<(Bytes, Revision)>, JobError>;

    /// Writes a small object, unless there is one; then `false`.
    ///
    /// # Errors
    /// See [`Bucket::head`]. The object may have been written all the same: the answer may have been lost.
    fn create(&self, key: &str, text: &str) -> Result<bool, JobError>;

    /// Writes a small object in the place of the one that was read, and gives the revision of the new one; `None` if another
    /// stands there, or none.
    ///
    /// # Errors
    /// As [`Bucket::create`].
    fn replace(&self, key: &str, text: &str, over: &Revision) -> Result<Option<Revision>, JobError>;

    /// Removes an object, if it exists.
    ///
    /// # Errors
    /// See [`Bucket::head`].
    fn delete(&self, key: &str) -> Result<(), JobError>;

    /// Begins a multipart upload and returns its id. Nothing of it shows before it is completed.
    ///
    /// # Errors
    /// See [`Bucket::head`].
    fn begin_upload(&self, key: &str) -> Result<String, JobError>;

    /// Uploads a file in pieces and returns their ids.
    ///
    /// # Errors
    /// [`JobError::Io`] for the file; see [`Bucket::head`].
    fn upload(&self, key: &str, id: &str, file: &Path) -> Result<Vec<String>, JobError>;

    /// Lets an upload appear as an object.
    ///
    /// # Errors
    /// See [`Bucket::head`]. The object may have appeared all the same: the answer may have been lost.
    fn complete_upload(&self, key: &str, id: &str, pieces: &[String]) -> Result<(), JobError>;

    /// Key and id of each upload to a key, or to keys in a folder of that name, that was begun and neither completed nor
    /// discarded; none of a store that keeps no such list.
    ///
    /// # Errors
    /// See [`Bucket::head`].
    fn uploads(&self, key: &str) -> Result<Vec<(String, String)>, JobError>;

    /// Discards an upload, if it exists.
    ///
    /// # Errors
    /// See [`Bucket::head`].
    fn abort_upload(&self, key: &str, id: &str) -> Result<(), JobError>;
}

/// An object as it was when it was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectVersion {
    pub key: String,
    pub size: u64,
    /// Its ETag, which is another one for other content.
    pub etag: String,
}

/// By what a store knows the object that a write is to replace: its ETag, or its generation where a store counts these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    pub etag: Option<String>,
    pub generation: Option<String>,
}
