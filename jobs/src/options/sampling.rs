//! How rows are answered, as far as flags say it.

use std::collections::BTreeMap;

/// What was asked for; what is left out is the model's to say, or the default. Names are vLLM's.
#[derive(clap::Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingOptions {
    /// Completions of each row; more than one make list columns [default: 1].
    #[arg(long, allow_negative_numbers = true)]
    pub n: Option<u32>,
    /// Divides the logits; 0 is greedy [default: the model's, or 1].
    #[arg(long, allow_negative_numbers = true)]
    pub temperature: Option<f32>,
    /// Keep the likeliest tokens up to this mass [default: the model's, or 1].
    #[arg(long, allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    /// Keep so many of the likeliest tokens; 0 and -1 keep all [default: the model's, or 0].
    #[arg(long, allow_negative_numbers = true)]
    pub top_k: Option<i64>,
    /// Drop tokens less likely than this share of the likeliest [default: the model's, or 0].
    #[arg(long, allow_negative_numbers = true)]
    pub min_p: Option<f32>,
    /// Subtracted from the logits of generated tokens, once [default: 0].
    #[arg(long, allow_negative_numbers = true)]
    pub presence_penalty: Option<f32>,
    /// Subtracted from the logits of generated tokens, for each time [default: 0].
    #[arg(long, allow_negative_numbers = true)]
    pub frequency_penalty: Option<f32>,
    /// Divides the logits of tokens seen before, the prompt's too [default: the model's, or 1].
    #[arg(long, allow_negative_numbers = true)]
    pub repetition_penalty: Option<f32>,
    /// Seeds every row's random numbers.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// A string that ends a row; may be repeated.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Tokens that end a row.
    #[arg(long, value_name = "ID,...", value_delimiter = ',', allow_negative_numbers = true)]
    pub stop_token_ids: Vec<u32>,
    /// Generate the model's end tokens like others.
    #[arg(long)]
    pub ignore_eos: bool,
    /// Tokens after which a row ends [default: the model's max_new_tokens; needed if it has none].
    #[arg(long, alias = "max-new-tokens", allow_negative_numbers = true)]
    pub max_tokens: Option<u32>,
    /// Tokens before which a row does not end.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub min_tokens: u32,
    /// Alternatives to report for each generated token, for `--return logprobs`.
    #[arg(long, allow_negative_numbers = true)]
    pub logprobs: Option<u32>,
    /// Alternatives to report for each prompt token, for `--return prompt_logprobs`.
    #[arg(long, allow_negative_numbers = true)]
    pub prompt_logprobs: Option<u32>,
    /// Leave special tokens out of the text [default: true].
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub skip_special_tokens: Option<bool>,
    /// Keep the stop string in the text.
    #[arg(long)]
    pub include_stop_str_in_output: bool,
    /// Added to the logits of tokens: `ID:BIAS,...` or a JSON object.
    #[arg(long, value_parser = parse_logit_bias, allow_hyphen_values = true, value_name = "ID:BIAS,...")]
    pub logit_bias: Option<BTreeMap<u32, f32>>,
    /// The only tokens that may be generated.
    #[arg(long, value_name = "ID,...", value_delimiter = ',', allow_negative_numbers = true)]
    pub allowed_token_ids: Vec<u32>,
    /// A word that must not be generated; may be repeated.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub bad_words: Vec<String>,
    /// `none` takes only the end tokens from the model's generation_config.json.
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
        return serde_json::from_str(text).map_err(|error| error.to_string());
    }
    let pair = |pair: &str| {
        let (id, bias) = pair.split_once(':').ok_or_else(|| format!("{pair:?} is not ID:BIAS"))?;
        let id = id.trim().parse().map_err(|_| format!("{id:?} is not a token id"))?;
        Ok((id, bias.trim().parse().map_err(|_| format!("{bias:?} is not a number"))?))
    };
    text.split(',').map(pair).collect()
}
