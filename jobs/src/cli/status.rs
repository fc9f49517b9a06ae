//! The progress of a job, also while it runs.

use crate::counted::counted;
use crate::error::JobError;
use crate::journal::JournalReader;
use crate::journal::costs::{HAS_WORKED, input_tokens};
use crate::journal::endings::{Again, Endings};
use crate::journal::lock::JobLock;
use crate::journal::schema;
use crate::publish::local::is_published;
use crate::publish::manifest::{self, Manifest};
use crate::publish::published_words;
use crate::publish::remote::RemoteOutput;
use crate::store::location::Location;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// The progress of a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Rows of the job: those of the input, or as many of them as the last start was to answer (`--limit`).
    pub rows: u64,
    /// Rows that are finished and committed.
    pub finished: u64,
    /// Rows that took the answer of another row of the same prompt.
    pub shared: u64,
    /// Finished rows that have an error, by the text of their kind.
    pub errors: BTreeMap<String, u64>,
    /// Finished rows of which an answer was cut off at `--max-tokens` or the end of the context.
    pub cut: u64,
    /// Notes of documents that were cut off at `--max-tokens`.
    pub cut_notes: u64,
    /// Published rows that have an answer and an error besides, as a kept cell of theirs cannot be read.
    pub unreadable: u64,
    /// Rows that wait to run again (`--retry`); their answers are kept until then.
    pub waiting: u64,
    /// Rows that were answered with limits of their own, when they ran again.
    pub own_limits: u64,
    /// Tokens of finished prompts.
    pub input_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Starts of a worker that have done something, as in the receipt.
    pub starts: u64,
    /// The process that works on the job now.
    pub process: Option<String>,
    /// Rows a second since the last start.
    pub rows_per_second: f64,
    /// Generated tokens a second since the last start.
    pub tokens_per_second: f64,
    /// Seconds left at that rate, if it works.
    pub seconds_left: Option<f64>,
    /// Whether the output of these rows was published and stands there; `None` if its store cannot be asked.
    pub published: Option<bool>,
}

impl Status {
    /// Looks at the job of an output, by its state_dir.
    ///
    /// # Errors
    /// [`JobError::Usage`] if there is no job; [`JobError::JournalDamaged`] or [`JobError::Journal`].
    pub fn of(output: &Location, state_dir: &Path) -> Result<Self, JobError> {
        let journal = JournalReader::of_begun(state_dir)?;
        let process = JobLock::holder(state_dir)?;
        let wrong = schema::journal_error(&journal.database.path);
        // All from one moment, while the job goes on.
        let moment = journal.database.connection.unchecked_transaction().map_err(&wrong)?;
        let last = |row: &rusqlite::Row<'_>| {
            let number = |column| row.get::<_, Option<i64>>(column).map(Option::unwrap_or_default);
            let job_rows = row.get::<_, Option<i64>>(2)?.map(|rows| rows as u64);
            Ok((job_rows, number(0)?, number(3)?, number(4)?, number(5)?, number(6)?))
        };
        let (job_rows, starts, elapsed, last_rows, last_tokens, shared) =
            moment.query_row(&last_start(), [], last).map_err(&wrong)?;
        let rows = journal.inputs().rows().min(job_rows.unwrap_or(u64::MAX));
        let is_answer = journal.database.format.is_answer();
        let tallies = format!(
            "SELECT count(*), {}, coalesce(sum(num_generated_tokens), 0) FROM answers WHERE row < ? AND {is_answer}",
            input_tokens()
        );
        let tallied = |row: &rusqlite::Row<'_>| Ok([row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?]);
        let [finished, input_tokens, generated_tokens] =
            moment.query_row(&tallies, [rows as i64], tallied).map_err(&wrong)?;
        let endings = Endings::of(&journal, rows)?;
        let again = Again::of(&journal, rows)?;
        let per_second = |count: i64| if elapsed > 0 { count as f64 * 1e3 / elapsed as f64 } else { 0.0 };
        let left = rows.saturating_sub(finished as u64);
        let rate = per_second(last_rows);
        Ok(Status {
            rows,
            finished: finished as u64,
            shared: shared as u64,
            errors: endings.errors,
            cut: endings.cut,
            cut_notes: endings.cut_notes.0,
            unreadable: unreadable(state_dir),
            waiting: again.waiting,
            own_limits: again.own_limits,
            input_tokens: input_tokens as u64,
            generated_tokens: generated_tokens as u64,
            starts: starts as u64,
            rows_per_second: rate,
            tokens_per_second: per_second(last_tokens),
            seconds_left: (process.is_some() && rate > 0.0).then(|| left as f64 / rate),
            process,
            published: published(output, state_dir, &journal.identity().digest(), rows),
        })
    }
}

/// Rows of what was published last that lack a kept cell.
fn unreadable(state_dir: &Path) -> u64 {
    Manifest::find(state_dir, manifest::NAME).map_or(0, |manifest| manifest.unreadable)
}

fn published(output: &Location, state_dir: &Path, identity: &str, rows: u64) -> Option<bool> {
    let of_this_job = || {
        let manifest = Manifest::find(state_dir, manifest::NAME);
        manifest.is_some_and(|manifest| manifest.identity_blake3 == identity && manifest.rows == rows)
    };
    match output {
        Location::Local(path) => Some(is_published(path, state_dir, identity, rows)),
        Location::Object(_) if !of_this_job() => Some(false),
        Location::Object(url) => {
            match RemoteOutput::open(url, state_dir).and_then(|remote| remote.is_published()) {
                Ok(published) => Some(published),
                Err(error) => {
                    tracing::warn!("{error}");
                    None
                }
            }
        }
    }
}

/// How many starts have done something, and what the last one has done; SQLite takes the rest of the row from where
/// `max` is.
fn last_start() -> String {
    format!(
        "SELECT count(*) FILTER (WHERE {HAS_WORKED}), max(start), job_rows, elapsed_ms, rows, generated_tokens, sum(shared) \
         FROM starts"
    )
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = if self.rows > 0 { 100.0 * self.finished as f64 / self.rows as f64 } else { 100.0 };
        writeln!(f, "rows       {} of {} ({share:.1} %)", self.finished, self.rows)?;
        if self.shared > 0 {
            writeln!(f, "shared     {} took the answer of another row of the same prompt", self.shared)?;
        }
        writeln!(f, "errors     {}", self.errors.values().sum::<u64>())?;
        for (kind, count) in &self.errors {
            writeln!(f, "           {count} {kind}")?;
        }
        if self.cut > 0 {
            writeln!(f, "cut off    {} at --max-tokens or the end of the context", self.cut)?;
        }
        if self.cut_notes > 0 {
            writeln!(f, "           {} notes of documents at --max-tokens", self.cut_notes)?;
        }
        if self.unreadable > 0 {
            let rows = self.unreadable;
            let (lack, have, their) =
                if rows == 1 { ("lacks", "has", "its") } else { ("lack", "have", "their") };
            let rows = counted(rows, "published row");
            writeln!(f, "unreadable {rows} {lack} kept cells, and {have} an error besides {their} answer")?;
        }
        if self.waiting > 0 {
            writeln!(f, "retry      {} wait to run again; they keep their answers until then", self.waiting)?;
        }
        if self.own_limits > 0 {
            writeln!(f, "           {} ran again with their own limits", self.own_limits)?;
        }
        writeln!(f, "tokens     {} of prompts, {} generated", self.input_tokens, self.generated_tokens)?;
        let (rows, tokens) = (self.rows_per_second, self.tokens_per_second);
        writeln!(f, "rate       {rows:.2} rows/s, {tokens:.1} generated tokens/s since the last start")?;
        if let Some(seconds) = self.seconds_left {
            let left = humantime::format_duration(Duration::from_secs(seconds as u64));
            writeln!(f, "time left  {left}")?;
        }
        let process = self.process.as_deref().unwrap_or("none");
        writeln!(f, "process    {process}; {} so far", counted(self.starts, "start"))?;
        let published = published_words(self.published);
        write!(f, "published  {published}")
    }
}

#[cfg(test)]
mod tests;
