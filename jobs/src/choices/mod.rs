//! Columns of choices: a row's labels are scored by the model, and no text is generated.
//!
//! The prompts of a row's columns and the labels behind them are one tree of tokens, which the engine walks once
//! ([`requests`]). A label's score is the probability of its tokens and of the end behind them ([`trie`]); what a row's
//! scores become in the output is a function of them alone ([`scores`]).

mod calibration;
mod labels;
mod prompts;
pub mod requests;
pub mod scores;
pub mod trie;

use crate::error::JobError;
use crate::options::columns::{Calibrate, ColumnOptions};
use crate::options::sampling::{SamplingOptions, UseGenerationConfig};
use crate::prompt::tokenizer::Tokenizer;
use labels::tokens_of;
use std::sync::Arc;
use trie::Trie;

/// More columns are refused: each may be a request of its own, and their numbers fit into a byte.
const MAX_COLUMNS: usize = 256;

/// A column of choices.
#[derive(Clone, Debug)]
pub struct ChoiceColumn {
    pub name: String,
    pub ask: Option<String>,
    pub labels: Vec<String>,
    pub calibrate: Option<Calibrate>,
    /// The labels' own tokens.
    pub trie: Arc<Trie>,
}

/// The columns of choices of a job.
#[derive(Clone, Debug)]
pub struct Choices {
    pub columns: Vec<ChoiceColumn>,
    /// The tokens that end an answer, sorted.
    pub end_tokens: Arc<[u32]>,
}

impl Choices {
    /// Checks the labels against the tokenizer.
    ///
    /// # Errors
    /// [`JobError::Usage`] names the column and the label.
    pub fn new(
        columns: &[ColumnOptions],
        tokenizer: &Tokenizer,
        end_tokens: &[u32],
        vocab: usize,
    ) -> Result<Choices, JobError> {
        if columns.len() > MAX_COLUMNS {
            return Err(JobError::Usage(format!("{} columns; at most {MAX_COLUMNS}", columns.len())));
        }
        if end_tokens.is_empty() {
            return Err(JobError::Usage(
                "the model names no end token (eos_token_id of generation_config.json or config.json), and a choice \
                 is scored with the end behind it"
                    .into(),
            ));
        }
        let column = |options: &ColumnOptions| {
            let ColumnOptions { name, ask, choices, calibrate } = options;
            let wrong = |why: String| JobError::Usage(format!("column `{name}`: {why}"));
            let tokens = choices.iter().map(|label| tokens_of(label, tokenizer, vocab).map_err(wrong));
            let trie = Trie::new(&tokens.collect::<Result<Vec<_>, _>>()?);
            let trie = trie.map_err(|(a, b)| {
                wrong(format!("the tokenizer makes the same tokens of {:?} and {:?}", choices[a], choices[b]))
            })?;
            let (labels, trie) = (choices.clone(), Arc::new(trie));
            Ok(ChoiceColumn { name: name.clone(), ask: ask.clone(), labels, calibrate: *calibrate, trie })
        };
        let columns = columns.iter().map(column).collect::<Result<Vec<_>, JobError>>()?;
        Ok(Choices { columns, end_tokens: end_tokens.into() })
    }

    /// The columns on one line.
    pub fn summary(&self) -> String {
        let columns = self.columns.iter().map(|column| {
            let calibrated = if column.calibrate.is_some() { ", calibrated" } else { "" };
            format!("{} ({} choices{calibrated})", column.name, column.labels.len())
        });
        format!("{}; end_token_ids={:?}", columns.collect::<Vec<_>>().join(", "), self.end_tokens)
    }
}

/// How rows are answered beside their scores: the greedy way, so that one row may answer others of the same prompts.
pub fn sampling_options() -> SamplingOptions {
    SamplingOptions {
        temperature: Some(0.0),
        max_tokens: Some(1),
        generation_config: UseGenerationConfig::None,
        ..SamplingOptions::default()
    }
}

/// Refuses flags of sampling that have no effect on scores.
///
/// # Errors
/// [`JobError::Usage`] names the first of them.
pub fn refuse_sampling(options: &SamplingOptions) -> Result<(), JobError> {
    let SamplingOptions {
        n,
        temperature,
        top_p,
        top_k,
        min_p,
        presence_penalty,
        frequency_penalty,
        repetition_penalty,
        seed,
        stop,
        stop_token_ids,
        ignore_eos,
        max_tokens,
        min_tokens,
        logprobs,
        prompt_logprobs,
        skip_special_tokens,
        include_stop_str_in_output,
        logit_bias,
        allowed_token_ids,
        bad_words,
        // Says where the end tokens are from, which are the model's in any case.
        generation_config: _,
    } = options;
    let given = [
        ("n", n.is_some_and(|n| n != 1)),
        ("temperature", temperature.is_some()),
        ("top-p", top_p.is_some()),
        ("top-k", top_k.is_some()),
        ("min-p", min_p.is_some()),
        ("presence-penalty", presence_penalty.is_some()),
        ("frequency-penalty", frequency_penalty.is_some()),
        ("repetition-penalty", repetition_penalty.is_some()),
        ("seed", *seed != 0),
        ("stop", !stop.is_empty()),
        ("stop-token-ids", !stop_token_ids.is_empty()),
        ("ignore-eos", *ignore_eos),
        ("max-tokens", max_tokens.is_some()),
        ("min-tokens", *min_tokens != 0),
        ("logprobs", logprobs.is_some()),
        ("prompt-logprobs", prompt_logprobs.is_some()),
        ("skip-special-tokens", skip_special_tokens.is_some()),
        ("include-stop-str-in-output", *include_stop_str_in_output),
        ("logit-bias", logit_bias.is_some()),
        ("allowed-token-ids", !allowed_token_ids.is_empty()),
        ("bad-words", !bad_words.is_empty()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(JobError::Usage(format!(
            "--{flag} does not apply to columns of choices, which are scored by the model's own probabilities; leave it \
             out"
        ))),
        None => Ok(()),
    }
}
