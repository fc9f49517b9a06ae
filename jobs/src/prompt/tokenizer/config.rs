//! `tokenizer_config.json`, as far as it matters here.

use crate::error::JobError;
use crate::files::read_capped;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A larger text file of a tokenizer, besides `tokenizer.json`, is refused.
pub const CONFIG_BYTES: u64 = 16 << 20;

/// The part of `tokenizer_config.json` that matters here.
#[derive(Debug, Default, Deserialize)]
pub struct TokenizerConfig {
    #[serde(default)]
    pub add_bos_token: Option<bool>,
    #[serde(default)]
    chat_template: Option<ChatTemplates>,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ChatTemplates {
    One(String),
    Named(Vec<NamedTemplate>),
    Other(serde::de::IgnoredAny),
}

#[derive(Debug, Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

impl TokenizerConfig {
    /// The written form of a special token by its name, such as `bos_token`.
    pub fn special_token(&self, name: &str) -> Option<String> {
        self.rest.get(name).and_then(written)
    }

    /// All special tokens by their names.
    pub fn special_tokens(&self) -> BTreeMap<String, String> {
        let names = self.rest.iter().filter(|(key, _)| key.ends_with("_token"));
        names.filter_map(|(key, value)| Some((key.clone(), written(value)?))).collect()
    }

    /// The chat template of a model: `chat_template.jinja`, else the one of `tokenizer_config.json`.
    ///
    /// # Errors
    /// [`JobError::Model`] if the file cannot be read or the config's templates have none called `default`.
    pub fn chat_template(&self, folder: &Path) -> Result<Option<String>, JobError> {
        let path = folder.join("chat_template.jinja");
        if path.is_file() {
            let text = String::from_utf8(read_capped(&path, CONFIG_BYTES)?);
            return text.map(Some).map_err(|_| JobError::Model { path, why: "is not UTF-8".into() });
        }
        let fail = |why: String| JobError::Model { path: folder.join("tokenizer_config.json"), why };
        match &self.chat_template {
            None => Ok(None),
            Some(ChatTemplates::One(template)) => Ok(Some(template.clone())),
            Some(ChatTemplates::Named(templates)) => {
                let default = templates.iter().find(|t| t.name == "default").map(|t| t.template.clone());
                let names = || templates.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", ");
                default.map(Some).ok_or_else(|| {
                    fail(format!(
                        "has chat templates {}, none called default; name one with --chat-template",
                        names()
                    ))
                })
            }
            Some(ChatTemplates::Other(_)) => Err(fail("chat_template is neither a string nor a list".into())),
        }
    }
}

/// The written form of a token in a config: a string, or an object with its `content`.
fn written(value: &serde_json::Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_string)
}
