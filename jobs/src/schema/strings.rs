//! Strings: their length, pattern and format.

use super::error::SchemaError;
use super::node::{Format, Node, Strings};
use super::reader::Reader;
use super::{pattern, reader::whole_number};
use serde_json::{Map, Value};

/// A greater length is refused as a bound.
const MAX_LENGTH: u64 = 100_000;

const DATE: &str = "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)\
                    |02-(?:0[1-9]|1[0-9]|2[0-8]))\
                    |(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)";
const TIME: &str =
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
const UUID: &str = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}";
const IPV4: &str =
    r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";

impl Reader<'_> {
    pub(super) fn string(&mut self, keys: &Map<String, Value>, at: &str) -> Result<Node, SchemaError> {
        let min_length = whole_number(keys, "minLength", MAX_LENGTH, at)?.unwrap_or(0);
        let max_length = whole_number(keys, "maxLength", MAX_LENGTH, at)?;
        if max_length.is_some_and(|max| max < min_length) {
            return Ok(Node::Never);
        }
        let text = |name: &str| match keys.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(SchemaError::new(&format!("{at}/{name}"), "is no text")),
        };
        let pattern = match text("pattern")? {
            None => None,
            Some(text) => {
                let wrong = |why: String| SchemaError::new(&format!("{at}/pattern"), why);
                let whole = pattern::whole(text).map_err(wrong)?;
                if min_length > 0 || max_length.is_some() {
                    pattern::growth(&whole)
                        .and_then(|growth| growth.with_length().check())
                        .map_err(|why| wrong(format!("beside `minLength` or `maxLength`, {why}")))?;
                }
                Some(whole)
            }
        };
        let Some(format) = text("format")? else {
            return Ok(Node::String(Strings { min_length, max_length, pattern, format: None }));
        };
        if pattern.is_some() || min_length > 0 || max_length.is_some() {
            let why = "`format` beside `pattern`, `minLength` or `maxLength` is not taken; leave one out";
            return Err(SchemaError::new(at, why));
        }
        let (format, pattern) = match format.as_str() {
            "date" => (Format::Date, DATE.to_string()),
            "time" => (Format::Time, TIME.to_string()),
            "date-time" => (Format::DateTime, format!("{DATE}T{TIME}")),
            "uuid" => (Format::Other, UUID.to_string()),
            "ipv4" => (Format::Other, IPV4.to_string()),
            other => {
                let why = format!(
                    "`format` {other:?} cannot be enforced; date, time, date-time, uuid and ipv4 are taken; for another \
                     write a `pattern`"
                );
                return Err(SchemaError::new(&format!("{at}/format"), why));
            }
        };
        Ok(Node::String(Strings { min_length, max_length, pattern: Some(pattern), format: Some(format) }))
    }
}
