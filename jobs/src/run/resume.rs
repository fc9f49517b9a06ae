//! What a job takes over from one that was begun.

use crate::date;
use crate::journal::{JournalReader, ResumeMode};
use crate::options::job::{JobOptions, Resume};
use crate::supervise::worker;

/// The field of the identity that holds the date, where templates show it.
pub const DATE: &str = "date";

/// What to do with a job that was begun.
pub fn resume_mode(options: &JobOptions) -> ResumeMode {
    match options.resume {
        _ if worker::resumes() => ResumeMode::Auto,
        _ if options.fresh => ResumeMode::Fresh,
        Resume::Auto => ResumeMode::Auto,
        Resume::Never => ResumeMode::Never,
        Resume::Require => ResumeMode::Require,
    }
}

/// The date that templates show: that of the job which is resumed, or today's.
pub fn job_date(options: &JobOptions) -> i64 {
    let begun = JournalReader::open(&options.state_dir).and_then(|journal| journal.identity());
    let begun = begun.ok().filter(|_| resume_mode(options) != ResumeMode::Fresh);
    begun.and_then(|identity| date::read(identity.get(DATE)?)).unwrap_or_else(date::today)
}
