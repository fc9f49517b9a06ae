//! What the `gristmill` command does with its command line.

use crate::error::{EXIT_DONE, EXIT_USAGE, JobError};
use crate::log;
use crate::options::devices;
use crate::publish::verify::verify;
use args::{Bench, Cli, Command};
use parse::{ParseError, parse};
use status::Status;

pub mod args;
mod bench;
pub mod parse;
mod run;
pub mod status;

use std::ffi::OsString;

/// Runs the command line and gives the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match parse(arguments) {
        Ok(cli) => cli,
        Err(ParseError::CommandLine(error)) => {
            // Help and version are no errors, and go to standard output.
            let _ = error.print();
            return if error.use_stderr() { EXIT_USAGE } else { EXIT_DONE };
        }
        Err(ParseError::File(error)) => return report(&error),
    };
    match log::start(&cli.log_level).and_then(|()| work(cli)) {
        Ok(code) => code,
        Err(error) => report(&error),
    }
}

fn report(error: &JobError) -> u8 {
    eprintln!("error: {error}");
    error.exit_code()
}

fn work(cli: Cli) -> Result<u8, JobError> {
    match cli.command {
        Command::Run(args) => return run::run(*args),
        Command::Bench(Bench::Throughput(args)) => bench::throughput(&args)?,
        Command::Devices => {
            print!("{}", devices::listing(&devices::find(None)));
        }
        Command::Status { output, state_dir } => {
            println!("{}", Status::of(&output, &output.state_dir(state_dir.as_deref())?)?);
        }
        Command::Verify { output } => {
            let manifest = verify(&output)?;
            let (rows, parts) = (manifest.rows, manifest.parts.len());
            println!("{output} is as published: {rows} rows in {parts} files");
        }
    }
    Ok(EXIT_DONE)
}
