//! When rows were finished, and which took the longest: for `gristmill report` alone.
//!
//! It has a table of its own, as costs have, with one line of JSON for each start. A start keeps at most [`MAX_SAMPLES`]
//! samples: where there are more, every other one goes, and from then on they are twice as far apart.

use crate::error::JobError;
use crate::journal::costs::HAS_WORKED;
use crate::journal::database::Database;
use crate::journal::schema::journal_error;
use crate::journal::tables;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Samples of one start.
const MAX_SAMPLES: usize = 512;

/// How many of a start's rows are kept that took the longest.
const MAX_SLOWEST: usize = 20;

/// What one start has finished over time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeline {
    /// Time between two samples, at least.
    pub every_ms: u64,
    /// In the order of time.
    pub samples: Vec<Sample>,
    /// Rows and milliseconds from their beginning to their end, the slowest first.
    pub slowest: Vec<(u64, u64)>,
}

/// What a start had finished at a time, all of it since its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    pub elapsed_ms: u64,
    pub rows: u64,
    /// Of prompts and answers.
    pub tokens: u64,
}

impl Timeline {
    /// Notes how long a row took.
    pub(super) fn note_row(&mut self, row: u64, took: Duration) {
        let took = took.as_millis() as u64;
        let place = self.slowest.partition_point(|(_, other)| *other >= took);
        if place < MAX_SLOWEST {
            self.slowest.insert(place, (row, took));
            self.slowest.truncate(MAX_SLOWEST);
        }
    }

    /// Takes a sample if it is time for one, or if it is the last. Returns whether there is something to keep.
    pub(super) fn note(&mut self, sample: Sample, last: bool) -> bool {
        let before = self.samples.last().map(|before| before.elapsed_ms + self.every_ms.max(1_000));
        if !last && before.is_some_and(|next| sample.elapsed_ms < next) {
            return false;
        }
        self.samples.push(sample);
        if self.samples.len() > MAX_SAMPLES {
            self.every_ms = 2 * self.every_ms.max(1_000);
            let mut keep = false;
            self.samples.retain(|_| {
                keep = !keep;
                keep
            });
        }
        true
    }
}

impl Database {
    /// Makes the table, if it is not there.
    pub(super) fn create_timelines(&self) -> Result<(), JobError> {
        let create = tables::TIMELINES.replacen("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1);
        self.connection.execute_batch(&create).map_err(journal_error(&self.path))
    }

    /// Keeps what a start has finished so far.
    pub(super) fn keep_timeline(&self, start: i64, timeline: &Timeline) -> Result<(), JobError> {
        let text = serde_json::to_string(timeline).map_err(|error| JobError::Internal(error.to_string()))?;
        let kept = self.connection.prepare_cached("INSERT OR REPLACE INTO timelines VALUES (?, ?)");
        kept.and_then(|mut line| line.execute((start, text))).map(drop).map_err(journal_error(&self.path))
    }

    /// The starts that have done something, in order: when each began, in seconds since 1970, its version, and what it has
    /// finished over time; that is none of a start of an earlier version.
    pub(crate) fn timelines(&self) -> Result<Vec<StartTimeline>, JobError> {
        let wrong = journal_error(&self.path);
        let query = "SELECT count(*) FROM sqlite_schema WHERE name = 'timelines'";
        let there = self.connection.query_row(query, [], |row| row.get::<_, i64>(0)).map_err(&wrong)?;
        let timelines = match there {
            0 => "NULL FROM starts",
            _ => "timeline FROM starts LEFT JOIN timelines USING (start)",
        };
        let query = format!(
            "SELECT began, version, elapsed_ms, rows, input_tokens, generated_tokens, {timelines} \
             WHERE {HAS_WORKED} ORDER BY start"
        );
        let mut statement = self.connection.prepare(&query).map_err(&wrong)?;
        let starts = statement.query_map([], |row| {
            let number = |column| row.get::<_, Option<i64>>(column).map(|n| n.unwrap_or(0).max(0) as u64);
            let timeline: Option<String> = row.get(6)?;
            let end = Sample { elapsed_ms: number(2)?, rows: number(3)?, tokens: number(4)? + number(5)? };
            Ok(StartTimeline {
                began: number(0)?,
                version: row.get(1)?,
                end,
                timeline: timeline.and_then(|timeline| serde_json::from_str(&timeline).ok()),
            })
        });
        starts.and_then(Iterator::collect).map_err(&wrong)
    }
}

/// A start and what it has finished over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartTimeline {
    pub began: u64,
    pub version: String,
    /// At its last commit.
    pub end: Sample,
    pub timeline: Option<Timeline>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_stay_few_and_in_order() {
        let mut timeline = Timeline::default();
        for second in 0..10_000 {
            timeline.note(Sample { elapsed_ms: 1_000 * second, rows: second, tokens: 0 }, false);
        }
        assert!((MAX_SAMPLES / 2 - 1..=MAX_SAMPLES).contains(&timeline.samples.len()));
        assert!(timeline.samples.is_sorted_by_key(|sample| sample.elapsed_ms));
        assert_eq!(timeline.samples[0].elapsed_ms, 0);
        let last = Sample { elapsed_ms: 9_999_001, rows: 10_000, tokens: 0 };
        assert!(!timeline.note(last, false) && timeline.note(last, true));
        (0..1000).for_each(|row| timeline.note_row(row, Duration::from_millis(row * 7 % 1000)));
        assert_eq!((timeline.slowest.len(), timeline.slowest[0]), (MAX_SLOWEST, (857, 999)));
    }
}
