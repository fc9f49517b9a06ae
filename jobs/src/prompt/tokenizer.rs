//! The tokenizer: text to token ids and back.
//!
//! The markers of a template are tokens, and those of a row are text ([`crate::prompt::rendering`]). The text is encoded
//! as a whole, so that what lies between two markers is split as transformers splits it ([`aliases`]).

mod affixes;
mod aliases;
mod bounds;
mod config;
pub mod files;
mod special;
pub mod token_bytes;

use crate::error::JobError;
use crate::guard::guarded;
use crate::prompt::markers::Markers;
use crate::prompt::markers::literals::{Literal, marker_shaped};
use crate::prompt::rendering::Rendering;
use affixes::Affixes;
use aliases::Aliases;
use config::TokenizerConfig;
use files::TokenizerFiles;
use special::SpecialTokens;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use tokenizers::{AddedToken, ModelWrapper};

/// A model's tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    markers: Markers,
    aliases: Aliases,
    /// The tokens of the markers by their written form, with their ids.
    marked: BTreeMap<String, (u32, AddedToken)>,
    /// Tokens that have no text where special tokens are left out.
    special: HashSet<u32>,
    /// What stands around a prompt that goes through no chat template.
    affixes: Affixes,
    longest_token: usize,
    config: TokenizerConfig,
    names: BTreeMap<String, String>,
    warnings: Vec<String>,
}

impl Tokenizer {
    /// Reads the files of a folder.
    ///
    /// # Errors
    /// [`JobError::Model`] with the file and what is wrong with it.
    pub fn open(folder: &Path) -> Result<Tokenizer, JobError> {
        let files = TokenizerFiles::read(folder)?;
        let path = folder.join("tokenizer.json");
        Tokenizer::from_files(&files).map_err(|why| JobError::Model { path, why })
    }

    /// Makes a tokenizer of the text of its files.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn from_files(files: &TokenizerFiles) -> Result<Tokenizer, String> {
        let config = files.config.as_deref().map(serde_json::from_slice).transpose();
        let config = config.map_err(|error| format!("{} beside it: {error}", files::CONFIG))?;
        bounds::check(&files.tokenizer)?;
        let inner = guarded(|| tokenizers::Tokenizer::from_bytes(&files.tokenizer))?;
        let inner = inner.map_err(|error| format!("is not a tokenizer: {error}"))?;
        Tokenizer::new(inner, config.unwrap_or_default(), files)
    }

    fn new(
        mut inner: tokenizers::Tokenizer,
        config: TokenizerConfig,
        files: &TokenizerFiles,
    ) -> Result<Tokenizer, String> {
        let no_limit = inner.with_truncation(None).map(|inner| inner.with_padding(None)).map(|_| ());
        no_limit.map_err(|e| e.to_string())?;
        let mut warnings = without_chance(&mut inner);
        let own = inner.get_added_tokens_decoder().into_iter().collect();
        let tokens = SpecialTokens::merge(&config, files, &own)?;
        guarded(|| inner.add_tokens(tokens.add.clone()))?.map_err(|error| error.to_string())?;
        let longest_token = inner.get_vocab(true).keys().map(String::len).max().unwrap_or(1).max(1);
        let affixes = Affixes::of(&inner)?;
        let is_special = |content: &str| inner.get_added_vocabulary().is_special_token(content);
        let added = inner.get_added_tokens_decoder();
        let special =
            added.iter().filter(|(_, token)| is_special(&token.content)).map(|(&id, _)| id).collect();
        let marked: BTreeMap<String, (u32, AddedToken)> = added
            .into_iter()
            .filter(|(_, token)| is_special(&token.content) || tokens.contains(&token.content))
            .map(|(id, token)| (token.content.clone(), (id, token)))
            .collect();
        warnings.extend(other_ids(&inner, &tokens));
        let markers = Markers::new(marked.keys().cloned().collect());
        let mut aliases = Aliases::new();
        guarded(|| aliases.add(&mut inner, &markers, &marked))??;
        let names = tokens.names;
        Ok(Tokenizer {
            inner,
            markers,
            aliases,
            marked,
            special,
            affixes,
            longest_token,
            config,
            names,
            warnings,
        })
    }

    /// Makes markers of all added tokens that templates write, also of those that are not flagged as special.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn mark_tokens_of(&mut self, texts: &[Literal]) -> Result<(), String> {
        let mut looked_for = Vec::new();
        for (id, token) in self.inner.get_added_tokens_decoder() {
            let content = &token.content;
            let written = || texts.iter().any(|literal| literal.text.contains(content));
            if self.aliases.contains(id) || self.marked.contains_key(content) || content.trim().is_empty() {
                continue;
            }
            if written() {
                if texts.iter().any(|literal| literal.looked_for && literal.text.contains(content)) {
                    looked_for.push(content.clone());
                }
                self.marked.insert(content.clone(), (id, token));
            }
        }
        self.markers = Markers::new(self.marked.keys().cloned().collect()).looking_for(looked_for);
        guarded(|| self.aliases.add(&mut self.inner, &self.markers, &self.marked))??;
        self.warn_of_broken_markers(texts)
    }

    /// Notes what looks like a marker of the templates and is none.
    fn warn_of_broken_markers(&mut self, texts: &[Literal]) -> Result<(), String> {
        let shaped: BTreeSet<&str> = texts.iter().flat_map(|literal| marker_shaped(&literal.text)).collect();
        let mut broken = Vec::new();
        for text in shaped.into_iter().filter(|text| !self.marked.contains_key(*text)) {
            let tokens = self.encode_plain(text)?.len();
            if tokens > 1 {
                broken.push(format!("{text} ({tokens} tokens)"));
            }
        }
        if !broken.is_empty() {
            self.warnings.push(format!(
                "the template writes what looks like a special token and is none of this tokenizer: {}; the model \
                 gets it as plain text, as in transformers. Check that template and tokenizer belong together",
                broken.join(", ")
            ));
        }
        Ok(())
    }

    /// The markers that a template may write and a row may not.
    pub fn markers(&self) -> &Markers {
        &self.markers
    }

    /// The ids of what a chat template has rendered. As in transformers, nothing is added to it.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn encode(&self, rendering: &Rendering) -> Result<Vec<u32>, String> {
        self.aliases.encode(&self.inner, &self.markers, rendering.pieces(&self.markers))
    }

    /// The ids of a prompt that goes through no chat template, with what the tokenizer's post-processor adds. A prompt
    /// that begins with what would be put before it gets no second one.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn encode_raw(&self, rendering: &Rendering) -> Result<Vec<u32>, String> {
        Ok(self.affixes.around(self.encode(rendering)?))
    }

    /// What the user should know of what is put around a prompt that goes through no chat template.
    pub fn raw_warnings(&self) -> Vec<String> {
        let id = |name: &str| self.names.get(name).and_then(|token| self.id(token));
        self.affixes.warnings(&self.config, id("bos_token"))
    }

    /// The ids of a text without markers and without a BOS token.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, String> {
        self.aliases.encode_text(&self.inner, text)
    }

    /// The places in a text, in bytes, at which its tokens begin, sorted. Tokens of one character begin with it.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn token_starts(&self, text: &str) -> Result<Vec<usize>, String> {
        let encoding = guarded(|| self.inner.encode(text, false))?.map_err(|error| error.to_string())?;
        let mut starts: Vec<usize> = encoding.get_offsets().iter().map(|(start, _)| *start).collect();
        starts.sort_unstable();
        Ok(starts)
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

    /// A token as the vocabulary writes it.
    pub fn written_form(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Whether a token has any text.
    pub fn has_text(&self, id: u32, skip_special_tokens: bool) -> bool {
        let skipped = skip_special_tokens && self.special.contains(&id);
        !skipped && !self.aliases.contains(id) && self.inner.id_to_token(id).is_some()
    }

    /// The id of a token by its written form.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token).filter(|&id| !self.aliases.contains(id))
    }

    /// The id of a special token by its written form.
    pub fn special_id(&self, token: &str) -> Option<u32> {
        self.id(token).filter(|id| self.special.contains(id))
    }

    /// A special token that is a part of a text, and not all of it.
    pub fn special_inside(&self, text: &str) -> Option<&str> {
        if self.special_id(text).is_some() {
            return None;
        }
        let special = self.marked.iter().filter(|(_, (id, _))| self.special.contains(id));
        special.map(|(token, _)| token.as_str()).find(|token| text.contains(token))
    }

    /// Bytes of the longest text that can become this number of tokens.
    pub fn max_bytes(&self, tokens: usize) -> usize {
        self.longest_token.saturating_mul(tokens)
    }

    /// The special tokens by their names, such as `bos_token`.
    pub fn special_token_names(&self) -> &BTreeMap<String, String> {
        &self.names
    }

    /// What the user should know of the tokenizer's files.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The chat template of a model: `chat_template.jinja`, else the one of `tokenizer_config.json`.
    ///
    /// # Errors
    /// [`JobError::Model`] if the file cannot be read or the config's templates have none called `default`.
    pub fn chat_template(&self, folder: &Path) -> Result<Option<String>, JobError> {
        self.config.chat_template(folder)
    }
}

/// Takes out what makes a text other tokens each time. Returns what the user should know of it.
fn without_chance(inner: &mut tokenizers::Tokenizer) -> Vec<String> {
    let ModelWrapper::BPE(bpe) = inner.get_model() else { return Vec::new() };
    let Some(dropout) = bpe.dropout.filter(|&dropout| dropout != 0.0) else { return Vec::new() };
    let mut bpe = bpe.clone();
    bpe.dropout = None;
    inner.with_model(bpe);
    vec![format!(
        "tokenizer.json has a dropout of {dropout}, which is for training and gives a text other tokens each time; it \
         is off here, so that the same prompt always has the same tokens"
    )]
}

/// What to say where a token has another id than a file gives it.
fn other_ids(inner: &tokenizers::Tokenizer, tokens: &SpecialTokens) -> Vec<String> {
    let other = tokens.ids.iter().filter_map(|(id, token)| {
        let now = inner.token_to_id(token).filter(|now| now != id)?;
        Some((token, id, now))
    });
    let others: Vec<_> = other.collect();
    let Some((token, id, now)) = others.first() else { return Vec::new() };
    let more =
        if others.len() > 1 { format!(" (and {} more tokens)", others.len() - 1) } else { String::new() };
    vec![format!(
        "the tokenizer's files give {token} the id {id}, but tokenizer.json lacks tokens below it and so the id becomes \
         {now}, as in transformers{more}; the model may know it as {id}: complete added_tokens of tokenizer.json"
    )]
}

#[cfg(test)]
pub(crate) mod tests;
