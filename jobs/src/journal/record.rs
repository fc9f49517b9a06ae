//! The form of an answer in the journal's table `answers`.
//!
//! Readable columns: `error`, `text`, `finish_reason`, `num_input_tokens`, `num_generated_tokens` (of all
//! completions). With one completion `text` and `finish_reason` are plain; with more they are JSON arrays.
//!
//! Blobs, little-endian, where `v` is an unsigned LEB128 number and `f` an IEEE 754 binary32:
//! `tokens` = for each completion: v count, then a v for each token. `token_logprobs` = an f for each token
//! of each completion that has them, after a byte 1; a byte 0 for a completion that has none. `logprobs` =
//! likewise, for each token: v count, then (v token, f log-probability) for each alternative.
//! `prompt_logprobs` = for each position a byte 0, or a byte 1, v token, f, and alternatives as above.
//!
//! What follows them is the JSON of the scores of columns of choices, that of what a document took, that of the probabilities
//! of an answer's values, or null: `typed_values` of the formats that have it.
//!
//! The others are the columns that every format of the journal has; [`crate::journal::format`] adds its own and the checksum.

use crate::choices::scores::ColumnScores;
use crate::journal::answer::{Answer, Completion, DocumentAnswer};
use engine::request::TokenLogprobs;
use rusqlite::types::{Value, ValueRef};
use serde::{Deserialize, Serialize};

/// How many columns there are that every format has.
pub(crate) const COLUMNS: usize = 10;

/// What is wrong with a record that no version of a format has written.
pub(crate) const UNKNOWN: &str = "its form is unknown";

/// The columns of an answer.
pub(crate) fn encode(answer: &Answer) -> Vec<Value> {
    let completions = &answer.completions;
    let [mut tokens, mut chosen, mut alternatives] = [Vec::new(), Vec::new(), Vec::new()];
    for completion in completions {
        put_number(&mut tokens, completion.tokens.len() as u32);
        completion.tokens.iter().for_each(|&token| put_number(&mut tokens, token));
        chosen.push(u8::from(!completion.token_logprobs.is_empty()));
        completion.token_logprobs.iter().for_each(|&logprob| put_float(&mut chosen, logprob));
        alternatives.push(u8::from(!completion.logprobs.is_empty()));
        completion.logprobs.iter().for_each(|top| put_top(&mut alternatives, top));
    }
    let prompt = answer.prompt_logprobs.as_ref().map(|positions| encode_prompt(positions));
    // A blob of nothing but "has none" bytes says nothing.
    let blob = |bytes: Vec<u8>| if bytes.iter().all(|&b| b == 0) { Value::Null } else { Value::Blob(bytes) };
    let words: Vec<String> = completions.iter().map(|c| c.finish_reason.as_str().to_string()).collect();
    let texts = completions.iter().map(|c| c.text.clone()).collect();
    vec![
        Value::Integer(answer.row as i64),
        answer.error.clone().map_or(Value::Null, Value::Text),
        plain_or_array(texts),
        plain_or_array(words),
        answer.num_input_tokens.map_or(Value::Null, |n| Value::Integer(n.into())),
        Value::Integer(answer.num_generated_tokens() as i64),
        if completions.is_empty() { Value::Null } else { Value::Blob(tokens) },
        blob(chosen),
        blob(alternatives),
        prompt.map_or(Value::Null, Value::Blob),
        encode_typed(answer),
    ]
}

/// Reads the columns of [`encode`] back; `None` if they are not what was written.
pub(crate) fn decode(columns: &[ValueRef<'_>]) -> Option<Answer> {
    let &[row, error, text, reason, num_input_tokens, _, tokens, chosen, alternatives, prompt, choices] =
        columns
    else {
        return None;
    };
    let typed = choices.as_str_or_null().ok()?.map(serde_json::from_str).transpose().ok()?;
    let (choices, document, fields) = match typed {
        None | Some(TypedValues::Note { .. }) => (Vec::new(), None, Vec::new()),
        Some(TypedValues::Choices(choices)) => (choices, None, Vec::new()),
        Some(TypedValues::Document { document, choices, field_probabilities }) => {
            (choices, Some(document), field_probabilities)
        }
        Some(TypedValues::Fields { field_probabilities }) => (Vec::new(), None, field_probabilities),
    };
    let counts_and_tokens = decode_tokens(blob(tokens)?)?;
    let n = counts_and_tokens.len();
    let (texts, reasons) = (several(text, n)?, several(reason, n)?);
    let (mut chosen, mut alternatives) = (blob(chosen)?, blob(alternatives)?);
    let mut completions = Vec::with_capacity(n);
    if !fields.is_empty() && fields.len() != n {
        return None;
    }
    let mut fields = fields.into_iter();
    for ((tokens, text), reason) in counts_and_tokens.into_iter().zip(texts).zip(reasons) {
        let len = tokens.len();
        completions.push(Completion {
            text,
            finish_reason: reason.parse().ok()?,
            token_logprobs: listed(&mut chosen, len, get_float)?,
            logprobs: listed(&mut alternatives, len, get_top)?,
            field_probabilities: fields.next().unwrap_or_default(),
            tokens,
        });
    }
    Some(Answer {
        row: u64::try_from(row.as_i64().ok()?).ok()?,
        num_input_tokens: match num_input_tokens.as_i64_or_null().ok()? {
            Some(n) => Some(u32::try_from(n).ok()?),
            None => None,
        },
        completions,
        prompt_logprobs: match prompt.as_blob_or_null().ok()? {
            Some(bytes) => Some(decode_prompt(bytes)?),
            None => None,
        },
        choices,
        document,
        error: error.as_str_or_null().ok()?.map(str::to_string),
    })
}

/// What the column `typed_values` may hold.
#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum TypedValues {
    /// Of an answer of choices.
    Choices(Vec<ColumnScores>),
    /// Of the answer to a document, with its scores in a job of choices.
    Document {
        document: DocumentAnswer,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        choices: Vec<ColumnScores>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        field_probabilities: Vec<Vec<f32>>,
    },
    /// Of an answer whose values have probabilities: those of each completion.
    Fields { field_probabilities: Vec<Vec<f32>> },
    /// Of a note: the digest of its prompt.
    Note { prompt: String },
}

impl TypedValues {
    pub(crate) fn json(&self) -> Value {
        // Numbers have a spelling in JSON; what is none has made the row an error before.
        Value::Text(serde_json::to_string(self).unwrap_or_default())
    }
}

fn encode_typed(answer: &Answer) -> Value {
    let mut field_probabilities: Vec<Vec<f32>> =
        answer.completions.iter().map(|completion| completion.field_probabilities.clone()).collect();
    if field_probabilities.iter().all(Vec::is_empty) {
        field_probabilities.clear();
    }
    match &answer.document {
        Some(document) => {
            let (document, choices) = (document.clone(), answer.choices.clone());
            TypedValues::Document { document, choices, field_probabilities }.json()
        }
        None if !field_probabilities.is_empty() => TypedValues::Fields { field_probabilities }.json(),
        None if answer.choices.is_empty() => Value::Null,
        None => TypedValues::Choices(answer.choices.clone()).json(),
    }
}

/// One text as it is, several as a JSON array.
fn plain_or_array(mut texts: Vec<String>) -> Value {
    match texts.len() {
        0 => Value::Null,
        1 => Value::Text(texts.remove(0)),
        _ => Value::Text(serde_json::Value::from(texts).to_string()),
    }
}

fn several(value: ValueRef<'_>, n: usize) -> Option<Vec<String>> {
    let text = value.as_str_or_null().ok()?;
    let texts = match (n, text) {
        (0, None) => Vec::new(),
        (1, Some(text)) => vec![text.to_string()],
        (_, text) => serde_json::from_str(text?).ok()?,
    };
    (texts.len() == n).then_some(texts)
}

fn blob<'a>(value: ValueRef<'a>) -> Option<&'a [u8]> {
    Some(value.as_blob_or_null().ok()?.unwrap_or_default())
}

fn decode_tokens(mut bytes: &[u8]) -> Option<Vec<Vec<u32>>> {
    let mut completions = Vec::new();
    while !bytes.is_empty() {
        let count = get_number(&mut bytes)?;
        completions.push((0..count).map(|_| get_number(&mut bytes)).collect::<Option<_>>()?);
    }
    Some(completions)
}

/// `len` items if a byte says that there are any.
fn listed<T>(bytes: &mut &[u8], len: usize, get: fn(&mut &[u8]) -> Option<T>) -> Option<Vec<T>> {
    match bytes.split_off_first() {
        None | Some(0) => Some(Vec::new()),
        Some(1) => (0..len).map(|_| get(bytes)).collect(),
        Some(_) => None,
    }
}

fn encode_prompt(positions: &[Option<TokenLogprobs>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for position in positions {
        bytes.push(u8::from(position.is_some()));
        if let Some(TokenLogprobs { token, logprob, top }) = position {
            put_number(&mut bytes, *token);
            put_float(&mut bytes, *logprob);
            put_top(&mut bytes, top);
        }
    }
    bytes
}

fn decode_prompt(mut bytes: &[u8]) -> Option<Vec<Option<TokenLogprobs>>> {
    let mut positions = Vec::new();
    while let Some(there) = bytes.split_off_first() {
        positions.push(match there {
            0 => None,
            _ => Some(TokenLogprobs {
                token: get_number(&mut bytes)?,
                logprob: get_float(&mut bytes)?,
                top: get_top(&mut bytes)?,
            }),
        });
    }
    Some(positions)
}

fn put_number(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn get_number(bytes: &mut &[u8]) -> Option<u32> {
    let mut number = 0u64;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(number).ok();
        }
    }
    None
}

fn put_float(bytes: &mut Vec<u8>, number: f32) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

fn get_float(bytes: &mut &[u8]) -> Option<f32> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(f32::from_le_bytes(*head))
}

fn put_top(bytes: &mut Vec<u8>, top: &[(u32, f32)]) {
    put_number(bytes, top.len() as u32);
    for &(token, logprob) in top {
        put_number(bytes, token);
        put_float(bytes, logprob);
    }
}

fn get_top(bytes: &mut &[u8]) -> Option<Vec<(u32, f32)>> {
    let count = get_number(bytes)?;
    (0..count).map(|_| Some((get_number(bytes)?, get_float(bytes)?))).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::journal::answer::FinishReason;
    use crate::journal::checksum::Checksum;
    use crate::journal::format::Format;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn completion(extras: bool) -> impl Strategy<Value = Completion> {
        let reason = prop_oneof![Just(FinishReason::Stop), Just(FinishReason::Length)];
        (".{0,20}", vec((any::<u32>(), -9f32..0.0, vec((any::<u32>(), -9f32..0.0), 0..3)), 0..6), reason)
            .prop_map(move |(text, tokens, finish_reason)| Completion {
                text,
                tokens: tokens.iter().map(|t| t.0).collect(),
                finish_reason,
                token_logprobs: tokens.iter().filter(|_| extras).map(|t| t.1).collect(),
                field_probabilities: tokens.iter().filter(|_| extras).map(|t| t.1.exp()).collect(),
                logprobs: tokens.into_iter().filter(|_| extras).map(|t| t.2).collect(),
            })
    }

    /// Any answer with `n` completions, or an error.
    pub(crate) fn answer(row: u64, n: usize) -> impl Strategy<Value = Answer> {
        let token = (any::<u32>(), -9f32..0.0, vec((any::<u32>(), -9f32..0.0), 0..3));
        let token = token.prop_map(|(token, logprob, top)| TokenLogprobs { token, logprob, top });
        let prompt = prop::option::of(vec(prop::option::of(token), 0..4));
        let good =
            (any::<bool>().prop_flat_map(move |extras| vec(completion(extras), n)), prompt, any::<u32>())
                .prop_map(move |(completions, prompt_logprobs, input)| Answer {
                    row,
                    num_input_tokens: Some(input),
                    completions,
                    prompt_logprobs,
                    choices: Vec::new(),
                    document: None,
                    error: None,
                });
        let bad =
            (prop::option::of(any::<u32>()), ".{1,12}").prop_map(move |(n, e)| Answer::failed(row, n, e));
        prop_oneof![4 => good, 1 => bad]
    }

    proptest! {
        #[test]
        fn an_answer_comes_back_as_it_went(answer in (1usize..4).prop_flat_map(|n| answer(7, n))) {
            let values = encode(&answer);
            prop_assert_eq!(values.len(), COLUMNS + 1);
            let columns: Vec<ValueRef<'_>> = values.iter().map(ValueRef::from).collect();
            prop_assert_eq!(decode(&columns), Some(answer));
        }

        #[test]
        fn scores_come_back_as_they_went(
            columns in vec((vec(-99f32..0.0, 2..5), -9f32..0.0), 1..3), input in any::<u32>()
        ) {
            let choices = columns.into_iter().map(|(logprobs, mass)| ColumnScores { logprobs, mass }).collect();
            let answer = Answer { num_input_tokens: Some(input), error: None, choices, ..Answer::failed(7, None, "") };
            let values = Format::Three.to_record(encode(&answer), None);
            let columns = Format::Three.to_columns(values.iter().map(ValueRef::from).collect()).unwrap();
            prop_assert_eq!(decode(&columns), Some(answer));
        }

        #[test]
        fn a_changed_column_is_noticed(answer in answer(7, 1), column in 0..COLUMNS + 3, key in any::<[u8; 32]>()) {
            let keyed = Checksum::Keyed(key);
            for (format, checksum, settings) in [
                (Format::One, Checksum::Plain, None),
                (Format::Two, keyed, None),
                (Format::Three, keyed, Some("{\"max_tokens\":64}")),
            ] {
                let mut values = format.to_record(encode(&answer), settings);
                let sum = |values: &[Value]| checksum.of(values.iter().map(ValueRef::from));
                let (before, column) = (sum(&values), column % values.len());
                values[column] = match &values[column] {
                    Value::Null => Value::Integer(0),
                    Value::Integer(number) => Value::Integer(number ^ 1),
                    Value::Text(text) => Value::Text(format!("{text} ")),
                    _ => Value::Null,
                };
                prop_assert_ne!(before, sum(&values));
            }
        }
    }
}
