//! The files of a tokenizer.

use crate::error::JobError;
use engine::models::{inside, read_capped};
use std::path::{Path, PathBuf};

/// A larger `tokenizer.json` is refused.
const TOKENIZER_BYTES: u64 = 64 << 20;

/// A larger text file of a tokenizer, besides `tokenizer.json`, is refused.
pub const CONFIG_BYTES: u64 = 4 << 20;

/// The files that are read besides `tokenizer.json`, where they exist.
pub const CONFIG: &str = "tokenizer_config.json";
/// What older versions of transformers wrote special tokens to.
pub const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
/// What older versions of transformers wrote added tokens to.
pub const ADDED_TOKENS: &str = "added_tokens.json";

/// The files of a folder that say which tokens there are, besides its `tokenizer_config.json`.
pub fn token_files(folder: &Path) -> Vec<PathBuf> {
    let files = ["tokenizer.json", SPECIAL_TOKENS_MAP, ADDED_TOKENS].map(|name| folder.join(name));
    files.into_iter().filter(|path| path.is_file()).collect()
}

/// Reads a file of a model's folder that is no link out of it.
///
/// # Errors
/// [`JobError::Engine`] for a file that cannot be read, is longer than `max` bytes or lies elsewhere.
pub fn read_within(folder: &Path, path: &Path, max: u64) -> Result<Vec<u8>, JobError> {
    inside(folder, path)?;
    Ok(read_capped(path, max)?)
}

/// The text of each file; of `tokenizer.json` there is always one.
#[derive(Clone, Debug, Default)]
pub struct TokenizerFiles {
    /// `tokenizer.json`.
    pub tokenizer: Vec<u8>,
    /// `tokenizer_config.json`.
    pub config: Option<Vec<u8>>,
    /// `special_tokens_map.json`.
    pub special_tokens_map: Option<Vec<u8>>,
    /// `added_tokens.json`.
    pub added_tokens: Option<Vec<u8>>,
}

impl TokenizerFiles {
    /// Reads the files of a folder.
    ///
    /// # Errors
    /// [`JobError::Model`] without a `tokenizer.json`, or for a file that cannot be read.
    pub fn read(folder: &Path) -> Result<TokenizerFiles, JobError> {
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            let slow = ["tokenizer.model", "vocab.json"].into_iter().find(|name| folder.join(name).is_file());
            let found = slow.map_or(String::new(), |name| format!(" ({name} is not read)"));
            let why = format!(
                "not found{found}; save the tokenizer with transformers' save_pretrained, or name another \
                 folder with --tokenizer"
            );
            return Err(JobError::Model { path, why });
        }
        let read = |name: &str| -> Result<Option<Vec<u8>>, JobError> {
            let path = folder.join(name);
            Ok(if path.is_file() { Some(read_within(folder, &path, CONFIG_BYTES)?) } else { None })
        };
        Ok(TokenizerFiles {
            config: read(CONFIG)?,
            special_tokens_map: read(SPECIAL_TOKENS_MAP)?,
            added_tokens: read(ADDED_TOKENS)?,
            tokenizer: read_within(folder, &path, TOKENIZER_BYTES)?,
        })
    }
}
