//! The keys of `generation_config.json`, and what is wrong with one.

use crate::error::JobError;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// A key that is not supported, with the values that change nothing. Null changes nothing either.
pub struct Neutral {
    pub key: &'static str,
    value: fn(&Value) -> bool,
    /// It only changes what is drawn at random.
    pub only_sampling: bool,
}

const fn neutral(key: &'static str, value: fn(&Value) -> bool) -> Neutral {
    Neutral { key, value, only_sampling: false }
}

const fn sampling(key: &'static str, value: fn(&Value) -> bool) -> Neutral {
    Neutral { key, value, only_sampling: true }
}

fn is(value: &Value, number: f64) -> bool {
    value.as_f64() == Some(number)
}

fn is_empty(value: &Value) -> bool {
    *value == json!([]) || *value == json!({})
}

fn never(_: &Value) -> bool {
    false
}

/// What transformers knows and is refused here unless it changes nothing.
pub const NEUTRAL: &[Neutral] = &[
    neutral("begin_suppress_tokens", is_empty),
    neutral("no_repeat_ngram_size", |value| is(value, 0.0)),
    neutral("encoder_no_repeat_ngram_size", |value| is(value, 0.0)),
    neutral("encoder_repetition_penalty", |value| is(value, 1.0)),
    neutral("forced_bos_token_id", never),
    neutral("forced_eos_token_id", never),
    neutral("min_length", |value| is(value, 0.0)),
    neutral("sequence_bias", is_empty),
    neutral("exponential_decay_length_penalty", never),
    neutral("num_beams", |value| is(value, 1.0)),
    neutral("num_beam_groups", |value| is(value, 1.0)),
    neutral("num_return_sequences", |value| is(value, 1.0)),
    neutral("constraints", is_empty),
    neutral("force_words_ids", is_empty),
    neutral("guidance_scale", |value| is(value, 1.0)),
    neutral("penalty_alpha", |value| is(value, 0.0)),
    neutral("dola_layers", never),
    neutral("watermarking_config", never),
    neutral("token_healing", |value| *value == json!(false)),
    neutral("max_time", never),
    sampling("typical_p", |value| is(value, 1.0)),
    sampling("epsilon_cutoff", |value| is(value, 0.0)),
    sampling("eta_cutoff", |value| is(value, 0.0)),
    sampling("top_h", never),
];

/// What changes no answer of one sequence without beams: how beams are weighed, caches, what is returned, other tokens'
/// names.
pub const NO_EFFECT: &[&str] = &[
    "transformers_version",
    "bos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "length_penalty",
    "early_stopping",
    "diversity_penalty",
    "low_memory",
    "use_cache",
    "cache_implementation",
    "cache_config",
    "return_legacy_cache",
    "prefill_chunk_size",
    "compile_config",
    "disable_compile",
    "continuous_batching_config",
    "renormalize_logits",
    "remove_invalid_values",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "return_dict_in_generate",
    "is_assistant",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_lookbehind",
    "target_lookbehind",
    "prompt_lookup_num_tokens",
    "max_matching_ngram_size",
    "generation_kwargs",
    "trust_remote_code",
    "custom_generate",
    "use_mtp",
    "chat_format",
];

/// The object that a file holds.
pub struct Keys {
    path: PathBuf,
    map: Map<String, Value>,
}

impl Keys {
    /// # Errors
    /// [`JobError::Model`] if the file is not a JSON object.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Keys, JobError> {
        let path = path.to_owned();
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(map)) => Ok(Keys { path, map }),
            Ok(other) => {
                Err(JobError::Model { path, why: format!("is {}, not a JSON object", shown(&other)) })
            }
            Err(error) => Err(JobError::Model { path, why: format!("is not JSON: {error}") }),
        }
    }

    /// The names of all keys that are not null.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.map.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.as_str())
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &str, value: &Value, wanted: &str) -> JobError {
        let why = format!("{key} is {}; it must be {wanted}", shown(value));
        JobError::Model { path: self.path.clone(), why }
    }

    /// The value of a key that `read` takes; `wanted` says which those are.
    fn read<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, JobError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.wrong(key, value, wanted))
    }

    /// # Errors
    /// A value that is not true or false.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, JobError> {
        self.read(key, "true or false", Value::as_bool)
    }

    /// # Errors
    /// A value that is not a number.
    pub fn number(&self, key: &str) -> Result<Option<f32>, JobError> {
        self.read(key, "a number", |value| value.as_f64().map(|number| number as f32))
    }

    /// # Errors
    /// A value that is not a whole number.
    pub fn integer(&self, key: &str) -> Result<Option<i64>, JobError> {
        self.read(key, "a whole number", whole)
    }

    /// # Errors
    /// A value that is not a whole number from 0 on.
    pub fn count(&self, key: &str) -> Result<Option<u32>, JobError> {
        self.read(key, "a whole number of at least 0", |value| {
            u32::try_from(whole(value)?.min(u32::MAX.into())).ok()
        })
    }

    /// The token ids of a key that is one id, a list of them, or absent.
    ///
    /// # Errors
    /// A value that holds anything else.
    pub fn ids(&self, key: &str) -> Result<Vec<u32>, JobError> {
        let ids =
            self.read(
                key,
                "a token id (a whole number of at least 0), or a list of them",
                |value| match value {
                    Value::Array(ids) => ids.iter().map(token_id).collect(),
                    one => token_id(one).map(|id| vec![id]),
                },
            );
        Ok(ids?.unwrap_or_default())
    }

    /// # Errors
    /// A value that is not a list of lists of token ids, each with at least one.
    pub fn sequences(&self, key: &str) -> Result<Vec<Vec<u32>>, JobError> {
        let sequence = |value: &Value| -> Option<Vec<u32>> {
            value.as_array().filter(|ids| !ids.is_empty())?.iter().map(token_id).collect()
        };
        let lists = self.read(key, "a list of lists of token ids", |value| {
            value.as_array()?.iter().map(sequence).collect()
        });
        Ok(lists?.unwrap_or_default())
    }

    /// # Errors
    /// A value that is neither a string nor a list of strings.
    pub fn texts(&self, key: &str) -> Result<Vec<String>, JobError> {
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(String::from);
        let texts = self.read(key, "a string that is not empty, or a list of them", |value| match value {
            Value::Array(texts) => texts.iter().map(text).collect(),
            one => text(one).map(|text| vec![text]),
        });
        Ok(texts?.unwrap_or_default())
    }

    /// # Errors
    /// A value that would change answers; `overrule` says how it is passed over.
    pub fn refuse_unless_neutral(&self, neutral: &Neutral, overrule: &str) -> Result<(), JobError> {
        match self.get(neutral.key) {
            Some(value) if !(neutral.value)(value) => {
                let (key, value) = (neutral.key, shown(value));
                let why = format!("{key} is {value}, which gristmill does not support; {overrule}");
                Err(JobError::Model { path: self.path.clone(), why })
            }
            _ => Ok(()),
        }
    }
}

/// A whole number, also one that is written as 50.0.
fn whole(value: &Value) -> Option<i64> {
    let whole = |number: &f64| number.fract() == 0.0 && number.abs() < 9e15;
    value.as_i64().or_else(|| value.as_f64().filter(whole).map(|number| number as i64))
}

fn token_id(value: &Value) -> Option<u32> {
    u32::try_from(whole(value)?).ok()
}

/// A value as messages quote it: cut if it is long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
