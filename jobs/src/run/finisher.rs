//! Makes answers of what the engine generated and hands them to the journal.

use crate::error::JobError;
use crate::journal::Journal;
use crate::journal::answer::{Answer, Completion, FinishReason};
use crate::prompt::tokenizer::Tokenizer;
use crate::run::progress::{Counters, Progress};
use crate::run::row::{Ground, Outcome};
use crate::run::sampling::Sampling;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// How often progress is looked at while nothing comes.
const IDLE: Duration = Duration::from_millis(100);

/// Rows after which the share of errors says something, and between looks at it.
const SHARE_OF: u64 = 100;

/// How many error rows a job bears.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ErrorLimits {
    /// As a share of the rows.
    pub rate: f64,
    /// As a number.
    pub count: Option<u64>,
}

impl ErrorLimits {
    /// Whether so many errors among so many rows are too many; the flag that says so.
    pub fn exceeded(&self, errors: u64, rows: u64) -> Option<String> {
        if let Some(most) = self.count.filter(|&most| errors > most) {
            return Some(format!("--max-errors {most}"));
        }
        (errors as f64 > self.rate * rows as f64).then(|| format!("--max-error-rate {}", self.rate))
    }

    /// Refuses too many errors.
    ///
    /// # Errors
    /// [`JobError::TooManyErrors`].
    pub fn check(&self, errors: u64, rows: u64, first: Option<String>) -> Result<(), JobError> {
        match self.exceeded(errors, rows) {
            None => Ok(()),
            Some(limit) => {
                let first = first.unwrap_or_else(|| "of an earlier run".into());
                Err(JobError::TooManyErrors { errors, rows, limit, first })
            }
        }
    }
}

/// Kinds of row errors whose texts are our own; others may quote the row, which nothing but its answer shows.
const OWN_WORDS: [&str; 4] = ["prompt too long", "null prompt", "empty prompt", "not finite"];

fn without_row_text(error: &str) -> String {
    let kind = error.split(':').next().unwrap_or_default();
    if OWN_WORDS.contains(&kind) { error.into() } else { format!("{kind} (its `error` says more)") }
}

/// Takes rows to the journal.
pub struct Finisher<'a> {
    /// How text is made.
    pub sampling: &'a Sampling,
    /// Makes it.
    pub tokenizer: &'a Tokenizer,
    /// Where answers go.
    pub journal: &'a Mutex<Journal>,
    /// Where rows are counted.
    pub counters: &'a Counters,
    /// How many errors are borne.
    pub limits: ErrorLimits,
    /// The first error seen, without the text of its row.
    pub first_error: Option<String>,
}

impl Finisher<'_> {
    /// Takes rows until no more come. Ending early closes the channel, which ends the job.
    ///
    /// # Errors
    /// [`JobError::TooManyErrors`], or what the journal says.
    pub fn run(&mut self, rows: &Receiver<Outcome>, progress: &mut Progress) -> Result<(), JobError> {
        loop {
            match rows.recv_timeout(IDLE) {
                Ok(outcome) => self.finish(outcome)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            progress.show(self.counters);
        }
    }

    fn finish(&mut self, outcome: Outcome) -> Result<(), JobError> {
        let Outcome { row, ending, shared } = outcome;
        let answer = match ending {
            Ok(ground) => self.answer(row, ground),
            Err(error) => Answer::failed(row, error.num_input_tokens, error.to_string()),
        };
        let c = self.counters;
        Counters::add(&c.finished, 1);
        Counters::add(&c.shared, shared.into());
        Counters::add(&c.input_tokens, u64::from(answer.num_input_tokens.unwrap_or(0)));
        Counters::add(&c.generated_tokens, answer.num_generated_tokens());
        let error = answer.error.clone();
        let lock = self.journal.lock();
        let mut journal =
            lock.map_err(|_| JobError::Internal("a thread ended while it used the journal".into()))?;
        if shared {
            journal.append_shared(answer)?
        } else {
            journal.append(answer)?
        }
        drop(journal);
        if let Some(error) = error {
            Counters::add(&c.errors, 1);
            tracing::debug!(error, "a row has no answer");
            self.first_error.get_or_insert_with(|| format!("row {row}, {}", without_row_text(&error)));
            let (errors, seen) = (Counters::get(&c.errors), Counters::get(&c.seen));
            let counted = self.limits.count.is_some_and(|most| errors > most);
            // Of all rows that were taken up: errors are known sooner than answers.
            if counted || (errors % SHARE_OF == 0 && seen >= SHARE_OF) {
                self.limits.check(errors, seen, self.first_error.clone())?;
            }
        }
        Ok(())
    }

    fn answer(&self, row: u64, ground: Ground) -> Answer {
        let Ground { num_input_tokens, completions, prompt_logprobs } = ground;
        let mut finished = Vec::with_capacity(completions.len());
        for generated in completions {
            let (tokens, text, stopped) = match generated.text.finish(self.tokenizer, &self.sampling.text) {
                Ok(text) => text,
                Err(why) => {
                    return Answer::failed(row, Some(num_input_tokens), format!("tokenizer error: {why}"));
                }
            };
            let reason = if stopped { Some(FinishReason::Stop) } else { generated.reason };
            finished.push(Completion {
                text,
                tokens,
                finish_reason: reason.unwrap_or(FinishReason::Abort),
                token_logprobs: generated.token_logprobs,
                logprobs: generated.logprobs,
            });
        }
        Answer {
            row,
            num_input_tokens: Some(num_input_tokens),
            completions: finished,
            prompt_logprobs,
            error: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_the_most_that_is_borne() {
        let limits = ErrorLimits { rate: 0.5, count: None };
        assert_eq!(limits.exceeded(50, 100), None);
        assert_eq!(limits.exceeded(51, 100).as_deref(), Some("--max-error-rate 0.5"));
        assert_eq!(limits.exceeded(0, 0), None);
        let none = ErrorLimits { rate: 1.0, count: Some(0) };
        assert_eq!(none.exceeded(1, 100).as_deref(), Some("--max-errors 0"));
    }
}
