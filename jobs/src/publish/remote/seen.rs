//! The job that is to be taken over, and the watch over it.
//!
//! A claim may be gone although its job is not published: somebody has removed it, or a removal of an earlier claim came late. Then
//! its owner ends at its next renewal, and what it has left is a [`Reservation`], by which the job is taken over in the same way.

use super::claim::{as_text, is_released, shown};
use super::claim_text::{ClaimText, lease};
use super::reservation::Reservation;
use super::{RemoteOutput, manifest_key};
use crate::error::JobError;
use crate::shards::job::ShardedJob;
use crate::store::bucket::Revision;
use crate::store::error::StoreError;
use std::time::{Duration, Instant};

/// Between two looks at a claim, at most.
const LOOK: Duration = Duration::from_secs(5);

/// A job that may be taken over.
#[derive(Clone, Debug)]
pub struct Seen {
    pub(super) by: By,
    /// The claim, where one stands, released or not.
    pub(super) revision: Option<Revision>,
    /// The last owner's number.
    pub(super) owner: u64,
    /// Whether this machine is that owner already, and was interrupted before it had all that it needs.
    own: bool,
}

/// By what the owner is known.
#[derive(Clone, Debug)]
pub(super) enum By {
    Claim(ClaimText),
    /// Its claim is gone.
    Reservation(Reservation, Revision),
    /// The claim that was to be written here, and neither stands nor has a reservation.
    Note(ClaimText),
}

impl Seen {
    /// The owner, for people.
    pub fn owner(&self) -> String {
        match &self.by {
            By::Claim(claim) | By::Note(claim) => owner(claim),
            By::Reservation(reservation, _) => reservation.holder(),
        }
    }

    /// Whether it has a claim.
    pub fn has_claim(&self) -> bool {
        matches!(self.by, By::Claim(_))
    }

    /// For how long the owner has to be silent.
    pub fn lease(&self) -> Duration {
        match &self.by {
            _ if self.own => Duration::ZERO,
            By::Claim(claim) => claim.lease().unwrap_or_default(),
            By::Reservation(..) | By::Note(_) => lease(),
        }
    }

    /// Whether the owner may be about to put something in the place of a manifest that stands.
    pub(super) fn republishes(&self) -> bool {
        match &self.by {
            By::Claim(claim) => claim.republishes,
            // Whoever has a reservation there has replaced it by that.
            By::Reservation(..) | By::Note(_) => false,
        }
    }
}

impl RemoteOutput {
    /// The job that is to be taken over; none if nobody has begun one, or if it is this machine's own.
    ///
    /// # Errors
    /// [`JobError::Usage`] for a claim that cannot be taken over; [`JobError::Store`].
    pub fn seen(&self) -> Result<Option<Seen>, JobError> {
        let there = self.bucket.get_revision(&self.claim_key())?.map(as_text);
        let reserved = self.reservation()?;
        match there {
            Some((text, revision)) if !is_released(&text) => self.seen_claim(&text, revision, reserved),
            // Its owner is done with the job, or never was at work, unless there is a reservation.
            released => self.seen_reservation(reserved, released.map(|(_, revision)| revision)),
        }
    }

    fn seen_claim(
        &self,
        text: &str,
        revision: Revision,
        reserved: Option<(Reservation, Revision)>,
    ) -> Result<Option<Seen>, JobError> {
        let at = self.url.with_key(self.claim_key());
        if ShardedJob::parse(text).is_some() {
            return Err(JobError::Usage(format!(
                "--take-over: {at} is of a job in shards, and these need none: any machine runs a shard again"
            )));
        }
        let claim = ClaimText::parse(text).ok_or_else(|| self.claimed(text))?;
        // An old claim may have come late, beside the reservation of another owner.
        let alone = reserved.as_ref().is_none_or(|(reservation, _)| reservation.job == claim.job);
        let own = self.is_own(text)? && alone;
        if own && self.is_claimed_here()? && self.unfinished()?.is_none() {
            return Ok(None);
        }
        if claim.lease().is_none() {
            return Err(JobError::Usage(format!(
                "--take-over: {at} is of an earlier version of gristmill, which does not show whether it is still at work. Go on \
                 with the job on {}; if that is gone for good, remove {at} and begin anew",
                shown(&claim.host)
            )));
        }
        let owner = reserved.map_or(0, |(reservation, _)| reservation.owner).max(claim.owner);
        Ok(Some(Seen { by: By::Claim(claim), revision: Some(revision), owner, own }))
    }

    /// The same where there is no claim, or a released one.
    fn seen_reservation(
        &self,
        reserved: Option<(Reservation, Revision)>,
        revision: Option<Revision>,
    ) -> Result<Option<Seen>, JobError> {
        let unfinished = self.unfinished()?;
        let Some((reservation, at)) = reserved else {
            let published = self.bucket.head(&manifest_key(&self.url))?.is_some();
            let note = unfinished.filter(|_| !published);
            return Ok(note.map(|claim| Seen {
                owner: claim.owner,
                by: By::Note(claim),
                revision,
                own: true,
            }));
        };
        let own = |claim: &ClaimText| claim.job == reservation.job;
        let here = self.claim_here()?.is_some_and(|claim| own(&claim));
        if here && unfinished.is_none() {
            // Its claim is written anew by the job itself.
            return Ok(None);
        }
        let own = here || unfinished.is_some_and(|claim| own(&claim));
        Ok(Some(Seen { owner: reservation.owner, by: By::Reservation(reservation, at), revision, own }))
    }

    /// Waits until a claim has not been renewed for its lease, or has not come back for one, by the clock of this machine alone. `pause` waits, and ends the
    /// waiting with an error.
    ///
    /// # Errors
    /// [`JobError::StillAtWork`] if it is renewed, or comes back; those of `pause`.
    pub fn watch(
        &self,
        seen: &Seen,
        pause: &mut dyn FnMut(Duration) -> Result<(), JobError>,
    ) -> Result<(), JobError> {
        let lease = seen.lease();
        let mut since = Instant::now();
        loop {
            let left = lease.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            pause((lease / 8).min(LOOK).min(left))?;
            match self.is_as_seen(seen) {
                Ok(true) => {}
                // Its owner could not have renewed it either.
                Err(JobError::Store { error: StoreError::Unreachable(_), .. }) => since = Instant::now(),
                other => {
                    other?;
                    return Err(self.still_at_work(seen));
                }
            }
        }
    }

    /// The machine that has the job, for people: by its claim, or what is left of it.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub fn owner_there(&self) -> Result<Option<String>, JobError> {
        let claim = self.text(&self.claim_key())?.and_then(|text| ClaimText::parse(&text));
        if let Some(claim) = claim.filter(|claim| !claim.released) {
            return Ok(Some(owner(&claim)));
        }
        Ok(self.reservation()?.map(|(reservation, _)| reservation.holder()))
    }

    fn is_as_seen(&self, seen: &Seen) -> Result<bool, JobError> {
        let claim = self.bucket.get_revision(&self.claim_key())?.map(|(_, revision)| revision);
        let reservation = match &seen.by {
            By::Claim(_) | By::Note(_) => true,
            By::Reservation(_, at) => self.reservation()?.is_some_and(|(_, there)| there == *at),
        };
        Ok(claim == seen.revision && reservation)
    }
}

/// The owner by its claim, for people.
pub(super) fn owner(claim: &ClaimText) -> String {
    format!("{} (owner {}, in {})", shown(&claim.host), claim.owner, shown(&claim.state_dir))
}
