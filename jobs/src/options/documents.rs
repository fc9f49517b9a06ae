//! Documents of any length.

use crate::documents::chunks::TextFormat;
use crate::error::JobError;
use crate::options::prompt::{Given, PromptOptions};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A job whose rows hold documents of any length.
#[derive(clap::Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Documents")]
pub struct DocumentsOptions {
    /// Read a column of texts of any length, chunk by chunk, and merge what is generated: {"column": "...", "map-prompt":
    /// "... {{ chunk }}", "reduce-prompt": "... {{ notes }}"}; in a job file a table [documents].
    #[arg(long, value_name = "JSON", value_parser = parse)]
    pub documents: Option<DocumentOptions>,
}

/// What the prompt of a chunk reads besides columns.
pub const MAP: Given = Given { key: "map-prompt", names: &["chunk", "chunk_index"] };

/// The keys of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DocumentOptions {
    /// The column of texts.
    pub column: String,
    #[serde(default)]
    pub method: Method,
    /// The prompt of a chunk: sees `chunk`, `chunk_index` and the row's other columns.
    #[serde(alias = "map_prompt")]
    pub map_prompt: String,
    /// The prompt of a merge: sees `notes`, `level`, with `sources` also `sources`, and the row's other columns.
    #[serde(alias = "reduce_prompt", skip_serializing_if = "Option::is_none")]
    pub reduce_prompt: Option<String>,
    /// The prompt of all chunks but the first: sees `answer`, `chunk`, `chunk_index` and the row's other columns.
    #[serde(alias = "refine_prompt", skip_serializing_if = "Option::is_none")]
    pub refine_prompt: Option<String>,
    /// Tokens of a chunk's end with which the next one begins again, at most.
    #[serde(default)]
    pub overlap: usize,
    #[serde(default)]
    pub format: TextFormat,
    /// Whether merges see the sentences of their chunks that their notes rest on.
    #[serde(default)]
    pub sources: bool,
    /// Whether each chunk is answered under the JSON schema of the job, too, in a list `chunk_answers`.
    #[serde(default, alias = "map_columns", skip_serializing_if = "std::ops::Not::not")]
    pub map_columns: bool,
}

/// How the answers to chunks become one.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Chunks are answered at once, and the answers merged, level by level.
    #[default]
    MapReduce,
    /// One answer is carried along the chunks.
    Refine,
}

impl DocumentOptions {
    /// The prompts of a job that has none of its own: those of chunks.
    pub fn map_options(&self, prompt: &PromptOptions) -> PromptOptions {
        let given = Some(MAP);
        PromptOptions {
            prompt: Some(self.map_prompt.clone()),
            allow_constant_prompt: true,
            given,
            ..prompt.clone()
        }
    }

    /// The template of all prompts but those of the first level, and its key.
    pub fn second_prompt(&self) -> (&str, &'static str) {
        match self.method {
            Method::MapReduce => (self.reduce_prompt.as_deref().unwrap_or_default(), "reduce-prompt"),
            Method::Refine => (self.refine_prompt.as_deref().unwrap_or_default(), "refine-prompt"),
        }
    }

    /// Checks what needs neither input nor model.
    ///
    /// # Errors
    /// [`JobError::Usage`] names the key.
    pub fn check(&self) -> Result<(), JobError> {
        let wrong = |why: &str| Err(JobError::Usage(format!("documents: {why}")));
        let (own, other) = match self.method {
            Method::MapReduce => (&self.reduce_prompt, &self.refine_prompt),
            Method::Refine => (&self.refine_prompt, &self.reduce_prompt),
        };
        match (self.method, own, other) {
            (Method::MapReduce, None, _) => {
                wrong("method map-reduce needs a reduce-prompt, which merges `notes`")
            }
            (Method::Refine, None, _) => {
                wrong("method refine needs a refine-prompt, which goes on from `answer` with `chunk`")
            }
            (Method::MapReduce, _, Some(_)) => {
                wrong("refine-prompt is for method = \"refine\"; leave it out")
            }
            (Method::Refine, _, Some(_)) => {
                wrong("reduce-prompt is for method = \"map-reduce\"; leave it out")
            }
            (Method::Refine, ..) if self.sources => {
                wrong("sources is for method = \"map-reduce\"; leave it out")
            }
            (Method::Refine, ..) if self.map_columns => {
                wrong("map-columns is for method = \"map-reduce\"; leave it out")
            }
            _ => Ok(()),
        }
    }
}

fn parse(text: &str) -> Result<DocumentOptions, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        for (keys, why) in [
            (r#""map-prompt": "{{ chunk }}""#, "needs a reduce-prompt"),
            (r#""map-prompt": "x", "method": "refine""#, "needs a refine-prompt"),
            (r#""map-prompt": "x", "reduce-prompt": "y", "refine-prompt": "z""#, "refine-prompt is for"),
            (
                r#""map-prompt": "x", "method": "refine", "refine-prompt": "y", "reduce-prompt": "z""#,
                "reduce-prompt is",
            ),
            (
                r#""map-prompt": "x", "method": "refine", "refine-prompt": "y", "sources": true"#,
                "sources is for",
            ),
            (
                r#""map-prompt": "x", "method": "refine", "refine-prompt": "y", "map-columns": true"#,
                "map-columns is for",
            ),
            (r#""reduce-prompt": "x""#, "missing field `map-prompt`"),
            (r#""map-prompt": "x", "method": "reduce""#, "unknown variant `reduce`"),
            (r#""map-prompt": "x", "overlap": -1"#, "invalid value"),
            (r#""map-prompt": "x", "chunk": 1"#, "unknown field `chunk`"),
        ] {
            let parsed = parse(&format!(r#"{{"column": "text", {keys}}}"#));
            let error = parsed.and_then(|options| options.check().map_err(|error| error.to_string()));
            let error = error.unwrap_err();
            assert!(error.contains(why), "{keys}: {error}");
        }
    }
}
