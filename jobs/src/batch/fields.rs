//! The fields of a body, taken out one by one; what is left is refused by name.

use crate::batch::envelope::Endpoint;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Fields that have no effect on an answer: they tell the requests of one service apart.
const LABELS: [&str; 6] =
    ["user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier"];

/// Fields that are taken where they say what holds in any case.
const NEUTRAL: [(&str, &[&str]); 17] = [
    ("stream", &["false"]),
    ("store", &["false"]),
    ("tools", &["[]"]),
    ("tool_choice", &["\"none\"", "\"auto\""]),
    ("parallel_tool_calls", &["true", "false"]),
    ("modalities", &["[\"text\"]"]),
    ("best_of", &["1"]),
    ("echo", &["false"]),
    ("suffix", &["\"\""]),
    ("use_beam_search", &["false"]),
    ("length_penalty", &["1", "1.0"]),
    ("spaces_between_special_tokens", &["true"]),
    ("add_generation_prompt", &["true"]),
    ("continue_final_message", &["false"]),
    ("return_tokens_as_token_ids", &["false"]),
    ("priority", &["0"]),
    ("prompt_logprobs", &["0", "false"]),
];

/// The fields of a body that are not looked at yet.
pub struct Fields(BTreeMap<String, Box<RawValue>>);

impl Fields {
    /// The fields of an object.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(object: &RawValue) -> Result<Fields, String> {
        serde_json::from_str(object.get()).map(Fields).map_err(|error| format!("`body`: {error}"))
    }

    /// A field; `null` is none.
    pub fn raw(&mut self, name: &str) -> Option<Box<RawValue>> {
        self.0.remove(name).filter(|value| value.get() != "null")
    }

    /// A field of a type.
    ///
    /// # Errors
    /// If it is of another.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, String> {
        self.raw(name).map(|value| of_type(name, &value)).transpose()
    }

    /// Refuses what is left and would have an effect.
    ///
    /// # Errors
    /// The first of them.
    pub fn refuse_others(self, endpoint: Endpoint) -> Result<(), String> {
        for (name, value) in self.0 {
            let text: String = value.get().chars().filter(|c| !c.is_ascii_whitespace()).collect();
            let (known, special) = (name.as_str(), if endpoint == Endpoint::Chat { "false" } else { "true" });
            let neutral = NEUTRAL.iter().any(|(name, values)| *name == known && values.contains(&&*text));
            if text == "null"
                || LABELS.contains(&known)
                || neutral
                || (known == "add_special_tokens" && text == special)
            {
                continue;
            }
            let why = match known {
                "stream" => "results of a batch are whole".to_string(),
                "tools" | "tool_choice" | "functions" | "function_call" => "tools are not supported".into(),
                _ => format!("it is not supported at {}", endpoint.url()),
            };
            return Err(format!("`{name}`: {why}; leave it out"));
        }
        Ok(())
    }
}

/// A value of a type.
///
/// # Errors
/// If it is of another, by the name of its field.
pub fn of_type<T: DeserializeOwned>(name: &str, value: &RawValue) -> Result<T, String> {
    serde_json::from_str(value.get()).map_err(|error| {
        let why = error.to_string();
        let mut why = why.split(" at line ").next().unwrap_or(&why).to_string();
        for (kind, said) in TYPES {
            if let Some(before) = why.strip_suffix(kind) {
                why = format!("{before}{said}");
            }
        }
        format!("`{name}`: {why}")
    })
}

/// What serde calls some types, and what JSON's words for them are.
const TYPES: [(&str, &str); 5] = [
    ("expected f32", "expected a number"),
    ("expected u32", "expected a whole number from 0 on"),
    ("expected u64", "expected a whole number from 0 on"),
    ("expected i64", "expected a whole number"),
    ("expected a sequence", "expected a list"),
];
