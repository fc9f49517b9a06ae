//! The `gristmill` command.

pub mod args;
mod batch;
mod bench;
mod completions;
mod devices;
pub mod driver;
mod evaluate;
mod job_file;
pub mod keywords;
mod man;
pub mod parse;
mod plan;
mod publish;
mod report;
mod run;
pub mod run_shards;
mod show;
pub mod status;
mod store_status;
mod verify;
mod yes_no;

use crate::allocator::end_when_out_of_memory;
use crate::error::{EXIT_DEVICE_LOST, EXIT_DONE, EXIT_FAILED, EXIT_REFUSED, JobError};
use crate::log::{self, note};
use crate::shards::status::ShardsStatus;
use crate::supervise::terminal::write_from_background;
use crate::supervise::worker::is_worker;
use args::{Bench, Cli, Command};
use parse::{ParseError, parse};
use run::Again;
use serde::Serialize;
use status::Status;
use std::ffi::OsString;
use std::fmt::Display;
use store_status::StoreStatus;

/// Runs the command line of this program and gives the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    main_of(arguments, Vec::new())
}

/// Runs the command line of a program that `program` starts, and this file where that is empty; a supervisor starts it again.
pub fn main_of(arguments: impl IntoIterator<Item = OsString>, program: Vec<OsString>) -> u8 {
    end_when_out_of_memory();
    log::survive_file_limits();
    if is_worker() {
        write_from_background();
    }
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let again = Again { program, arguments: arguments.iter().skip(1).cloned().collect() };
    // What is wrong with the command line is said in this format, too.
    log::set_format(parse::log_format(&arguments));
    let cli = match parse(arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    match log::start(cli.log_level.as_deref(), cli.color, cli.log_format).and_then(|()| execute(cli, &again))
    {
        Ok(code) => code,
        Err(error) => report(&error),
    }
}

/// Says what is wrong with a command line, and gives the exit code.
fn refuse(error: &ParseError) -> u8 {
    match error {
        ParseError::CommandLine(error) => {
            // Help and version are no errors, and go to standard output.
            match error.use_stderr() && log::is_json() {
                true => note!("{}", error.to_string().trim_end()),
                false => _ = error.print(),
            }
            if error.use_stderr() { EXIT_REFUSED } else { EXIT_DONE }
        }
        ParseError::File(error) => report(error),
    }
}

fn report(error: &JobError) -> u8 {
    note!("error: {error}");
    match error.exit_code() {
        // Only a supervisor can start the job again at once.
        EXIT_DEVICE_LOST if !is_worker() => EXIT_FAILED,
        code => code,
    }
}

fn print_status(status: &(impl Serialize + Display), json: bool) -> Result<(), JobError> {
    let text = match json {
        true => serde_json::to_string_pretty(status).map_err(|e| JobError::Internal(e.to_string()))?,
        false => status.to_string(),
    };
    log::print(&format!("{text}\n"))
}

fn execute(cli: Cli, again: &Again) -> Result<u8, JobError> {
    match cli.command {
        Command::Run(args) => return run::run(*args, again),
        Command::RunShards(args) => return run_shards::run_shards(*args, again),
        Command::Bench(Bench::Throughput(args)) => bench::throughput(&args)?,
        Command::Bench(Bench::Step(args)) => bench::step(&args)?,
        Command::Devices => devices::devices()?,
        Command::Plan(args) => plan::plan(*args)?,
        Command::Publish(args) => publish::publish(*args)?,
        Command::Show(args) => show::show(*args)?,
        Command::Status { output, state_dir, json } => {
            output.refuse_malformed("the output")?;
            let state_dir = output.state_dir(state_dir.as_deref())?;
            match ShardsStatus::of(&output, &state_dir)? {
                Some(status) => print_status(&status, json)?,
                None => match StoreStatus::of(&output, &state_dir)? {
                    Some(status) => print_status(&status, json)?,
                    None => print_status(&Status::of(&output, &state_dir)?, json)?,
                },
            }
        }
        Command::Verify { output } => {
            output.refuse_malformed("the output")?;
            verify::verify(&output)?;
        }
        Command::Evaluate(args) => evaluate::evaluate(args)?,
        Command::Report(args) => report::report(args)?,
        Command::Completions { shell } => completions::completions(shell)?,
        Command::Man { command, output } => man::man(&command, output.as_deref())?,
    }
    Ok(EXIT_DONE)
}
