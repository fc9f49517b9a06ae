//! Where an output goes.

use crate::error::JobError;
use crate::publish::local::{file_name, is_empty_folder};
use crate::publish::manifest;
use crate::publish::remote::RemoteOutput;
use crate::store::location::Location;
use std::path::{Path, PathBuf};

/// Where an output goes: a file, or a folder of parts.
pub enum Target {
    /// On this machine, in the file system of the state_dir.
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

    /// Refuses an output that is in the way and was not made by this job. To be asked before the work.
    ///
    /// # Errors
    /// [`JobError::OutputExists`], [`JobError::Claimed`], [`JobError::Io`] or [`JobError::Store`].
    pub fn check(&self, state_dir: &Path) -> Result<(), JobError> {
        let output = match self {
            Target::Local(path) => path,
            Target::Remote(remote) => return remote.check(),
        };
        let exists = output.try_exists().map_err(JobError::io("look at", output))?;
        if exists && !state_dir.join(manifest::NAME).exists() && !is_empty_folder(output) {
            return Err(JobError::OutputExists { path: output.to_path_buf() });
        }
        Ok(())
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

    /// The name of the file itself.
    pub(super) fn name(&self) -> String {
        match self {
            Target::Local(path) => file_name(path),
            Target::Remote(remote) => remote.name().to_string(),
        }
    }
}
