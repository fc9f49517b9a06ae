//! What generated text must be.

use crate::error::JobError;
use crate::input::json;
use crate::schema::AnswerSchema;
use crate::schema::{LESS_DEEP, MAX_DEPTH, SMALLER};
use crate::structured::StructuredOutputs;
use crate::structured::grammar::MAX_BYTES;
use engine::models::read_capped;
use serde::Deserialize;
use serde_json::Value;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// At most one of these is given.
#[derive(clap::Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Structured outputs")]
pub struct StructuredOptions {
    /// Generate JSON that this JSON Schema allows: a file, or the schema itself.
    #[arg(long, value_name = "FILE|JSON")]
    pub json_schema: Option<String>,
    /// Generate a text that this regular expression matches as a whole, in the syntax of Rust's regex crate.
    #[arg(long, value_name = "REGEX", allow_hyphen_values = true)]
    pub regex: Option<String>,
    /// Generate a text that this grammar allows: a file in llguidance's variant of Lark's syntax.
    #[arg(long, value_name = "FILE")]
    pub grammar: Option<PathBuf>,
    /// One of these as JSON: {"json": {...}}, {"regex": "..."}, {"choice": ["a", "b"]} or {"grammar": "..."}; in a job
    /// file a table [structured-outputs].
    #[arg(long, value_name = "JSON", value_parser = json::parse::<StructuredTable>)]
    pub structured_outputs: Option<StructuredTable>,
    /// Let the model think first: the structure begins behind this text, such as '</think>', and what is before it goes to
    /// a column `reasoning` [default: </think>, where the chat template opens <think>].
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub reasoning_end: Option<String>,
}

/// The keys of `[structured-outputs]`, of which there is one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StructuredTable {
    #[serde(alias = "guided_json", alias = "guided-json")]
    json: Option<Value>,
    #[serde(alias = "guided_regex", alias = "guided-regex")]
    regex: Option<String>,
    #[serde(alias = "guided_choice", alias = "guided-choice")]
    choice: Option<Vec<String>>,
    #[serde(alias = "guided_grammar", alias = "guided-grammar")]
    grammar: Option<String>,
    #[serde(alias = "response_format")]
    response_format: Option<Value>,
}

impl StructuredOptions {
    /// The one structure that is asked for, its files read.
    ///
    /// # Errors
    /// [`JobError::Usage`] if there are two, or what is wrong with it; [`JobError::Io`].
    pub fn resolve(self) -> Result<Option<StructuredOutputs>, JobError> {
        let StructuredOptions { json_schema, regex, grammar, structured_outputs, reasoning_end } = self;
        let table = structured_outputs.is_some();
        let StructuredTable { json, regex: of_table, choice, grammar: text, response_format } =
            structured_outputs.unwrap_or_default();
        let given = [
            ("--json-schema", json_schema.is_some()),
            ("--regex", regex.is_some()),
            ("--grammar", grammar.is_some()),
            ("json", json.is_some()),
            ("regex", of_table.is_some()),
            ("choice", choice.is_some()),
            ("grammar", text.is_some()),
            ("response-format", response_format.is_some()),
        ];
        let names: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        if let [one, other, ..] = names[..] {
            return Err(JobError::Usage(format!(
                "{one} and {other} are two kinds of structured outputs; give one"
            )));
        }
        if reasoning_end.is_some() && names.is_empty() {
            return Err(JobError::Usage("--reasoning-end has no effect without structured outputs".into()));
        }
        if table && names.is_empty() {
            return Err(JobError::Usage(
                "--structured-outputs says nothing; give it one of json, regex, choice, grammar".into(),
            ));
        }
        let wrong = |name: &str| {
            let name = name.to_string();
            move |why: String| JobError::Usage(format!("{name}: {why}"))
        };
        let outputs = if let Some(given) = json_schema {
            let is_file = !given.trim_start().starts_with('{');
            let text = if is_file { read(Path::new(&given), SCHEMA_IS)? } else { given.clone() };
            let named = if is_file { format!("--json-schema {given}") } else { "--json-schema".into() };
            Some(StructuredOutputs::Json(parse_schema(&text).map_err(wrong(&named))?))
        } else if let Some(json) = json {
            let json = match json {
                Value::String(text) if !text.trim_start().starts_with(['{', 't', 'f']) => {
                    let why = format!(
                        "{text:?} is no schema; a file is named by --json-schema (json-schema in a job file)"
                    );
                    return Err(wrong("json")(why));
                }
                Value::String(text) => parse_schema(&text).map_err(wrong("json"))?,
                json => json,
            };
            Some(StructuredOutputs::Json(json))
        } else if let Some(path) = grammar {
            Some(StructuredOutputs::Grammar(read(&path, GRAMMAR_IS)?))
        } else if let Some(format) = response_format {
            StructuredOutputs::of_response_format(&format).map_err(wrong("response-format"))?
        } else {
            let regex = regex.or(of_table).map(StructuredOutputs::Regex);
            regex.or(choice.map(StructuredOutputs::Choice)).or(text.map(StructuredOutputs::Grammar))
        };
        if let Some(outputs) = &outputs {
            check(outputs).map_err(wrong(names[0]))?;
        }
        Ok(outputs)
    }
}

/// Checks what needs no vocabulary.
fn check(outputs: &StructuredOutputs) -> Result<(), String> {
    match outputs {
        StructuredOutputs::Regex(text) | StructuredOutputs::Grammar(text) if text.trim().is_empty() => {
            Err("is empty".into())
        }
        StructuredOutputs::Choice(texts) if texts.is_empty() => Err("names no text".into()),
        StructuredOutputs::Choice(texts) => {
            let mut seen = std::collections::HashSet::new();
            for (i, text) in texts.iter().enumerate() {
                if text.is_empty() {
                    return Err(format!("text {} is empty", i + 1));
                }
                if !seen.insert(text) {
                    return Err(format!("{text:?} is there twice"));
                }
            }
            Ok(())
        }
        StructuredOutputs::Json(schema) => {
            AnswerSchema::read(schema).map(drop).map_err(|error| error.to_string())
        }
        _ => Ok(()),
    }
}

/// What is said where the file is none.
const SCHEMA_IS: &str =
    "--json-schema takes a file, or the schema itself as an object of JSON ({} allows any JSON)";
const GRAMMAR_IS: &str = "--grammar takes a file; give the text of a grammar as --structured-outputs '{\"grammar\": \"start: ...\"}', in Python as \
                          structured_outputs={\"grammar\": \"start: ...\"}";

fn parse_schema(text: &str) -> Result<Value, String> {
    json::parse(text).map_err(|why| match why.starts_with("recursion limit exceeded") {
        true => format!("it is nested more than {MAX_DEPTH} deep; {LESS_DEEP}"),
        false => why,
    })
}

/// A file's text; `is` says what is taken in place of a file.
fn read(path: &Path, is: &str) -> Result<String, JobError> {
    let found = std::fs::metadata(path);
    let named = path.display();
    if found.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        let named = named.to_string();
        let short: String = named.chars().take(80).collect();
        let more = if short.len() < named.len() { "..." } else { "" };
        return Err(JobError::Usage(format!("there is no file {short}{more}: {is}")));
    }
    if found.is_ok_and(|found| found.is_file() && found.len() > MAX_BYTES as u64) {
        return Err(JobError::Usage(format!("{named}: has more than {MAX_BYTES} bytes; {SMALLER}")));
    }
    let bytes = read_capped(path, MAX_BYTES as u64)?;
    String::from_utf8(bytes).map_err(|_| JobError::Usage(format!("{named}: is not UTF-8")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn table(text: &str) -> Result<Option<StructuredOutputs>, String> {
        let structured_outputs = Some(json::parse(text)?);
        let options = StructuredOptions { structured_outputs, ..StructuredOptions::default() };
        options.resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn names_of_vllm_and_openai_mean_the_same() {
        let schema = json!({ "type": "object", "properties": { "b": {}, "a": {} } });
        let same = [
            format!(r#"{{"json": {schema}}}"#),
            format!(r#"{{"guided_json": {schema}}}"#),
            json!({ "json": schema.to_string() }).to_string(),
            json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "x", "schema": schema } } })
                .to_string(),
        ];
        for text in same {
            assert_eq!(table(&text), Ok(Some(StructuredOutputs::Json(schema.clone()))), "{text}");
        }
        let regex = Some(StructuredOutputs::Regex("a+".into()));
        assert_eq!(table(r#"{"guided-regex": "a+"}"#), Ok(regex));
        assert_eq!(table(r#"{"response-format": {"type": "text"}}"#), Ok(None));
        assert_eq!(
            table(r#"{"guided_choice": ["b", "a"]}"#),
            Ok(Some(StructuredOutputs::Choice(vec!["b".into(), "a".into()])))
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            (r#"{}"#, "says nothing"),
            (r#"{"json": {}, "regex": "a"}"#, "json and regex are two kinds"),
            (r#"{"json": {}, "guided_json": {}}"#, "duplicate field `json`"),
            (r#"{"regexp": "a"}"#, "unknown field `regexp`"),
            (r#"{"regex": ""}"#, "regex: is empty"),
            (r#"{"choice": []}"#, "choice: names no text"),
            (r#"{"choice": ["a", ""]}"#, "choice: text 2 is empty"),
            (r#"{"choice": ["a", "b", "a"]}"#, "choice: \"a\" is there twice"),
            (r#"{"json": "{"}"#, "json: EOF while parsing"),
            (r#"{"json": "sch.json"}"#, "json: \"sch.json\" is no schema; a file is named by --json-schema"),
            (
                r#"{"json": {"a": [{"b": 1, "b": 2}]}}"#,
                "the key `b` comes twice in an object at line 1 column 28",
            ),
            (r#"{"response_format": {"type": "xml"}}"#, "text, json_object or json_schema"),
            (r#"{"response_format": {"type": "text", "x": 1}}"#, "the key `x`"),
        ] {
            let error = table(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        let two = StructuredOptions {
            regex: Some("a".into()),
            json_schema: Some("{}".into()),
            ..StructuredOptions::default()
        };
        assert!(two.resolve().unwrap_err().to_string().contains("--json-schema and --regex"));
    }
}
