//! The progress of a job in shards.

use crate::counted::counted;
use crate::error::JobError;
use crate::journal::JournalReader;
use crate::journal::endings::Endings;
use crate::journal::lock::JobLock;
use crate::journal::schema;
use crate::options::shard::Shard;
use crate::publish::local::is_published;
use crate::publish::manifest::{self, Manifest};
use crate::publish::published_words;
use crate::shards::finished::FinishedShard;
use crate::shards::job::ShardedJob;
use crate::shards::join::Found;
use crate::shards::local::shard_dir;
use crate::shards::place::ShardPlace;
use crate::store::location::Location;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// The progress of a job in shards.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShardsStatus {
    /// Rows of all shards.
    pub rows: u64,
    /// Rows that are finished and committed, as far as that is known here.
    pub finished: u64,
    /// Finished rows that have an error, by the text of their kind.
    pub errors: BTreeMap<String, u64>,
    pub shards: Vec<ShardStatus>,
    /// Whether the output of all shards was published and stands there; `None` if its store cannot be asked.
    pub published: Option<bool>,
    /// Shards that run again since then, or have: what is published is not yet of these answers.
    pub again: Vec<u64>,
}

/// The progress of a shard.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShardStatus {
    /// From 1.
    pub shard: u64,
    pub first_row: u64,
    pub rows: u64,
    /// Rows that are finished and committed; none where the shard was not begun, or its journal is on another machine.
    pub finished: Option<u64>,
    /// Whether its files are written, too.
    pub whole: bool,
    /// The process that works on it now.
    pub process: Option<String>,
}

impl ShardsStatus {
    /// Looks at the shards of an output, if there are any.
    ///
    /// # Errors
    /// What of them cannot be read.
    pub fn of(output: &Location, job_dir: &Path) -> Result<Option<ShardsStatus>, JobError> {
        if schema::path(job_dir).exists() {
            return Ok(None);
        }
        let place = ShardPlace::open(output)?;
        let job = match place.begun() {
            // A job without shards has claimed its output.
            Ok(None) | Err(JobError::Claimed { .. }) => return Ok(None),
            begun => begun?,
        };
        let Some(job) = job else { return Ok(None) };
        let (published, there) = published(output, &place, job_dir, &job);
        let (mut shards, mut errors, mut again) = (Vec::new(), BTreeMap::new(), Vec::new());
        for (shard, found) in Shard::all(job.shards).zip(place.find_all(job.shards)?) {
            // What a shard that is finished says of itself.
            let said = match found {
                Found::Finished(finished) => Some(finished),
                Found::Unfinished(_) | Found::Wrong(_) => None,
            };
            if there.as_ref().is_some_and(|there| !is_in(there, said.as_deref())) {
                again.push(shard.number);
            }
            let (status, endings) = of_shard(job_dir, shard, &job, said)?;
            for (kind, count) in endings.map(|endings| endings.errors).unwrap_or_default() {
                *errors.entry(kind).or_default() += count;
            }
            shards.push(status);
        }
        Ok(Some(ShardsStatus {
            rows: job.rows,
            finished: shards.iter().filter_map(|shard| shard.finished).sum(),
            errors,
            shards,
            published,
            again,
        }))
    }
}

/// Whether what is published has the files of a shard as it says that they are.
fn is_in(published: &Manifest, said: Option<&FinishedShard>) -> bool {
    said.is_some_and(|said| said.parts.iter().all(|part| published.parts.contains(part)))
}

/// The progress of a shard, and how its rows ended: by its journal if that is here, else by what it says of itself.
fn of_shard(
    job_dir: &Path,
    shard: Shard,
    job: &ShardedJob,
    said: Option<Box<FinishedShard>>,
) -> Result<(ShardStatus, Option<Endings>), JobError> {
    let range = shard.rows(job.rows, job.rows_per_file);
    let dir = shard_dir(job_dir, shard);
    let (finished, endings) = match schema::path(&dir).exists() {
        true => {
            let journal = JournalReader::open(&dir)?;
            (Some(journal.finished(range.end)?), Some(Endings::of(&journal, range.end)?))
        }
        false => (said.as_ref().map(|said| said.rows), said.as_ref().map(|said| said.costs.endings.clone())),
    };
    let status = ShardStatus {
        shard: shard.number,
        first_row: range.start,
        rows: range.end - range.start,
        finished,
        whole: said.is_some(),
        process: JobLock::holder(&dir)?,
    };
    Ok((status, endings))
}

/// Whether the output stands there, if that can be asked, and what was published.
fn published(
    output: &Location,
    place: &ShardPlace,
    job_dir: &Path,
    job: &ShardedJob,
) -> (Option<bool>, Option<Manifest>) {
    match (output, place) {
        (Location::Local(path), _) => match is_published(path, job_dir, &job.identity.digest(), job.rows) {
            true => (Some(true), Manifest::find(job_dir, manifest::NAME)),
            false => (Some(false), None),
        },
        (_, ShardPlace::Remote(remote)) => match remote.published() {
            Ok(there) => (Some(there.is_some()), there),
            Err(error) => {
                tracing::warn!("{error}");
                (None, None)
            }
        },
        _ => (None, None),
    }
}

impl fmt::Display for ShardsStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = if self.rows > 0 { 100.0 * self.finished as f64 / self.rows as f64 } else { 100.0 };
        let (shards, whole) = (self.shards.len(), self.shards.iter().filter(|shard| shard.whole).count());
        writeln!(f, "rows       {} of {} ({share:.1} %)", self.finished, self.rows)?;
        writeln!(f, "shards     {whole} of {} finished", counted(shards as u64, "shard"))?;
        for shard in self.shards.iter().filter(|shard| !shard.whole) {
            let of = counted(shard.rows, "row");
            let process =
                shard.process.as_ref().map(|process| format!(", process {process}")).unwrap_or_default();
            match shard.finished {
                Some(finished) => {
                    writeln!(f, "           {}/{shards}: {finished} of {of}{process}", shard.shard)?
                }
                None => writeln!(f, "           {}/{shards}: {of}, not begun here{process}", shard.shard)?,
            }
        }
        writeln!(f, "errors     {}", self.errors.values().sum::<u64>())?;
        for (kind, count) in &self.errors {
            writeln!(f, "           {count} {kind}")?;
        }
        let published = published_words(self.published);
        write!(f, "published  {published}")?;
        if !self.again.is_empty() {
            let again: Vec<String> = self.again.iter().map(u64::to_string).collect();
            let shards = if again.len() == 1 { "shard" } else { "shards" };
            let again = again.join(", ");
            write!(f, ", but not what {shards} {again} answered again: publish when all are finished")?;
        }
        Ok(())
    }
}
