//! A reservation: what stands in the place of the manifest while the output is not published and its owner is not the first.
//!
//! The first owner puts its manifest where there is nothing, and each later one in the place of its own reservation. So a manifest
//! of an owner that is late finds its place taken, however late it comes.

use super::claim::{as_text, shown};
use super::claim_text::{ClaimText, random_name};
use super::{RemoteOutput, manifest_key, manifest_key_inside, put_over};
use crate::error::JobError;
use crate::publish::manifest::{self, Manifest};
use crate::store::bucket::Revision;
use serde::{Deserialize, Serialize};

/// Says in the object itself what it is.
const NOTE: &str = "this output is not published; whoever reserved its place goes on with the job";

/// A reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reservation {
    reservation: String,
    /// The random name of the owner's claim.
    pub job: String,
    pub owner: u64,
    pub host: String,
    /// Another one for each, so that no two have one ETag.
    name: String,
    /// The parts of what was published here before, which may still stand.
    pub replaces: Vec<String>,
    /// Whether some of them are being removed.
    pub removes: bool,
}

impl Reservation {
    fn of(claim: &ClaimText, replaces: Vec<String>, removes: bool) -> Reservation {
        Reservation {
            reservation: NOTE.into(),
            job: claim.job.clone(),
            owner: claim.owner,
            host: claim.host.clone(),
            name: random_name(),
            replaces,
            removes,
        }
    }

    /// Understands what stands in the place of a manifest; none if that is a manifest, or anything else.
    pub fn parse(text: &[u8]) -> Option<Reservation> {
        serde_json::from_slice(text).ok()
    }

    /// Who holds the place, for people.
    pub fn holder(&self) -> String {
        format!("the job on {} (owner {})", shown(&self.host), self.owner)
    }
}

/// What stands in the place of the manifest, if it is this job's.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Free,
    /// A manifest: key, text.
    Published(String, String, Revision),
    Reserved(Reservation, Revision),
}

impl RemoteOutput {
    /// What this job has in the place of the manifest.
    ///
    /// # Errors
    /// [`JobError::OutputExists`] for the manifest of another, [`JobError::Reserved`] for another's reservation.
    pub(super) fn place(&self) -> Result<Place, JobError> {
        let own = self.note(manifest::NAME)?;
        for key in [manifest_key(&self.url), manifest_key_inside(&self.url)] {
            let Some((text, revision)) = self.bucket.get_revision(&key)?.map(as_text) else { continue };
            if Some(&text) == own.as_ref() {
                return Ok(Place::Published(key, text, revision));
            }
            let Some(reservation) = Reservation::parse(text.as_bytes()) else {
                return Err(self.in_the_way(&key));
            };
            return match self.claim_here()?.is_some_and(|claim| claim.job == reservation.job) {
                true => Ok(Place::Reserved(reservation, revision)),
                false => Err(self.reserved(&reservation)),
            };
        }
        Ok(Place::Free)
    }

    /// The reservation that stands in the place of the manifest, whosever it is.
    pub(super) fn reservation(&self) -> Result<Option<(Reservation, Revision)>, JobError> {
        let there = self.bucket.get_revision(&manifest_key(&self.url))?;
        Ok(there.and_then(|(text, revision)| Some((Reservation::parse(&text)?, revision))))
    }

    /// Reserves the place of the manifest in the place of what stands there, or of nothing.
    pub(super) fn reserve(
        &self,
        over: Option<&Revision>,
        replaces: Vec<String>,
        removes: bool,
    ) -> Result<Revision, JobError> {
        let claim = self.held().as_ref().map(|held| held.claim.clone());
        let claim = claim.ok_or_else(|| self.of_claim("renew", "it is not this job's"))?;
        let key = manifest_key(&self.url);
        let text = serde_json::json!(Reservation::of(&claim, replaces, removes)).to_string();
        match put_over(&self.bucket, &key, &text, over)? {
            Some(revision) => Ok(revision),
            None => Err(self.place_taken(&key)?),
        }
    }

    /// Why something cannot be put in the place of the manifest: what stands there is another's.
    pub(super) fn place_taken(&self, key: &str) -> Result<JobError, JobError> {
        // Whoever has taken the job over says so in the claim.
        self.renew()?;
        Ok(self.in_the_way(key))
    }

    /// That a manifest stands where this job's would.
    pub fn in_the_way_of_manifest(&self) -> JobError {
        self.in_the_way(&manifest_key(&self.url))
    }

    pub(super) fn reserved(&self, reservation: &Reservation) -> JobError {
        JobError::Reserved {
            output: self.url.to_string(),
            reservation: self.url.with_key(manifest_key(&self.url)).to_string(),
            holder: reservation.holder(),
        }
    }

    /// Keys of parts that were published here before and are not of a new manifest.
    pub(super) fn replaced(
        &self,
        place: &Place,
        manifest: &Manifest,
        folder: bool,
    ) -> Result<Vec<String>, JobError> {
        let mut old = match place {
            Place::Reserved(reservation, _) => reservation.replaces.clone(),
            _ => Vec::new(),
        };
        if let Some(before) = self.manifest_here()? {
            old.extend(self.part_keys(&before, self.is_folder(&before)));
        }
        let keep = self.part_keys(manifest, folder);
        old.retain(|key| !keep.contains(key));
        old.sort();
        old.dedup();
        Ok(old)
    }
}
