//! What rows that were answered before the rest say of all.

use crate::error::JobError;
use crate::journal::JournalReader;
use crate::options::devices::Open;
use crate::options::job::JobOptions;
use crate::plan::sample::{Estimate, estimate};
use crate::rates::Rates;
use crate::run::{self, job::Job};
use serde::Serialize;

/// What the answers of a pilot say of all rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pilot {
    pub rows: usize,
    /// Tokens of prompts and of answers of the whole job. For documents all their requests are in it.
    pub input_tokens: Estimate,
    pub generated_tokens: Estimate,
}

/// Answers the rows of a pilot. Gives their numbers.
///
/// # Errors
/// As [`run::run`].
pub fn run(options: &JobOptions, count: u64, open: Open<'_>) -> Result<Vec<u64>, JobError> {
    // Steps are compared with the rates of the device, which are measured first. What is wrong shows as the rows run.
    let _ = Job::prepare(options.clone()).map(|job| {
        let device = open(&options.engine)?;
        Ok::<_, JobError>(Rates::kept_or_measured(&job.model, device, &options.engine)?)
    });
    run::pilot(options.clone(), count, open)
}

impl Pilot {
    /// What these rows of a job's journal say of all `of` rows.
    ///
    /// # Errors
    /// [`JobError::Journal`].
    pub fn of(journal: &JournalReader, rows: &[u64], of: u64) -> Result<Pilot, JobError> {
        let tokens = journal.database.tokens_of(rows)?;
        let all = |which: usize| {
            let pairs: Vec<(f64, f64)> = tokens.iter().map(|tokens| (1.0, tokens[which] as f64)).collect();
            estimate(&pairs, of as usize, of as f64)
        };
        Ok(Pilot { rows: tokens.len(), input_tokens: all(0), generated_tokens: all(1) })
    }
}
