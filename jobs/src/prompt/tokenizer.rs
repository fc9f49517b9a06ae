//! The tokenizer: text to token ids and back.
//!
//! The markers of a template are tokens, and those of a row are text ([`crate::prompt::rendering`]). To that end the
//! tokenizer takes no special token for what it is; instead each marker has an alias, an unguessable string
//! that stands for it in the text to encode. The text is encoded as a whole, so that what lies between two
//! markers is split as transformers splits it, and the aliases' ids become those of their markers.

mod config;

use crate::error::JobError;
use crate::files::read_capped;
use crate::guard::guarded;
use crate::prompt::markers::Markers;
use crate::prompt::rendering::Rendering;
use config::{CONFIG_BYTES, TokenizerConfig};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use tokenizers::AddedToken;

/// A larger `tokenizer.json` is refused.
const TOKENIZER_BYTES: u64 = 256 << 20;

/// A model's tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    markers: Markers,
    /// One alias for each marker, in the same order.
    aliases: Vec<String>,
    /// From an alias's id to its marker's.
    marker_ids: HashMap<u32, u32>,
    special: HashSet<u32>,
    /// What begins every prompt: usually the BOS token or nothing.
    prefix: Vec<u32>,
    longest_token: usize,
    config: TokenizerConfig,
}

impl Tokenizer {
    /// Reads `tokenizer.json` and, if it exists, `tokenizer_config.json` of a folder.
    ///
    /// # Errors
    /// [`JobError::Model`] with the file and what is wrong with it.
    pub fn open(folder: &Path) -> Result<Tokenizer, JobError> {
        let path = folder.join("tokenizer.json");
        let fail = |why: String| JobError::Model { path: path.clone(), why };
        if !path.is_file() {
            let slow = ["tokenizer.model", "vocab.json"].into_iter().find(|name| folder.join(name).is_file());
            let found = slow.map_or(String::new(), |name| format!(" ({name} is not read)"));
            return Err(fail(format!(
                "not found{found}; save the tokenizer with transformers' save_pretrained, or name another \
                 folder with --tokenizer"
            )));
        }
        let config = folder.join("tokenizer_config.json");
        let config = if config.is_file() { Some(read_capped(&config, CONFIG_BYTES)?) } else { None };
        Tokenizer::from_json(&read_capped(&path, TOKENIZER_BYTES)?, config.as_deref()).map_err(fail)
    }

    /// Makes a tokenizer of the text of `tokenizer.json` and, if there is one, `tokenizer_config.json`.
    ///
    /// # Errors
    /// What is wrong with either.
    pub fn from_json(tokenizer: &[u8], config: Option<&[u8]>) -> Result<Tokenizer, String> {
        let config = config.map(serde_json::from_slice).transpose();
        let config = config.map_err(|error| format!("tokenizer_config.json beside it: {error}"))?;
        let inner = guarded(|| tokenizers::Tokenizer::from_bytes(tokenizer))?;
        let inner = inner.map_err(|error| format!("is not a tokenizer: {error}"))?;
        Tokenizer::new(inner, config.unwrap_or_default())
    }

    fn new(mut inner: tokenizers::Tokenizer, config: TokenizerConfig) -> Result<Tokenizer, String> {
        let no_limit = inner.with_truncation(None).map(|inner| inner.with_padding(None)).map(|_| ());
        no_limit.map_err(|e| e.to_string())?;
        let added = inner.get_added_tokens_decoder();
        let special: HashSet<u32> =
            added.iter().filter(|(_, token)| token.special).map(|(&id, _)| id).collect();
        let vocabulary = inner.get_vocab(true);
        let longest_token = vocabulary.keys().map(String::len).max().unwrap_or(1).max(1);
        drop(vocabulary);
        let prefix = prefix(&inner, &config);
        let marked: HashMap<String, (u32, AddedToken)> = added
            .into_iter()
            .filter(|(_, token)| token.special)
            .map(|(id, token)| (token.content.clone(), (id, token)))
            .collect();
        let markers = Markers::new(marked.keys().cloned().collect());
        let secret =
            format!("{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1));
        let aliases: Vec<String> =
            (0..markers.list().len()).map(|n| format!("\u{fdef}{secret}{n}\u{fdee}")).collect();
        let alias_tokens = markers.list().iter().zip(&aliases).map(|(marker, alias)| {
            let (_, token) = &marked[marker];
            AddedToken { content: alias.clone(), special: false, normalized: false, ..token.clone() }
        });
        inner.add_tokens(alias_tokens.collect::<Vec<_>>()).map_err(|error| error.to_string())?;
        inner.set_encode_special_tokens(true);
        let mut marker_ids = HashMap::new();
        for (marker, alias) in markers.list().iter().zip(&aliases) {
            let id = inner.token_to_id(alias).ok_or("its special tokens cannot be replaced")?;
            marker_ids.insert(id, marked[marker].0);
        }
        Ok(Tokenizer { inner, markers, aliases, marker_ids, special, prefix, longest_token, config })
    }

    /// The markers that a template may write and a row may not.
    pub fn markers(&self) -> &Markers {
        &self.markers
    }

    /// The ids of a rendering. Every prompt begins with the BOS token where the tokenizer has one to add:
    /// the rendering's own if it has one, else one is put before it.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn encode(&self, rendering: &Rendering) -> Result<Vec<u32>, String> {
        let ids = self.ids(&rendering.with_aliases(&self.markers, |n| &self.aliases[n]))?;
        if self.prefix.is_empty() || ids.starts_with(&self.prefix) {
            return Ok(ids);
        }
        Ok(self.prefix.iter().copied().chain(ids).collect())
    }

    /// The ids of a text without markers and without a BOS token.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, String> {
        self.ids(text)
    }

    fn ids(&self, text: &str) -> Result<Vec<u32>, String> {
        let encoding = guarded(|| self.inner.encode_fast(text, false))?.map_err(|error| error.to_string())?;
        Ok(encoding.get_ids().iter().map(|id| *self.marker_ids.get(id).unwrap_or(id)).collect())
    }

    /// The text of ids. Ids that the tokenizer does not know have no text.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, String> {
        let ids: Vec<u32> =
            ids.iter().copied().filter(|&id| self.has_text(id, skip_special_tokens)).collect();
        guarded(|| self.inner.decode(&ids, false))?.map_err(|error| error.to_string())
    }

    /// Whether a token has any text.
    pub fn has_text(&self, id: u32, skip_special_tokens: bool) -> bool {
        let skipped = skip_special_tokens && self.special.contains(&id);
        !skipped && !self.marker_ids.contains_key(&id) && self.inner.id_to_token(id).is_some()
    }

    /// The id of a token by its written form.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token).filter(|id| !self.marker_ids.contains_key(id))
    }

    /// Bytes of the longest text that can become this number of tokens.
    pub fn max_bytes(&self, tokens: usize) -> usize {
        self.longest_token.saturating_mul(tokens)
    }

    /// The special tokens by their names in `tokenizer_config.json`, such as `bos_token`.
    pub fn special_token_names(&self) -> BTreeMap<String, String> {
        self.config.special_tokens()
    }

    /// The chat template of a model: `chat_template.jinja`, else the one of `tokenizer_config.json`.
    ///
    /// # Errors
    /// [`JobError::Model`] if the file cannot be read or the config's templates have none called `default`.
    pub fn chat_template(&self, folder: &Path) -> Result<Option<String>, JobError> {
        self.config.chat_template(folder)
    }
}

/// The tokens that begin every prompt: the BOS token if `add_bos_token` is true; if it is not set, what the
/// tokenizer's own post-processor puts before a text.
fn prefix(inner: &tokenizers::Tokenizer, config: &TokenizerConfig) -> Vec<u32> {
    let bos = config.special_token("bos_token").and_then(|bos| inner.token_to_id(&bos));
    match (config.add_bos_token, bos) {
        (Some(true), Some(bos)) => vec![bos],
        (Some(false), _) => Vec::new(),
        _ => guarded(|| inner.encode("a", true)).ok().and_then(Result::ok).map_or(Vec::new(), |encoding| {
            let special = encoding.get_special_tokens_mask().iter().zip(encoding.get_ids());
            special.take_while(|&(&special, _)| special == 1).map(|(_, &id)| id).collect()
        }),
    }
}

#[cfg(test)]
pub(crate) mod tests;
