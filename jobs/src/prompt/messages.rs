//! Conversations: lists of messages with role and content.
//!
//! A column holds them as lists of structs with `role` and `content`, or with `from` and `value` (ShareGPT), or as JSON
//! text. All come out alike: a role that is a name, and a content that is a text or a list of parts that are texts.

mod convert;

use crate::prompt::rendering::Marking;
use crate::row_error::{RowError, RowErrorKind};
use arrow::array::Array;
use arrow::datatypes::{DataType, Field};
pub use convert::each_string;
use convert::{conversation, json};
use minijinja::Value;
use minijinja::value::ValueKind;

/// What a column of conversations can be, for messages.
pub const COLUMN_OF_MESSAGES: &str =
    "a list of structs with role and content (or from and value), or JSON text of such a list";

/// Whether a column's type is that of conversations: lists of structs with `role`, or with `from` and `value`.
pub fn is_conversation(kind: &DataType) -> bool {
    let (DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)) = kind else {
        return false;
    };
    let DataType::Struct(fields) = item.data_type() else {
        return matches!(item.data_type(), DataType::Map(..));
    };
    let has = |name: &str| fields.iter().any(|field: &std::sync::Arc<Field>| field.name() == name);
    has("role") || (has("from") && has("value"))
}

/// Whether a column of this type can be read as conversations, if a flag or its name says so.
pub fn may_hold_messages(kind: &DataType) -> bool {
    use DataType::{Dictionary, LargeUtf8, Utf8, Utf8View};
    match kind {
        Utf8 | LargeUtf8 | Utf8View => true,
        Dictionary(_, value) => may_hold_messages(value),
        kind => is_conversation(kind),
    }
}

/// The messages of a row of a column of conversations, with every text but the roles marked.
///
/// # Errors
/// What is wrong with the row.
pub fn row_messages(column: &dyn Array, row: usize, marking: &Marking) -> Result<Vec<Value>, RowError> {
    let bad = |why: String| RowError::new(RowErrorKind::BadMessages, why);
    if column.is_null(row) {
        return Err(RowError::new(RowErrorKind::NullPrompt, "the messages column is null in this row"));
    }
    let marked = conversation(column, row, &mut |text: &str| marking.value(text)).map_err(bad)?;
    // Roles and types are names that templates compare, so they are taken unmarked.
    let plain = conversation(column, row, &mut |text: &str| Value::from(text)).map_err(bad)?;
    checked_messages(&marked, &plain).map_err(bad)
}

/// The messages of a request: JSON of a list of them, with nothing but role, name and content, and every text but the roles
/// marked.
///
/// # Errors
/// What is wrong with them.
pub fn json_messages(text: &str, marking: &Marking) -> Result<Vec<Value>, RowError> {
    let bad = |why: String| RowError::new(RowErrorKind::BadMessages, format!("`messages`: {why}"));
    let marked = json(text, &mut |text: &str| marking.value(text)).map_err(bad)?;
    let plain = json(text, &mut |text: &str| Value::from(text)).map_err(bad)?;
    if plain.kind() != ValueKind::Seq {
        return Err(bad("it must be a list of messages with role and content".into()));
    }
    refuse_fields(&plain).map_err(bad)?;
    checked_messages(&without_nulls(&marked), &without_nulls(&plain)).map_err(bad)
}

/// A list of messages without the fields that are null.
fn without_nulls(messages: &Value) -> Value {
    let items = |value: &Value| value.try_iter().into_iter().flatten().collect::<Vec<_>>();
    let there = |message: &Value| match message.kind() {
        ValueKind::Map => {
            let pairs = items(message).into_iter().map(|key| {
                let value = message.get_item(&key).unwrap_or_default();
                (key, value)
            });
            Value::from_pairs(pairs.filter(|(_, value)| !value.is_none()))
        }
        _ => message.clone(),
    };
    match messages.kind() {
        ValueKind::Seq => items(messages).iter().map(there).collect(),
        _ => messages.clone(),
    }
}

/// Refuses fields of messages that say what is not followed.
fn refuse_fields(messages: &Value) -> Result<(), String> {
    let items = messages.try_iter().into_iter().flatten();
    for (i, message) in items.enumerate().filter(|(_, message)| message.kind() == ValueKind::Map) {
        for key in message.try_iter().into_iter().flatten() {
            let known = key.as_str().is_some_and(|key| ["role", "name", "content"].contains(&key));
            if !known && !message.get_item(&key).unwrap_or_default().is_none() {
                return Err(format!("message {i}: {key} is not supported; leave it out"));
            }
        }
    }
    Ok(())
}

/// A list of messages, from the marked and the plain one.
fn checked_messages(marked: &Value, plain: &Value) -> Result<Vec<Value>, String> {
    if marked.kind() != ValueKind::Seq {
        return Err(format!("it is {COLUMN_OF_MESSAGES}; this row has a {}", marked.kind()));
    }
    let n = marked.len().unwrap_or(0);
    if n == 0 {
        return Err("the list is empty".into());
    }
    let messages = (0..n).map(|i| {
        let item = |list: &Value| list.get_item_by_index(i).map_err(|e| e.to_string());
        checked_message(&item(marked)?, &item(plain)?).map_err(|why| format!("message {i}: {why}"))
    });
    messages.collect()
}

/// The messages with a system message before them, unless they begin with one.
pub fn with_system(mut messages: Vec<Value>, system: Option<&str>) -> Vec<Value> {
    let has_one =
        messages.first().and_then(|m| m.get_attr("role").ok()).is_some_and(|r| r.as_str() == Some("system"));
    if let Some(system) = system.filter(|_| !has_one) {
        messages.insert(0, message("system", Value::from(system)));
    }
    messages
}

/// A message.
pub fn message(role: &str, content: Value) -> Value {
    Value::from_pairs([("role", Value::from(role)), ("content", content)])
}

/// A message whose content is a text, put together of its parts if it has parts.
pub fn with_text(message: Value) -> Value {
    let Ok(content) = message.get_attr("content") else { return message };
    if content.kind() != ValueKind::Seq {
        return message;
    }
    let parts = content.try_iter().into_iter().flatten();
    let text: String = parts.map(|part| part.get_attr("text").unwrap_or_default().to_string()).collect();
    with(&message, [("content", Value::from(text))])
}

/// A message with other values for some keys.
fn with<const N: usize>(message: &Value, other: [(&str, Value); N]) -> Value {
    let keys = message.try_iter().into_iter().flatten();
    let value = |key: &Value| message.get_item(key).unwrap_or_default();
    let mut pairs: Vec<(Value, Value)> = keys.map(|key| (key.clone(), value(&key))).collect();
    for (name, value) in other {
        match pairs.iter_mut().find(|(key, _)| key.as_str() == Some(name)) {
            Some((_, known)) => *known = value,
            None => pairs.push((Value::from(name), value)),
        }
    }
    Value::from_pairs(pairs)
}

/// A message of a row with its role unmarked, its content a text or a list of texts.
fn checked_message(marked: &Value, plain: &Value) -> Result<Value, String> {
    let get = |message: &Value, key: &str| message.get_attr(key).map_err(|e| e.to_string());
    if plain.kind() != ValueKind::Map {
        return Err(format!("it is a {}, not a message with role and content", plain.kind()));
    }
    let (role, content) = match get(plain, "role")?.as_str() {
        Some(role) => (role.to_string(), get(marked, "content")?),
        None => share_gpt(plain, marked)?,
    };
    let name = !role.is_empty() && role.len() <= 64;
    if !name || !role.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
        return Err(format!("its role is {role:?}; a role is a name such as user"));
    }
    let calls = get(marked, "tool_calls")?;
    match content.kind() {
        ValueKind::String => Ok(with(marked, [("role", Value::from(role)), ("content", content)])),
        ValueKind::Seq => {
            let plain_parts = get(plain, "content")?;
            let parts = parts(&content, &plain_parts)?;
            Ok(with(marked, [("role", Value::from(role)), ("content", parts)]))
        }
        ValueKind::None | ValueKind::Undefined if calls.is_true() => {
            Ok(with(marked, [("role", Value::from(role))]))
        }
        ValueKind::None | ValueKind::Undefined => Err("it has no content".into()),
        kind => Err(format!("its content is a {kind}; it must be a string or a list of text parts")),
    }
}

/// The role and content of a message with `from` and `value`.
fn share_gpt(plain: &Value, marked: &Value) -> Result<(String, Value), String> {
    let from = plain.get_attr("from").map_err(|e| e.to_string())?;
    let role = match from.as_str().ok_or("it has no role")? {
        "human" | "user" => "user",
        "gpt" | "chatgpt" | "assistant" | "model" | "bot" => "assistant",
        "system" => "system",
        "tool" | "observation" | "function" => "tool",
        other => {
            return Err(format!(
                "it is from {other:?}; known are human, gpt, system and tool, so make roles of them"
            ));
        }
    };
    Ok((role.to_string(), marked.get_attr("value").map_err(|e| e.to_string())?))
}

/// The parts of a content as the list of texts that it is.
fn parts(marked: &Value, plain: &Value) -> Result<Value, String> {
    let n = marked.len().unwrap_or(0);
    let part = |i: usize| -> Result<Value, String> {
        let item = |list: &Value| list.get_item_by_index(i).map_err(|e| e.to_string());
        let (marked, plain) = (item(marked)?, item(plain)?);
        if marked.kind() == ValueKind::String {
            return Ok(Value::from_pairs([("type", Value::from("text")), ("text", marked)]));
        }
        let kind = plain.get_attr("type").unwrap_or_default();
        let kind = kind.as_str().unwrap_or("text");
        let text = marked.get_attr("text").unwrap_or_default();
        match kind {
            "text" | "input_text" | "output_text" if text.kind() == ValueKind::String => {
                Ok(Value::from_pairs([("type", Value::from("text")), ("text", text)]))
            }
            "text" | "input_text" | "output_text" => Err(format!("part {i} of its content has no text")),
            kind => Err(format!(
                "part {i} of its content is of type {kind:?}; only text is supported: drop the row, or replace the part \
                 with text"
            )),
        }
    };
    Ok(Value::from((0..n).map(part).collect::<Result<Vec<_>, _>>()?))
}

#[cfg(test)]
mod tests;
