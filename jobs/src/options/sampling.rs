//! Sampling flags. Names and meanings are vLLM's.

use crate::input::json;
use crate::options::number::{real, whole};
use std::collections::BTreeMap;

/// Values that are not given are the model's, or the default.
#[derive(clap::Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingOptions {
    /// Completions per row; with more than one, their columns are lists [default: 1].
    #[arg(long, value_parser = whole::<u32>, allow_negative_numbers = true)]
    pub n: Option<u32>,
    /// Divide logits by this; 0 is greedy [default: the model's, or 1].
    #[arg(long, value_parser = real::<f32>, allow_negative_numbers = true)]
    pub temperature: Option<f32>,
    /// Keep the most likely tokens up to this probability mass [default: the model's, or 1].
    #[arg(long, value_parser = real::<f32>, allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    /// Keep this number of most likely tokens; 0 and -1 keep all [default: the model's, or 0].
    #[arg(long, value_parser = whole::<i64>, allow_negative_numbers = true)]
    pub top_k: Option<i64>,
    /// Drop tokens less likely than this share of the most likely one [default: the model's, or 0].
    #[arg(long, value_parser = real::<f32>, allow_negative_numbers = true)]
    pub min_p: Option<f32>,
    /// Subtract this once from the logit of each token generated before [default: 0].
    #[arg(long, value_parser = real::<f32>, allow_negative_numbers = true)]
    pub presence_penalty: Option<f32>,
    /// Subtract this from the logit of a token for each time it was generated before [default: 0].
    #[arg(long, value_parser = real::<f32>, allow_negative_numbers = true)]
    pub frequency_penalty: Option<f32>,
    /// Divide the logits of tokens of the prompt and the answer by this [default: the model's, or 1].
    #[arg(long, value_parser = real::<f32>, allow_negative_numbers = true)]
    pub repetition_penalty: Option<f32>,
    /// Seed of every row's random numbers.
    #[arg(long, value_parser = whole::<u64>, default_value_t = 0)]
    pub seed: u64,
    /// End a row at this string, or this special token; may be repeated.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// End a row at these tokens.
    #[arg(long, value_parser = whole::<u32>, value_name = "ID,...", value_delimiter = ',', allow_negative_numbers = true)]
    pub stop_token_ids: Vec<u32>,
    /// Do not end rows at the model's end tokens.
    #[arg(long)]
    pub ignore_eos: bool,
    /// End a row after this number of tokens [default: the model's max_new_tokens; required if it has none].
    #[arg(long, value_parser = whole::<u32>, alias = "max-new-tokens", allow_negative_numbers = true)]
    pub max_tokens: Option<u32>,
    /// Generate at least this number of tokens.
    #[arg(long, value_parser = whole::<u32>, default_value_t = 0, allow_negative_numbers = true)]
    pub min_tokens: u32,
    /// Report this number of alternatives for each generated token, with `--return logprobs`.
    #[arg(long, value_parser = whole::<u32>, allow_negative_numbers = true)]
    pub logprobs: Option<u32>,
    /// Report this number of alternatives for each prompt token, with `--return prompt_logprobs`.
    #[arg(long, value_parser = whole::<u32>, allow_negative_numbers = true)]
    pub prompt_logprobs: Option<u32>,
    /// Leave special tokens out of the text [default: true].
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub skip_special_tokens: Option<bool>,
    /// Keep the stop string in the text.
    #[arg(long)]
    pub include_stop_str_in_output: bool,
    /// Add these values to the logits of tokens: `ID:BIAS,...` or a JSON object.
    #[arg(long, value_parser = parse_logit_bias, allow_hyphen_values = true, value_name = "ID:BIAS,...")]
    pub logit_bias: Option<BTreeMap<u32, f32>>,
    /// Generate only these tokens.
    #[arg(long, value_parser = whole::<u32>, value_name = "ID,...", value_delimiter = ',', allow_negative_numbers = true)]
    pub allowed_token_ids: Vec<u32>,
    /// Never generate the tokens that the tokenizer makes of this word, with a space before it and without; may be repeated. The
    /// same letters may come of other tokens.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub bad_words: Vec<String>,
    /// Whether the model's generation_config.json gives defaults; with `none` it gives only the end tokens.
    #[arg(long, value_enum, default_value_t)]
    pub generation_config: UseGenerationConfig,
}

/// Whether the model's `generation_config.json` gives defaults.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UseGenerationConfig {
    /// It does.
    #[default]
    Auto,
    /// It does not, but for the end tokens.
    None,
}

/// Reads `ID:BIAS,...` or `{"ID": BIAS, ...}`.
fn parse_logit_bias(text: &str) -> Result<BTreeMap<u32, f32>, String> {
    if text.trim_start().starts_with('{') {
        return json::parse(text);
    }
    let pair = |pair: &str| {
        let (id, bias) = pair.split_once(':').ok_or_else(|| format!("{pair:?} is not ID:BIAS"))?;
        let id = id.trim().parse().map_err(|_| format!("{id:?} is not a token id"))?;
        Ok((id, bias.trim().parse().map_err(|_| format!("{bias:?} is not a number"))?))
    };
    text.split(',').map(pair).collect()
}
