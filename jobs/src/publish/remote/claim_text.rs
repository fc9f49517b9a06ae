//! What a claim says: whose the output is, and until when others leave it alone.

use crate::host::hostname;
use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::Duration;

/// For how long a claim that is not renewed is still its owner's.
const LEASE: Duration = Duration::from_secs(120);

/// Leases of claims that somebody else has written are taken to be at most so long.
const LONGEST: Duration = Duration::from_secs(3600);

/// A claim. Earlier versions wrote neither an owner nor a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClaimText {
    /// A random name of whoever claims: another one for each owner.
    pub job: String,
    pub host: String,
    pub state_dir: String,
    /// From 1 for the machine that began the job; each one that takes it over has the next number.
    #[serde(default)]
    pub owner: u64,
    /// Grows, so that each renewal is another text and so has another ETag.
    #[serde(default)]
    pub renewals: u64,
    #[serde(default)]
    pub lease_ms: u64,
    /// Whether the owner may be about to put something in the place of a manifest that stands: what this job has published before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub republishes: bool,
    /// Whether the owner has published and is about to remove the claim.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
}

impl ClaimText {
    /// A claim of this machine.
    pub fn new(owner: u64, state_dir: &Path) -> ClaimText {
        let folder = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_path_buf());
        ClaimText {
            job: random_name(),
            host: hostname(),
            state_dir: folder.display().to_string(),
            owner,
            renewals: 0,
            lease_ms: lease().as_millis() as u64,
            republishes: false,
            released: false,
        }
    }

    /// Understands the text of a claim.
    pub fn parse(text: &str) -> Option<ClaimText> {
        serde_json::from_str(text).ok()
    }

    pub fn to_json(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// The next renewal, in the words of this version.
    pub fn renewed(&self) -> ClaimText {
        ClaimText {
            owner: self.owner.max(1),
            renewals: self.renewals + 1,
            lease_ms: lease().as_millis() as u64,
            ..self.clone()
        }
    }

    /// For how long the claim stands without being renewed; none if its owner never renews it, as earlier versions.
    pub fn lease(&self) -> Option<Duration> {
        let lease = Duration::from_millis(self.lease_ms).min(LONGEST);
        (self.owner > 0 && !lease.is_zero()).then_some(lease)
    }
}

/// The lease of claims of this process.
pub(crate) fn lease() -> Duration {
    #[cfg(feature = "faults")]
    if let Some(lease) = crate::supervise::faults::lease() {
        return lease;
    }
    LEASE
}

/// A name that nobody else has.
pub(super) fn random_name() -> String {
    // The keys of a hasher are random.
    let random = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", random(), random())
}
