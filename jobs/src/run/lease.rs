//! The threads that keep a job in a store its owner's: one renews the claim, the other copies the journal to the store.

use crate::error::JobError;
use crate::journal::checkpoint::Checkpoints;
use crate::publish::remote::RemoteOutput;
use crate::publish::remote::claim_text::lease;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Renewals in a lease: three may fail.
const RENEWALS: u32 = 4;

/// From one checkpoint to the next, at least.
const INTERVAL: Duration = Duration::from_secs(60);

/// A pause is at least so many times as long as the last checkpoint took.
const SHARE: u32 = 9;

/// The name here of a copy on its way.
pub(crate) const COPY: &str = "checkpoint.sqlite";

/// Renews the claim of an output in a store until it is dropped.
#[derive(Debug, Default)]
pub struct Lease {
    state: Arc<LeaseState>,
    #[expect(dead_code, reason = "dropping it ends the thread")]
    alive: Option<SyncSender<()>>,
}

#[derive(Debug, Default)]
struct LeaseState {
    lost: AtomicBool,
    why: Mutex<Option<JobError>>,
}

impl Lease {
    /// Renews a claim from now on.
    ///
    /// # Errors
    /// [`JobError::Io`] without a thread.
    pub fn keep(remote: &RemoteOutput) -> Result<Lease, JobError> {
        let (alive, gone) = sync_channel(0);
        let state = Arc::new(LeaseState::default());
        let (remote, told) = (remote.clone(), state.clone());
        let keep = move || renew(&remote, &gone, &told);
        let thread = std::thread::Builder::new().name("lease".into()).spawn(keep);
        thread.map_err(JobError::io("start a thread for", "the claim"))?;
        Ok(Lease { state, alive: Some(alive) })
    }

    /// Whether the job is another's by now.
    pub fn is_lost(&self) -> bool {
        self.state.lost.load(Ordering::Relaxed)
    }

    /// Ends a job that is another's by now.
    ///
    /// # Errors
    /// [`JobError::TakenOver`], [`JobError::ClaimRemoved`] or [`JobError::Claimed`].
    pub fn check(&self) -> Result<(), JobError> {
        let why = self.state.why.lock().map_or(None, |mut why| why.take());
        why.map_or(Ok(()), Err)
    }
}

/// What a run has of an output in a store: nothing, or the claim that it renews.
#[derive(Debug, Default)]
pub struct Ownership {
    lease: Option<Arc<Lease>>,
}

impl Ownership {
    /// Renews the claim of a job that was begun, or taken over, while it is not yet at work.
    ///
    /// # Errors
    /// As [`RemoteOutput::renew`]; [`JobError::Io`].
    pub fn resume(&mut self, remote: &RemoteOutput) -> Result<(), JobError> {
        if self.lease.is_none() && remote.resume_claim()? {
            self.lease = Some(Arc::new(Lease::keep(remote)?));
        }
        Ok(())
    }

    /// Claims an output, unless that is done, and renews the claim from then on.
    ///
    /// # Errors
    /// As [`RemoteOutput::claim`]; [`JobError::Io`].
    pub fn claim(&mut self, remote: &RemoteOutput) -> Result<Arc<Lease>, JobError> {
        self.lease.iter().try_for_each(|lease| lease.check())?;
        remote.claim()?;
        if let Some(lease) = &self.lease {
            return Ok(lease.clone());
        }
        let lease = Arc::new(Lease::keep(remote)?);
        self.lease = Some(lease.clone());
        Ok(lease)
    }
}

fn renew(remote: &RemoteOutput, gone: &Receiver<()>, told: &LeaseState) {
    while gone.recv_timeout(lease() / RENEWALS) == Err(RecvTimeoutError::Timeout) {
        match remote.renew_if_held() {
            Ok(()) => {}
            Err(
                error @ (JobError::TakenOver { .. }
                | JobError::ClaimRemoved { .. }
                | JobError::Claimed { .. }),
            ) => {
                if let Ok(mut why) = told.why.lock() {
                    *why = Some(error);
                }
                told.lost.store(true, Ordering::Relaxed);
                return;
            }
            // A store that does not answer ends no job.
            Err(error) => tracing::warn!("the claim of the output was not renewed: {error}"),
        }
    }
}

/// Copies the journal to the store, from time to time, until it is ended.
pub struct CheckpointThread {
    alive: Option<SyncSender<()>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<Checkpoints>>>,
    remote: RemoteOutput,
    file: PathBuf,
}

impl CheckpointThread {
    /// Copies the journal of a state_dir now, and whenever it has changed.
    ///
    /// # Errors
    /// [`JobError::Io`] without a thread.
    pub fn start(remote: &RemoteOutput, state_dir: &Path) -> Result<CheckpointThread, JobError> {
        let (alive, gone) = sync_channel(0);
        let ends = Arc::new(AtomicBool::new(false));
        let (folder, file) = (state_dir.to_path_buf(), state_dir.join(COPY));
        let (of, to, stop) = (remote.clone(), file.clone(), ends.clone());
        let copy = move || checkpoints(&of, &folder, &to, &gone, &|| stop.load(Ordering::Relaxed));
        let thread = std::thread::Builder::new().name("checkpoints".into()).spawn(copy);
        let thread = thread.map_err(JobError::io("start a thread for", "copies of the journal"))?;
        Ok(CheckpointThread { alive: Some(alive), ends, thread: Some(thread), remote: remote.clone(), file })
    }

    /// Ends the thread, and copies what has changed since.
    pub fn end(mut self) {
        if let Some(mut journal) = self.join() {
            put(&self.remote, &mut journal, &self.file, &|| false);
        }
    }

    fn join(&mut self) -> Option<Checkpoints> {
        self.ends.store(true, Ordering::Relaxed);
        drop(self.alive.take());
        self.thread.take()?.join().ok()?
    }
}

impl Drop for CheckpointThread {
    fn drop(&mut self) {
        self.join();
    }
}

fn checkpoints(
    remote: &RemoteOutput,
    state_dir: &Path,
    file: &Path,
    gone: &Receiver<()>,
    stop: &dyn Fn() -> bool,
) -> Option<Checkpoints> {
    let mut journal = match Checkpoints::of(state_dir) {
        Ok(journal) => journal,
        Err(error) => {
            tracing::warn!("the journal is not copied to the store: {error}");
            return None;
        }
    };
    loop {
        let begun = Instant::now();
        put(remote, &mut journal, file, stop);
        if gone.recv_timeout(pause(begun.elapsed())) != Err(RecvTimeoutError::Timeout) {
            return Some(journal);
        }
    }
}

/// Puts a copy of a journal that has changed. One that fails is made again later.
fn put(remote: &RemoteOutput, journal: &mut Checkpoints, file: &Path, stop: &dyn Fn() -> bool) {
    let put = journal.copy(file, stop).and_then(|copied| match copied {
        true => remote.put_checkpoint(file),
        false => Ok(()),
    });
    let _ = std::fs::remove_file(file);
    if let Err(error) = put {
        journal.forget();
        tracing::warn!("the journal was not copied to the store: {error}");
    }
}

/// From the end of a checkpoint, which took so long, to the next.
fn pause(took: Duration) -> Duration {
    #[cfg(feature = "faults")]
    if let Some(interval) = crate::supervise::faults::checkpoint_interval() {
        return interval;
    }
    INTERVAL.max(took * SHARE)
}
