//! `tojson` as transformers defines it.

use crate::prompt::rendering::MARK;
use crate::prompt::template::nulls::is_strict;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// `tojson` as transformers defines it: `json.dumps(x, ensure_ascii=False, indent=None, separators=None,
/// sort_keys=False)`, nothing escaped for HTML.
pub fn tojson(state: &State, value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent = options.get::<Option<Value>>("indent")?;
    let ensure_ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let indent = match indent {
        Some(value) if value.kind() == ValueKind::Number => Some(blanks(usize::try_from(value)?)?),
        Some(value) => value.as_str().map(str::to_string),
        None => None,
    };
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "separators are a pair of strings")),
        None => (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string()),
    };
    let mark = state.lookup(MARK).and_then(|mark| mark.as_str().and_then(|s| s.chars().next()));
    let mut json = Json { out: String::new(), indent, item, key, ensure_ascii, sort_keys, mark, state };
    json.value(value, 0)?;
    Ok(Value::from(json.out))
}

/// The indent of a level, by its width.
fn blanks(width: usize) -> Result<String, Error> {
    const WIDEST: usize = 1000;
    if width > WIDEST {
        let why = format!("tojson takes an indent of at most {WIDEST}, not {width}");
        return Err(Error::new(ErrorKind::InvalidOperation, why));
    }
    Ok(" ".repeat(width))
}

/// Writes JSON as Python's `json.dumps` does.
struct Json<'a, 't, 'e> {
    out: String,
    indent: Option<String>,
    item: String,
    key: String,
    ensure_ascii: bool,
    sort_keys: bool,
    /// Marks row text; never escaped, so that it can be found afterwards.
    mark: Option<char>,
    state: &'a State<'t, 'e>,
}

impl Json<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.state.consume_fuel(1)?;
        if depth > 64 {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: nested deeper than 64"));
        }
        match value.kind() {
            ValueKind::Undefined if is_strict(self.state) => {
                return Err(Error::new(ErrorKind::UndefinedError, "tojson: the value is undefined"));
            }
            ValueKind::Undefined | ValueKind::None => self.out += "null",
            ValueKind::Bool => self.out += if value.is_true() { "true" } else { "false" },
            ValueKind::Number => self.out += &value.to_string(),
            ValueKind::String => self.string(value.as_str().unwrap_or_default())?,
            ValueKind::Map => self.map(value, depth)?,
            ValueKind::Seq | ValueKind::Iterable => self.list(value, depth)?,
            kind => {
                let why = format!("tojson: {kind} is not JSON serializable");
                return Err(Error::new(ErrorKind::InvalidOperation, why));
            }
        }
        Ok(())
    }

    fn line(&mut self, depth: usize) -> Result<(), Error> {
        if let Some(indent) = &self.indent {
            self.state.consume_fuel((indent.len() * depth) as u64 / 64)?;
            self.out.push('\n');
            self.out += &indent.repeat(depth);
        }
        Ok(())
    }

    /// Writes a separator, which may be long.
    fn separate(&mut self, separator: fn(&Self) -> &String) -> Result<(), Error> {
        let text = separator(self).clone();
        self.state.consume_fuel(text.len() as u64 / 64)?;
        self.out += &text;
        Ok(())
    }

    fn list(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.out.push('[');
        let mut any = false;
        for item in value.try_iter()? {
            if std::mem::replace(&mut any, true) {
                self.separate(|json| &json.item)?;
            }
            self.line(depth + 1)?;
            self.value(&item, depth + 1)?;
        }
        if any {
            self.line(depth)?;
        }
        self.out.push(']');
        Ok(())
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.sort_keys {
            keys.sort();
        }
        self.out.push('{');
        for (i, key) in keys.iter().enumerate() {
            if i > 0 {
                self.separate(|json| &json.item)?;
            }
            self.line(depth + 1)?;
            match key.kind() {
                ValueKind::String => self.string(key.as_str().unwrap_or_default())?,
                ValueKind::Bool => self.string(if key.is_true() { "true" } else { "false" })?,
                ValueKind::None => self.string("null")?,
                _ => self.string(&key.to_string())?,
            }
            self.separate(|json| &json.key)?;
            self.value(&value.get_item(key)?, depth + 1)?;
        }
        if !keys.is_empty() {
            self.line(depth)?;
        }
        self.out.push('}');
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        self.state.consume_fuel(text.len() as u64 / 16)?;
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out += "\\\"",
                '\\' => self.out += "\\\\",
                '\n' => self.out += "\\n",
                '\r' => self.out += "\\r",
                '\t' => self.out += "\\t",
                '\u{8}' => self.out += "\\b",
                '\u{c}' => self.out += "\\f",
                c if Some(c) == self.mark => self.out.push(c),
                c if (c as u32) < 0x20 || (self.ensure_ascii && (c as u32) > 0x7e) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out += &format!("\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
        Ok(())
    }
}
