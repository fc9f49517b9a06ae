//! Structured outputs: generated text that a regular expression, a grammar, a list of choices or a JSON Schema allows.
//!
//! llguidance says which tokens may come next. Here is what it is asked ([`grammar`]), over which tokens ([`vocabulary`]),
//! how an answer goes through it
//! ([`constraint`]), which names its objects have already ([`names`]), and where it begins in the answers of models that think
//! ([`reasoning`]).

pub(crate) mod alternatives;
pub(crate) mod chars;
pub mod constraint;
mod endings;
pub mod field_probabilities;
mod follow;
pub mod grammar;
pub(crate) mod growth;
mod lark;
mod lark_tokens;
mod names;
mod parser_error;
pub mod reasoning;
pub mod room;
pub mod vocabulary;

use serde_json::{Value, json};

/// The version of llguidance, which is part of a job's identity: another one may allow other tokens.
pub const LLGUIDANCE: &str = "1.9.1";

/// What the generated text must be.
#[derive(Clone, Debug, PartialEq)]
pub enum StructuredOutputs {
    /// JSON that a schema allows.
    Json(Value),
    /// A text that a regular expression matches as a whole.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A text that a grammar in Lark's syntax derives.
    Grammar(String),
}

impl StructuredOutputs {
    /// The key of `[structured-outputs]` that gives it.
    pub fn kind(&self) -> &'static str {
        match self {
            StructuredOutputs::Json(_) => "json",
            StructuredOutputs::Regex(_) => "regex",
            StructuredOutputs::Choice(_) => "choice",
            StructuredOutputs::Grammar(_) => "grammar",
        }
    }

    /// What it says, as one text. Keys of a schema keep their order, which is that of an answer's properties.
    pub fn text(&self) -> String {
        match self {
            StructuredOutputs::Json(schema) => schema.to_string(),
            StructuredOutputs::Regex(text) | StructuredOutputs::Grammar(text) => text.clone(),
            StructuredOutputs::Choice(texts) => json!(texts).to_string(),
        }
    }

    /// A digest of kind and text.
    pub fn digest(&self) -> [u8; 32] {
        *blake3::hash(format!("{} {}", self.kind(), self.text()).as_bytes()).as_bytes()
    }

    /// OpenAI's `response_format`; `None` for plain text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_response_format(format: &Value) -> Result<Option<StructuredOutputs>, String> {
        let object = format.as_object().ok_or("response_format is no object")?;
        let known = |keys: &[&str]| match object.keys().find(|key| !keys.contains(&key.as_str())) {
            Some(key) => Err(format!("response_format has the key `{key}`, which is not known")),
            None => Ok(()),
        };
        match format["type"].as_str() {
            Some("text") => known(&["type"]).map(|()| None),
            Some("json_object") => {
                known(&["type"])?;
                Ok(Some(StructuredOutputs::Json(json!({ "type": "object" }))))
            }
            Some("json_schema") => {
                known(&["type", "json_schema"])?;
                let named = format["json_schema"].as_object().ok_or("json_schema is no object")?;
                // A schema is always enforced in whole, so that `strict` says nothing more.
                let known = ["name", "description", "schema", "strict"];
                if let Some(key) = named.keys().find(|key| !known.contains(&key.as_str())) {
                    return Err(format!("json_schema has the key `{key}`, which is not known"));
                }
                let schema = named.get("schema").ok_or("json_schema has no `schema`")?;
                Ok(Some(StructuredOutputs::Json(schema.clone())))
            }
            _ => Err("the type of response_format is text, json_object or json_schema".into()),
        }
    }
}

#[cfg(test)]
mod tests;
