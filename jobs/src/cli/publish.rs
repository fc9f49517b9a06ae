//! `gristmill publish`.

use crate::cli::args::PublishArgs;
use crate::error::JobError;
use crate::shards;

/// Makes the output of the shards of a job.
///
/// # Errors
/// What is wrong with the flags, or with a shard.
pub fn publish(args: PublishArgs) -> Result<(), JobError> {
    let PublishArgs { run, shards } = args;
    shards::publish::publish(&run.job_options()?, shards)
}
