//! The files of a tokenizer.

use crate::digest::{digest_bytes, digest_named};
use crate::error::JobError;
use engine::models::read_model_file;
use std::path::Path;

/// A larger `tokenizer.json` is refused.
const TOKENIZER_BYTES: u64 = 64 << 20;

/// A larger text file of a tokenizer, besides `tokenizer.json`, is refused.
pub const CONFIG_BYTES: u64 = 4 << 20;

/// The file that every tokenizer has.
pub const TOKENIZER: &str = "tokenizer.json";
/// The files that are read besides `tokenizer.json`, where they exist.
pub const CONFIG: &str = "tokenizer_config.json";
/// What older versions of transformers wrote special tokens to.
pub const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
/// What older versions of transformers wrote added tokens to.
pub const ADDED_TOKENS: &str = "added_tokens.json";

/// What a tokenizer is known by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizerDigests {
    /// Of `tokenizer.json`, and of the older files beside it where a model has them.
    pub tokens: String,
    /// Of `tokenizer_config.json`.
    pub config: Option<String>,
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
        let Some(tokenizer) = read_model_file(folder, TOKENIZER, TOKENIZER_BYTES)? else {
            let path = folder.join(TOKENIZER);
            let slow = ["tokenizer.model", "vocab.json"].into_iter().find(|name| folder.join(name).is_file());
            let found = slow.map_or(String::new(), |name| format!(" ({name} is not read)"));
            let why = format!(
                "not found{found}; save the tokenizer with transformers' save_pretrained, or name another \
                 folder with --tokenizer"
            );
            return Err(JobError::Model { path, why });
        };
        let read = |name: &str| read_model_file(folder, name, CONFIG_BYTES);
        Ok(TokenizerFiles {
            config: read(CONFIG)?,
            special_tokens_map: read(SPECIAL_TOKENS_MAP)?,
            added_tokens: read(ADDED_TOKENS)?,
            tokenizer,
        })
    }

    /// The digests of what was read.
    pub fn digests(&self) -> TokenizerDigests {
        let older = [(SPECIAL_TOKENS_MAP, &self.special_tokens_map), (ADDED_TOKENS, &self.added_tokens)];
        let mut files = vec![(TOKENIZER.into(), blake3::hash(&self.tokenizer))];
        files.extend(
            older.iter().filter_map(|(name, text)| Some((name.into(), blake3::hash(text.as_ref()?)))),
        );
        let tokens = match files.as_slice() {
            [(_, one)] => one.to_hex().to_string(),
            _ => digest_named(files),
        };
        TokenizerDigests { tokens, config: self.config.as_deref().map(digest_bytes) }
    }
}
