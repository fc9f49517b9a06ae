//! `--take-over`: how a job goes on whose machine is gone.

use crate::counted::counted;
use crate::date;
use crate::error::JobError;
use crate::journal::checkpoint;
use crate::journal::decisions::DATE;
use crate::journal::identity::{InputDigests, JobIdentity};
use crate::journal::lock::JobLock;
use crate::log::note;
use crate::publish::manifest::Manifest;
use crate::publish::remote::RemoteOutput;
use crate::publish::remote::seen::Seen;
use crate::store::location::Location;
use crate::store::object::Object;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The name here of a journal that was fetched and is not the job's yet.
const FETCHED: &str = "journal.fetched";

/// Between two looks at whether somebody stops the command.
const LOOK: Duration = Duration::from_millis(100);

/// A job that is about to be taken over.
pub struct TakeOver {
    remote: RemoteOutput,
    state_dir: PathBuf,
    /// The claim; none if there is only an output.
    seen: Option<Seen>,
    checkpoint: Option<Object>,
}

impl TakeOver {
    /// Waits until the owner of a job has been silent for its lease, and fetches what it has left. None if there is nothing to be
    /// taken over.
    ///
    /// # Errors
    /// [`JobError::StillAtWork`]; [`JobError::Usage`] for a claim that cannot be taken over; what `stop` says; [`JobError::Store`]
    /// and [`JobError::Io`].
    pub fn begin(
        remote: &RemoteOutput,
        state_dir: &Path,
        stop: &dyn Fn() -> Result<(), JobError>,
    ) -> Result<Option<TakeOver>, JobError> {
        let of = |seen, checkpoint| TakeOver {
            remote: remote.clone(),
            state_dir: state_dir.into(),
            seen,
            checkpoint,
        };
        let Some(seen) = remote.seen()? else {
            // Also where this machine had the job before.
            if remote.published_elsewhere(&|_| true)?.is_some() {
                return Ok(Some(of(None, None)));
            }
            if remote.is_claimed_here()? {
                return Ok(None);
            }
            note!("--take-over: no other machine has begun this job");
            return Ok(None);
        };
        let lease = seen.lease();
        if !lease.is_zero() {
            let silence = match seen.has_claim() {
                true => "does not renew its claim",
                false => "has no claim and writes none",
            };
            let (owner, lease) = (seen.owner(), humantime::format_duration(lease));
            note!("taking over the job of {owner}: waiting for {lease} to see that it {silence}");
        }
        remote.watch(&seen, &mut |pause| wait(pause, stop))?;
        std::fs::create_dir_all(state_dir).map_err(JobError::io("create", state_dir))?;
        let checkpoint = remote.fetch_checkpoint(&seen, &state_dir.join(FETCHED))?;
        Ok(Some(of(Some(seen), checkpoint)))
    }

    /// The day on which the job was begun, in seconds since 1970.
    pub fn date(&self) -> Option<i64> {
        self.checkpoint.as_ref()?;
        date::read(&checkpoint::field(&self.fetched(), DATE)?)
    }

    /// Takes the job over, and puts its journal in place; `false` if it is published, so that nothing is left to be done.
    ///
    /// # Errors
    /// [`JobError::OtherIdentity`] and [`JobError::CheckpointDamaged`] before anything is changed; as [`RemoteOutput::take`].
    pub fn end(
        mut self,
        output: &Location,
        rows: u64,
        identity: &JobIdentity,
        inputs: &InputDigests,
    ) -> Result<bool, JobError> {
        let is_of_job = |manifest: &Manifest| manifest.is_of(&identity.identity, inputs);
        let published = || note!("{output} is published already; `gristmill verify {output}` checks it");
        let Some(seen) = self.seen.take() else {
            let is_published =
                self.remote.published_elsewhere(&is_of_job)?.is_some_and(|manifest| manifest.rows == rows);
            if !is_published {
                return Err(self.remote.in_the_way_of_manifest());
            }
            published();
            return Ok(false);
        };
        let _lock = JobLock::acquire(&self.state_dir)?;
        self.check(identity, inputs)?;
        // A journal of another job is refused; of one that is damaged nothing is used.
        let here = match checkpoint::finished_here(&self.state_dir, identity, inputs) {
            Err(JobError::CheckpointDamaged { .. }) => None,
            here => here?,
        };
        if !self.remote.take(&seen, rows, &is_of_job)? {
            let _ = std::fs::remove_file(self.fetched());
            published();
            return Ok(false);
        }
        // From now on the owner before puts no other.
        self.checkpoint = self.remote.fetch_checkpoint(&seen, &self.fetched())?;
        match (self.check(identity, inputs)?, here) {
            (None, None) => note!("taken over from {}, which has left no answers", seen.owner()),
            (Some(rows), here) if here.is_none_or(|here| here <= rows) => {
                checkpoint::put_in_place(&self.fetched(), &self.state_dir)?;
                note!("taken over from {}, with {}", seen.owner(), counted(rows, "answered row"));
            }
            _ => note!("taken over from {}; the journal here has more of its answers", seen.owner()),
        }
        let _ = std::fs::remove_file(self.fetched());
        self.remote.end_take_over()?;
        Ok(true)
    }

    /// The rows of the checkpoint, if there is one.
    fn check(&self, identity: &JobIdentity, inputs: &InputDigests) -> Result<Option<u64>, JobError> {
        let check =
            |object: &Object| checkpoint::check(&self.fetched(), &object.url.to_string(), identity, inputs);
        self.checkpoint.as_ref().map(check).transpose()
    }

    fn fetched(&self) -> PathBuf {
        self.state_dir.join(FETCHED)
    }
}

/// Waits, and looks at whether somebody stops the command.
fn wait(pause: Duration, stop: &dyn Fn() -> Result<(), JobError>) -> Result<(), JobError> {
    let until = Instant::now() + pause;
    loop {
        stop()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(LOOK));
    }
}
