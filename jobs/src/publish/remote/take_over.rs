//! Taking over the job of a machine that is gone.
//!
//! What the owner before may still do is prevented in this order: its claim is replaced, so that it renews no more; the place of
//! the manifest is reserved, so that its manifest finds the place taken; and its uploads are discarded. It completes none that it
//! did not begin before its last renewal, and so none that is not found by then.

use super::claim::{Held, as_text};
use super::claim_text::ClaimText;
use super::reservation::Reservation;
use super::seen::{By, Seen, owner};
use super::{RemoteOutput, folder_beside, manifest_key, put_over};
use crate::error::JobError;
use crate::publish::manifest::{self, Manifest};
use crate::store::object::Object;
use std::path::Path;

/// Uploads that were listed and discarded may be listed once more.
const ROUNDS: usize = 10;

impl RemoteOutput {
    /// Fetches the newest checkpoint of the job, if there is one. What it is fetched from.
    ///
    /// # Errors
    /// [`JobError::Store`] or [`JobError::Io`].
    pub fn fetch_checkpoint(&self, seen: &Seen, to: &Path) -> Result<Option<Object>, JobError> {
        // An owner that was killed before its first one began with that of the owner before.
        let found = self.newest_checkpoint(seen.owner)?;
        found.iter().try_for_each(|object| object.fetch(to))?;
        Ok(found)
    }

    /// The manifest that stands, of the job by `is_of_job`, if this machine has not put it.
    ///
    /// # Errors
    /// [`JobError::OutputExists`] if it is of another job; [`JobError::Store`].
    pub fn published_elsewhere(
        &self,
        is_of_job: &dyn Fn(&Manifest) -> bool,
    ) -> Result<Option<Manifest>, JobError> {
        let there = self.standing()?;
        let own = self.note(manifest::NAME)?;
        let other = there.filter(|text| Some(text) != own.as_ref());
        other.map(|text| self.of_job(&text, is_of_job)).transpose()
    }

    /// The manifest that stands, whoever has put it.
    fn standing(&self) -> Result<Option<String>, JobError> {
        let there = self.text(&manifest_key(&self.url))?;
        Ok(there.filter(|text| Reservation::parse(text.as_bytes()).is_none()))
    }

    fn of_job(&self, text: &str, is_of_job: &dyn Fn(&Manifest) -> bool) -> Result<Manifest, JobError> {
        let at = self.url.to_string();
        let manifest = Manifest::parse(text.as_bytes(), Path::new(&at)).ok();
        manifest.filter(is_of_job).ok_or_else(|| self.in_the_way(&manifest_key(&self.url)))
    }

    /// Makes the claim this job's own, and prevents what its owner may still do. The state_dir must be locked. `is_of_job` says
    /// whether a manifest that stands there is this job's. If the owner has published all rows, its claim is withdrawn; then
    /// `false`.
    ///
    /// # Errors
    /// [`JobError::StillAtWork`] if it was renewed meanwhile; [`JobError::OutputExists`] for the manifest of another job.
    pub fn take(
        &self,
        seen: &Seen,
        rows: u64,
        is_of_job: &dyn Fn(&Manifest) -> bool,
    ) -> Result<bool, JobError> {
        // A store that does not tell of unfinished uploads is found before anything is changed.
        self.begun_uploads()?;
        self.refuse_removing()?;
        // Whoever is to put something in its place says so in the claim before.
        let is_done = |manifest: Manifest| !seen.republishes() && manifest.rows == rows;
        // Also if this machine has put it, and was taken over before it could say so.
        let there = self.standing()?.map(|text| self.of_job(&text, is_of_job)).transpose()?;
        if there.is_some_and(is_done) {
            match (&seen.by, &seen.revision) {
                (By::Claim(claim), Some(revision)) => self.release_after(claim, revision.clone())?,
                _ => self.forget_new_claim()?,
            }
            return Ok(false);
        }
        self.write_claim(seen)?;
        self.reserve_over(rows, is_of_job)?;
        self.renew_as(false)?;
        self.discard_others_uploads().map(|()| true)
    }

    /// Writes a claim of this machine over that of the owner before, or where there is none.
    fn write_claim(&self, seen: &Seen) -> Result<(), JobError> {
        let written = self.unfinished()?.or(self.claim_here()?);
        if let (By::Claim(claim), Some(revision)) = (&seen.by, &seen.revision)
            && claim.owner == seen.owner
            && written.is_some_and(|written| written.job == claim.job)
        {
            // It is this machine's already.
            *self.held() = Some(Held { claim: claim.clone(), revision: revision.clone() });
            return self.renew();
        }
        let claim = ClaimText::new(seen.owner + 1, &self.state_dir);
        let claim = ClaimText { republishes: seen.republishes(), ..claim };
        self.note_new_claim(&claim)?;
        match put_over(&self.bucket, &self.claim_key(), &claim.to_json(), seen.revision.as_ref())? {
            Some(revision) => *self.held() = Some(Held { claim, revision }),
            None => return Err(self.still_at_work(seen)),
        }
        Ok(())
    }

    /// Notes that all that is needed to go on is here.
    ///
    /// # Errors
    /// [`JobError::Io`].
    pub fn end_take_over(&self) -> Result<(), JobError> {
        self.note_claim()
    }

    /// Reserves the place of the manifest, over what the owners before have put there.
    fn reserve_over(&self, rows: u64, is_of_job: &dyn Fn(&Manifest) -> bool) -> Result<(), JobError> {
        let key = manifest_key(&self.url);
        let there = self.bucket.get_revision(&key)?.map(as_text);
        // What was read is the place as this owner may replace it: who takes over later replaces it first.
        self.renew()?;
        let Some((text, revision)) = there else { return self.reserve(None, Vec::new(), false).map(drop) };
        if let Some(reservation) = Reservation::parse(text.as_bytes()) {
            self.refuse_removing()?;
            return self.reserve(Some(&revision), reservation.replaces, false).map(drop);
        }
        let manifest = self.of_job(&text, is_of_job)?;
        let republishes = self.held().as_ref().is_some_and(|held| held.claim.republishes);
        if !republishes && manifest.rows == rows {
            return Err(
                self.of_claim("take over", "the job was published at this moment; give the command again")
            );
        }
        // It is this job's from now on, and so are its parts.
        manifest::keep(&self.state_dir, &text)?;
        let parts = self.part_keys(&manifest, self.is_folder(&manifest));
        self.reserve(Some(&revision), parts, false).map(drop)
    }

    /// Refuses to go on where an owner removes parts: a removal cannot be held to a condition, and may still be on its way.
    fn refuse_removing(&self) -> Result<(), JobError> {
        let key = manifest_key(&self.url);
        let there = self.bucket.get(&key)?.and_then(|text| Reservation::parse(&text));
        match there.filter(|reservation| reservation.removes) {
            Some(reservation) => Err(JobError::Usage(format!(
                "--take-over: {} was removing parts of an earlier output of {}, and a removal may still be on its way. If that \
                 machine is gone for good, remove {} and give --take-over again",
                reservation.holder(),
                self.url,
                self.url.with_key(key)
            ))),
            None => Ok(()),
        }
    }

    /// Discards all uploads that others have begun, until none is listed.
    fn discard_others_uploads(&self) -> Result<(), JobError> {
        for _ in 0..ROUNDS {
            let begun = self.begun_uploads()?;
            if begun.is_empty() {
                return Ok(());
            }
            // None of whoever takes over from here is among them.
            self.renew()?;
            begun.iter().try_for_each(|(key, upload)| self.bucket.abort_upload(key, upload))?;
        }
        Err(self.of_claim("discard the uploads of the job of", "they come again and again"))
    }

    /// Uploads to the output, and beside it.
    pub(super) fn begun_uploads(&self) -> Result<Vec<(String, String)>, JobError> {
        let mut begun = self.bucket.uploads(&self.url.key)?;
        begun.extend(self.bucket.uploads(&folder_beside(&self.url.key))?);
        Ok(begun)
    }

    /// Says who has a claim that is not as it was seen: its owner, or who was faster.
    pub(super) fn still_at_work(&self, seen: &Seen) -> JobError {
        let there = self.text(&self.claim_key()).ok().flatten().and_then(|text| ClaimText::parse(&text));
        let owner = there.as_ref().map_or_else(|| seen.owner(), owner);
        let claim = self.url.with_key(self.claim_key()).to_string();
        JobError::StillAtWork { output: self.url.to_string(), claim, owner }
    }
}
