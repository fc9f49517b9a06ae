//! Log-probabilities as results have them.

use crate::batch::envelope::Endpoint;
use crate::journal::answer::Completion;
use crate::prompt::tokenizer::Tokenizer;
use crate::prompt::tokenizer::token_bytes::{NO_TEXT, TokenBytes};
use serde::Serialize;
use serde::ser::SerializeMap;
use std::sync::Arc;

/// The least log-probability that is written, as OpenAI's does: JSON has no infinity.
const LEAST: f32 = -9999.0;

/// The field `logprobs` of a choice.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Logprobs {
    Chat {
        content: Vec<ChatToken>,
        refusal: (),
    },
    Completion {
        text_offset: Vec<usize>,
        token_logprobs: Vec<f32>,
        tokens: Vec<String>,
        top_logprobs: Option<Vec<Top>>,
    },
}

#[derive(Serialize)]
pub struct ChatToken {
    #[serde(flatten)]
    token: Token,
    top_logprobs: Vec<Token>,
}

/// A token and its log-probability.
#[derive(Serialize)]
pub struct Token {
    token: String,
    logprob: f32,
    /// The bytes of its text, which may be a part of a character.
    bytes: Vec<u8>,
}

/// Tokens by their texts, each text once, with its greatest log-probability.
pub struct Top(Vec<(String, f32)>);

impl Serialize for Top {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (text, logprob) in &self.0 {
            map.serialize_entry(text, logprob)?;
        }
        map.end()
    }
}

/// What tokens are as text.
pub struct TokenTexts {
    tokenizer: Arc<Tokenizer>,
    /// Where the tokenizer's decoder makes text token by token.
    bytes: Option<TokenBytes>,
}

impl TokenTexts {
    /// Of a model with so many logits.
    pub fn new(tokenizer: Arc<Tokenizer>, vocab: usize) -> TokenTexts {
        let bytes = tokenizer.token_bytes(vocab, &[]).ok();
        TokenTexts { tokenizer, bytes }
    }

    /// The bytes of a token; `first` if it begins a text. A special token has its written form.
    fn bytes(&self, id: u32, first: bool) -> Vec<u8> {
        let Some(known) = self.bytes.as_ref() else {
            return self.tokenizer.decode(&[id], false).unwrap_or_default().into_bytes();
        };
        let bytes = known.bytes.get(id as usize).map_or(&[][..], Vec::as_slice);
        match bytes {
            [NO_TEXT, written @ ..] => written.to_vec(),
            bytes if first && known.cut_first.contains(&id) => bytes.trim_ascii_start().to_vec(),
            bytes => bytes.to_vec(),
        }
    }
}

impl Logprobs {
    /// Those of a completion.
    pub fn of(endpoint: Endpoint, completion: &Completion, texts: &TokenTexts) -> Logprobs {
        let Completion { tokens, token_logprobs, logprobs, .. } = completion;
        let chosen = || tokens.iter().copied().zip(token_logprobs.iter().copied()).enumerate();
        let top = |at: usize| logprobs.get(at).map_or(&[][..], Vec::as_slice).iter().copied();
        let token = |at: usize, (id, logprob): (u32, f32)| Token::new(texts.bytes(id, at == 0), logprob);
        match endpoint {
            Endpoint::Chat => {
                let content = chosen().map(|(at, chosen)| ChatToken {
                    token: token(at, chosen),
                    top_logprobs: top(at).map(|other| token(at, other)).collect(),
                });
                Logprobs::Chat { content: content.collect(), refusal: () }
            }
            Endpoint::Completions => {
                let all: Vec<Token> = chosen().map(|(at, chosen)| token(at, chosen)).collect();
                let of = |(at, chosen)| Top::new(top(at).chain([chosen]).map(|other| token(at, other)));
                Logprobs::Completion {
                    text_offset: offsets(&all),
                    token_logprobs: all.iter().map(|token| token.logprob).collect(),
                    tokens: all.into_iter().map(|token| token.token).collect(),
                    top_logprobs: (!logprobs.is_empty()).then(|| chosen().map(of).collect()),
                }
            }
        }
    }
}

/// Where tokens begin in their text, in characters; within one, where that begins.
fn offsets(tokens: &[Token]) -> Vec<usize> {
    let begins = |byte: &&u8| **byte & 0xc0 != 0x80;
    let mut begun = 0;
    let offset = |token: &Token| {
        let inside = token.bytes.first().is_some_and(|byte| !begins(&byte));
        let offset = begun - usize::from(inside && begun > 0);
        begun += token.bytes.iter().filter(begins).count();
        offset
    };
    tokens.iter().map(offset).collect()
}

impl Token {
    fn new(bytes: Vec<u8>, logprob: f32) -> Token {
        let token = String::from_utf8_lossy(&bytes).into_owned();
        Token { token, logprob: logprob.max(LEAST), bytes }
    }
}

impl Top {
    fn new(tokens: impl Iterator<Item = Token>) -> Top {
        let mut top: Vec<(String, f32)> = Vec::new();
        for Token { token, logprob, .. } in tokens {
            if top.iter().all(|(known, _)| *known != token) {
                top.push((token, logprob));
            }
        }
        Top(top)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_inside_a_character_begins_where_that_does() {
        let token = |bytes: &[u8]| Token::new(bytes.to_vec(), f32::NEG_INFINITY);
        let tokens = [&b"a"[..], b"\xe6", b"\xbc", b"\xa2b", b"", "\u{e9}c".as_bytes(), b"d"].map(token);
        assert_eq!(offsets(&tokens), [0, 1, 1, 1, 3, 3, 5]);
        assert!(tokens.iter().all(|token| token.logprob == LEAST));
        assert_eq!(Top::new(tokens.into_iter()).0.len(), 6);
    }
}
