//! What a model's `generation_config.json` says of sampling, and which tokens end its answers.

use crate::error::JobError;
use engine::models::read_model_file;
use serde::Deserialize;
use std::path::Path;

/// A larger file is refused.
const CONFIG_BYTES: u64 = 4 << 20;

/// The part of `generation_config.json` that matters here.
#[derive(Debug, Default, Deserialize)]
pub struct GenerationConfig {
    pub do_sample: Option<bool>,
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<i64>,
    pub min_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub max_new_tokens: Option<u32>,
    #[serde(default)]
    eos_token_id: EosIds,
}

#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum EosIds {
    One(u32),
    Many(Vec<u32>),
    #[default]
    None,
}

impl EosIds {
    fn ids(&self) -> &[u32] {
        match self {
            EosIds::One(id) => std::slice::from_ref(id),
            EosIds::Many(ids) => ids,
            EosIds::None => &[],
        }
    }
}

impl GenerationConfig {
    /// Reads the file of a model's folder; without one, nothing is set. Tokens that end an answer are its own, else those
    /// of the model's `config.json`.
    ///
    /// # Errors
    /// [`JobError::Model`] or [`JobError::Io`].
    pub fn read(folder: &Path, config_json: &[u8]) -> Result<GenerationConfig, JobError> {
        let name = "generation_config.json";
        let mut config = match read_model_file(folder, name, CONFIG_BYTES)? {
            None => GenerationConfig::default(),
            Some(json) => serde_json::from_slice(&json)
                .map_err(|error| JobError::Model { path: folder.join(name), why: error.to_string() })?,
        };
        if config.eos_token_id.ids().is_empty() {
            config.eos_token_id = eos_of_config(config_json).unwrap_or_default();
        }
        Ok(config)
    }

    /// The tokens that end an answer.
    pub fn eos_token_ids(&self) -> &[u32] {
        self.eos_token_id.ids()
    }
}

/// `config.json` may hold sampling values too, but transformers no longer reads those.
fn eos_of_config(json: &[u8]) -> Option<EosIds> {
    let mut config: serde_json::Value = serde_json::from_slice(json).ok()?;
    serde_json::from_value(config.get_mut("eos_token_id")?.take()).ok()
}
