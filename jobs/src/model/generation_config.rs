//! What a model's `generation_config.json` says of sampling, and which tokens end its answers.
//!
//! A key that changes answers is followed or refused by its name, never passed over.

use crate::error::JobError;
use crate::model::generation_keys::{Keys, NEUTRAL, NO_EFFECT};
use crate::options::sampling::UseGenerationConfig;
use engine::models::read_model_file;
use std::path::{Path, PathBuf};

/// A larger file is refused.
const CONFIG_BYTES: u64 = 1 << 20;

const NAME: &str = "generation_config.json";
const EOS: &str = "eos_token_id";

/// How a key of the file is overruled.
const OVERRULE: &str = "to sample without what the file says, give --generation-config none";

/// What `generation_config.json` says.
#[derive(Debug, Default)]
pub struct GenerationConfig {
    /// The file.
    pub path: PathBuf,
    pub do_sample: Option<bool>,
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<i64>,
    pub min_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub max_new_tokens: Option<u32>,
    pub min_new_tokens: Option<u32>,
    /// `suppress_tokens` and `bad_words_ids`: token sequences that are never generated.
    pub banned: Vec<Vec<u32>>,
    /// `stop_strings`.
    pub stop: Vec<String>,
    /// What the user should know of the file.
    pub warnings: Vec<String>,
    eos: Vec<u32>,
    /// The file that names them.
    eos_path: PathBuf,
}

impl GenerationConfig {
    /// Reads the file of a model's folder; without one, nothing is set. Tokens that end an answer are its own, else those
    /// of the model's `config.json`; with `none` they are all that is read.
    ///
    /// # Errors
    /// [`JobError::Model`] names the file and the key; [`JobError::Io`].
    pub fn read(
        folder: &Path,
        config_json: &[u8],
        used: UseGenerationConfig,
    ) -> Result<GenerationConfig, JobError> {
        let path = folder.join(NAME);
        let keys = read_model_file(folder, NAME, CONFIG_BYTES)?;
        let keys = keys.map(|json| Keys::parse(&path, &json)).transpose()?;
        let mut config = match (&keys, used) {
            (Some(keys), UseGenerationConfig::Auto) => Self::of(keys)?,
            (Some(keys), UseGenerationConfig::None) => {
                GenerationConfig { eos: keys.ids(EOS)?, ..GenerationConfig::default() }
            }
            (None, _) => Self::default(),
        };
        config.eos_path = path.clone();
        config.path = path;
        if config.eos.is_empty() {
            config.eos_path = folder.join("config.json");
            config.eos = Keys::parse(&config.eos_path, config_json)?.ids(EOS)?;
        }
        Ok(config)
    }

    /// Refuses a token that ends an answer and that no model of this vocabulary gives.
    ///
    /// # Errors
    /// [`JobError::Model`] names the file.
    pub fn refuse_eos_beyond(&self, vocab: usize) -> Result<(), JobError> {
        let Some(id) = self.eos.iter().find(|&&id| id as usize >= vocab) else { return Ok(()) };
        let why = format!(
            "{EOS} names {id}, and the model's vocabulary has {vocab} tokens, from 0: correct the file, or give --ignore-eos \
             and the tokens that end answers with --stop-token-ids"
        );
        Err(JobError::Model { path: self.eos_path.clone(), why })
    }

    /// The tokens that end an answer.
    pub fn eos_token_ids(&self) -> &[u32] {
        &self.eos
    }

    fn of(keys: &Keys) -> Result<GenerationConfig, JobError> {
        let banned: Vec<Vec<u32>> = keys.ids("suppress_tokens")?.into_iter().map(|id| vec![id]).collect();
        let eos = keys.ids("eos_token_id")?;
        // As in transformers, words that are an end token are not banned.
        let words = keys.sequences("bad_words_ids")?.into_iter();
        let words = words.filter(|word| !matches!(word[..], [one] if eos.contains(&one)));
        let do_sample = keys.boolean("do_sample")?;
        let temperature = keys.number("temperature")?;
        let max_new_tokens = keys.count("max_new_tokens")?;
        let mut config = GenerationConfig {
            path: PathBuf::new(),
            do_sample,
            temperature,
            top_p: keys.number("top_p")?,
            top_k: keys.integer("top_k")?,
            min_p: keys.number("min_p")?,
            repetition_penalty: keys.number("repetition_penalty")?,
            max_new_tokens,
            min_new_tokens: keys.count("min_new_tokens")?,
            banned: banned.into_iter().chain(words).collect(),
            stop: keys.texts("stop_strings")?,
            warnings: Vec::new(),
            eos,
            eos_path: PathBuf::new(),
        };
        let greedy = do_sample == Some(false) || temperature == Some(0.0);
        for neutral in NEUTRAL.iter().filter(|key| !(greedy && key.only_sampling)) {
            // A minimum of new tokens goes over one that counts the prompt too.
            if neutral.key == "min_length" && config.min_new_tokens.is_some() {
                continue;
            }
            keys.refuse_unless_neutral(neutral, OVERRULE)?;
        }
        let unknown: Vec<&str> = keys.names().filter(|name| !is_known(name)).collect();
        if !unknown.is_empty() {
            config.warnings.push(format!(
                "generation_config.json: {} not known to transformers and has no effect",
                match &unknown[..] {
                    [one] => format!("{one} is"),
                    many => format!("{} are", many.join(", ")),
                }
            ));
        }
        Ok(config)
    }
}

/// Whether a key is one of transformers'. Those that begin with an underscore are its notes.
fn is_known(name: &str) -> bool {
    const READ: [&str; 13] = [
        "do_sample",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "max_new_tokens",
        "min_new_tokens",
        "suppress_tokens",
        "bad_words_ids",
        "stop_strings",
        "eos_token_id",
        "max_length",
    ];
    name.starts_with('_')
        || READ.contains(&name)
        || NO_EFFECT.contains(&name)
        || NEUTRAL.iter().any(|neutral| neutral.key == name)
}
