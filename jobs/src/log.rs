//! What is printed: logs and notes to standard error, results to standard output.

use crate::error::JobError;
use clap::ColorChoice;
use std::io::{ErrorKind, IsTerminal, Write};
use tracing_subscriber::EnvFilter;

/// Starts logging. `filter` is a level or a filter as in `RUST_LOG`. Row text is logged at `debug` and `trace` only.
///
/// # Errors
/// [`JobError::Usage`] for a malformed filter.
pub fn start(filter: &str, color: ColorChoice) -> Result<(), JobError> {
    let filter = EnvFilter::builder()
        .parse(filter)
        .map_err(|error| JobError::Usage(format!("--log-level {filter}: {error}")))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // It would print errors of printing, and fail at that.
    let subscriber = subscriber.with_target(false).with_ansi(colored(color)).log_internal_errors(false);
    // Only the first call of a process can succeed; a second one keeps the first's filter.
    let _ = subscriber.try_init();
    Ok(())
}

/// Whether standard error gets colours: if asked for, else on a terminal unless the environment says otherwise.
fn colored(color: ColorChoice) -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    match color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            std::io::stderr().is_terminal()
                && set("NO_COLOR").is_none()
                && set("TERM").is_none_or(|term| term != "dumb")
        }
    }
}

/// Prints a line to standard error. If nobody can read it any more, that is no reason to end a job.
macro_rules! note {
    ($($line:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{}\n", format_args!($($line)*)));
    }};
}
pub(crate) use note;

/// Prints a result to standard output. A reader that has seen enough (`| head`) is no error.
///
/// # Errors
/// [`JobError::Io`].
pub(crate) fn print(text: &str) -> Result<(), JobError> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(JobError::io("write to", "standard output")(error))
        }
        _ => Ok(()),
    }
}
