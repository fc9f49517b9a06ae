//! A worker that runs shards of a job, as it is ordered to: input, model and device are opened once.

use crate::error::JobError;
use crate::host::hostname;
use crate::options::job::JobOptions;
use crate::options::shard::{MOST, Shard, files_of};
use crate::run::open_device;
use crate::run::open_job::OpenJob;
use crate::store::location::Location;
use crate::supervise::signals::Signals;
use crate::supervise::worker::{HeartbeatThread, listen_to_orders, tell_done};
use serde_json::{Value, json};

/// Opens a job, and runs shards of it until it is stopped.
///
/// # Errors
/// [`JobError::Interrupted`], or what ended the shard at hand.
pub fn run_shards(options: JobOptions) -> Result<(), JobError> {
    let orders = listen_to_orders()?;
    let heartbeats = HeartbeatThread::start();
    let mut open_job = OpenJob::open(options, &orders.signals, open_device)?;
    tell_done(&opened(&open_job)?);
    drop(heartbeats);
    loop {
        let order = orders.next()?;
        let shard = Shard::parse(&order).map_err(JobError::Usage)?;
        match run_shard(&mut open_job, shard, &orders.signals) {
            Ok(done) => tell_done(&done),
            // Nothing was touched.
            Err(error @ JobError::Locked { .. }) => {
                tell_done(&json!({"code": error.exit_code(), "error": error.to_string(), "locked": true}));
            }
            Err(error) => return Err(error),
        }
    }
}

/// What there is to do.
fn opened(open_job: &OpenJob) -> Result<Value, JobError> {
    let job = &open_job.job;
    let files = job.options.rows_per_file.map_or(1, |per_file| files_of(job.rows, per_file));
    if files > MOST {
        let rows = job.rows.div_ceil(MOST);
        return Err(JobError::Usage(format!(
            "the {} rows make {files} files, and a job has at most {MOST} shards, of one file each; raise --rows-per-file to {rows} \
             or more",
            job.rows
        )));
    }
    let sharded = open_job.sharded()?.map(|sharded| sharded.to_json());
    Ok(json!({"shards": files, "rows": job.rows, "host": hostname(), "job": sharded}))
}

/// Runs a shard to its end.
fn run_shard(open_job: &mut OpenJob, shard: Shard, signals: &Signals) -> Result<Value, JobError> {
    let heartbeats = HeartbeatThread::start();
    open_job.take_shard(shard);
    let begun = open_job.begin()?.ok_or_else(|| JobError::Internal("a shard was taken over".into()))?;
    let (run, journal) = open_job.run(begun, signals, heartbeats)?;
    let run = run.ok_or_else(|| JobError::Internal("a shard that is none".into()))?;
    let endings = run.finish(&open_job.job, &open_job.target, &journal)?;
    drop(journal);
    let options = &open_job.job.options;
    if let Location::Object(_) = options.output {
        // The store has all that is left of the shard to know.
        let folder = &options.state_dir;
        std::fs::remove_dir_all(folder).map_err(JobError::io("remove", folder))?;
    }
    let rows = open_job.job.range.end - open_job.job.range.start;
    Ok(json!({"shard": shard.to_string(), "rows": rows, "errors": endings.error_rows()}))
}
