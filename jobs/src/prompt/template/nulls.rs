//! Nulls in the template of a prompt: they can be tested, replaced and given on, but never become the text
//! `None` of a prompt.

use crate::prompt::template::bounds::{self, printed};
use crate::prompt::template::rewrite::{SLICED, TEXT};
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value};

/// The detail of the error of a null that would become text.
pub const NULL: &str = "null becomes text";

/// Makes an environment strict: what is undefined or null becomes no text.
pub fn refuse(environment: &mut Environment<'static>) {
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_formatter(|out, state, value| {
        text(state, value)?;
        minijinja::escape_formatter(out, state, value)
    });
    environment.add_filter(TEXT, |state: &State, value: Value| text(state, &value).map(|()| value));
    // The engine makes an empty list of the slice of a null.
    environment.add_filter(SLICED, |state: &State, value: Value| {
        if value.is_none() { Err(null()) } else { bounds::read(state, &value).map(|()| value) }
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
    text(state, &separator)?;
    text_of_items(state, &items, attribute.as_ref())?;
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
/// For a null, also one within a list or a mapping; for what is too deep or too large.
pub fn text(state: &State, value: &Value) -> Result<(), Error> {
    printed(state, value)?;
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

fn text_of_items(state: &State, items: &Value, attribute: Option<&Value>) -> Result<(), Error> {
    // The engine joins a null to an empty text.
    if items.is_none() {
        return Err(null());
    }
    let path = attribute.filter(|path| !path.is_none());
    for item in items.try_iter().into_iter().flatten() {
        match path {
            None => text(state, &item)?,
            Some(path) => {
                let mut found = item;
                for part in path.to_string().split('.') {
                    found = match part.parse::<usize>() {
                        Ok(at) => found.get_item_by_index(at)?,
                        Err(_) => found.get_attr(part)?,
                    };
                }
                text(state, &found)?;
            }
        }
    }
    Ok(())
}
