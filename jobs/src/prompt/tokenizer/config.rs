//! `tokenizer_config.json`, as far as it matters here.

use crate::error::JobError;
use crate::prompt::tokenizer::files::{CONFIG, CONFIG_BYTES};
use engine::models::read_model_file;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::path::Path;

/// The part of `tokenizer_config.json` that matters here.
#[derive(Debug, Default, Deserialize)]
pub struct TokenizerConfig {
    #[serde(default)]
    pub add_bos_token: Option<bool>,
    #[serde(default)]
    chat_template: Option<ChatTemplates>,
    /// All other keys, among them the special tokens.
    #[serde(flatten)]
    pub rest: Keys,
}

/// The keys of an object in the order of the file.
#[derive(Debug, Default)]
pub struct Keys(pub Vec<(String, Value)>);

impl Keys {
    /// The value of a key; of two, the last.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Keys, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Keys;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    keys.push(entry);
                }
                Ok(Keys(keys))
            }
        }
        from.deserialize_map(InOrder)
    }
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
    /// The chat template of a model: `chat_template.jinja`, else the one of `tokenizer_config.json`.
    ///
    /// # Errors
    /// [`JobError::Model`] if the file cannot be read or the config's templates have none called `default`.
    pub fn chat_template(&self, folder: &Path) -> Result<Option<String>, JobError> {
        let path = folder.join("chat_template.jinja");
        if let Some(text) = read_model_file(folder, "chat_template.jinja", CONFIG_BYTES)? {
            let text = String::from_utf8(text);
            return text.map(Some).map_err(|_| JobError::Model { path, why: "is not UTF-8".into() });
        }
        let fail = |why: String| JobError::Model { path: folder.join(CONFIG), why };
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
