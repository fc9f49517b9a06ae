//! Bounds on `tokenizer.json`, checked before it is loaded: loading takes many times the bytes of the file, and a
//! normalizer can make any number of bytes of one.

use base64::Engine as _;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt::Formatter;

/// More than any published tokenizer has: Gemma's has 262,144.
const TOKENS: usize = 1 << 19;
const MERGES: usize = 1 << 20;
const ADDED_TOKENS: usize = 1 << 15;
/// Bytes of the other parts, such as the normalizer with its table of characters.
const PART_BYTES: usize = 2 << 20;
/// How many times as long a normalizer or decoder may make a text: `▁` for a space is three times.
const GROWTH: usize = 32;

/// The parts of a `tokenizer.json`, counted and not kept.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow)]
    version: Option<&'a RawValue>,
    #[serde(default)]
    added_tokens: Count,
    #[serde(borrow)]
    normalizer: Option<&'a RawValue>,
    #[serde(borrow)]
    pre_tokenizer: Option<&'a RawValue>,
    #[serde(borrow)]
    post_processor: Option<&'a RawValue>,
    #[serde(borrow)]
    decoder: Option<&'a RawValue>,
    #[serde(default)]
    model: Model,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Model {
    vocab: Count,
    merges: Count,
}

/// The number of items of a list or keys of an object.
#[derive(Clone, Copy, Default)]
struct Count(usize);

/// Checks a `tokenizer.json` before it is loaded.
///
/// # Errors
/// What is too large. What is not JSON is left to who loads it.
pub fn check(json: &[u8]) -> Result<(), String> {
    let parts: Parts = match serde_json::from_slice(json) {
        Ok(parts) => parts,
        Err(error) => return Err(format!("is not a tokenizer: {error}")),
    };
    for (what, count, most) in [
        ("tokens", parts.model.vocab, TOKENS),
        ("merges", parts.model.merges, MERGES),
        ("added tokens", parts.added_tokens, ADDED_TOKENS),
    ] {
        if count.0 > most {
            return Err(format!("has {} {what}; at most {most} are accepted", count.0));
        }
    }
    for (key, part) in [
        ("version", parts.version),
        ("normalizer", parts.normalizer),
        ("pre_tokenizer", parts.pre_tokenizer),
        ("post_processor", parts.post_processor),
        ("decoder", parts.decoder),
    ] {
        let Some(part) = part.map(RawValue::get) else { continue };
        if part.len() > PART_BYTES {
            return Err(format!("{key} has {} bytes; at most {PART_BYTES} are accepted", part.len()));
        }
        if matches!(key, "normalizer" | "decoder") {
            let part: Value = serde_json::from_str(part).map_err(|error| format!("{key}: {error}"))?;
            let growth = growth(&part).map_err(|why| format!("{key}: {why}"))?;
            if growth > GROWTH {
                return Err(format!(
                    "{key} can make a text more than {GROWTH} times as long, which no published one does; it is not run"
                ));
            }
        }
    }
    Ok(())
}

/// How many times as long a part can make a text of some length. What it puts before a text counts as if that were short.
fn growth(part: &Value) -> Result<usize, String> {
    let text = |key: &str| part[key].as_str().unwrap_or_default();
    let list = ["normalizers", "decoders"].into_iter().find_map(|key| part[key].as_array());
    Ok(match part["type"].as_str().unwrap_or_default() {
        "Sequence" => {
            let mut whole = 1usize;
            for part in list.into_iter().flatten() {
                whole = whole.saturating_mul(growth(part)?);
            }
            whole
        }
        "Replace" => match part["pattern"]["String"].as_str() {
            Some(pattern) => text("content").len().div_ceil(pattern.len().max(1)).max(1),
            // It may match nothing before every character.
            None => text("content").len() + 1,
        },
        "Prepend" => 1 + text("prepend").len() / 16,
        "Precompiled" => {
            charsmap(text("precompiled_charsmap"))?;
            1
        }
        _ => 1,
    })
}

/// Checks that the size in the head of a table of characters is that of the table: memory for it is taken at once.
fn charsmap(text: &str) -> Result<(), String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text);
    let bytes = bytes.map_err(|error| format!("precompiled_charsmap: {error}"))?;
    let head = bytes.first_chunk::<4>().map(|head| u32::from_le_bytes(*head) as usize);
    match head {
        Some(size) if size.is_multiple_of(4) && size <= bytes.len() - 4 => Ok(()),
        _ => Err("precompiled_charsmap is broken: the size in its head is not that of its table".into()),
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Count, D::Error> {
        struct Counting;
        impl<'de> Visitor<'de> for Counting {
            type Value = Count;
            fn expecting(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list or an object")
            }
            fn visit_unit<E: Error>(self) -> Result<Count, E> {
                Ok(Count(0))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Count, A::Error> {
                let mut count = 0;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
                let mut count = 0;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }
        }
        from.deserialize_any(Counting)
    }
}

#[cfg(test)]
mod tests;
