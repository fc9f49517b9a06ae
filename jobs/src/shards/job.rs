//! What all shards of a job have in common. The first shard to begin writes it down; every other one is held against it.

use crate::counted::counted;
use crate::date;
use crate::error::JobError;
use crate::journal::identity::{Identity, InputDigests, difference};
use crate::options::shard::files_of;
use crate::publish::manifest::inputs_digest;
use crate::run::job::Job;
use crate::sealed::{is_sealed, sealed};
use parquet::arrow::encode_arrow_schema;
use serde::{Deserialize, Serialize};

/// The last key of its text.
const SEAL: &str = "job_blake3";

/// A job in shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardedJob {
    pub shards: u64,
    /// Rows of all shards: those of the input, or as many of them as `--limit` says.
    pub rows: u64,
    pub rows_per_file: u64,
    /// The version of gristmill, which each file names.
    pub version: String,
    /// The names of the columns of the output, and a digest of all that its schema says.
    pub columns: Vec<String>,
    pub schema_blake3: String,
    /// The day on which the first shard was begun, which templates show.
    pub date: String,
    /// What the inputs are known by.
    pub inputs_blake3: String,
    pub identity: Identity,
}

impl ShardedJob {
    /// That of a job with this identity, as far as it is in shards: as many as the shard says, or else one for each file.
    pub fn of(job: &Job, identity: &Identity, inputs: &InputDigests) -> Option<ShardedJob> {
        let shard = job.options.shard.as_ref()?.shard;
        let rows_per_file = job.options.rows_per_file?;
        let schema = job.columns.file_schema();
        Some(ShardedJob {
            shards: shard.map_or_else(|| files_of(job.rows, rows_per_file), |shard| shard.of),
            rows: job.rows,
            rows_per_file,
            version: env!("CARGO_PKG_VERSION").into(),
            columns: schema.fields().iter().map(|field| field.name().clone()).collect(),
            schema_blake3: crate::digest::digest_bytes(encode_arrow_schema(&schema).as_bytes()),
            date: date::shown(job.date),
            inputs_blake3: inputs_digest(inputs),
            identity: identity.clone(),
        })
    }

    /// One line for each thing that is not as it was when the first shard was begun; empty if it is the same job.
    pub fn differences(&self, begun: &ShardedJob) -> String {
        let (mut lines, listed) = (String::new(), |columns: &[String]| columns.join(", "));
        let mut compare = |what: &str, then: &str, now: &str| {
            if then != now {
                difference(&mut lines, what, Some(then), Some(now));
            }
        };
        compare("shards", &begun.shards.to_string(), &self.shards.to_string());
        compare("rows", &begun.rows.to_string(), &self.rows.to_string());
        compare("rows-per-file", &begun.rows_per_file.to_string(), &self.rows_per_file.to_string());
        compare("version of gristmill", &begun.version, &self.version);
        compare("columns of the output", &listed(&begun.columns), &listed(&self.columns));
        if begun.columns == self.columns {
            compare("schema of the output", &begun.schema_blake3, &self.schema_blake3);
        }
        compare("inputs", &begun.inputs_blake3, &self.inputs_blake3);
        let identity = self.identity.differences(&begun.identity);
        [lines.trim_end(), &identity].join("\n").trim_matches('\n').to_string()
    }

    /// Refuses a shard of another job than the one that was begun `at` a place.
    ///
    /// # Errors
    /// [`JobError::OtherShards`].
    pub fn check(&self, begun: &ShardedJob, at: &str) -> Result<(), JobError> {
        let differences = self.differences(begun);
        if differences.is_empty() {
            return Ok(());
        }
        Err(JobError::OtherShards { begun: at.into(), shards: begun.shards, differences })
    }

    /// Its text, which ends with a digest of the rest.
    pub fn to_json(&self) -> String {
        sealed(self, SEAL)
    }

    /// Reads its text; none if it is not that.
    pub fn parse(text: &str) -> Option<ShardedJob> {
        is_sealed(text, SEAL).then(|| serde_json::from_str(text).ok()).flatten()
    }

    /// The job for people.
    pub fn shown(&self) -> String {
        format!("a job of {} in {}", counted(self.rows, "row"), counted(self.shards, "shard"))
    }
}
