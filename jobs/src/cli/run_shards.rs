//! `gristmill run-shards`: shards of a job, one after another, as somebody names them.
//!
//! Orders come on standard input, one on a line: `open`, which opens the job, or a shard, `3/20`. To each of them standard
//! output has one line of JSON, in their order:
//!
//! ```text
//! {"shards": 20, "host": "node-3", "job": "..."}           open: what all shards have in common
//! {"shard": "3/20", "rows": 1000, "errors": 2}             a shard that is finished
//! {"code": 1, "error": "...", "locked": false}             why not, with an exit code of `run`
//! ```
//!
//! When standard input ends, so does the process, at once, as one that is killed; SIGTERM lets it commit what is answered.
//! A worker does the work under a supervisor, as in `run`: a device that fails is started again, and a row that kills it again
//! and again gets its error.

use crate::cli::args::RunArgs;
use crate::cli::run::{Again, PAUSE};
use crate::error::{EXIT_DEVICE_LOST, EXIT_DONE, EXIT_FAILED, JobError};
use crate::options::job::{JobOptions, Resume};
use crate::options::shard::{Shard, ShardOptions};
use crate::run::shard_worker;
use crate::shards::local::shard_dir;
use crate::supervise::worker::{is_worker, tell_failed};
use crate::supervise::{Ended, Supervision, Task};
use serde_json::{Value, json};
use std::time::Duration;

/// The order that opens a job.
const OPEN: &str = "open";

/// Runs shards until standard input ends or a signal comes, and returns the exit code.
///
/// # Errors
/// What is wrong with the flags.
pub fn run_shards(args: RunArgs, again: &Again) -> Result<u8, JobError> {
    args.refuse_changed()?;
    let (job_read, hang) = (args.job_read.clone(), Duration::from_secs(args.hang_timeout));
    let options = args.shards_options()?;
    if is_worker() {
        return match shard_worker::run_shards(options) {
            Err(error) if !matches!(error.exit_code(), EXIT_DEVICE_LOST) && !is_interrupted(&error) => {
                tell_failed(&failure(&error));
                Err(error)
            }
            other => other.map(|()| EXIT_DONE),
        };
    }
    if cfg!(not(unix)) {
        return Err(JobError::Usage("run-shards needs a supervisor, which this system has not".into()));
    }
    let supervision = Supervision { hang, pause: PAUSE, job_read, metrics: None };
    let mut supervisor = supervision.begin(again.command()?)?;
    supervisor.obey(std::io::stdin())?;
    loop {
        let order = match supervisor.next_order()? {
            Ok(order) => order,
            Err(signal) => return Ok(signal.exit_code()),
        };
        let ended = match (order.as_str(), Shard::parse(&order)) {
            (OPEN, _) => supervisor.run(&options.state_dir, Task::Open),
            (_, Ok(shard)) => supervisor.run(&shard_dir(&options.state_dir, shard), Task::Order(&order)),
            (_, Err(why)) => Err(JobError::Usage(why)),
        };
        let line = match ended {
            Ok(Ended::Done(text) | Ended::Failed(text)) => text,
            Ok(Ended::Exit(code)) => {
                // What an order is answered with is not that: one that ends without an answer has failed.
                let code = if code == EXIT_DONE { EXIT_FAILED } else { code };
                let error = format!("the worker ended with exit code {code}; its own messages say why");
                print(&json!({"code": code, "error": error}).to_string())?;
                return Ok(code);
            }
            Err(error) => failure(&error).to_string(),
        };
        print(&line)?;
    }
}

impl RunArgs {
    /// What the flags mean for a job each file of which is a shard.
    ///
    /// # Errors
    /// As [`RunArgs::job_options`]; [`JobError::Usage`] for flags that are of one run.
    pub fn shards_options(self) -> Result<JobOptions, JobError> {
        let of_one_run = [
            ("--shard", self.shard.is_some()),
            ("--fresh", self.fresh),
            ("--retry", !self.retry.is_empty()),
            ("--resume", self.resume != Resume::Auto),
            ("--in-process", self.in_process),
            ("--metrics", self.metrics.is_some()),
        ];
        if self.take_over {
            return Err(JobError::Usage(
                "a shard needs no --take-over: any machine runs it again; leave the flag out".into(),
            ));
        }
        if let Some((flag, _)) = of_one_run.iter().find(|(_, given)| *given) {
            return Err(JobError::Usage(format!(
                "{flag} is of one run, and this job is run in shards by many processes; `gristmill run --shard` takes it"
            )));
        }
        if self.rows_per_file.is_none() {
            return Err(JobError::Usage(
                "each file of the output is run by itself: say of how many rows it is with --rows-per-file (or `rows-per-file` \
                 in the job file)"
                    .into(),
            ));
        }
        let mut options = self.job_options()?;
        options.shard = Some(ShardOptions { shard: None, job_dir: options.state_dir.clone(), date: None });
        Ok(options)
    }
}

fn is_interrupted(error: &JobError) -> bool {
    matches!(error, JobError::Interrupted(_))
}

/// Why an order was not carried out.
fn failure(error: &JobError) -> Value {
    let code = error.exit_code();
    json!({"code": code, "error": error.to_string(), "locked": matches!(error, JobError::Locked { .. })})
}

fn print(line: &str) -> Result<(), JobError> {
    crate::log::print(&format!("{line}\n"))
}
