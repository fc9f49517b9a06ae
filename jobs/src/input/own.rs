//! The job's own output, which is never an input of it.

use crate::error::JobError;
use crate::store::location::{Location, ObjectUrl};
use std::path::{Path, PathBuf};

/// The ending of folders that hold what jobs work with.
const STATE: &str = ".gristmill";

/// Where the job writes to.
#[derive(Clone, Debug, Default)]
pub struct OwnOutput {
    shown: String,
    /// Without links; none while nothing is there, which no input can be then.
    path: Option<PathBuf>,
    url: Option<ObjectUrl>,
}

impl OwnOutput {
    /// Of a job with this output.
    pub fn of(output: &Location) -> OwnOutput {
        let shown = output.to_string();
        match output {
            Location::Local(path) => OwnOutput { shown, path: path.canonicalize().ok(), url: None },
            Location::Object(url) => OwnOutput { shown, path: None, url: Some(url.clone()) },
        }
    }

    /// Whether a path is the output, or in it.
    pub fn has_path(&self, path: &Path) -> bool {
        let Some(own) = &self.path else { return false };
        path.canonicalize().is_ok_and(|path| path.starts_with(own))
    }

    /// Whether an object is the output, or a part of it.
    pub fn has_object(&self, url: &ObjectUrl) -> bool {
        let Some(own) = &self.url else { return false };
        own.bucket == url.bucket
            && url.key.strip_prefix(&*own.key).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The error of a name that stands for the output.
    pub fn refusal(&self, name: &str) -> JobError {
        JobError::Usage(format!(
            "--input {name} is what the job writes (--output {}); choose another --output",
            self.shown
        ))
    }
}

/// Whether a folder holds what some job works with.
pub fn is_state_dir(name: &str) -> bool {
    name.ends_with(STATE)
}

/// Whether a local file is the output of some job or a part of one, by the folder beside it.
pub fn has_state_dir(path: &Path) -> bool {
    let beside = |path: &Path| {
        let mut beside = path.as_os_str().to_os_string();
        beside.push(STATE);
        Path::new(&beside).is_dir()
    };
    beside(path) || path.parent().is_some_and(|folder| folder.file_name().is_some() && beside(folder))
}
