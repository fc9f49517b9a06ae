//! The process that engines are of. A fork of it has none of their threads, and would wait for them for ever.

use jobs::error::JobError;
use std::sync::OnceLock;

/// The process that has had the first engine.
static FIRST: OnceLock<u32> = OnceLock::new();

/// Takes this process for that of the engines, unless it is a fork of one that has had some.
///
/// # Errors
/// [`JobError::Usage`] in a fork.
pub fn claim() -> Result<(), JobError> {
    FIRST.get_or_init(std::process::id);
    match is_fork() {
        false => Ok(()),
        true => Err(JobError::Usage(
            "this process is a fork of one that has a gristmill.Engine, whose threads are not here: make engines only in the \
             processes that use them, or start these by multiprocessing's method \"spawn\""
                .into(),
        )),
    }
}

/// Whether this process is a fork of that of the engines.
pub fn is_fork() -> bool {
    FIRST.get().is_some_and(|first| *first != std::process::id())
}
