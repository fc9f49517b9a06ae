//! `gristmill publish`: one output of all shards.

use crate::counted::counted;
use crate::error::JobError;
use crate::journal::lock::JobLock;
use crate::log::note;
use crate::options::job::{JobOptions, Resume};
use crate::publish::format::OutputFormat;
use crate::publish::manifest::{self, Manifest};
use crate::receipt;
use crate::run::error_limits::{ErrorLimits, first_error, place_of_errors};
use crate::shards::job::ShardedJob;
use crate::shards::join::Joined;
use crate::shards::place::ShardPlace;

/// Publishes the output of a job that was run in so many shards. Of the options it takes where the output is, the limits of
/// errors and the prices; what the job is, its shards say.
///
/// # Errors
/// [`JobError::UnfinishedShards`], [`JobError::WrongShards`] and [`JobError::OtherShards`] name shards;
/// [`JobError::TooManyErrors`] if all shards together have too many, after the output is published unless `stop_on_errors`
/// forbids that; as `run` has it for outputs.
pub fn publish(options: &JobOptions, shards: u64) -> Result<(), JobError> {
    refuse_others(options)?;
    let output = options.output.to_string();
    let place = ShardPlace::open(&options.output)?;
    let begun = place.begun()?.ok_or_else(|| {
        JobError::Usage(format!(
            "no shard of {output} was begun: `gristmill run --shard 1/{shards}` begins the first"
        ))
    })?;
    check(options, shards, &begun)?;
    let format = OutputFormat::of(&options.output)?;
    let (joined, manifest) = match &place {
        ShardPlace::Local(here) => {
            let joined = Joined::of(&output, begun, format, place.find_all(shards)?)?;
            let publish = || here.publish(&joined);
            let manifest = within_limits(options, &joined, publish)?;
            (joined, manifest)
        }
        ShardPlace::Remote(remote) => {
            std::fs::create_dir_all(&options.state_dir)
                .map_err(JobError::io("create", &options.state_dir))?;
            let _lock = JobLock::acquire(&options.state_dir)?;
            let (found, said) = remote.find_all(shards)?;
            let joined = Joined::of(&output, begun, format, found)?;
            let manifest = within_limits(options, &joined, || remote.publish(&joined, &said))?;
            // Beside the receipt.
            manifest::keep(&options.state_dir, &manifest.to_json())?;
            (joined, manifest)
        }
    };
    let lines = write_receipt(options, &joined)?;
    note!("{lines}");
    let endings = joined.endings().with_unreadable(manifest.unreadable);
    let how = endings.to_string();
    let how = if how.is_empty() { how } else { format!(": {how}") };
    note!("{} of {} in {output}{how}", counted(manifest.rows, "row"), counted(shards, "shard"));
    let column = place_of_errors(options);
    let limits = error_limits(options);
    limits.check(endings.error_rows(), manifest.rows, first_error(&endings), Some(&column))
}

/// Refuses flags that say something about a run.
fn refuse_others(options: &JobOptions) -> Result<(), JobError> {
    let given = [
        ("--shard", options.shard.is_some()),
        ("--fresh", options.fresh),
        ("--retry", !options.retry.is_empty()),
        ("--resume", options.resume != Resume::Auto),
    ];
    if options.take_over.is_some() {
        let why = "--take-over is for jobs without shards: any machine runs a shard again".into();
        return Err(JobError::Usage(why));
    }
    match given.iter().find(|(_, given)| *given) {
        Some((flag, _)) => {
            Err(JobError::Usage(format!("{flag} is for `gristmill run --shard`; publishing runs no row")))
        }
        None => Ok(()),
    }
}

/// Refuses to publish another job than the one whose shards are there, as far as the flags tell it.
fn check(options: &JobOptions, shards: u64, begun: &ShardedJob) -> Result<(), JobError> {
    let differs = |what: &str, then: u64, now: u64| {
        let why = format!("{} was begun with {what} {then}, and publish says {now}", options.output);
        Err(JobError::Usage(why))
    };
    if begun.shards != shards {
        return differs("--shards", begun.shards, shards);
    }
    if let Some(per_file) = options.rows_per_file.filter(|&per_file| per_file != begun.rows_per_file) {
        return differs("--rows-per-file", begun.rows_per_file, per_file);
    }
    match options.limit.filter(|&limit| limit < begun.rows) {
        Some(limit) => differs("rows:", begun.rows, limit),
        None => Ok(()),
    }
}

/// Publishes, unless there are too many errors for `--stop-on-errors`.
fn within_limits(
    options: &JobOptions,
    joined: &Joined,
    publish: impl FnOnce() -> Result<Manifest, JobError>,
) -> Result<Manifest, JobError> {
    if options.stop_on_errors {
        let endings = joined.endings();
        let first = first_error(&endings);
        error_limits(options).check(endings.error_rows(), joined.job.rows, first, None)?;
    }
    publish()
}

/// Those of all shards together.
fn error_limits(options: &JobOptions) -> ErrorLimits {
    ErrorLimits { in_shards: true, ..ErrorLimits::of(options) }
}

/// Writes the receipt of all shards, and gives what to print of it.
fn write_receipt(options: &JobOptions, joined: &Joined) -> Result<String, JobError> {
    let (text, lines) = receipt::of_shards(
        (joined.model(), &joined.job.identity, &joined.job.inputs_blake3),
        (joined.totals(), joined.endings(), &joined.starts()),
        (&options.prices, joined.prices()),
        joined.job.rows,
    );
    receipt::write(&options.state_dir, &text)?;
    Ok(lines)
}
