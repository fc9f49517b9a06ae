//! Whether shards make up a job, and the manifest and the receipt of all of them.

use crate::error::JobError;
use crate::journal::costs::{Start, Totals};
use crate::journal::endings::Endings;
use crate::options::shard::{Shard, files_of, rows_of_file};
use crate::publish::format::OutputFormat;
use crate::publish::manifest::{ColumnNulls, Manifest};
use crate::publish::publication::part_name;
use crate::receipt::money::Prices;
use crate::shards::finished::FinishedShard;
use crate::shards::job::ShardedJob;
use std::cmp::Reverse;
use std::fmt;

/// What is known of a shard where the output is published.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    Finished(Box<FinishedShard>),
    /// Why it cannot be published yet.
    Unfinished(String),
    /// What says that it is finished, and is not to be believed.
    Wrong(String),
}

impl Found {
    /// What a finished shard says of itself, with where it says so.
    pub fn of_text(text: &str, place: impl fmt::Display) -> Found {
        match FinishedShard::parse(text) {
            None => Found::Wrong(format!(
                "is not known: {place} is not as it was written; run it again, which writes it anew"
            )),
            Some(finished) => Found::Finished(Box::new(finished)),
        }
    }
}

/// All shards of a job, in the order of their rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined {
    pub job: ShardedJob,
    pub shards: Vec<FinishedShard>,
}

impl Joined {
    /// Joins what was found of each shard of a job, if they are all of it, finished, and leave no row out.
    ///
    /// # Errors
    /// [`JobError::WrongShards`], or else [`JobError::UnfinishedShards`].
    pub fn of(
        output: &str,
        job: ShardedJob,
        format: OutputFormat,
        found: impl IntoIterator<Item = Found>,
    ) -> Result<Joined, JobError> {
        let (mut shards, mut unfinished, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        for (shard, found) in Shard::all(job.shards).zip(found) {
            match found {
                Found::Finished(finished) => match problem(shard, &finished, &job, format) {
                    None => shards.push(*finished),
                    Some(why) => wrong.push(format!("  shard {shard} {why}")),
                },
                Found::Unfinished(why) => unfinished.push(format!("  shard {shard} {why}")),
                Found::Wrong(why) => wrong.push(format!("  shard {shard} {why}")),
            }
        }
        let output = output.to_string();
        if !wrong.is_empty() {
            return Err(JobError::WrongShards { output, problems: [wrong, unfinished].concat().join("\n") });
        }
        if !unfinished.is_empty() || shards.len() as u64 != job.shards {
            let problems = unfinished.join("\n");
            return Err(JobError::UnfinishedShards { output, shards: job.shards, problems });
        }
        Ok(Joined { job, shards })
    }

    /// The manifest of the output: that of the job run as a whole.
    pub fn manifest(&self) -> Manifest {
        let sum = |of: fn(&FinishedShard) -> u64| self.shards.iter().map(of).fold(0, u64::saturating_add);
        Manifest {
            version: self.job.version.clone(),
            identity: self.job.identity.clone(),
            identity_blake3: self.job.identity.digest(),
            inputs_blake3: Some(self.job.inputs_blake3.clone()),
            rows: self.job.rows,
            aborted: 0,
            unreadable: sum(|shard| shard.unreadable),
            nulls: self.nulls(),
            parts: self.shards.iter().flat_map(|shard| shard.parts.iter().cloned()).collect(),
        }
    }

    fn nulls(&self) -> Vec<ColumnNulls> {
        let mut all: Vec<ColumnNulls> = Vec::new();
        for shard in &self.shards {
            for (at, nulls) in shard.nulls.iter().enumerate() {
                match all.get_mut(at) {
                    None => all.push(nulls.clone()),
                    Some(sum) => {
                        sum.null = sum.null.saturating_add(nulls.null);
                        sum.unreadable = sum.unreadable.saturating_add(nulls.unreadable);
                    }
                }
            }
        }
        all
    }

    /// How all rows ended.
    pub fn endings(&self) -> Endings {
        let mut all = Endings::default();
        for Endings { errors, cut, cut_notes, first_error } in
            self.shards.iter().map(|shard| shard.costs.endings.clone())
        {
            for (kind, count) in errors {
                *all.errors.entry(kind).or_default() += count;
            }
            all.cut += cut;
            all.cut_notes = (all.cut_notes.0 + cut_notes.0, all.cut_notes.1 + cut_notes.1);
            all.first_error = all.first_error.or(first_error);
        }
        all
    }

    /// Rows and tokens of all shards.
    pub fn totals(&self) -> Totals {
        self.shards.iter().map(|shard| shard.costs.totals).fold(Totals::default(), |all, one| Totals {
            rows: all.rows.saturating_add(one.rows),
            input_tokens: all.input_tokens.saturating_add(one.input_tokens),
            generated_tokens: all.generated_tokens.saturating_add(one.generated_tokens),
        })
    }

    /// The starts of all shards, in the order of time.
    pub fn starts(&self) -> Vec<Start> {
        let mut starts: Vec<Start> =
            self.shards.iter().flat_map(|shard| shard.costs.starts.iter().cloned()).collect();
        starts.sort_by_key(|start| start.began);
        starts
    }

    /// The prices of the job, as of one on one machine those that were given last: of each, that of the shard that was
    /// started last of those that have one.
    pub fn prices(&self) -> Prices {
        let mut shards: Vec<&FinishedShard> = self.shards.iter().collect();
        shards.sort_by_key(|shard| Reverse(shard.costs.starts.iter().map(|start| start.began).max()));
        shards.iter().map(|shard| shard.costs.prices).fold(Prices::default(), |all, one| Prices {
            per_hour: all.per_hour.or(one.per_hour),
            elsewhere: all.elsewhere.or(one.elsewhere),
        })
    }

    /// The name of the model.
    pub fn model(&self) -> &str {
        self.shards.first().map_or("", |shard| &shard.costs.model)
    }
}

/// Why a shard that is finished is none of this job.
pub(super) fn problem(
    shard: Shard,
    finished: &FinishedShard,
    job: &ShardedJob,
    format: OutputFormat,
) -> Option<String> {
    let differences = finished.job.differences(job);
    if !differences.is_empty() {
        return Some(format!("is of another job; these values differ:\n{differences}"));
    }
    if finished.shard() != shard {
        let other = finished.shard();
        return Some(format!(
            "has the journal of shard {other} in its place; run shard {shard} again with --fresh"
        ));
    }
    let range = shard.rows(job.rows, job.rows_per_file);
    if finished.range() != range {
        let there = finished.range();
        return Some(format!(
            "has the rows from {} up to {}, and must have those from {} up to {}",
            there.start, there.end, range.start, range.end
        ));
    }
    let files = shard.files(files_of(job.rows, job.rows_per_file));
    let wanted =
        files.clone().map(|at| (part_name(at, format), rows_of_file(at, job.rows, job.rows_per_file)));
    let there = finished
        .parts
        .iter()
        .map(|part| (part.name.clone(), part.first_row..part.first_row.saturating_add(part.rows)));
    if !wanted.eq(there) {
        return Some(format!("has not the files from {} up to {} of the output", files.start, files.end));
    }
    None
}
