//! One process works on a job at a time.

use crate::error::JobError;
use crate::supervisor_link::supervisor_link;
use engine::file::open_regular;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The name of the lock file in the state_dir. The file stays; only the lock on it counts.
const NAME: &str = "lock";

/// `gristmill status` holds the lock for an instant to see whether it is free.
const BRIEFLY: Duration = Duration::from_millis(300);

/// A worker whose supervisor was killed ends by itself within this time.
const ORPHAN: Duration = Duration::from_secs(12);

/// The lock on a state_dir; the system gives it back however the process ends.
#[derive(Debug)]
pub struct JobLock {
    file: File,
    /// The state_dir, where a folder can be opened.
    folder: Option<File>,
    path: PathBuf,
}

/// Who holds a lock: the process, and its supervisor where it has one.
struct Holder {
    pid: String,
    supervisor: Option<String>,
}

impl JobLock {
    /// Takes the lock on a state_dir, which must exist.
    ///
    /// # Errors
    /// [`JobError::Locked`] at once if another process works on the job; [`JobError::Io`].
    pub fn acquire(state_dir: &Path) -> Result<Self, JobError> {
        let path = state_dir.join(NAME);
        let mut file = open(&path)?;
        let begun = Instant::now();
        while let Err(error) = file.try_lock() {
            let holder = match error {
                TryLockError::WouldBlock => Holder::read(&mut file),
                TryLockError::Error(source) => return Err(JobError::io("lock", path)(source)),
            };
            if begun.elapsed() > if holder.is_orphan() { ORPHAN } else { BRIEFLY } {
                return Err(JobError::Locked { state_dir: state_dir.to_path_buf(), pid: holder.pid });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let supervisor = supervisor_link().map(|link| link.supervisor.to_string()).unwrap_or_default();
        write_holder(&mut file, &supervisor).map_err(JobError::io("write", &path))?;
        Ok(JobLock { file, folder: File::open(state_dir).ok(), path })
    }

    /// Makes sure that the state_dir is still where it was: who moves it away, or puts another in its place, takes the lock
    /// along. Where only the lock is gone, another process may have taken a new one.
    ///
    /// # Errors
    /// [`JobError::StateDirMoved`], [`JobError::LockRemoved`] or [`JobError::Io`].
    pub fn check_in_place(&self) -> Result<(), JobError> {
        if is_at(&self.file, &self.path)? {
            return Ok(());
        }
        let state_dir = self.state_dir().to_path_buf();
        Err(match &self.folder {
            Some(folder) if is_at(folder, &state_dir)? => JobError::LockRemoved { path: self.path.clone() },
            _ => JobError::StateDirMoved { state_dir },
        })
    }

    /// The state_dir.
    pub(crate) fn state_dir(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// The process that works on the job now, if any.
    ///
    /// # Errors
    /// [`JobError::Io`].
    pub fn holder(state_dir: &Path) -> Result<Option<String>, JobError> {
        let path = state_dir.join(NAME);
        let mut file = match open_regular(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(JobError::io("open", path)(source)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(Holder::read(&mut file).pid)),
            Err(TryLockError::Error(source)) => Err(JobError::io("lock", path)(source)),
        }
    }
}

impl Holder {
    /// Reads `pid supervisor`. A file that cannot be read names nobody; the lock holds all the same.
    fn read(file: &mut File) -> Self {
        let mut text = String::new();
        let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
        let mut words = text.split_whitespace().map(str::to_string);
        Holder { pid: words.next().unwrap_or_else(|| "unknown".into()), supervisor: words.next() }
    }

    /// Whether its supervisor has ended, as far as this system can say.
    fn is_orphan(&self) -> bool {
        let proc = PathBuf::from("/proc");
        let gone = |pid: &String| !proc.join(pid).exists();
        proc.join("self").exists() && self.supervisor.as_ref().is_some_and(gone)
    }
}

/// Whether an open file or folder is what stands at a path.
fn is_at(open: &File, path: &Path) -> Result<bool, JobError> {
    let here = match std::fs::metadata(path) {
        Ok(here) => here,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(JobError::io("look at", path)(source)),
    };
    let held = open.metadata().map_err(JobError::io("look at", path))?;
    Ok(same_file(&here, &held))
}

#[cfg(unix)]
fn same_file(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Open files cannot be moved here.
#[cfg(not(unix))]
fn same_file(_: &Metadata, _: &Metadata) -> bool {
    true
}

fn open(path: &Path) -> Result<File, JobError> {
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    options.map_err(JobError::io("open", path))
}

fn write_holder(file: &mut File, supervisor: &str) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{} {supervisor}", std::process::id())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_second_holder_is_refused_by_pid() {
        let state_dir = tempfile::tempdir().unwrap();
        assert_eq!(JobLock::holder(state_dir.path()).unwrap(), None);
        let first = JobLock::acquire(state_dir.path()).unwrap();
        let me = std::process::id().to_string();
        assert_eq!(JobLock::holder(state_dir.path()).unwrap(), Some(me.clone()));
        match JobLock::acquire(state_dir.path()) {
            Err(JobError::Locked { pid, .. }) => assert_eq!(pid, me),
            other => panic!("{other:?}"),
        }
        drop(first);
        assert_eq!(JobLock::holder(state_dir.path()).unwrap(), None);
        JobLock::acquire(state_dir.path()).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_was_moved_or_replaced_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let [state_dir, elsewhere] = ["job", "elsewhere"].map(|name| folder.path().join(name));
        std::fs::create_dir(&state_dir).unwrap();
        let lock = JobLock::acquire(&state_dir).unwrap();
        lock.check_in_place().unwrap();
        std::fs::rename(&state_dir, &elsewhere).unwrap();
        assert!(matches!(lock.check_in_place(), Err(JobError::StateDirMoved { .. })));
        std::fs::create_dir(&state_dir).unwrap();
        let _other = JobLock::acquire(&state_dir).unwrap();
        assert!(matches!(lock.check_in_place(), Err(JobError::StateDirMoved { .. })));
        std::fs::remove_dir_all(&state_dir).unwrap();
        std::fs::rename(&elsewhere, &state_dir).unwrap();
        lock.check_in_place().unwrap();
        // The lock alone, which another process may then have taken.
        std::fs::remove_file(state_dir.join(NAME)).unwrap();
        assert!(matches!(lock.check_in_place(), Err(JobError::LockRemoved { .. })));
        let other = JobLock::acquire(&state_dir).unwrap();
        assert!(matches!(lock.check_in_place(), Err(JobError::LockRemoved { .. })));
        other.check_in_place().unwrap();
    }
}
