//! What the `gristmill` command does with its command line.

use crate::args::{Bench, Cli, Command, ParseError, parse};
use crate::error::{EXIT_DONE, EXIT_USAGE, JobError};
use crate::{bench, devices, log, run};
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
        Ok(()) => EXIT_DONE,
        Err(error) => report(&error),
    }
}

fn report(error: &JobError) -> u8 {
    eprintln!("error: {error}");
    error.exit_code()
}

fn work(cli: Cli) -> Result<(), JobError> {
    match cli.command {
        Command::Run(args) => run::run(*args),
        Command::Bench(Bench::Throughput(args)) => bench::throughput(&args),
        Command::Devices => {
            print!("{}", devices::listing(&devices::find(None)));
            Ok(())
        }
        Command::Status { .. } | Command::Verify { .. } => {
            Err(JobError::Usage("not in this version yet".into()))
        }
    }
}
