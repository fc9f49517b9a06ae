//! The body of a request: what is asked, and how it is to be answered.

use crate::batch::envelope::Endpoint;
use crate::batch::fields::{Fields, of_type};
use crate::batch::sampling::RequestSampling;
use crate::options::structured::StructuredOptions;
use crate::prompt::rendering::MARK;
use crate::structured::StructuredOutputs;
use minijinja::Value;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// JSON of a list of messages, and names for the chat template.
    Messages(String, BTreeMap<String, Value>),
    /// Text that goes to the model as it is.
    Text(String),
    Tokens(Vec<u32>),
}

/// The body of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    pub model: Option<String>,
    pub ask: Ask,
    pub sampling: RequestSampling,
    /// What the text must be, and the field that says so.
    pub structured: Option<(&'static str, StructuredOutputs)>,
}

/// What the field `prompt` can be.
#[derive(Deserialize)]
#[serde(untagged, expecting = "it must be a string or a list of token ids")]
enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    Lists(Vec<Vec<u32>>),
}

impl Body {
    /// Reads a body. Every error begins with the name of the field.
    ///
    /// # Errors
    /// The first field that is missing, of another type, or not followed here.
    pub fn read(endpoint: Endpoint, body: &RawValue) -> Result<Body, String> {
        let mut fields = Fields::read(body)?;
        let model = fields.take("model")?;
        let ask = read_ask(endpoint, &mut fields)?;
        let sampling = RequestSampling::read(endpoint, &mut fields)?;
        let structured = read_structure(&mut fields)?;
        fields.refuse_others(endpoint)?;
        Ok(Body { model, ask, sampling, structured })
    }
}

fn read_ask(endpoint: Endpoint, fields: &mut Fields) -> Result<Ask, String> {
    let name = endpoint.asks_in();
    let value = fields.raw(name).ok_or_else(|| format!("`{name}` is missing"))?;
    match endpoint {
        Endpoint::Chat => {
            let names: Option<BTreeMap<String, Value>> = fields.take("chat_template_kwargs")?;
            let names = names.unwrap_or_default();
            if let Some(own) =
                ["messages", "add_generation_prompt", MARK].into_iter().find(|n| names.contains_key(*n))
            {
                return Err(format!("`chat_template_kwargs`: {own} is not for a request to set"));
            }
            Ok(Ask::Messages(value.get().into(), names))
        }
        Endpoint::Completions => match of_type(name, &value)? {
            Prompt::Text(text) => Ok(Ask::Text(text)),
            Prompt::Tokens(tokens) => Ok(Ask::Tokens(tokens)),
            Prompt::Texts(texts) => only(texts).map(Ask::Text),
            Prompt::Lists(lists) => only(lists).map(Ask::Tokens),
        },
    }
}

/// The prompt of a list of one.
fn only<T>(mut prompts: Vec<T>) -> Result<T, String> {
    match (prompts.pop(), prompts.len()) {
        (Some(prompt), 0) => Ok(prompt),
        (_, n) => Err(format!("`prompt` has {} prompts; write one request for each", n + 1)),
    }
}

/// Fields that say what the text must be, with their names in the table of structured outputs.
const STRUCTURES: [&str; 6] = [
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
];

/// What the text must be: OpenAI's field, vLLM's, or those that vLLM had before.
fn read_structure(fields: &mut Fields) -> Result<Option<(&'static str, StructuredOutputs)>, String> {
    let given: Vec<_> = STRUCTURES.iter().filter_map(|name| Some((*name, fields.raw(name)?))).collect();
    let (name, value) = match given.as_slice() {
        [] => return Ok(None),
        [one] => one,
        [(one, _), (other, _), ..] => {
            return Err(format!("`{one}` and `{other}` both say what the text must be"));
        }
    };
    let structured_outputs = Some(match *name {
        "structured_outputs" => of_type(name, value)?,
        name => {
            let value: serde_json::Value = of_type(name, value)?;
            let table = serde_json::json!({ name: value });
            serde_json::from_value(table).map_err(|error| format!("`{name}`: {error}"))?
        }
    });
    let options = StructuredOptions { structured_outputs, ..StructuredOptions::default() };
    let structured = options.resolve().map_err(|error| {
        let why = error.to_string();
        format!("`{name}`: {}", why.split_once(": ").map_or(why.as_str(), |(_, why)| why))
    })?;
    Ok(structured.map(|structured| (*name, structured)))
}
