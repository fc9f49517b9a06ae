//! A claim: an object beside the output that says which job writes it, and on which machine.
//!
//! Its owner renews it. Each renewal replaces the very claim that the owner has written last, so that one that is taken over is
//! noticed by the next; what others must not do any more is done after a renewal (see [`super`]).

use super::claim_text::ClaimText;
use super::{RemoteOutput, UPLOADS, claim_key, put_over};
use crate::error::JobError;
use crate::files::{rename, write_durably};
use crate::journal::reader::JournalReader;
use crate::publish::manifest::Manifest;
use crate::store::bucket::Revision;
use crate::store::error::StoreError;
use std::sync::MutexGuard;

/// The name of the claim, here and there.
pub(super) const CLAIM: &str = "claim.json";

/// The name here of a claim that may stand there already, but has not been found to be good yet.
const NEW_CLAIM: &str = "claim.new";

/// A claim as it was written last.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub claim: ClaimText,
    pub revision: Revision,
}

impl RemoteOutput {
    /// Refuses an output that is in the way, or that another job writes. Changes nothing.
    ///
    /// # Errors
    /// [`JobError::OutputExists`], [`JobError::Claimed`], [`JobError::TakenOver`] or [`JobError::Store`].
    pub fn check(&self) -> Result<(), JobError> {
        let there = self.text(&self.claim_key())?;
        if let Some(there) = there.filter(|there| !is_released(there))
            && !self.is_own(&there)?
        {
            return Err(self.claimed(&there));
        }
        self.refuse_unfinished()?;
        self.refuse_published_elsewhere()?;
        if self.is_claimed_here()? { self.published().map(drop) } else { self.check_free() }
    }

    /// Claims the output for this job, unless it has done so, and discards uploads that an earlier start has left.
    /// The state_dir must be locked.
    ///
    /// # Errors
    /// As [`RemoteOutput::check`]; [`JobError::Io`].
    pub fn claim(&self) -> Result<(), JobError> {
        self.refuse_unfinished()?;
        let key = self.claim_key();
        let there = self.bucket.get_revision(&key)?.map(as_text);
        let own = match &there {
            Some((text, _)) => self.is_own(text)?,
            None => false,
        };
        match there {
            Some((text, revision)) if own && !is_released(&text) => self.adopt(&text, revision)?,
            Some((text, _)) if !is_released(&text) => return Err(self.claimed(&text)),
            // Of one that is released the owner has published, and was killed before it was gone.
            released => self.create_claim(released.map(|(_, revision)| revision))?,
        }
        let free = if self.is_claimed_here()? { self.published().map(drop) } else { self.check_free() };
        if let Err(error) = free {
            // Another job may have published and withdrawn its claim since the check, or reserved the place.
            if matches!(error, JobError::OutputExists { .. } | JobError::Reserved { .. }) {
                self.withdraw()?;
                self.forget(NEW_CLAIM)?;
            }
            return Err(error);
        }
        self.note_claim()?;
        self.discard_uploads()
    }

    /// Renews the claim that this job has here and there, if it has; whether it has.
    ///
    /// # Errors
    /// As [`RemoteOutput::renew`].
    pub fn resume_claim(&self) -> Result<bool, JobError> {
        if !self.is_claimed_here()? {
            return Ok(false);
        }
        match self.bucket.get_revision(&self.claim_key())?.map(as_text) {
            Some((text, revision)) if self.is_own(&text)? && !is_released(&text) => {
                self.adopt(&text, revision).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    /// Writes a claim where there is none, or over one that is released.
    fn create_claim(&self, released: Option<Revision>) -> Result<(), JobError> {
        let claim = match self.claim_here()? {
            Some(claim) => claim,
            None => {
                let claim = ClaimText::new(1, &self.state_dir);
                self.note_new_claim(&claim)?;
                claim
            }
        };
        let claim = ClaimText { owner: claim.owner.max(1), ..claim };
        match put_over(&self.bucket, &self.claim_key(), &claim.to_json(), released.as_ref())? {
            Some(revision) => *self.held() = Some(Held { claim, revision }),
            None => {
                let there = self.text(&self.claim_key())?;
                return Err(self.claimed(&there.unwrap_or_default()));
            }
        }
        Ok(())
    }

    /// Takes a claim that this job has written before as the one to renew.
    pub(super) fn adopt(&self, text: &str, revision: Revision) -> Result<(), JobError> {
        let claim = ClaimText::parse(text).ok_or_else(|| self.claimed(text))?;
        *self.held() = Some(Held { claim, revision });
        self.renew()
    }

    /// Renews the claim: nobody had taken the job over when that was done.
    ///
    /// # Errors
    /// [`JobError::TakenOver`] or [`JobError::ClaimRemoved`] if the claim is not this job's any more; [`JobError::Store`] if the
    /// store does not answer, which says nothing.
    pub fn renew(&self) -> Result<(), JobError> {
        self.renewed(|next| next).unwrap_or_else(|| Err(self.claim_removed()))
    }

    /// The same, and says whether this owner may be about to replace a manifest that stands.
    pub(super) fn renew_as(&self, republishes: bool) -> Result<(), JobError> {
        let renewed = self.renewed(|next| ClaimText { republishes, ..next });
        renewed.unwrap_or_else(|| Err(self.claim_removed()))
    }

    /// Renews the claim, if there is one to be renewed.
    ///
    /// # Errors
    /// As [`RemoteOutput::renew`].
    pub fn renew_if_held(&self) -> Result<(), JobError> {
        self.renewed(|next| next).unwrap_or(Ok(()))
    }

    /// Renews the claim with these words; `None` if none is held.
    fn renewed(&self, words: impl FnOnce(ClaimText) -> ClaimText) -> Option<Result<(), JobError>> {
        let mut held = self.held();
        let now = held.as_mut()?;
        let next = words(now.claim.renewed());
        Some(self.rewrite(now, next))
    }

    /// Puts another text of the claim in the place of the last one.
    fn rewrite(&self, now: &mut Held, next: ClaimText) -> Result<(), JobError> {
        let key = self.claim_key();
        // A renewal whose answer was lost may stand there. Whoever takes over has another name.
        for _ in 0..2 {
            if let Some(revision) = put_over(&self.bucket, &key, &next.to_json(), Some(&now.revision))? {
                *now = Held { claim: next, revision };
                return Ok(());
            }
            let Some((there, revision)) = self.bucket.get_revision(&key)?.map(as_text) else {
                return Err(self.claim_removed());
            };
            match ClaimText::parse(&there) {
                Some(claim) if claim.job == now.claim.job && !claim.released => now.revision = revision,
                _ => return Err(self.claimed(&there)),
            }
        }
        Err(self.claim_removed())
    }

    /// Withdraws the claim of an owner before this one, which has published and was killed before it did so.
    pub(super) fn release_after(&self, claim: &ClaimText, revision: Revision) -> Result<(), JobError> {
        *self.held() = Some(Held { claim: claim.clone(), revision });
        self.withdraw()?;
        self.forget(NEW_CLAIM)
    }

    /// Withdraws the claim of an output that is published, with what helped to take it over.
    pub(super) fn release(&self) -> Result<(), JobError> {
        self.forget(UPLOADS)?;
        match self.discard_unnoted_uploads().and_then(|()| self.withdraw()) {
            Ok(()) => self.forget(CLAIM),
            Err(error @ (JobError::TakenOver { .. } | JobError::Claimed { .. })) => Err(error),
            Err(error) => {
                tracing::warn!("the output is published, but its claim stays: {error}");
                Ok(())
            }
        }
    }

    /// Removes the claim. It says first that it is about to go: from then on nobody takes it over, and nobody else's is removed.
    fn withdraw(&self) -> Result<(), JobError> {
        let mut held = self.held();
        let Some(now) = held.as_mut() else { return Ok(()) };
        let last = ClaimText { released: true, ..now.claim.renewed() };
        let released = match self.rewrite(now, last) {
            // Somebody has removed it. What stands there from now on is another's.
            Err(JobError::ClaimRemoved { .. }) => false,
            written => written.map(|()| true)?,
        };
        self.remove_checkpoints(now.claim.owner)?;
        if released {
            self.bucket.delete(&self.claim_key())?;
        }
        *held = None;
        Ok(())
    }

    /// Whether this job has claimed the output, on this machine.
    ///
    /// # Errors
    /// [`JobError::Io`].
    pub fn is_claimed_here(&self) -> Result<bool, JobError> {
        Ok(self.note(CLAIM)?.is_some())
    }

    /// Says so if another machine has taken over the job whose journal is here, and has published it.
    fn refuse_published_elsewhere(&self) -> Result<(), JobError> {
        let journal =
            JournalReader::open(&self.state_dir).ok().filter(|_| self.is_claimed_here().unwrap_or(false));
        let Some(journal) = journal else { return Ok(()) };
        let is_own = |manifest: &Manifest| manifest.is_of(journal.identity(), journal.inputs());
        match self.published_elsewhere(&is_own)? {
            None => Ok(()),
            Some(_) => Err(JobError::PublishedElsewhere {
                output: self.url.to_string(),
                state_dir: self.state_dir.clone(),
            }),
        }
    }

    /// Notes here a claim that is about to be written there.
    pub(super) fn note_new_claim(&self, claim: &ClaimText) -> Result<(), JobError> {
        write_durably(&self.state_dir.join(NEW_CLAIM), &claim.to_json())
    }

    /// Notes here that the claim is good, and all that belongs to it done.
    pub(super) fn note_claim(&self) -> Result<(), JobError> {
        let new = self.state_dir.join(NEW_CLAIM);
        if new.exists() { rename(&new, &self.state_dir.join(CLAIM)) } else { Ok(()) }
    }

    /// The claim of a take-over that was not finished here.
    pub(super) fn unfinished(&self) -> Result<Option<ClaimText>, JobError> {
        let new = self.note(NEW_CLAIM)?.and_then(|text| ClaimText::parse(&text));
        Ok(new.filter(|claim| claim.owner > 1))
    }

    /// Refuses to go on with a take-over that was not finished as if there had been none.
    fn refuse_unfinished(&self) -> Result<(), JobError> {
        match self.unfinished()? {
            Some(_) => Err(JobError::Usage(format!(
                "{} was being taken over here when the command ended; give --take-over again",
                self.url
            ))),
            None => Ok(()),
        }
    }

    /// Whether a claim is this job's, on this machine.
    pub(super) fn is_own(&self, text: &str) -> Result<bool, JobError> {
        let name = ClaimText::parse(text).map(|claim| claim.job);
        let notes = [self.note(CLAIM)?, self.note(NEW_CLAIM)?];
        let mut own = notes.iter().flatten().filter_map(|note| ClaimText::parse(note));
        Ok(own.any(|claim| Some(claim.job) == name))
    }

    /// Forgets a take-over that came to nothing.
    pub(super) fn forget_new_claim(&self) -> Result<(), JobError> {
        self.forget(NEW_CLAIM)
    }

    /// That a claim is another's: of another job, or of whoever has taken over this one.
    pub(super) fn claimed(&self, says: &str) -> JobError {
        let (output, claim) = (self.url.to_string(), self.url.with_key(self.claim_key()).to_string());
        let other = ClaimText::parse(says).filter(|claim| claim.owner > 1);
        match (other, self.note(CLAIM)) {
            (Some(other), Ok(Some(_))) => JobError::TakenOver {
                output,
                claim,
                host: shown(&other.host),
                owner: other.owner,
                state_dir: self.state_dir.clone(),
            },
            _ => JobError::Claimed { output, claim, says: shown(says) },
        }
    }

    fn claim_removed(&self) -> JobError {
        JobError::ClaimRemoved { claim: self.url.with_key(self.claim_key()).to_string() }
    }

    pub(super) fn claim_key(&self) -> String {
        claim_key(&self.url)
    }

    /// The claim as it is noted here, good or not yet.
    pub(super) fn claim_here(&self) -> Result<Option<ClaimText>, JobError> {
        let text = self.note(CLAIM)?.or(self.note(NEW_CLAIM)?);
        Ok(text.and_then(|text| ClaimText::parse(&text)))
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Option<Held>> {
        // What a thread has left that ended in between is as it was read or written last.
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// An error of the store about the claim.
    pub(super) fn of_claim(&self, doing: &'static str, why: &str) -> JobError {
        let url = self.url.with_key(self.claim_key()).to_string();
        JobError::Store { doing, url, error: StoreError::Other(why.into()) }
    }
}

/// Whether a claim says that its owner has published.
pub(super) fn is_released(text: &str) -> bool {
    ClaimText::parse(text).is_some_and(|claim| claim.released)
}

/// A small object as text.
pub(super) fn as_text((bytes, revision): (bytes::Bytes, Revision)) -> (String, Revision) {
    (String::from_utf8_lossy(&bytes).into_owned(), revision)
}

/// What another machine has written, for people.
pub(crate) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}
