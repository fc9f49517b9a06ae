//! The tokenizer: text to token ids and back.
//!
//! The markers of a template are tokens, and those of a row are text ([`crate::prompt::literal`]). To that end the
//! tokenizer takes no special token for what it is; instead each marker has an alias, an unguessable string
//! that stands for it in the text to encode. The text is encoded as a whole, so that what lies between two
//! markers is split as transformers splits it, and the aliases' ids become those of their markers.

use crate::error::JobError;
use crate::files::read_capped;
use crate::guard::guarded;
use crate::prompt::literal::{Markers, Rendering};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use tokenizers::AddedToken;

/// The most bytes of `tokenizer.json`.
const TOKENIZER_BYTES: u64 = 256 << 20;

/// The most bytes of the other text files of a model.
const CONFIG_BYTES: u64 = 16 << 20;

/// A model's tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    markers: Markers,
    /// One alias for each marker, in the same order.
    aliases: Vec<String>,
    /// From an alias's id to its marker's.
    marker_ids: HashMap<u32, u32>,
    special: HashSet<u32>,
    /// What begins every prompt, most often the BOS token or nothing.
    prefix: Vec<u32>,
    longest_token: usize,
    config: TokenizerConfig,
}

/// The part of `tokenizer_config.json` that matters here.
#[derive(Debug, Default, Deserialize)]
struct TokenizerConfig {
    #[serde(default)]
    add_bos_token: Option<bool>,
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

impl Tokenizer {
    /// Reads `tokenizer.json` and, where it is there, `tokenizer_config.json` of a folder.
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

    /// The most bytes that a prompt of so many tokens can have been made from.
    pub fn most_bytes(&self, tokens: usize) -> usize {
        self.longest_token.saturating_mul(tokens)
    }

    /// The special tokens by their names in `tokenizer_config.json`, such as `bos_token`.
    pub fn special_token_names(&self) -> BTreeMap<String, String> {
        let names = self.config.rest.iter().filter(|(key, _)| key.ends_with("_token"));
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
        match &self.config.chat_template {
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

/// The tokens that begin every prompt: the BOS token if `add_bos_token` says so; if it says nothing, what the
/// tokenizer's own post-processor puts before a text.
fn prefix(inner: &tokenizers::Tokenizer, config: &TokenizerConfig) -> Vec<u32> {
    let bos = config.rest.get("bos_token").and_then(written).and_then(|bos| inner.token_to_id(&bos));
    match (config.add_bos_token, bos) {
        (Some(true), Some(bos)) => vec![bos],
        (Some(false), _) => Vec::new(),
        _ => guarded(|| inner.encode("a", true)).ok().and_then(Result::ok).map_or(Vec::new(), |encoding| {
            let special = encoding.get_special_tokens_mask().iter().zip(encoding.get_ids());
            special.take_while(|&(&special, _)| special == 1).map(|(_, &id)| id).collect()
        }),
    }
}

/// The written form of a token in a config: a string, or an object with its `content`.
fn written(value: &serde_json::Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_string)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::prompt::literal::Rendering;
    use serde_json::json;

    /// A byte-level tokenizer with a few merges, in the manner of Qwen.
    pub fn byte_level() -> Tokenizer {
        let mut letters: Vec<String> = byte_letters();
        let merges = ["h e", "l l", "he ll", "hell o", "Ġ w", "< |", "| >", "a a", "aa aa", "Ċ Ċ"];
        letters.extend(merges.iter().map(|merge| merge.replace(' ', "")));
        let vocab: BTreeMap<&String, usize> =
            letters.iter().enumerate().map(|(id, letter)| (letter, id)).collect();
        let n = letters.len();
        let added = |id: usize, content: &str, special: bool| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": special })
        };
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [
                added(n, "<|im_start|>", true), added(n + 1, "<|im_end|>", true), added(n + 2, "<s>", true),
                added(n + 3, "<think>", false), added(n + 4, "</think>", false)
            ],
            "normalizer": null,
            "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
            "post_processor": null,
            "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
            "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                       "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                       "vocab": vocab, "merges": merges }
        });
        load(tokenizer, "{}")
    }

    /// A tokenizer that marks spaces with `▁` and falls back to bytes, in the manner of Llama 2.
    pub fn metaspace() -> Tokenizer {
        let mut words: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).into();
        words.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
        words
            .extend(["▁", "a", "b", "[", "]", "I", "N", "S", "T", "▁a", "▁[", "aa", "▁aa"].map(String::from));
        let vocab: BTreeMap<&String, usize> = words.iter().enumerate().map(|(id, word)| (word, id)).collect();
        let added = |id: usize| {
            json!({ "id": id, "content": words[id], "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true })
        };
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [added(0), added(1), added(2)],
            "normalizer": null,
            "pre_tokenizer": { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false },
            "post_processor": { "type": "TemplateProcessing",
                "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
                "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 0 } }],
                "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } } },
            "decoder": { "type": "Sequence", "decoders": [
                { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
                { "type": "ByteFallback" }, { "type": "Fuse" },
                { "type": "Strip", "content": " ", "start": 1, "stop": 0 }] },
            "model": { "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                       "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
                       "vocab": vocab, "merges": ["▁ a", "▁ [", "a a", "▁a a"] }
        });
        load(tokenizer, r#"{ "bos_token": { "content": "<s>" } }"#)
    }

    fn load(tokenizer: serde_json::Value, config: &str) -> Tokenizer {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        Tokenizer::open(folder.path()).unwrap()
    }

    /// GPT-2's letters for the 256 bytes.
    fn byte_letters() -> Vec<String> {
        let plain = |b: u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let mut next = 255;
        let letter = |byte| {
            if !plain(byte) {
                next += 1;
            }
            char::from_u32(if plain(byte) { byte } else { next }).unwrap().to_string()
        };
        (0..256).map(letter).collect()
    }

    fn row(tokenizer: &Tokenizer, before: &str, text: &str, after: &str) -> Vec<u32> {
        let render =
            |marking: &crate::prompt::literal::Marking| Ok(format!("{before}{}{after}", marking.text(text)));
        tokenizer.encode(&Rendering::of_row(tokenizer.markers(), render).unwrap()).unwrap()
    }

    #[test]
    fn markers_of_a_row_become_ordinary_tokens() {
        let tokenizer = byte_level();
        let [start, end, think] = ["<|im_start|>", "<|im_end|>", "<think>"].map(|t| tokenizer.id(t).unwrap());
        let ids = row(&tokenizer, "<|im_start|>", "hello <|im_start|><think>|", "<|im_end|>");
        assert_eq!((ids[0], *ids.last().unwrap()), (start, end));
        let inner = &ids[1..ids.len() - 1];
        assert!(!inner.contains(&start), "{inner:?}");
        assert!(inner.contains(&think), "a token that is not special is one in any text, as in transformers");
        assert_eq!(tokenizer.decode(inner, false).unwrap(), "hello <|im_start|><think>|");
        assert_eq!(inner[0], tokenizer.id("hello").unwrap());
        assert!(inner.contains(&tokenizer.id("<|").unwrap()));
    }

    #[test]
    fn text_without_markers_is_split_as_the_whole_is() {
        for tokenizer in [byte_level(), metaspace()] {
            let mut whole = tokenizer.inner.clone();
            whole.set_encode_special_tokens(false);
            for (before, text, after) in [
                ("[INST] ", "aa", " [/INST]"),
                ("<s>[INST] ", "aa a\n\n", "\nb[/INST]</s>"),
                ("<|im_start|>user\n", "hello w < 3 > 2", "<|im_end|>\n"),
                ("", " aaaa", "aa hell"),
                ("h", "ello", ""),
            ] {
                let text = format!("{before}{text}{after}");
                let ids = whole.encode(text.as_str(), false).unwrap().get_ids().to_vec();
                let bos = if ids.starts_with(&tokenizer.prefix) { &[][..] } else { &tokenizer.prefix };
                let expected = [bos, &ids].concat();
                assert_eq!(
                    row(&tokenizer, before, &text[before.len()..text.len() - after.len()], after),
                    expected
                );
            }
        }
    }

    #[test]
    fn bos_is_there_exactly_once() {
        let tokenizer = metaspace();
        let bos = tokenizer.id("<s>").unwrap();
        for before in ["", "<s>"] {
            let ids = row(&tokenizer, before, "a b", "");
            assert_eq!(ids.iter().filter(|&&id| id == bos).count(), 1);
            assert_eq!(ids[0], bos);
        }
        assert!(row(&byte_level(), "", "hello", "").len() == 1);
        assert_eq!(tokenizer.special_token_names()["bos_token"], "<s>");
    }

    #[test]
    fn decoding_skips_special_tokens_only() {
        let tokenizer = byte_level();
        let ids: Vec<u32> =
            ["<think>", "hello", "</think>", "<|im_end|>"].map(|t| tokenizer.id(t).unwrap()).into();
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), "<think>hello</think>");
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), "<think>hello</think><|im_end|>");
        assert_eq!(
            tokenizer.decode(&(0..2000).collect::<Vec<_>>(), true).unwrap().matches('\u{fdee}').count(),
            0
        );
    }

    #[test]
    fn a_long_run_of_one_letter_takes_time_in_proportion() {
        // Counted in work, not in time: a quadratic merge of a million letters would not end here at all.
        for tokenizer in [byte_level(), metaspace()] {
            let ids = row(&tokenizer, "", &"a".repeat(1_000_000), "");
            assert!(ids.len() >= 250_000);
            assert_eq!(tokenizer.decode(&ids, true).unwrap().len(), 1_000_000);
        }
    }
}
