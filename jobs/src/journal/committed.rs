//! What a start has committed, for those who tell of it while it goes on: a kill takes nothing of it back.

use crate::journal::answer::Answer;
use crate::journal::costs::{StartFigures, input_tokens_of};
use crate::row_error::RowErrorKind;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What a start has done.
#[derive(Clone, Debug, Default)]
pub struct StartTallies {
    pub rows: u64,
    /// Of these, rows that took another's answer, and rows with an error by the text of its kind.
    pub shared_rows: u64,
    pub errors: BTreeMap<&'static str, u64>,
    pub input_tokens: u64,
    pub generated_tokens: u64,
    /// What the engine has done, once that is noted.
    pub figures: Option<StartFigures>,
}

impl StartTallies {
    /// Counts an answer.
    pub(super) fn add(&mut self, answer: &Answer, shared: bool) {
        self.rows += 1;
        self.shared_rows += u64::from(shared);
        if let Some(error) = &answer.error {
            *self.errors.entry(RowErrorKind::text_of(error)).or_default() += 1;
        }
        self.input_tokens += input_tokens_of(answer);
        self.generated_tokens += answer.num_generated_tokens();
    }

    /// Rows with an error.
    pub fn error_rows(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// The tallies of the last commit, for any thread.
#[derive(Clone, Debug, Default)]
pub struct Committed(Arc<Mutex<StartTallies>>);

impl Committed {
    pub fn get(&self) -> StartTallies {
        self.0.lock().map(|tallies| tallies.clone()).unwrap_or_default()
    }

    pub(super) fn set(&self, tallies: &StartTallies) {
        if let Ok(mut committed) = self.0.lock() {
            committed.clone_from(tallies);
        }
    }
}
