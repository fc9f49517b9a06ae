//! What a job keeps of a finished input row.

use crate::choices::scores::ColumnScores;
use engine::request::TokenLogprobs;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One finished input row: its completions, or the error that stands in their place.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The global input row: the rows of all input files in order, from 0.
    pub row: u64,
    /// Tokens of the prompt as the model saw it, where the row got so far.
    pub num_input_tokens: Option<u32>,
    /// `n` completions, or none if there is an error.
    pub completions: Vec<Completion>,
    /// One entry for each prompt token, if asked for; the first token has none.
    pub prompt_logprobs: Option<Vec<Option<TokenLogprobs>>>,
    /// The scores of each column of choices; none in a job that generates text, or if there is an error.
    pub choices: Vec<ColumnScores>,
    /// What the row's document took, in a job of documents.
    pub document: Option<DocumentAnswer>,
    /// Why the row has no completions. `kind: detail`, where `kind` is a fixed phrase that
    /// `gristmill status` counts by.
    pub error: Option<String>,
}

/// What a row's document took to be answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentAnswer {
    pub num_chunks: u32,
    /// Of merges; 0 for a document that fits into one prompt.
    pub num_levels: u32,
    /// Notes that were cut off, the answer not among them.
    pub num_cut_notes: u32,
    /// Tokens of the notes, the answer's not among them.
    pub num_note_tokens: u64,
    /// The chunks with their own answers, if they are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<Vec<ChunkNote>>,
}

/// A chunk of a document and its own answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkNote {
    /// Bytes of the document.
    pub start: u64,
    pub end: u64,
    /// None if it has failed.
    pub text: Option<String>,
    /// Whether it was cut off, so that it is no whole answer under a schema.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// One of a row's `n` completions.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    pub text: String,
    /// The generated tokens, without the stop token.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The log-probability of each token, if asked for; else empty.
    pub token_logprobs: Vec<f32>,
    /// The likeliest alternatives of each token, best first, if asked for; else empty.
    pub logprobs: Vec<Vec<(u32, f32)>>,
    /// The probabilities of the values that the answer has chosen among some, in the order of its text, if asked for; else empty.
    pub field_probabilities: Vec<f32>,
}

/// Why a completion ended, as the `finish_reason` column spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// A stop token or a stop string.
    Stop,
    /// `max_tokens`, or the end of the model's context.
    Length,
    /// The row has an error in place of an answer.
    Error,
    /// The job ended before the row was answered.
    Abort,
}

impl FinishReason {
    /// The word in the output column.
    pub fn as_str(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Error => "error",
            FinishReason::Abort => "abort",
        }
    }
}

impl fmt::Display for FinishReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FinishReason {
    type Err = ();

    /// Reads the word back; any other word is an error.
    fn from_str(word: &str) -> Result<Self, ()> {
        match word {
            "stop" => Ok(FinishReason::Stop),
            "length" => Ok(FinishReason::Length),
            "error" => Ok(FinishReason::Error),
            "abort" => Ok(FinishReason::Abort),
            _ => Err(()),
        }
    }
}

impl Answer {
    /// A row that ends in an error.
    pub fn failed(row: u64, num_input_tokens: Option<u32>, error: impl Into<String>) -> Self {
        Answer {
            row,
            num_input_tokens,
            completions: Vec::new(),
            prompt_logprobs: None,
            choices: Vec::new(),
            document: None,
            error: Some(error.into()),
        }
    }

    /// Generated tokens of all completions, and of notes.
    pub fn num_generated_tokens(&self) -> u64 {
        let notes = self.document.as_ref().map_or(0, |document| document.num_note_tokens);
        notes + self.completions.iter().map(|c| c.tokens.len() as u64).sum::<u64>()
    }
}
