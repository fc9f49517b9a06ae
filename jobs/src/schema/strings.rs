//! Strings: their length, pattern and format.

use super::error::SchemaError;
use super::node::{Format, Node, Strings};
use super::quoted::within_json;
use super::reader::Reader;
use super::{pattern, reader::whole_number};
use serde_json::{Map, Value};

/// A greater length is refused as a bound.
const MAX_LENGTH: u64 = 100_000;

/// Years that Arrow's readers know: 0001 to 9999.
const YEAR: &str = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)";
/// Those that no offset from UTC takes out of them: 0002 to 9998.
const INNER_YEAR: &str =
    "(?:000[2-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-8][0-9]{3}|9[0-8][0-9]{2}|99[0-8][0-9]|999[0-8])";
const MONTH_AND_DAY: &str = "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)\
                             |02-(?:0[1-9]|1[0-9]|2[0-8]))";
const LEAP_DAY: &str =
    "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)-02-29";
const CLOCK: &str = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?";
const OFFSET: &str = "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
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
                Some(within_json(&whole).map_err(wrong)?)
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
            "date" => (Format::Date, format!("(?:{YEAR}-{MONTH_AND_DAY}|{LEAP_DAY})")),
            "time" => (Format::Time, format!("{CLOCK}{OFFSET}")),
            "date-time" => (Format::DateTime, date_time()),
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

/// A moment that is in the years 0001 to 9999 of UTC, too.
fn date_time() -> String {
    let inner = format!("(?:{INNER_YEAR}-{MONTH_AND_DAY}|{LEAP_DAY})T{CLOCK}{OFFSET}");
    format!("(?:{inner}|(?:0001|9999)-{MONTH_AND_DAY}T{CLOCK}Z)")
}
