//! What goes wrong with a job as a whole, and the exit codes that say so.
//!
//! A row that cannot be answered is not here: it is data, with its message in the `error` column.

use std::path::{Path, PathBuf};

/// Every row was answered, or the errors stayed within `--max-error-rate`.
pub const EXIT_DONE: u8 = 0;
/// The job failed; what was finished is kept.
pub const EXIT_FAILED: u8 = 1;
/// The command line or the job file is wrong; nothing was started.
pub const EXIT_USAGE: u8 = 2;
/// The job came to its end or was stopped with more error rows than allowed.
pub const EXIT_TOO_MANY_ERRORS: u8 = 3;
/// Stopped by Ctrl-C; the same command continues it.
pub const EXIT_INTERRUPTED: u8 = 130;
/// Stopped by SIGTERM; the same command continues it.
pub const EXIT_TERMINATED: u8 = 143;

/// Why a job cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A flag, a key of the job file, or a combination of them.
    #[error("{0}")]
    Usage(String),
    /// A file or folder could not be read or written.
    #[error("{path}: cannot {what}: {source}", path = path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// An input is not the Parquet file that it should be.
    #[error("{path}{place}: {why}", path = path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// Where in it (", row group 3, column text"), or empty.
        place: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// A template does not compile, or needs what is not there.
    #[error("{what}: {why}")]
    Template {
        /// Which template.
        what: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// The model's folder lacks something or holds what cannot be used.
    #[error("{path}: {why}", path = path.display())]
    Model {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// A model could not be fetched from a hub.
    #[error("{model}: {why}")]
    Hub {
        /// The name as given.
        model: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// More error rows than `--max-error-rate` or `--max-errors` allow.
    #[error("{errors} of {rows} rows have errors, more than {limit} allows; the first: {first}")]
    TooManyErrors {
        /// Rows with errors.
        errors: u64,
        /// Rows finished.
        rows: u64,
        /// The flag and its value.
        limit: String,
        /// The first error seen.
        first: String,
    },
    /// Ctrl-C or SIGTERM.
    #[error("stopped by {}; what is finished is kept", if *terminated { "SIGTERM" } else { "Ctrl-C" })]
    Interrupted {
        /// Whether it was SIGTERM.
        terminated: bool,
    },
    /// A thread of the job ended without saying why: a bug.
    #[error("internal error: {0}; please report it")]
    Internal(String),
}

impl JobError {
    /// The exit code that tells this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            JobError::Usage(_) => EXIT_USAGE,
            JobError::TooManyErrors { .. } => EXIT_TOO_MANY_ERRORS,
            JobError::Interrupted { terminated: false } => EXIT_INTERRUPTED,
            JobError::Interrupted { terminated: true } => EXIT_TERMINATED,
            _ => EXIT_FAILED,
        }
    }

    /// Something failed with a file of the system.
    pub fn file(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> JobError {
        let path = path.to_path_buf();
        move |source| JobError::File { path, what, source }
    }
}
