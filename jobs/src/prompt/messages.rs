//! Conversations: lists of messages with role and content.

use crate::input::row::value;
use crate::prompt::rendering::Marking;
use crate::row_error::{RowError, RowErrorKind};
use arrow::array::Array;
use minijinja::Value;
use minijinja::value::ValueKind;

/// The messages of a row of a column of conversations, with every text but the roles marked.
///
/// # Errors
/// What is wrong with the row.
pub fn row_messages(column: &dyn Array, row: usize, marking: &Marking) -> Result<Vec<Value>, RowError> {
    let bad = |why: String| RowError::new(RowErrorKind::BadMessages, why);
    let marked = value(column, row, &mut |text: &str| marking.value(text)).map_err(bad)?;
    if marked.is_none() {
        return Err(RowError::new(RowErrorKind::NullPrompt, "the messages column is null in this row"));
    }
    // Roles are names that templates compare, so they are taken unmarked.
    let plain = value(column, row, &mut |text: &str| Value::from(text)).map_err(bad)?;
    let n = marked.len().unwrap_or(0);
    if n == 0 {
        return Err(bad("the list is empty".into()));
    }
    let messages = (0..n).map(|i| {
        let item = |list: &Value| list.get_item_by_index(i).map_err(|e| bad(e.to_string()));
        checked_message(&item(&marked)?, &item(&plain)?).map_err(|why| bad(format!("message {i}: {why}")))
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

/// A message of a row with its role unmarked.
fn checked_message(marked: &Value, plain: &Value) -> Result<Value, String> {
    let role = plain.get_attr("role").map_err(|e| e.to_string())?;
    let role = role.as_str().ok_or("it has no role")?;
    let name = !role.is_empty() && role.len() <= 64;
    if !name || !role.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
        return Err(format!("its role is {role:?}; a role is a name such as user"));
    }
    let content = marked.get_attr("content").map_err(|e| e.to_string())?;
    let calls = marked.get_attr("tool_calls").map_err(|e| e.to_string())?;
    if (content.is_none() || content.is_undefined()) && !calls.is_true() {
        return Err("it has no content".into());
    }
    let keys = marked.try_iter().map_err(|e| e.to_string())?;
    let pairs = keys.filter_map(|key| {
        let value = if key.as_str() == Some("role") {
            Value::from(role)
        } else {
            without_null_fields(&marked.get_item(&key).unwrap_or_default())
        };
        (!value.is_none()).then_some((key, value))
    });
    Ok(Value::from_pairs(pairs.collect::<Vec<_>>()))
}

/// A value whose structs have no null fields: a column has every field in every row, so that a null is how it says that a
/// message has no such key.
fn without_null_fields(value: &Value) -> Value {
    let items = || value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::Seq => items().map(|item| without_null_fields(&item)).collect(),
        ValueKind::Map => {
            let pairs = items().filter_map(|key| {
                let field = value.get_item(&key).ok().filter(|field| !field.is_none())?;
                Some((key, without_null_fields(&field)))
            });
            Value::from_pairs(pairs.collect::<Vec<_>>())
        }
        _ => value.clone(),
    }
}
