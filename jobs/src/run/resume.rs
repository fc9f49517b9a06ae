//! What a job takes over from one that was begun.

use crate::date;
use crate::journal::decisions::DATE;
use crate::journal::retry::Retry;
use crate::journal::{JournalReader, ResumeMode};
use crate::options::job::{JobOptions, Resume, RetryRows};
use crate::supervise::worker;

/// What to do with a job that was begun. Its rows are among so many, from the first of the input.
pub fn resume_mode(options: &JobOptions, rows: u64) -> ResumeMode {
    match options.resume {
        _ if !options.retry.is_empty() => ResumeMode::Retry(Retry {
            errors: options.retry.contains(&RetryRows::Errors),
            length: options.retry.contains(&RetryRows::Length),
            rows,
            chosen: worker::resumes(),
        }),
        _ if worker::resumes() => ResumeMode::Auto,
        _ if options.fresh => ResumeMode::Fresh,
        Resume::Auto => ResumeMode::Auto,
        Resume::Never => ResumeMode::Never,
        Resume::Require => ResumeMode::Require,
    }
}

/// The date that templates show: that of the job which is resumed or of which a shard was begun, or today's.
pub fn job_date(options: &JobOptions) -> i64 {
    let begun = JournalReader::open(&options.state_dir).ok();
    let begun = begun.filter(|_| !options.fresh || worker::resumes());
    let date = begun.and_then(|journal| date::read(&journal.identity().get(DATE)?.shown()));
    let of_shards = options.shard.as_ref().and_then(|shard| shard.date);
    // What is here may be of an earlier job.
    let taken_over = options.take_over.as_ref().and_then(|taken| taken.date);
    taken_over.or(date).or(of_shards).unwrap_or_else(date::today)
}
