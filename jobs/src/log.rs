//! Logs, to standard error.

use crate::error::JobError;
use tracing_subscriber::EnvFilter;

/// Starts logging. `filter` is a level or a filter as in `RUST_LOG`. Row text is logged at `debug` and `trace` only.
///
/// # Errors
/// [`JobError::Usage`] for a malformed filter.
pub fn start(filter: &str) -> Result<(), JobError> {
    let filter = EnvFilter::builder()
        .parse(filter)
        .map_err(|error| JobError::Usage(format!("--log-level {filter}: {error}")))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Only the first call of a process can succeed; a second one keeps the first's filter.
    let _ = subscriber.with_target(false).try_init();
    Ok(())
}
