//! Log-probabilities as results have them.

use crate::batch::envelope::Endpoint;
use crate::journal::answer::Completion;
use crate::prompt::tokenizer::Tokenizer;
use serde::Serialize;
use serde::ser::SerializeMap;

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
    /// The bytes of its text; none of a token that is a part of a character.
    bytes: Option<Vec<u8>>,
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

impl Logprobs {
    /// Those of a completion, if they were asked for.
    pub fn of(endpoint: Endpoint, completion: &Completion, tokenizer: &Tokenizer) -> Logprobs {
        let text = |id: u32| tokenizer.decode(&[id], false).unwrap_or_default();
        let chosen = completion.tokens.iter().copied().zip(completion.token_logprobs.iter().copied());
        let top = |at: usize| completion.logprobs.get(at).map_or(&[][..], Vec::as_slice);
        match endpoint {
            Endpoint::Chat => {
                let token = |(id, logprob): (u32, f32)| Token::new(text(id), logprob);
                let content = chosen.enumerate().map(|(at, chosen)| ChatToken {
                    token: token(chosen),
                    top_logprobs: top(at).iter().copied().map(token).collect(),
                });
                Logprobs::Chat { content: content.collect(), refusal: () }
            }
            Endpoint::Completions => {
                let (mut text_offset, mut at) = (Vec::new(), 0);
                let tokens: Vec<String> = completion.tokens.iter().map(|&id| text(id)).collect();
                for token in &tokens {
                    text_offset.push(at);
                    at += token.chars().count();
                }
                let of = |(at, (id, logprob)): (usize, (u32, f32))| {
                    let pairs = top(at).iter().copied().chain([(id, logprob)]);
                    Top::new(pairs.map(|(id, logprob)| (text(id), logprob)))
                };
                let top_logprobs =
                    (!completion.logprobs.is_empty()).then(|| chosen.enumerate().map(of).collect());
                let token_logprobs = completion.token_logprobs.iter().map(|l| l.max(LEAST)).collect();
                Logprobs::Completion { text_offset, token_logprobs, tokens, top_logprobs }
            }
        }
    }
}

impl Token {
    fn new(token: String, logprob: f32) -> Token {
        let bytes = (!token.contains('\u{fffd}')).then(|| token.clone().into_bytes());
        Token { token, logprob: logprob.max(LEAST), bytes }
    }
}

impl Top {
    fn new(pairs: impl Iterator<Item = (String, f32)>) -> Top {
        let mut top: Vec<(String, f32)> = Vec::new();
        for (text, logprob) in pairs {
            if top.iter().all(|(known, _)| *known != text) {
                top.push((text, logprob.max(LEAST)));
            }
        }
        Top(top)
    }
}
