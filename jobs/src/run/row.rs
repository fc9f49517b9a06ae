//! A row on its way out of the engine.

use crate::journal::answer::FinishReason;
use crate::prompt::RowError;
use crate::run::detokenize::Detokenizer;
use engine::request::TokenLogprobs;

/// What a row ends with.
pub type Ending = Result<Ground, RowError>;

/// A row that the engine is done with.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Tokens of its prompt.
    pub num_input_tokens: u32,
    /// Its completions in order.
    pub completions: Vec<Generated>,
    /// One entry for each prompt token, if asked for; the first has none.
    pub prompt_logprobs: Option<Vec<Option<TokenLogprobs>>>,
}

/// A completion as tokens.
#[derive(Clone, Debug, Default)]
pub struct Generated {
    /// Its tokens and what is known of its text.
    pub text: Detokenizer,
    /// Why it ended; `None` while it runs.
    pub reason: Option<FinishReason>,
    /// The log-probability of each token, if asked for.
    pub token_logprobs: Vec<f32>,
    /// The alternatives of each token, if asked for.
    pub logprobs: Vec<Vec<(u32, f32)>>,
}

/// What leaves the loop for a row.
#[derive(Debug)]
pub struct Outcome {
    /// Its number.
    pub row: u64,
    /// What it ends with.
    pub ending: Ending,
    /// Whether another row of the same prompt was run for it.
    pub shared: bool,
}

/// Which log-probabilities are kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeepLogprobs {
    /// Of the generated tokens.
    pub tokens: bool,
    /// Of their alternatives.
    pub alternatives: bool,
}
