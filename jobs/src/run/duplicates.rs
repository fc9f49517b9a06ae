//! Rows of one prompt, answered by one run.
//!
//! Where an answer is a function of the prompt (greedy sampling on a device that keeps the numeric contract), a row whose
//! prompt runs or ran lately, with the same sampling, takes that row's answer. Each row still has a record of its own in the journal.

use crate::row_error::RowError;
use crate::run::request::{RequestKey, RowRequest};
use crate::run::row::{Generated, RowResult};
use crate::structured::constraint::Structure;
use blake3::Hash;
use std::collections::{HashMap, VecDeque};

/// Rows that may wait for others.
const WAITING: usize = 1024;

/// Bytes of answers that are kept for rows to come.
const KEPT_BYTES: usize = 16 << 20;

/// What becomes of a row.
#[derive(Debug)]
pub enum Turn {
    /// It runs.
    Runs,
    /// It waits for a row that runs.
    Waits,
    /// It ends as another did.
    Ends(Result<RowResult, RowError>),
}

/// The prompts that run, the rows that wait for them, and what ran lately.
#[derive(Debug, Default)]
pub struct Duplicates {
    shared: bool,
    /// The row that runs for each prompt.
    runs: HashMap<Hash, RequestKey>,
    /// The prompt of each row that runs, and the rows that wait for it.
    waits: HashMap<RequestKey, (Hash, Vec<RequestKey>)>,
    waiting: usize,
    /// How prompts ended, and in which order.
    ended: HashMap<Hash, Result<RowResult, RowError>>,
    order: VecDeque<Hash>,
    bytes: usize,
}

impl Duplicates {
    /// None so far. Without `shared`, every row runs.
    pub fn new(shared: bool) -> Self {
        Duplicates { shared, ..Duplicates::default() }
    }

    /// Whether another row may start; if not, running rows must end first.
    pub fn have_room(&self) -> bool {
        self.waiting < WAITING
    }

    /// Decides about a row that is about to start.
    pub fn take_up(&mut self, request: &RowRequest) -> Turn {
        if !self.shared || !request.sampling.is_greedy() {
            return Turn::Runs;
        }
        let (row, prompt) = (request.key(), digest(request));
        if let Some(result) = self.ended.get(&prompt) {
            return Turn::Ends(result.clone().map(|result| result.of(request)));
        }
        let first = *self.runs.entry(prompt).or_insert(row);
        let (_, rows) = self.waits.entry(first).or_insert_with(|| (prompt, Vec::new()));
        if first == row {
            return Turn::Runs;
        }
        rows.push(row);
        self.waiting += 1;
        Turn::Waits
    }

    /// Takes the end of a row, keeps it for rows to come, and gives the rows that have waited for it.
    pub fn end(&mut self, row: RequestKey, result: &Result<RowResult, RowError>) -> Vec<RequestKey> {
        let Some((prompt, rows)) = self.waits.remove(&row) else { return Vec::new() };
        self.runs.remove(&prompt);
        self.waiting -= rows.len();
        // What was asked is not kept: a row to come brings its own, which is the same. A structure takes hundreds of kilobytes.
        let result = result.as_ref().map(RowResult::alone).map_err(RowError::clone);
        self.bytes += bytes(&result);
        self.ended.insert(prompt, result);
        self.order.push_back(prompt);
        while self.bytes > KEPT_BYTES
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.ended.remove(&oldest).as_ref().map_or(0, bytes);
        }
        rows
    }
}

/// What the answer to a request is a function of, where it is one of the prompt.
pub fn digest(request: &RowRequest) -> Hash {
    let mut bytes = request.sampling.digest().to_vec();
    bytes.extend(request.structure.as_ref().map_or([0; 32], Structure::digest));
    match &request.choices {
        Some(choices) => bytes.extend(choices.bytes()),
        None => bytes.extend(request.prompt.iter().flat_map(|token| token.to_le_bytes())),
    }
    blake3::hash(&bytes)
}

/// Roughly the memory that a result takes; the same at each look.
fn bytes(result: &Result<RowResult, RowError>) -> usize {
    const ENTRY: usize = 512;
    let tops = |tops: usize| 32 + 8 * tops;
    ENTRY
        + result.as_ref().map_or(0, |row| {
            let prompt = row.prompt_logprobs.iter().flatten();
            let completion = |c: &Generated| {
                let alternatives: usize = c.logprobs.iter().map(|top| tops(top.len())).sum();
                let scores: usize = c.scores.iter().map(|scores| 24 + 4 * scores.len()).sum();
                ENTRY + 16 * c.text.tokens().len() + 4 * c.token_logprobs.len() + alternatives + scores
            };
            prompt.map(|p| 32 + p.as_ref().map_or(0, |p| tops(p.top.len()))).sum::<usize>()
                + row.completions.iter().map(completion).sum::<usize>()
        })
}

#[cfg(test)]
mod tests;
