//! Where an output goes.

use crate::error::JobError;
use crate::publish::local::{self, LocalOutput};
use crate::publish::remote::RemoteOutput;
use crate::store::location::Location;
use std::path::{Path, PathBuf};

/// Where an output goes: a file, or a folder of parts.
pub enum Target {
    /// On this machine, beside the state_dir.
    Local(PathBuf),
    Remote(RemoteOutput),
}

impl Target {
    /// Opens the store of an output, if it has one.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub fn open(output: &Location, state_dir: &Path) -> Result<Self, JobError> {
        match output {
            Location::Local(path) => Ok(Target::Local(path.clone())),
            Location::Object(url) => RemoteOutput::open(url, state_dir).map(Target::Remote),
        }
    }

    /// Refuses a place where no output can be, and an output that is in the way and was not made by this job. To be
    /// asked before the work; `folder` is whether it is to be a folder of parts.
    ///
    /// # Errors
    /// [`JobError::Usage`], [`JobError::OutputExists`], [`JobError::Claimed`], [`JobError::Io`] or [`JobError::Store`].
    pub fn check(&self, state_dir: &Path, folder: bool) -> Result<(), JobError> {
        match self {
            Target::Local(path) => LocalOutput::new(path, state_dir, folder).check(),
            Target::Remote(remote) => remote.check(),
        }
    }

    /// Finishes a publication that a kill has interrupted, and makes sure that the output will be able to appear. The
    /// state_dir must be locked.
    ///
    /// # Errors
    /// As [`Target::check`].
    pub fn prepare(&self, state_dir: &Path, folder: bool) -> Result<(), JobError> {
        local::clear(&state_dir.join(local::ASIDE))?;
        match self {
            Target::Local(path) => LocalOutput::new(path, state_dir, folder).prepare(),
            Target::Remote(_) => Ok(()),
        }
    }

    /// Makes sure that no other job writes to the same place of a store from now on. Here the lock on the working
    /// folder does that, which must be held in either case.
    ///
    /// # Errors
    /// As [`Target::check`].
    pub fn claim(&self) -> Result<(), JobError> {
        match self {
            Target::Local(_) => Ok(()),
            Target::Remote(remote) => remote.claim(),
        }
    }

    /// The output in a store, if it is that.
    pub fn remote(&self) -> Option<&RemoteOutput> {
        match self {
            Target::Local(_) => None,
            Target::Remote(remote) => Some(remote),
        }
    }

    /// Makes an empty folder to write the output in, from which it can appear.
    ///
    /// # Errors
    /// [`JobError::Io`].
    pub(super) fn aside(&self, state_dir: &Path, folder: bool) -> Result<PathBuf, JobError> {
        match self {
            Target::Local(path) => LocalOutput::new(path, state_dir, folder).aside(),
            Target::Remote(_) => local::aside(state_dir),
        }
    }

    /// The name of a part in the folder aside.
    pub(super) fn name_aside<'n>(&self, name: &'n str, folder: bool) -> &'n str {
        if folder { name } else { local::FILE }
    }

    /// The name of the file itself.
    pub(super) fn name(&self) -> String {
        match self {
            Target::Local(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Target::Remote(remote) => remote.name().to_string(),
        }
    }
}
