//! How sure a model is of the values that it has chosen in an answer (`--return field_probabilities`).
//!
//! A value's probability is a product over the tokens that write it: at each, the share of those tokens that go on with the
//! value, among all tokens that the structure allows there. It is of the raw logits, as the log-probabilities of tokens
//! are. Of a token that begins before the value, those are compared which write the same before it.

use crate::prompt::tokenizer::token_bytes::NO_TEXT;
use crate::schema::chosen::Chosen;
use crate::structured::constraint::Structure;
use engine::constraint::Constraint;
use engine::request::{Request, Score, Scores};
use std::ops::Range;

/// What is asked about an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldQuestions {
    scores: Vec<Score>,
    shares: Vec<Share>,
    /// How many values the answer has.
    values: usize,
}

/// A factor of a value's probability.
#[derive(Clone, Debug, PartialEq)]
struct Share {
    value: usize,
    /// The score that has its tokens, and which of its targets they are.
    score: usize,
    targets: Range<usize>,
    /// Whether each of them goes on with the value.
    goes_on: Vec<bool>,
}

/// The bytes that tokens add to a text.
struct Texts<'a>(&'a [Vec<u8>]);

impl Texts<'_> {
    fn of(&self, token: u32) -> &[u8] {
        let bytes = self.0.get(token as usize).map_or(&[][..], Vec::as_slice);
        if bytes.first() == Some(&NO_TEXT) { &[] } else { bytes }
    }
}

impl FieldQuestions {
    /// About the answer that `tokens` are, to a prompt of so many tokens.
    ///
    /// # Errors
    /// If they are no answer of the structure.
    pub fn new(
        structure: &Structure,
        chosen: &Chosen,
        prompt: usize,
        tokens: &[u32],
    ) -> Result<FieldQuestions, String> {
        let vocabulary = structure.vocabulary();
        let texts = Texts(&vocabulary.token_bytes);
        let begin = structure.reasoning().map_or(Some(0), |reasoning| reasoning.len(tokens));
        let begin = begin.ok_or("the reasoning does not end")?;
        let text: Vec<u8> = tokens[begin..].iter().flat_map(|&token| texts.of(token)).copied().collect();
        let text = String::from_utf8(text).map_err(|error| error.to_string())?;
        let values = chosen.values(&text).ok_or("the text is no answer of the schema")?;
        let mut asked = FieldQuestions { values: values.len(), ..FieldQuestions::default() };
        let mut matcher = structure.matcher();
        let mut mask = vec![0u32; vocabulary.token_bytes.len().div_ceil(32)];
        let mut at = 0;
        // Behind the last token, an answer may have gone on with another value.
        for i in 0..=tokens.len() {
            let token = tokens.get(i).copied();
            let end = if i < begin { 0 } else { at + token.map_or(0, |token| texts.of(token).len()) };
            let written = |value: &Range<usize>| {
                let last = value.end + usize::from(is_number(&text[value.clone()]));
                value.start < end.max(at) && at < last
            };
            let written: Vec<usize> =
                (0..values.len()).filter(|v| i >= begin && written(&values[*v])).collect();
            if !written.is_empty() && !matcher.is_ended() {
                mask.fill(0);
                matcher.fill_mask(&mut mask).map_err(|why| why.to_string())?;
                let allowed: Vec<u32> = (0..vocabulary.token_bytes.len() as u32)
                    .filter(|token| mask[*token as usize / 32] >> (token % 32) & 1 == 1)
                    .collect();
                for value in written {
                    let of_token =
                        |&token: &u32| Some((token, goes_on(&text, &values[value], at, texts.of(token))?));
                    asked.ask(value, prompt + i - 1, allowed.iter().filter_map(of_token).collect());
                }
            }
            token.iter().for_each(|&token| matcher.accept(token));
            at = end;
        }
        Ok(asked)
    }

    /// Asks which share of tokens goes on with a value, if they do not all.
    fn ask(&mut self, value: usize, position: usize, tokens: Vec<(u32, bool)>) {
        if tokens.iter().all(|(_, goes_on)| *goes_on) {
            return;
        }
        if self.scores.last().is_none_or(|last| last.position != position) {
            self.scores.push(Score { position, targets: Vec::new() });
        }
        let score = self.scores.len() - 1;
        let targets = &mut self.scores[score].targets;
        let begin = targets.len();
        targets.extend(tokens.iter().map(|(token, _)| token));
        let (targets, goes_on) = (begin..targets.len(), tokens.iter().map(|(_, goes_on)| *goes_on).collect());
        self.shares.push(Share { value, score, targets, goes_on });
    }

    /// The engine's request, if there is anything to ask.
    pub fn request(&self, id: u64, prompt: &[u32], tokens: &[u32]) -> Option<Request> {
        let len = self.scores.last()?.position + 1;
        let sequence: Vec<u32> = prompt.iter().chain(tokens).take(len).copied().collect();
        let scores = Scores { prompt: self.scores.clone(), branches: Vec::new() };
        Some(Request::score(id, sequence, scores))
    }

    /// The probability of each value, from the log-probabilities that were asked for.
    pub fn probabilities(&self, reported: &[Vec<f32>]) -> Vec<f32> {
        let mut logprobs = vec![0.0f64; self.values];
        for Share { value, score, targets, goes_on } in &self.shares {
            let all = reported.get(*score).and_then(|all| all.get(targets.clone())).unwrap_or_default();
            let of = |all: &[f32], those: &dyn Fn(usize) -> bool| -> f64 {
                let most = all.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let term = |(i, logprob): (usize, &f32)| those(i).then(|| f64::from(logprob - most).exp());
                all.iter().enumerate().filter_map(term).sum()
            };
            logprobs[*value] += (of(all, &|i| goes_on[i]) / of(all, &|_| true)).ln();
        }
        logprobs.into_iter().map(|logprob| logprob.exp() as f32).collect()
    }
}

/// Whether a token that stands at a byte of an answer goes on with one of its values; `None` if it does not come to it.
fn goes_on(text: &str, value: &Range<usize>, at: usize, token: &[u8]) -> Option<bool> {
    if token.is_empty() {
        // An end.
        return Some(at >= value.end);
    }
    let (before, token) = match value.start.checked_sub(at) {
        None | Some(0) => (&text.as_bytes()[value.start..at.min(value.end).max(value.start)], token),
        Some(gap) if token.len() > gap && token.starts_with(&text.as_bytes()[at..value.start]) => {
            (&[][..], &token[gap..])
        }
        Some(_) => return None,
    };
    let said = said(&[before, token].concat());
    let whole = self::said(&text.as_bytes()[value.clone()]);
    let longer = said.strip_prefix(whole.as_slice());
    let other_number = |rest: &[u8]| {
        is_number(&text[value.clone()])
            && rest.first().is_some_and(|c| c.is_ascii_digit() || b".eE+-".contains(c))
    };
    Some(longer.map_or(whole.starts_with(&said), |rest| !other_number(rest)))
}

/// Whether a value may go on where it ends.
fn is_number(value: &str) -> bool {
    value.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

/// What the beginning of a value says, whichever way its characters are escaped: those that have to be stand behind a byte that
/// no text has. An escape that is not whole says nothing yet.
fn said(json: &[u8]) -> Vec<u8> {
    const ESCAPED: u8 = 0xff;
    let (mut said, mut rest) = (Vec::new(), json);
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'\\' {
            said.push(byte);
            continue;
        }
        let Some((&kind, behind)) = rest.split_first() else { break };
        let hex = |from: &[u8]| {
            let digits = std::str::from_utf8(from.get(..4)?).ok()?;
            u32::from_str_radix(digits, 16).ok()
        };
        let (code, behind) = match kind {
            b'u' => match hex(behind) {
                Some(high @ 0xd800..0xdc00) => match behind.get(6..).and_then(hex) {
                    Some(low) => (0x10000 + ((high - 0xd800) << 10) + (low & 0x3ff), &behind[10..]),
                    None => break,
                },
                Some(code) => (code, &behind[4..]),
                None => break,
            },
            b'n' => (0x0a, behind),
            b'r' => (0x0d, behind),
            b't' => (0x09, behind),
            b'b' => (0x08, behind),
            b'f' => (0x0c, behind),
            other => (other.into(), behind),
        };
        let c = char::from_u32(code).unwrap_or('\u{fffd}');
        if c < ' ' || c == '"' || c == '\\' {
            said.push(ESCAPED);
        }
        said.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        rest = behind;
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_on_with_a_value_or_with_another() {
        let text = r#"{"mood": "so\n", "on": true, "n": 1}"#;
        let value = |of: &str| {
            let start = text.find(of).unwrap_or_default();
            start..start + of.len()
        };
        let (mood, on, n) = (value(r#""so\n""#), value("true"), value("1"));
        for (value, at, token, want) in [
            // Within it, at its end, and past it.
            (&mood, mood.start, "\"s", Some(true)),
            (&mood, mood.start, "\"so\\n\", \"x", Some(true)),
            (&mood, mood.start, "\"go", Some(false)),
            (&mood, mood.start + 2, "o\\u000", Some(true)),
            (&mood, mood.start + 2, "o\\u000A\"", Some(true)),
            (&mood, mood.start + 2, "o\\u000d", Some(false)),
            (&mood, mood.start + 2, "o\"", Some(false)),
            // From before it: only what is written the same says anything.
            (&on, on.start - 2, ": t", Some(true)),
            (&on, on.start - 2, ": f", Some(false)),
            (&on, on.start - 2, ": ", None),
            (&on, on.start - 2, ":f", None),
            // A number may go on where it ends.
            (&n, n.start, "1}", Some(true)),
            (&n, n.start, "12", Some(false)),
            (&n, n.end, "2", Some(false)),
            (&n, n.end, "}", Some(true)),
            (&n, n.end, "", Some(true)),
            (&n, n.start, "", Some(false)),
        ] {
            assert_eq!(goes_on(text, value, at, token.as_bytes()), want, "{token:?} at {at}");
        }
        assert_eq!(said(br#""\ud83d\ude00\/""#), "\"😀/\"".as_bytes());
    }
}
