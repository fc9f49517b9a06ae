//! What templates can call besides minijinja's own: filters and methods of Jinja2 and Python.

use crate::prompt::template::bounds;
use crate::prompt::template::nulls::{self, is_strict};
use crate::prompt::template::rewrite::{CONCAT, PERCENT, SLICED};
use minijinja::value::{Kwargs, Rest, Tuple, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;
use std::fmt::Write as _;

/// Adds them to an environment.
pub fn add(environment: &mut Environment<'static>) {
    environment.add_filter("truncate", truncate);
    environment.add_filter("center", |state: &State, text: String, width: Option<usize>| {
        centered(state, &text, width.unwrap_or(80))
    });
    environment.add_filter("wordcount", |text: &str| {
        text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).count()
    });
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter(PERCENT, percent);
    environment.add_filter("format", |state: &mut State, format: Value, arguments: Rest<ValueOrKwargs>| {
        formatted(state, [vec![format], arguments.into_values()].concat())
    });
    environment.add_filter(CONCAT, concat);
    environment.add_filter(SLICED, |state: &State, value: Value| bounds::read(state, &value).map(|()| value));
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
    environment.set_unknown_method_callback(method);
}

fn wrong(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, why.into())
}

/// `truncate(length=255, killwords=false, end='...', leeway=5)`.
fn truncate(text: String, arguments: Rest<ValueOrKwargs>) -> Result<String, Error> {
    type Arguments = (Option<usize>, Option<bool>, Option<String>, Option<usize>, Kwargs);
    let arguments = arguments.into_values();
    let (length, killwords, end, leeway, named): Arguments = from_args(&arguments)?;
    let length = length.or(named.get("length")?).unwrap_or(255);
    let killwords = killwords.or(named.get("killwords")?).unwrap_or(false);
    let end = end.or(named.get("end")?).unwrap_or_else(|| "...".into());
    let leeway = leeway.or(named.get("leeway")?).unwrap_or(5);
    named.assert_all_used()?;
    let Some(kept) = length.checked_sub(end.chars().count()) else {
        return Err(wrong(format!("truncate: a length of {length} has no room for {end:?}")));
    };
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text);
    }
    let cut: String = text.chars().take(kept).collect();
    let cut =
        if killwords { cut.as_str() } else { cut.rsplit_once(' ').map_or(cut.as_str(), |(words, _)| words) };
    Ok(format!("{cut}{end}"))
}

/// The text in the middle of a line of that width, as Python's `str.center` puts it.
fn centered(state: &State, text: &str, width: usize) -> Result<String, Error> {
    let Some(space) = width.checked_sub(text.chars().count()) else { return Ok(text.into()) };
    state.consume_fuel(space as u64 / 64)?;
    let left = space / 2 + (space & width & 1);
    Ok(format!("{}{text}{}", " ".repeat(left), " ".repeat(space - left)))
}

/// `default(default_value='', boolean=false)`.
fn default(value: &Value, arguments: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let arguments = arguments.into_values();
    let (given, named): (&[Value], Kwargs) = from_args(&arguments)?;
    if given.len() > 2 {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    // A null that is given is no missing argument.
    let argument = |at: usize, name: &str| match given.get(at) {
        Some(value) => Ok(Some(value.clone())),
        None if named.has(name) => named.get::<Value>(name).map(Some),
        None => Ok(None),
    };
    let other = argument(0, "default_value")?.unwrap_or_else(|| Value::from(""));
    let boolean = argument(1, "boolean")?.is_some_and(|boolean| boolean.is_true());
    named.assert_all_used()?;
    let replaced = value.is_undefined() || (boolean && !value.is_true());
    Ok(if replaced { other } else { value.clone() })
}

/// Python's `'...' % x`: a tuple gives one value to each place, a mapping its values by their keys.
fn percent(state: &mut State, format: Value, given: Value) -> Result<Value, Error> {
    let mut arguments = vec![format];
    match given.downcast_object_ref::<Tuple>() {
        Some(tuple) => arguments.extend(tuple.clone().into_vec()),
        None => arguments.push(given),
    }
    formatted(state, arguments)
}

/// The text of a format, the first of the arguments, and its values.
fn formatted(state: &mut State, arguments: Vec<Value>) -> Result<Value, Error> {
    for argument in &arguments {
        may_be_text(state, argument)?;
    }
    bounds::formatted(state, arguments[0].as_str().unwrap_or_default(), &arguments[1..])?;
    Value::from_function(minijinja::filters::format).call(state, &arguments)
}

/// Checks that a value can become text, and pays for that.
fn may_be_text(state: &State, value: &Value) -> Result<(), Error> {
    if is_strict(state) { nulls::text(state, value) } else { bounds::printed(state, value) }
}

/// `a ~ b ~ c`.
fn concat(state: &State, arguments: Rest<Value>) -> Result<String, Error> {
    let mut joined = String::new();
    for value in arguments.iter() {
        if value.is_undefined() && is_strict(state) {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        may_be_text(state, value)?;
        if let Some(text) = value.as_str() {
            state.consume_fuel(text.len() as u64 / 64)?;
            joined += text;
        } else {
            let _ = write!(joined, "{value}");
        }
    }
    Ok(joined)
}

/// Methods that minijinja does not know.
fn method(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    bounds::read(state, value)?;
    for argument in arguments {
        bounds::read(state, argument)?;
    }
    match (name, value.as_str()) {
        ("format", Some(format)) => {
            arguments.iter().try_for_each(|argument| may_be_text(state, argument))?;
            bounds::formatted(state, format, arguments)?;
        }
        ("join", Some(_)) => arguments.iter().try_for_each(|argument| may_be_text(state, argument))?,
        ("split" | "rsplit" | "splitlines", Some(text)) => {
            // Many parts cost more than their bytes.
            let most = arguments
                .first()
                .and_then(Value::as_str)
                .map_or(text.len() / 2, |separator| text.matches(separator).count());
            state.consume_fuel(most as u64 / 2)?;
        }
        ("count", None) => bounds::compared(state, value)?,
        _ => {}
    }
    let Some(text) = value.as_str() else {
        return pycompat::unknown_method_callback(state, value, name, arguments);
    };
    let parts = |parts: [&str; 3]| Value::from(Tuple::from(parts.map(Value::from)));
    Ok(match name {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(arguments)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(arguments)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "index" | "rindex" => {
            let (part,): (&str,) = from_args(arguments)?;
            let at = if name == "index" { text.find(part) } else { text.rfind(part) };
            let at = at.ok_or_else(|| wrong(format!("{name}: the text does not hold {part:?}")))?;
            Value::from(text[..at].chars().count())
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(arguments)?;
            if separator.is_empty() {
                return Err(wrong(format!("{name}: the separator is empty")));
            }
            match name {
                "partition" => text
                    .split_once(separator)
                    .map_or(parts([text, "", ""]), |(before, after)| parts([before, separator, after])),
                _ => text
                    .rsplit_once(separator)
                    .map_or(parts(["", "", text]), |(before, after)| parts([before, separator, after])),
            }
        }
        "rsplit" => {
            let (separator, limit): (Option<&str>, Option<i64>) = from_args(arguments)?;
            let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
            Value::from(rsplit(text, separator, limit)?)
        }
        "center" => {
            let (width,): (usize,) = from_args(arguments)?;
            Value::from(centered(state, text, width)?)
        }
        _ => return pycompat::unknown_method_callback(state, value, name, arguments),
    })
}

/// Python's `str.rsplit`.
fn rsplit(text: &str, separator: Option<&str>, limit: usize) -> Result<Vec<String>, Error> {
    let mut parts: Vec<String> = match separator {
        Some("") => return Err(wrong("rsplit: the separator is empty")),
        Some(separator) => text.rsplitn(limit.saturating_add(1), separator).map(String::from).collect(),
        None => {
            let (mut parts, mut rest) = (Vec::new(), text.trim());
            while parts.len() < limit
                && let Some((at, space)) = rest.char_indices().rev().find(|(_, c)| c.is_whitespace())
            {
                parts.push(rest[at + space.len_utf8()..].to_string());
                rest = rest[..at].trim_end();
            }
            parts.extend((!rest.is_empty()).then(|| rest.to_string()));
            parts
        }
    };
    parts.reverse();
    Ok(parts)
}
