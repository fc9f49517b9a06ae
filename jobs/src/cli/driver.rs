//! A job that a cluster runs in shards, as the process sees it that shares them out: `gristmill-ray` is over this.
//!
//! It takes the command line of `run`, and loads no model. Who answers rows is `gristmill run-shards` on other machines, with the
//! flags that this gives. What it says, it says as the command line does.

use crate::cli::args::{Cli, Command};
use crate::cli::parse::{self, ParseError, parse_to_flags};
use crate::cli::{main, refuse, report};
use crate::error::JobError;
use crate::log::{self, note};
use crate::options::job::JobOptions;
use crate::options::shard::Shard;
use crate::publish::format::OutputFormat;
use crate::shards::job::ShardedJob;
use crate::shards::place::ShardPlace;
use crate::store::location::Location;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue};
use std::ffi::OsString;

/// A job that a cluster runs.
pub struct Driver {
    /// The flags of the job and of its job file.
    flags: Vec<OsString>,
    options: JobOptions,
    has_state_dir: bool,
}

impl Driver {
    /// Reads a command line of `run`, which begins with `gristmill run`, or says what is wrong with it and gives the exit code.
    /// `usage` is how the program is called whose command line that is.
    pub fn begin(arguments: &[OsString], usage: &str) -> Result<Driver, u8> {
        log::set_format(parse::log_format(arguments));
        let (cli, flags) = parse_to_flags(arguments).map_err(|error| refuse(&with_usage(error, usage)))?;
        Driver::of(cli, flags).map_err(|error| report(&error))
    }

    fn of(cli: Cli, flags: Vec<OsString>) -> Result<Driver, JobError> {
        log::start(cli.log_level.as_deref(), cli.color, cli.log_format)?;
        let Command::Run(args) = cli.command else {
            return Err(JobError::Internal("a command line that is not of `run`".into()));
        };
        let has_state_dir = args.state_dir.is_some();
        Ok(Driver { flags, options: args.shards_options()?, has_state_dir })
    }

    /// What `gristmill run-shards` is to be started with.
    pub fn flags(&self) -> &[OsString] {
        &self.flags
    }

    /// Where the output goes.
    pub fn output(&self) -> String {
        self.options.output.to_string()
    }

    /// Whether each machine needs a folder of its own for journals, and none was named.
    pub fn needs_state_dir(&self) -> bool {
        matches!(self.options.output, Location::Object(_)) && !self.has_state_dir
    }

    /// Whether the job says how many threads an engine has.
    pub fn has_threads(&self) -> bool {
        self.options.engine.threads.is_some()
    }

    /// The shards that are left to run of a job, which is as `run-shards` has told it.
    ///
    /// # Errors
    /// [`JobError::Io`] or [`JobError::Store`].
    pub fn unfinished(&self, job: &str) -> Result<Vec<String>, JobError> {
        let place = ShardPlace::open(&self.options.output)?;
        let left = place.unfinished(&sharded(job)?, OutputFormat::of(&self.options.output)?)?;
        Ok(left.iter().map(Shard::to_string).collect())
    }

    /// One line for each thing that differs between what two of `run-shards` have told; empty if they are of one kind.
    ///
    /// # Errors
    /// [`JobError::Internal`].
    pub fn differences(one: &str, other: &str) -> Result<String, JobError> {
        Ok(sharded(other)?.differences(&sharded(one)?))
    }

    /// Publishes the output of so many shards, and gives the exit code of `gristmill publish`.
    pub fn publish(&self, shards: u64) -> u8 {
        let command = ["gristmill", "publish"].map(OsString::from).into_iter();
        let shards = ["--shards".to_string(), shards.to_string()].map(OsString::from);
        main(command.chain(self.flags.iter().cloned()).chain(shards))
    }

    /// Prints a line as the command line does; `error: ` and `warning: ` at its beginning say how bad it is.
    pub fn note(line: &str) {
        note!("{line}");
    }
}

/// An error of the parser with how another program is called that takes these flags.
fn with_usage(error: ParseError, usage: &str) -> ParseError {
    match error {
        ParseError::CommandLine(mut error) if error.get(ContextKind::Usage).is_some() => {
            let usage = StyledStr::from(format!("Usage: {usage}"));
            error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
            ParseError::CommandLine(error)
        }
        other => other,
    }
}

fn sharded(job: &str) -> Result<ShardedJob, JobError> {
    ShardedJob::parse(job).ok_or_else(|| {
        JobError::Usage(
            "an actor described its job in a way that is not known here; install the same version of gristmill on all machines"
                .into(),
        )
    })
}
