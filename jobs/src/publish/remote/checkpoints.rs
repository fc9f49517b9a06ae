//! Copies of a job's journal in the store, from which another machine goes on.
//!
//! One object for each owner, `<output>.gristmill/journal-<owner>.sqlite`, which is replaced as a whole.

use super::{RemoteOutput, beside, folder_beside};
use crate::error::JobError;
use crate::store::bucket::ObjectVersion;
use crate::store::object::Object;
use std::path::Path;

const PREFIX: &str = "journal-";
const SUFFIX: &str = ".sqlite";

impl RemoteOutput {
    /// Puts a copy of the journal in the place of the last one of this owner.
    ///
    /// # Errors
    /// As [`RemoteOutput::renew`]; [`JobError::Io`].
    pub fn put_checkpoint(&self, file: &Path) -> Result<(), JobError> {
        let owner = self.held().as_ref().map_or(1, |held| held.claim.owner);
        let key = beside(&self.url.key, &format!("{PREFIX}{owner:05}{SUFFIX}"));
        let upload = self.bucket.begin_upload(&key)?;
        let put = self.bucket.upload(&key, &upload, file).and_then(|pieces| {
            // As a part of the output: an upload that whoever takes over does not find was completed before.
            self.renew()?;
            self.bucket.complete_upload(&key, &upload, &pieces)
        });
        if put.is_err() {
            let _ = self.bucket.abort_upload(&key, &upload);
        }
        put
    }

    /// The newest checkpoint of owners up to this one.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub(super) fn newest_checkpoint(&self, owner: u64) -> Result<Option<Object>, JobError> {
        let all = self.checkpoints()?.into_iter().filter(|(of, _)| *of <= owner);
        let newest = all.max_by_key(|(of, _)| *of).map(|(_, version)| version);
        Ok(newest.map(|version| {
            let url = self.url.with_key(version.key.clone());
            Object { bucket: self.bucket.clone(), url, version }
        }))
    }

    /// Removes the checkpoints of owners up to this one.
    pub(super) fn remove_checkpoints(&self, owner: u64) -> Result<(), JobError> {
        let all = self.checkpoints()?.into_iter().filter(|(of, _)| *of <= owner);
        all.into_iter().try_for_each(|(_, version)| self.bucket.delete(&version.key))
    }

    /// Checkpoints and their owners.
    fn checkpoints(&self) -> Result<Vec<(u64, ObjectVersion)>, JobError> {
        let owner = |key: &str| {
            let name = key.rsplit('/').next().unwrap_or_default();
            name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()
        };
        let listed = self.bucket.list(&folder_beside(&self.url.key), false)?.into_iter();
        Ok(listed.filter_map(|version| Some((owner(&version.key)?, version))).collect())
    }
}
