//! How the output of a job is made.

use crate::batch::results::Results;
use crate::journal::EndedJournal;
use crate::publish::publication::{Publication, Unanswered};
use crate::publish::target::Target;
use crate::run::job::Job;

/// How the output of a job is made, or that of its shard.
pub fn publication<'a>(
    job: &'a Job,
    target: &'a Target,
    journal: &'a EndedJournal,
    results: Option<&'a Results>,
) -> Publication<'a> {
    Publication {
        target,
        state_dir: &job.options.state_dir,
        identity: journal.reader.identity(),
        rows: job.rows,
        rows_per_file: job.options.rows_per_file,
        shard: job.options.shard.as_ref().and_then(|own| own.shard),
        columns: &job.columns,
        input_nulls: job.input_nulls(),
        unanswered: Unanswered::Refuse,
        results,
        may_appear: &|| Ok(()),
    }
}
