//! `gristmill completions`.

use crate::cli::args::Cli;
use crate::error::JobError;
use crate::log::print;
use clap::CommandFactory;
use clap_complete::{Shell, generate};

/// Prints what makes a shell complete commands and flags.
///
/// # Errors
/// [`JobError::Io`].
pub fn completions(shell: Shell) -> Result<(), JobError> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "gristmill", &mut script);
    print(&String::from_utf8_lossy(&script))
}
