//! What a model's `generation_config.json` says of sampling, and which tokens end its answers.

use crate::error::JobError;
use crate::files::read_capped;
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
    /// Reads the file of a model's folder; without one, nothing is set.
    ///
    /// # Errors
    /// [`JobError::Model`] or [`JobError::Io`].
    pub fn read(folder: &Path) -> Result<GenerationConfig, JobError> {
        let path = folder.join("generation_config.json");
        if !path.is_file() {
            return Ok(GenerationConfig::default());
        }
        serde_json::from_slice(&read_capped(&path, CONFIG_BYTES)?)
            .map_err(|error| JobError::Model { path, why: error.to_string() })
    }

    /// The tokens that end an answer: its own, else those of the folder's `config.json`.
    pub fn eos_token_ids(&self, folder: &Path) -> Vec<u32> {
        match self.eos_token_id.ids() {
            [] => eos_of_config(folder).unwrap_or_default(),
            ids => ids.to_vec(),
        }
    }
}

/// `config.json` may hold sampling values too, but transformers no longer reads those.
fn eos_of_config(folder: &Path) -> Option<Vec<u32>> {
    let path = folder.join("config.json");
    let bytes = if path.is_file() { read_capped(&path, CONFIG_BYTES).ok()? } else { return None };
    let mut config: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    let ids: EosIds = serde_json::from_value(config.get_mut("eos_token_id")?.take()).ok()?;
    Some(ids.ids().to_vec())
}
