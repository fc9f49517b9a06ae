//! `gristmill man`.

use crate::cli::args::Cli;
use crate::error::JobError;
use crate::log::print;
use clap::CommandFactory;
use clap_mangen::{Man, generate_to};
use std::path::Path;

/// Prints the manual page of a command, or writes those of all commands to a folder.
///
/// # Errors
/// [`JobError::Usage`] if there is no such command; [`JobError::Io`].
pub fn man(names: &[String], folder: Option<&Path>) -> Result<(), JobError> {
    let mut gristmill = Cli::command().disable_help_subcommand(true);
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder).map_err(JobError::io("create", folder))?;
        return generate_to(gristmill, folder).map_err(JobError::io("write to", folder));
    }
    // It names subcommands after those that they are of.
    gristmill.build();
    let mut command = &gristmill;
    for name in names {
        let commands = command.get_subcommands().map(|one| one.get_name()).collect::<Vec<_>>().join(", ");
        command = command.find_subcommand(name).ok_or_else(|| {
            let there = if commands.is_empty() { "none".into() } else { commands };
            JobError::Usage(format!("{} has no command {name:?}; there are: {there}", command.get_name()))
        })?;
    }
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page).map_err(JobError::io("write", "a manual page"))?;
    print(&String::from_utf8_lossy(&page))
}
