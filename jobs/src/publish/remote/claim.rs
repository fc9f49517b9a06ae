//! A claim: an object beside the output that says which job writes it.

use super::{RemoteOutput, UPLOADS, beside, settle};
use crate::error::JobError;
use crate::files::{rename, write_durably};
use std::hash::{BuildHasher, RandomState};

/// The name of the claim, here and there.
const CLAIM: &str = "claim.json";

/// The name here of a claim that may stand there already, but has not been found to be good yet.
const NEW_CLAIM: &str = "claim.new";

impl RemoteOutput {
    /// Refuses an output that is in the way, or that another job writes. Changes nothing.
    ///
    /// # Errors
    /// [`JobError::OutputExists`], [`JobError::Claimed`] or [`JobError::Store`].
    pub fn check(&self) -> Result<(), JobError> {
        if let Some(there) = self.text(&self.claim_key())?
            && Some(&there) != self.claim_here()?.as_ref()
        {
            return Err(self.claimed(&there));
        }
        if self.note(CLAIM)?.is_some() { self.published().map(drop) } else { self.check_free() }
    }

    /// Claims the output for this job, unless it has done so, and discards uploads that an earlier start has left.
    /// The state_dir must be locked.
    ///
    /// # Errors
    /// As [`RemoteOutput::check`]; [`JobError::Io`].
    pub fn claim(&self) -> Result<(), JobError> {
        let claim = match self.claim_here()? {
            Some(claim) => claim,
            None => {
                let claim = self.new_claim();
                write_durably(&self.state_dir.join(NEW_CLAIM), &claim)?;
                claim
            }
        };
        if !settle(&self.bucket, &self.url, &self.claim_key(), &claim)? {
            let there = self.text(&self.claim_key())?;
            return Err(self.claimed(&there.unwrap_or_default()));
        }
        if self.note(CLAIM)?.is_some() {
            self.published()?;
        } else {
            // Another job may have published and withdrawn its claim since the check.
            if let Err(error) = self.check_free() {
                self.bucket.delete(&self.claim_key())?;
                self.forget(NEW_CLAIM)?;
                return Err(error);
            }
            rename(&self.state_dir.join(NEW_CLAIM), &self.state_dir.join(CLAIM))?;
        }
        self.discard_uploads()
    }

    /// Withdraws the claim of an output that is published.
    pub(super) fn release(&self) -> Result<(), JobError> {
        self.forget(UPLOADS)?;
        if let Err(error) = self.discard_unnoted_uploads() {
            tracing::warn!("the output is published, but unfinished uploads may be left: {error}");
        }
        match self.bucket.delete(&self.claim_key()) {
            Ok(()) => self.forget(CLAIM),
            Err(error) => {
                tracing::warn!("the output is published, but its claim stays: {error}");
                Ok(())
            }
        }
    }

    fn new_claim(&self) -> String {
        // The keys of a hasher are random.
        let random = || RandomState::new().hash_one(std::process::id());
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let folder = std::path::absolute(&self.state_dir).unwrap_or_else(|_| self.state_dir.clone());
        let (job, folder) = (format!("{:016x}{:016x}", random(), random()), folder.display().to_string());
        serde_json::json!({ "job": job, "host": host.trim(), "state_dir": folder }).to_string()
    }

    fn claimed(&self, says: &str) -> JobError {
        let claim = self.url.with_key(self.claim_key()).to_string();
        let says = says.chars().filter(|c| !c.is_control()).take(300).collect();
        JobError::Claimed { output: self.url.to_string(), claim, says }
    }

    pub(super) fn claim_key(&self) -> String {
        beside(&self.url.key, CLAIM)
    }

    /// The claim as it is noted here, good or not yet.
    fn claim_here(&self) -> Result<Option<String>, JobError> {
        Ok(self.note(CLAIM)?.or(self.note(NEW_CLAIM)?))
    }
}
