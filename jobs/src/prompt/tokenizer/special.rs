//! Which tokens are added to a tokenizer's vocabulary and which of them are special, from all its files as transformers
//! merges them.
//!
//! `tokenizer.json` has added tokens of its own. `added_tokens_decoder` of `tokenizer_config.json` goes over them; where
//! it is absent, `special_tokens_map.json` and `added_tokens.json` are read. Named tokens, such as `eos_token`, and extra
//! ones are added if nothing has them yet. What is named is special, whatever its flag says.

use crate::prompt::tokenizer::config::{Keys, TokenizerConfig};
use crate::prompt::tokenizer::files::{ADDED_TOKENS, CONFIG, SPECIAL_TOKENS_MAP, TokenizerFiles};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use tokenizers::AddedToken;

/// The names that every tokenizer has, in the order in which their tokens are added.
const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What the files say of added tokens.
#[derive(Debug, Default)]
pub struct SpecialTokens {
    /// The written forms of special tokens by their names, such as `bos_token`.
    pub names: BTreeMap<String, String>,
    /// Special tokens without a name.
    pub extra: Vec<String>,
    /// What is to be added to the vocabulary, in this order; or, if it is there, to be changed.
    pub add: Vec<AddedToken>,
    /// The ids that the files give to tokens.
    pub ids: Vec<(u32, String)>,
}

/// A special token: its written form, or with its flags.
#[derive(Clone, Debug, PartialEq)]
enum Special {
    Text(String),
    Token(AddedToken),
}

impl Special {
    fn content(&self) -> &str {
        match self {
            Special::Text(text) => text,
            Special::Token(token) => &token.content,
        }
    }
}

impl SpecialTokens {
    /// Merges the files with the added tokens of `tokenizer.json`.
    ///
    /// # Errors
    /// The file, the key, and what is wrong there.
    pub fn merge(
        config: &TokenizerConfig,
        files: &TokenizerFiles,
        own: &BTreeMap<u32, AddedToken>,
    ) -> Result<SpecialTokens, String> {
        let mut names: Names = NAMES.iter().map(|&name| (name.to_string(), None)).collect();
        let mut extra = Vec::new();
        read_special(&config.rest, CONFIG, &mut names, &mut extra)?;
        let mut added: BTreeMap<u32, AddedToken> = BTreeMap::new();
        let mut ids = Vec::new();
        if let Some(decoder) = config.rest.get("added_tokens_decoder").filter(|decoder| !decoder.is_null()) {
            let wrong = |why: &str| format!("{CONFIG} beside it: added_tokens_decoder {why}");
            let decoder = decoder.as_object().ok_or_else(|| wrong("is not an object"))?;
            for (id, token) in decoder {
                let id: u32 =
                    id.parse().map_err(|_| wrong(&format!("has {id:?}, which is not a token id")))?;
                let token = added_token(token, None).map_err(|why| wrong(&format!("{id}: {why}")))?;
                ids.push((id, token.content.clone()));
                added.insert(id, token);
            }
        } else {
            if let Some(map) = object(files.special_tokens_map.as_deref(), SPECIAL_TOKENS_MAP)? {
                read_special(&map, SPECIAL_TOKENS_MAP, &mut names, &mut extra)?;
            }
            let special: HashSet<&str> = tokens_of(&names).chain(&extra).map(Special::content).collect();
            for (content, id) in object(files.added_tokens.as_deref(), ADDED_TOKENS)?.unwrap_or_default().0 {
                let id = id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
                    format!("{ADDED_TOKENS} beside it: {content:?} has {id}, which is not a token id")
                })?;
                ids.push((id, content.clone()));
                let special = special.contains(content.as_str());
                added.insert(id, AddedToken::from(content, special));
            }
            added.extend(own.iter().map(|(&id, token)| (id, token.clone())));
        }
        let mut merged = SpecialTokens { ids, ..SpecialTokens::default() };
        merged.add = tokens_to_add(added, own, &names, &extra);
        let written = |(name, token): (String, Option<Special>)| Some((name, token?.content().to_string()));
        merged.names = names.into_iter().filter_map(written).collect();
        merged.extra = extra.iter().map(|token| token.content().to_string()).collect();
        Ok(merged)
    }

    /// Whether a token is named or extra.
    pub fn contains(&self, content: &str) -> bool {
        self.names.values().chain(&self.extra).any(|token| token == content)
    }
}

/// Special tokens by their names, in the order in which they are added.
type Names = Vec<(String, Option<Special>)>;

fn tokens_of(names: &Names) -> impl Iterator<Item = &Special> {
    names.iter().filter_map(|(_, token)| token.as_ref())
}

fn set(names: &mut Names, name: &str, token: Special) {
    match names.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => *known = Some(token),
        None => names.push((name.to_string(), Some(token))),
    }
}

/// The added tokens by id, and then what has a name or is extra and is not among them.
fn tokens_to_add(
    added: BTreeMap<u32, AddedToken>,
    own: &BTreeMap<u32, AddedToken>,
    names: &Names,
    extra: &[Special],
) -> Vec<AddedToken> {
    let named: HashSet<&str> = tokens_of(names).map(Special::content).collect();
    let mut known: HashSet<String> =
        own.values().chain(added.values()).map(|token| token.content.clone()).collect();
    let mut add: Vec<AddedToken> = added.into_values().collect();
    for token in tokens_of(names).chain(extra) {
        if known.insert(token.content().to_string()) {
            add.push(match token {
                Special::Text(text) => AddedToken::from(text.clone(), true),
                Special::Token(token) => token.clone(),
            });
        }
    }
    for token in &mut add {
        token.special |= named.contains(token.content.as_str());
    }
    add
}

/// Takes the special tokens of a file's keys; they go over what is there.
fn read_special(keys: &Keys, file: &str, names: &mut Names, extra: &mut Vec<Special>) -> Result<(), String> {
    let fail = |key: &str, why: String| format!("{file} beside it: {key}: {why}");
    for (key, value) in &keys.0 {
        if key.ends_with("_token") && (value.is_string() || value.is_object()) {
            set(names, key, special(value).map_err(|why| fail(key, why))?);
        }
    }
    // In the order of their names, which decides the ids of those that are new.
    let named = keys.get("extra_special_tokens").and_then(Value::as_object);
    for (name, value) in named.into_iter().flatten().collect::<BTreeMap<_, _>>() {
        set(names, name, special(value).map_err(|why| fail("extra_special_tokens", why))?);
    }
    let list = |key: &str| keys.get(key).and_then(Value::as_array).filter(|list| !list.is_empty());
    let key = if list("extra_special_tokens").is_some() {
        "extra_special_tokens"
    } else {
        "additional_special_tokens"
    };
    for value in list(key).into_iter().flatten() {
        let token = special(value).map_err(|why| fail(key, why))?;
        if !extra.contains(&token) {
            extra.push(token);
        }
    }
    Ok(())
}

fn special(value: &Value) -> Result<Special, String> {
    match value.as_str() {
        Some(text) => Ok(Special::Text(text.to_string())),
        None => added_token(value, Some(true)).map(Special::Token),
    }
}

/// A token with its flags. As in transformers, one that says nothing of `normalized` is normalized if it is not special.
fn added_token(value: &Value, special: Option<bool>) -> Result<AddedToken, String> {
    let content = value.get("content").and_then(Value::as_str).ok_or_else(|| {
        format!("{value} is neither a string nor an object with a content; save the tokenizer again with transformers")
    })?;
    let flag = |name: &str| value.get(name).and_then(Value::as_bool);
    let special = special.or(flag("special")).unwrap_or(false);
    Ok(AddedToken {
        content: content.to_string(),
        single_word: flag("single_word").unwrap_or(false),
        lstrip: flag("lstrip").unwrap_or(false),
        rstrip: flag("rstrip").unwrap_or(false),
        normalized: flag("normalized").unwrap_or(!special),
        special,
    })
}

/// The keys of a file that may be absent.
fn object(text: Option<&[u8]>, file: &str) -> Result<Option<Keys>, String> {
    let wrong = |error| format!("{file} beside it: {error}");
    text.map(serde_json::from_slice).transpose().map_err(wrong)
}

#[cfg(test)]
mod tests;
