//! A row on its way from the engine to the journal.

use crate::choices::requests::RowChoices;
use crate::journal::answer::FinishReason;
use crate::journal::note::Part;
use crate::row_error::RowError;
use crate::run::detokenize::Detokenizer;
use crate::run::request::RowRequest;
use crate::run::sampling::KeepLogprobs;
use crate::structured::constraint::Structure;
use crate::structured::field_probabilities::FieldQuestions;
use engine::request::TokenLogprobs;
use std::sync::Arc;

/// What the engine made of a row.
#[derive(Clone, Debug)]
pub struct RowResult {
    /// Tokens of its prompt.
    pub num_input_tokens: u32,
    /// Completions; in a job that scores choices, its requests.
    pub completions: Vec<Generated>,
    /// What is scored, if nothing is generated.
    pub choices: Option<Arc<RowChoices>>,
    /// The structure of its text, without whose end it is no answer.
    pub structure: Option<Structure>,
    /// One entry for each prompt token, if asked for; the first has none.
    pub prompt_logprobs: Option<Vec<Option<TokenLogprobs>>>,
    /// Which log-probabilities it keeps.
    pub keep: KeepLogprobs,
    /// Its prompt, where the probabilities of its answers' values are wanted and not asked for yet.
    pub prompt: Option<Vec<u32>>,
}

impl RowResult {
    /// That of a row that has just begun.
    pub fn begin(request: &RowRequest) -> RowResult {
        let sampling = &request.sampling;
        let completion =
            || Generated { text: Detokenizer::new(sampling.text.clone()), ..Generated::default() };
        RowResult {
            num_input_tokens: request.num_input_tokens(),
            completions: (0..request.choices.as_ref().map_or(sampling.n as usize, |c| c.count()))
                .map(|_| completion())
                .collect(),
            choices: request.choices.clone(),
            structure: request.structure.clone(),
            prompt_logprobs: sampling.params.prompt_logprobs.map(|_| vec![None]),
            keep: sampling.keep,
            prompt: request.structure.as_ref().and_then(Structure::fields).map(|_| request.prompt.clone()),
        }
    }

    /// What has ended, without what was asked.
    pub fn alone(&self) -> RowResult {
        let RowResult { num_input_tokens, completions, prompt_logprobs, keep, .. } = self;
        RowResult {
            num_input_tokens: *num_input_tokens,
            completions: completions.clone(),
            choices: None,
            structure: None,
            prompt_logprobs: prompt_logprobs.clone(),
            keep: *keep,
            prompt: None,
        }
    }

    /// The same as the end of another row, which asked the same.
    pub fn of(self, request: &RowRequest) -> RowResult {
        RowResult { choices: request.choices.clone(), structure: request.structure.clone(), ..self }
    }
}

/// A completion as tokens.
#[derive(Clone, Debug, Default)]
pub struct Generated {
    /// Its tokens, and its text as far as stop strings need it.
    pub text: Detokenizer,
    /// Why it ended; `None` while it runs.
    pub reason: Option<FinishReason>,
    /// The log-probability of each token, if asked for.
    pub token_logprobs: Vec<f32>,
    /// The alternatives of each token, if asked for.
    pub logprobs: Vec<Vec<(u32, f32)>>,
    /// The log-probabilities that a request for scores asks for, in its order.
    pub scores: Vec<Vec<f32>>,
    /// What is asked about the values of its answer, until it is answered.
    pub fields: Option<FieldQuestions>,
    /// The probabilities of those values, if they are wanted.
    pub field_probabilities: Vec<f32>,
}

/// How a row ended.
#[derive(Debug)]
pub struct RowOutcome {
    pub row: u64,
    /// Which of the requests of a document it was.
    pub part: Option<Part>,
    pub result: Result<RowResult, RowError>,
    /// Whether another row of the same prompt was run for it.
    pub shared: bool,
}
