//! What the engine is asked, and what it answers: token ids only.

use crate::constraint::{Constraint, NoToken};
use crate::step::MAX_LOGPROBS;
use std::sync::Arc;

/// How a row's tokens are chosen, and when it ends. Names and defaults are vLLM's.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits; 0 is greedy.
    pub temperature: f32,
    /// Keeps the likeliest tokens up to this mass, in (0, 1].
    pub top_p: f32,
    /// Keeps this many likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Drops tokens less likely than this share of the likeliest, in [0, 1].
    pub min_p: f32,
    /// Subtracted from the logits of tokens generated before, once each.
    pub presence_penalty: f32,
    /// Subtracted from the logits of tokens generated before, once for each time.
    pub frequency_penalty: f32,
    /// Divides positive and multiplies negative logits of tokens in the prompt or generated before.
    pub repetition_penalty: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Only these tokens may be generated.
    pub allowed_token_ids: Option<Vec<u32>>,
    /// Token sequences that must not be generated.
    pub bad_words: Vec<Vec<u32>>,
    /// Tokens that end the row (the model's own end tokens among them, unless they are ignored).
    pub stop_token_ids: Vec<u32>,
    /// Stop tokens are banned before so many tokens are there.
    pub min_tokens: u32,
    /// The row ends after so many tokens; at least 1.
    pub max_tokens: u32,
    /// Alternatives to report for each generated token; 0 for none.
    pub logprobs: u32,
    /// Report the log-probability of each prompt token, with so many alternatives.
    pub prompt_logprobs: Option<u32>,
    /// The row's random key: a function of the job's seed and of what the row is, never of when it runs.
    pub key: u64,
}

impl Default for SamplingParams {
    fn default() -> Self {
        SamplingParams {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: Vec::new(),
            allowed_token_ids: None,
            bad_words: Vec::new(),
            stop_token_ids: Vec::new(),
            min_tokens: 0,
            max_tokens: 16,
            logprobs: 0,
            prompt_logprobs: None,
            key: 0,
        }
    }
}

impl SamplingParams {
    /// Checks ranges, and token ids against the vocabulary.
    ///
    /// # Errors
    /// The first field that is out of range, with its value and the range.
    pub fn check(&self, vocab: usize) -> Result<(), String> {
        let range = |name: &str, value: f32, low: f32, high: f32| {
            if value.is_finite() && (low..=high).contains(&value) {
                Ok(())
            } else {
                let least = match low {
                    f32::MIN_POSITIVE => "more than 0".to_string(),
                    low => format!("at least {low}"),
                };
                let most = if high == f32::MAX { String::new() } else { format!(" and at most {high}") };
                Err(format!("{name} is {value}; it must be {least}{most}"))
            }
        };
        range("temperature", self.temperature, 0.0, f32::MAX)?;
        range("top_p", self.top_p, f32::MIN_POSITIVE, 1.0)?;
        range("min_p", self.min_p, 0.0, 1.0)?;
        range("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        range("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        range("repetition_penalty", self.repetition_penalty, f32::MIN_POSITIVE, f32::MAX)?;
        if self.max_tokens == 0 {
            return Err("max_tokens is 0; it must be at least 1".into());
        }
        if self.min_tokens > self.max_tokens {
            return Err(format!("min_tokens {} exceeds max_tokens {}", self.min_tokens, self.max_tokens));
        }
        for (name, n) in [("logprobs", Some(self.logprobs)), ("prompt_logprobs", self.prompt_logprobs)] {
            if n.is_some_and(|n| n as usize > MAX_LOGPROBS) {
                return Err(format!("{name} is {}; at most {MAX_LOGPROBS} are reported", n.unwrap_or(0)));
            }
        }
        if let Some((token, bias)) = self.logit_bias.iter().find(|(_, bias)| !bias.is_finite()) {
            return Err(format!("logit_bias of token {token} is {bias}; it must be finite"));
        }
        if self.allowed_token_ids.as_ref().is_some_and(Vec::is_empty) {
            return Err("allowed_token_ids is empty; leave it out to allow all tokens".into());
        }
        let ids = |name: &str, mut ids: Box<dyn Iterator<Item = u32> + '_>| match ids
            .find(|&id| id as usize >= vocab)
        {
            Some(id) => Err(format!("{name} names token {id}; the model's logits end at {}", vocab - 1)),
            None => Ok(()),
        };
        ids("logit_bias", Box::new(self.logit_bias.iter().map(|&(id, _)| id)))?;
        ids("allowed_token_ids", Box::new(self.allowed_token_ids.iter().flatten().copied()))?;
        ids("bad_words", Box::new(self.bad_words.iter().flatten().copied()))?;
        ids("stop_token_ids", Box::new(self.stop_token_ids.iter().copied()))
    }

    /// Whether a token's choice depends on tokens chosen before, so that the host must see the last
    /// one before it can prepare the next step.
    pub fn needs_history(&self) -> bool {
        self.presence_penalty != 0.0
            || self.frequency_penalty != 0.0
            || self.repetition_penalty != 1.0
            || self.bad_words.iter().any(|word| word.len() > 1)
    }
}

/// Log-probabilities that are asked for after one position of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    /// The position: its logits are those for the token after it.
    pub position: usize,
    /// The tokens, at least one.
    pub targets: Vec<u32>,
}

/// Where a scored sequence goes on after it has been cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// How many tokens of the sequence before it are kept.
    pub from: usize,
    /// The tokens that follow them, at least one.
    pub tokens: Vec<u32>,
    /// What is asked for at their positions, in order; the last one is that of the last token.
    pub scores: Vec<Score>,
}

/// What a request asks for that generates nothing.
///
/// The prompt is computed, then each branch in its place: it overwrites what lies behind the tokens that it keeps. A
/// tree of tokens whose branches come in depth-first order is computed once, each node of it as one position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scores {
    /// What is asked for at the prompt's positions, in order; the last one is that of its last token.
    pub prompt: Vec<Score>,
    /// What comes after it.
    pub branches: Vec<Branch>,
}

impl Scores {
    /// Checks positions, and token ids against the vocabulary.
    ///
    /// # Errors
    /// What is wrong with the first of them that is.
    pub fn check(&self, prompt: usize, vocab: usize) -> Result<(), String> {
        if prompt == 0 {
            return Err("the prompt has no tokens".into());
        }
        let mut len = prompt;
        check_scores(&self.prompt, 0, prompt, vocab)?;
        for Branch { from, tokens, scores } in &self.branches {
            if *from == 0 || *from > len {
                return Err(format!("a branch keeps {from} of {len} tokens"));
            }
            if let Some(token) = tokens.iter().find(|&&t| t as usize >= vocab) {
                return Err(format!("token {token} of a branch is beyond the vocabulary of {vocab}"));
            }
            len = from + tokens.len();
            check_scores(scores, *from, len, vocab)?;
        }
        Ok(())
    }
}

/// Checks what is asked for at positions `start .. end`.
fn check_scores(scores: &[Score], start: usize, end: usize, vocab: usize) -> Result<(), String> {
    if scores.last().is_none_or(|last| last.position + 1 != end) {
        return Err(format!("no score is asked for at position {}, the last of its tokens", end - 1));
    }
    if scores[0].position < start || scores.windows(2).any(|pair| pair[0].position >= pair[1].position) {
        return Err(format!("scores are not in the order of their positions from {start} on"));
    }
    for Score { position, targets } in scores {
        match targets.iter().max() {
            None => return Err(format!("the score at position {position} names no token")),
            Some(&token) if token as usize >= vocab => {
                return Err(format!("target {token} is beyond the vocabulary of {vocab}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// One row for the engine. A row with `n > 1` is `n` requests with different keys.
#[derive(Clone, Debug)]
pub struct Request {
    /// The caller's name for it, unique among the requests that are not finished.
    pub id: u64,
    /// The prompt; not empty.
    pub prompt: Vec<u32>,
    /// How to answer it.
    pub params: SamplingParams,
    /// What its answer must match, beside `params`.
    pub constraint: Option<Arc<dyn Constraint>>,
    /// Log-probabilities to report. Such a request generates nothing: `params` and `constraint` do not matter.
    pub scores: Option<Scores>,
}

impl Request {
    /// A request that generates, without a constraint.
    pub fn new(id: u64, prompt: Vec<u32>, params: SamplingParams) -> Request {
        Request { id, prompt, params, constraint: None, scores: None }
    }

    /// A request that reports log-probabilities and generates nothing.
    pub fn score(id: u64, prompt: Vec<u32>, scores: Scores) -> Request {
        Request { scores: Some(scores), ..Request::new(id, prompt, SamplingParams::default()) }
    }
}

/// Why a row ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// A stop token (it is not among the tokens), the caller's own stop, or the end of what the constraint allows.
    Stop,
    /// `max_tokens`, or the end of the model's context.
    Length,
    /// The model's logits were not finite.
    NotFinite,
    /// All that was asked for has been reported; nothing was to be generated.
    Scored,
}

/// A token with its log-probability under the raw logits and the likeliest alternatives.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprobs {
    /// The token.
    pub token: u32,
    /// Its log-probability.
    pub logprob: f32,
    /// As many alternatives as were asked for, best first.
    pub top: Vec<(u32, f32)>,
}

/// What the engine reports of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The log-probabilities of prompt tokens, from position `start` (at least 1) on. In order.
    Prompt {
        /// The request.
        id: u64,
        /// The position of the first of them.
        start: usize,
        /// One entry for each prompt token.
        logprobs: Vec<TokenLogprobs>,
    },
    /// Log-probabilities that were asked for.
    Scores {
        /// The request.
        id: u64,
        /// Those of the targets of the next positions, one list for each [`Score`], in the request's order.
        logprobs: Vec<Vec<f32>>,
    },
    /// The next generated token.
    Token {
        /// The request.
        id: u64,
        /// The token; never a stop token.
        token: TokenLogprobs,
    },
    /// No token may come next by the request's constraint and its other rules; nothing of it follows.
    DeadEnd {
        /// The request.
        id: u64,
        /// Why.
        why: NoToken,
    },
    /// The request is finished; nothing of it follows.
    Finished {
        /// The request.
        id: u64,
        /// Why.
        reason: FinishReason,
        /// The stop token that ended it, where one did.
        stop_token: Option<u32>,
    },
}
