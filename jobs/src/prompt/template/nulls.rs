//! Nulls in the template of a prompt: they can be tested, replaced and given on, but never become the text
//! `None` of a prompt.

use crate::prompt::template::rewrite::{CONCAT, SLICED, TEXT};
use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value};
use std::fmt::Write as _;

/// The detail of the error of a null that would become text.
pub const NULL: &str = "null becomes text";

/// Makes an environment strict: what is undefined or null becomes no text.
pub fn refuse(environment: &mut Environment<'static>) {
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_formatter(|out, state, value| {
        text(value)?;
        minijinja::escape_formatter(out, state, value)
    });
    environment.add_filter(TEXT, |value: Value| text(&value).map(|()| value));
    // The engine makes an empty list of the slice of a null.
    environment.add_filter(SLICED, |value: Value| if value.is_none() { Err(null()) } else { Ok(value) });
    environment.add_filter(CONCAT, concat);
    environment.add_filter("format", |state: &mut State, format: Value, arguments: Rest<ValueOrKwargs>| {
        let arguments = [vec![format], arguments.into_values()].concat();
        arguments.iter().try_for_each(text)?;
        Value::from_function(minijinja::filters::format).call(state, &arguments)
    });
    environment.add_filter("join", join);
}

/// `join(d='', attribute=none)`.
fn join(
    state: &mut State,
    items: Value,
    separator: Option<Value>,
    attribute: Option<Value>,
    named: Kwargs,
) -> Result<Value, Error> {
    let separator = separator.or(named.get("d")?).unwrap_or_else(|| Value::from(""));
    let attribute = attribute.or(named.get("attribute")?);
    named.assert_all_used()?;
    text(&separator)?;
    text_of_items(&items, attribute.as_ref())?;
    let arguments = [items, separator, attribute.unwrap_or_default()];
    let given = if arguments[2].is_undefined() { 2 } else { 3 };
    Value::from_function(minijinja::filters::join).call(state, &arguments[..given])
}

/// Whether a template is one of a prompt.
pub fn is_strict(state: &State) -> bool {
    state.env().undefined_behavior() == UndefinedBehavior::Strict
}

/// Checks that a value can become text.
///
/// # Errors
/// For a null, also one within a list or a mapping.
pub fn text(value: &Value) -> Result<(), Error> {
    within(value, 0)
}

fn null() -> Error {
    Error::new(ErrorKind::InvalidOperation, NULL)
}

fn within(value: &Value, depth: usize) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => Err(null()),
        ValueKind::Seq | ValueKind::Iterable if depth < 64 => {
            value.try_iter()?.try_for_each(|item| within(&item, depth + 1))
        }
        ValueKind::Map if depth < 64 => value
            .try_iter()?
            .try_for_each(|key| value.get_item(&key).and_then(|item| within(&item, depth + 1))),
        _ => Ok(()),
    }
}

/// `a ~ b ~ c`.
fn concat(state: &State, arguments: Rest<Value>) -> Result<String, Error> {
    let mut joined = String::new();
    for value in arguments.iter() {
        if value.is_undefined() {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        text(value)?;
        let before = joined.len();
        match value.as_str() {
            Some(text) => joined += text,
            None => {
                let _ = write!(joined, "{value}");
                // Containers cost more than text, as when they are printed.
                state.consume_fuel((joined.len() - before) as u64 / 4)?;
            }
        }
        state.consume_fuel((joined.len() - before) as u64 / 64)?;
    }
    Ok(joined)
}

fn text_of_items(items: &Value, attribute: Option<&Value>) -> Result<(), Error> {
    let path = attribute.filter(|path| !path.is_none());
    for item in items.try_iter().into_iter().flatten() {
        match path {
            None => text(&item)?,
            Some(path) => {
                let mut found = item;
                for part in path.to_string().split('.') {
                    found = match part.parse::<usize>() {
                        Ok(at) => found.get_item_by_index(at)?,
                        Err(_) => found.get_attr(part)?,
                    };
                }
                text(&found)?;
            }
        }
    }
    Ok(())
}
