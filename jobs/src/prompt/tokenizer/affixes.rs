//! The tokens that a tokenizer's post-processor puts before and after a text, usually a BOS token or nothing.
//!
//! As in transformers, `tokenizer.json` alone says which: where it exists, `add_bos_token` and `add_eos_token` of
//! `tokenizer_config.json` are not looked at.

use crate::guard::guarded;
use crate::prompt::tokenizer::config::TokenizerConfig;

/// More tokens before and after a text than any tokenizer has.
const MAX_TOKENS: usize = 64;

/// What stands around every text.
#[derive(Debug, Default)]
pub struct Affixes {
    prefix: Vec<u32>,
    suffix: Vec<u32>,
}

impl Affixes {
    /// What a tokenizer's post-processor adds.
    ///
    /// # Errors
    /// What it does besides.
    pub fn of(inner: &tokenizers::Tokenizer) -> Result<Affixes, String> {
        let ids = |special: bool| -> Result<Vec<u32>, String> {
            let encoding = guarded(|| inner.encode_fast("a", special))?;
            Ok(encoding.map_err(|error| error.to_string())?.get_ids().to_vec())
        };
        let (text, whole) = (ids(false)?, ids(true)?);
        let added = whole.len().saturating_sub(text.len());
        if added > MAX_TOKENS {
            let why =
                format!("its post_processor adds {added} tokens to every text; at most {MAX_TOKENS} can be");
            return Err(why);
        }
        let at = (0..=added).find(|&at| whole[at..].starts_with(&text) && whole.len() == text.len() + added);
        let Some(at) = at else {
            return Err(
                "its post_processor does more than put tokens before and after a text, which is not \
                        supported"
                    .into(),
            );
        };
        let (prefix, suffix) = (whole[..at].to_vec(), whole[at + text.len()..].to_vec());
        if let Some(id) = prefix.iter().chain(&suffix).find(|&&id| inner.id_to_token(id).is_none()) {
            return Err(format!("its post_processor adds the token {id}, which the tokenizer does not have"));
        }
        Ok(Affixes { prefix, suffix })
    }

    /// The ids of a text with what stands around it. A text that begins with the prefix gets no second one.
    pub fn around(&self, ids: Vec<u32>) -> Vec<u32> {
        if self.prefix.is_empty() && self.suffix.is_empty() {
            return ids;
        }
        let prefix = if ids.starts_with(&self.prefix) { &[][..] } else { &self.prefix };
        [prefix, &ids, &self.suffix].concat()
    }

    /// What the user should know.
    pub fn warnings(&self, config: &TokenizerConfig, bos: Option<u32>) -> Vec<String> {
        let mut warnings = Vec::new();
        let has_bos = bos.is_some_and(|bos| self.prefix.contains(&bos));
        let differs = match config.add_bos_token {
            Some(true) if bos.is_some() && !has_bos => Some((
                "true",
                "adds no BOS token to prompts without a chat \
                                                              template: write it into the prompt if the model wants one",
            )),
            Some(false) if has_bos => Some(("false", "adds a BOS token to prompts without a chat template")),
            _ => None,
        };
        warnings.extend(differs.map(|(says, but)| {
            format!(
                "tokenizer_config.json says add_bos_token {says}, but the post_processor of tokenizer.json {but}; as \
                 transformers 5 does, gristmill follows tokenizer.json"
            )
        }));
        if !self.suffix.is_empty() {
            warnings.push(format!(
                "the tokenizer puts the tokens {:?} after every prompt without a chat template, as in transformers",
                self.suffix
            ));
        }
        warnings
    }
}
