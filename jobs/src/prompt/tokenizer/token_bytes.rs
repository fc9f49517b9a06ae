//! Tokens as bytes: what each of them adds to a text.

use crate::prompt::tokenizer::Tokenizer;
use serde_json::Value;
use std::collections::HashMap;

/// Begins the bytes of a token that has no text, before its written form. No text has this byte.
pub const NO_TEXT: u8 = 0xff;

/// What each token adds to a text.
#[derive(Clone, Debug)]
pub struct TokenBytes {
    /// By id, up to the vocabulary's size; empty for an id that is no token.
    pub bytes: Vec<Vec<u8>>,
    /// Tokens that lose a blank where they come first in a text.
    pub cut_first: Vec<u32>,
}

/// How a tokenizer's decoder makes text of its tokens, as far as each of them makes it alone.
#[derive(Debug, Default)]
struct Decoder {
    /// Characters stand for bytes.
    byte_level: bool,
    /// `<0x41>` is a byte.
    byte_fallback: bool,
    /// A text and what it becomes.
    replace: Vec<(String, String)>,
    /// The first token of a text loses a blank at its start.
    strips: bool,
    /// The first token of a text loses all blanks.
    drops: bool,
}

impl Tokenizer {
    /// The bytes of the first `vocab` tokens. Special tokens and `ends` are [`NO_TEXT`] and their written form.
    ///
    /// # Errors
    /// If the tokenizer's decoder makes text otherwise than token by token.
    pub fn token_bytes(&self, vocab: usize, ends: &[u32]) -> Result<TokenBytes, String> {
        let decoder = serde_json::to_value(self.inner.get_decoder()).map_err(|error| error.to_string())?;
        let decoder = Decoder::of(&decoder)?;
        let characters = byte_characters();
        let mut all = TokenBytes { bytes: Vec::with_capacity(vocab), cut_first: Vec::new() };
        for id in 0..vocab as u32 {
            let written = self.inner.id_to_token(id).filter(|_| !self.aliases.contains(id));
            let Some(written) = written else {
                all.bytes.push(Vec::new());
                continue;
            };
            if self.special.contains(&id) || ends.contains(&id) {
                all.bytes.push([&[NO_TEXT], written.as_bytes()].concat());
                continue;
            }
            let bytes = decoder.bytes(&written, &characters);
            let blank = |&byte: &u8| byte == b' ';
            if decoder.strips && bytes.first().is_some_and(blank) || decoder.drops && bytes.iter().any(blank)
            {
                all.cut_first.push(id);
            }
            all.bytes.push(bytes);
        }
        Ok(all)
    }
}

impl Decoder {
    /// That of `tokenizer.json`.
    fn of(json: &Value) -> Result<Decoder, String> {
        let mut decoder = Decoder::default();
        let one = [json.clone()];
        let parts = json["decoders"].as_array().map_or(&one[..], Vec::as_slice);
        let mut fused = false;
        for part in parts {
            let text = |key: &str| part[key].as_str().unwrap_or_default().to_string();
            match part["type"].as_str().unwrap_or("none") {
                "ByteLevel" => decoder.byte_level = true,
                "ByteFallback" => decoder.byte_fallback = true,
                "Fuse" => fused = true,
                "Replace" if part["pattern"]["String"].is_string() && !fused => {
                    let from = part["pattern"]["String"].as_str().unwrap_or_default();
                    decoder.replace.push((from.to_string(), text("content")));
                }
                "Strip" if fused && text("content") == " " && part["stop"] == 0 && part["start"] == 1 => {
                    decoder.strips = true;
                }
                "Metaspace" => {
                    decoder.replace.push((text("replacement"), " ".into()));
                    decoder.drops = text("prepend_scheme") != "never";
                }
                other => {
                    return Err(format!(
                        "its decoder ({other}) makes text of several tokens together; structured outputs need one \
                         whose tokens are bytes of the text (ByteLevel or ByteFallback)"
                    ));
                }
            }
        }
        if !fused && !decoder.byte_level && decoder.replace.is_empty() {
            return Err("its decoder is none of ByteLevel, ByteFallback and Metaspace, of which structured outputs need one".into());
        }
        Ok(decoder)
    }

    fn bytes(&self, written: &str, characters: &HashMap<char, u8>) -> Vec<u8> {
        if self.byte_fallback
            && let Some(digits) = written.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'))
            && digits.len() == 2
            && let Ok(byte) = u8::from_str_radix(digits, 16)
        {
            return vec![byte];
        }
        let text = self.replace.iter().fold(written.to_string(), |text, (from, to)| text.replace(from, to));
        if self.byte_level {
            let bytes: Option<Vec<u8>> = text.chars().map(|c| characters.get(&c).copied()).collect();
            return bytes.unwrap_or_else(|| text.into_bytes());
        }
        text.into_bytes()
    }
}

/// GPT-2's characters for bytes: those that can be seen stand for themselves, the others have characters from 256 on.
fn byte_characters() -> HashMap<char, u8> {
    let seen = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let unseen = (0..=255).filter(|byte| !seen(byte));
    let seen = (0..=255u8).filter(seen).map(|byte| (char::from(byte), byte));
    seen.chain((256u32..).filter_map(char::from_u32).zip(unseen)).collect()
}

#[cfg(test)]
mod tests;
