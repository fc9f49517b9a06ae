//! `not` and `if`, as schemas without them that allow the same: a value breaks a schema where it breaks one of its keywords.

use super::error::SchemaError;
use super::reader::{Reader, TYPES, is_annotation, normal, types};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Texts that are forbidden, and bytes of all their beginnings: a pattern of all other texts has these in it.
const MAX_TEXTS: usize = 100;
const MAX_BEGINNINGS: usize = 10_000;

impl Reader<'_> {
    /// A schema of what a schema forbids. `beside` says which types are wanted at all.
    ///
    /// # Errors
    /// A keyword of which that cannot be said, and its place.
    pub(super) fn negated(
        &mut self,
        schema: &Value,
        beside: &Map<String, Value>,
        at: &str,
    ) -> Result<Value, SchemaError> {
        let keys = match schema {
            Value::Bool(all) => return Ok((!all).into()),
            Value::Object(keys) => keys,
            _ => return Err(SchemaError::new(at, "a schema is an object, true or false")),
        };
        self.check_keywords(keys, at)?;
        self.check_reference(keys, at)?;
        let wanted = types(beside, at).unwrap_or_else(|_| TYPES.to_vec());
        let mut ways = Vec::new();
        for (name, value) in keys {
            if name == "$ref" {
                let (_, target) = self.target(value, &format!("{at}/$ref"))?;
                ways.push(json!({ "not": target }));
            } else {
                ways.extend(breaking(name, value, keys, &wanted, at)?);
            }
        }
        Ok(match ways.len() {
            0 => false.into(),
            1 => ways.remove(0),
            _ => json!({ "anyOf": ways }),
        })
    }

    /// `if`, `then` and `else` as two branches, of which a value can satisfy one alone.
    pub(super) fn branches_of(
        &mut self,
        keys: &mut Map<String, Value>,
        at: &str,
    ) -> Result<Option<Value>, SchemaError> {
        let (then, other) = (keys.shift_remove("then"), keys.shift_remove("else"));
        let Some(condition) = keys.shift_remove("if") else { return Ok(None) };
        if then.is_none() && other.is_none() {
            return Ok(None);
        }
        let refuted = self.negated(&condition, keys, &format!("{at}/if"))?;
        let [then, other] = [then, other].map(|branch| branch.unwrap_or(true.into()));
        Ok(Some(json!({ "anyOf": [{ "allOf": [condition, then] }, { "allOf": [refuted, other] }] })))
    }
}

/// The ways to break one keyword, each as a schema; none if all values satisfy it.
fn breaking(
    name: &str,
    value: &Value,
    keys: &Map<String, Value>,
    wanted: &[&'static str],
    at: &str,
) -> Result<Vec<Value>, SchemaError> {
    let place = format!("{at}/{name}");
    let wrong = |why: &str| SchemaError::new(&place, why);
    let list = |value: &Value| value.as_array().cloned().ok_or_else(|| wrong("is no array"));
    let object = |value: &Value| value.as_object().cloned().ok_or_else(|| wrong("is no object"));
    let not = |schema: &Value| json!({ "not": schema });
    // A count below or above one that is a whole number.
    let beyond = |kind: &str, keyword: &str, by: i64| {
        let count = value.as_f64().filter(|x| *x >= 0.0 && x.fract() == 0.0 && *x < 1e15);
        let count = count.ok_or_else(|| wrong("is no whole number"))? as i64 + by;
        Ok(if count < 0 { Vec::new() } else { vec![json!({ "type": kind, keyword: count })] })
    };
    Ok(match name {
        _ if is_annotation(name) || name == "$schema" || name == "$id" => Vec::new(),
        "type" => other_types(&types(keys, at)?, wanted, &place)?.into_iter().collect(),
        "enum" => other_values(&list(value)?, wanted, &place)?,
        "const" => other_values(std::slice::from_ref(value), wanted, &place)?,
        "minimum" => vec![json!({ "type": "number", "exclusiveMaximum": value })],
        "maximum" => vec![json!({ "type": "number", "exclusiveMinimum": value })],
        "exclusiveMinimum" => vec![json!({ "type": "number", "maximum": value })],
        "exclusiveMaximum" => vec![json!({ "type": "number", "minimum": value })],
        "minLength" => beyond("string", "maxLength", -1)?,
        "maxLength" => beyond("string", "minLength", 1)?,
        "minItems" => beyond("array", "maxItems", -1)?,
        "maxItems" => beyond("array", "minItems", 1)?,
        "required" => {
            let absent = |name: &Value| {
                let name = name.as_str().ok_or_else(|| wrong("names a property that is no text"))?;
                Ok(json!({ "type": "object", "properties": { name: false } }))
            };
            list(value)?.iter().map(absent).collect::<Result<_, _>>()?
        }
        "properties" => object(value)?
            .iter()
            .filter(|(_, schema)| **schema != true)
            .map(|(name, schema)| json!({ "type": "object", "required": [name], "properties": { name: not(schema) } }))
            .collect(),
        "allOf" => list(value)?.iter().map(not).collect(),
        "anyOf" => vec![json!({ "allOf": list(value)?.iter().map(not).collect::<Vec<_>>() })],
        "not" => vec![value.clone()],
        "if" => {
            let branch = |name: &str| keys.get(name).map_or(false.into(), not);
            vec![
                json!({ "allOf": [value, branch("then")] }),
                json!({ "allOf": [not(value), branch("else")] }),
            ]
        }
        "then" | "else" => Vec::new(),
        _ => {
            let why = format!("`not` and `if` cannot be enforced over `{name}`; say what is allowed instead");
            return Err(SchemaError::new(at, why));
        }
    })
}

/// All types but these.
fn other_types(types: &[&str], wanted: &[&'static str], at: &str) -> Result<Option<Value>, SchemaError> {
    let integers_only = types.contains(&"integer") && !types.contains(&"number");
    if integers_only && wanted.contains(&"number") {
        let why = "`not` and `if` over the type integer leave numbers with a fraction, which cannot be enforced alone; say number, \
                   or name the types that are allowed beside it";
        return Err(SchemaError::new(at, why));
    }
    let is_left = |name: &&str| match *name {
        "integer" | "number" => !types.contains(&"integer") && !types.contains(&"number"),
        name => !types.contains(&name),
    };
    let left: Vec<&str> = TYPES.into_iter().filter(is_left).collect();
    Ok((!left.is_empty()).then(|| json!({ "type": left })))
}

/// All values but these, type by type.
fn other_values(values: &[Value], wanted: &[&'static str], at: &str) -> Result<Vec<Value>, SchemaError> {
    let values: Vec<Value> =
        values.iter().map(normal).collect::<Result<_, _>>().map_err(|why| SchemaError::new(at, why))?;
    let mut whole = Vec::new();
    let mut ways = Vec::new();
    let has = |is: fn(&Value) -> bool| values.iter().any(is);
    if !has(Value::is_null) {
        whole.push("null");
    }
    match [true, false].map(|value| values.contains(&value.into())) {
        [false, false] => whole.push("boolean"),
        [true, true] => {}
        [is_true, _] => ways.push(json!({ "enum": [!is_true] })),
    }
    for (name, is) in [("array", Value::is_array as fn(&Value) -> bool), ("object", Value::is_object)] {
        match has(is) {
            false => whole.push(name),
            true if wanted.contains(&name) => {
                let why = format!("`not` and `if` over a value that is an {name} cannot be enforced");
                return Err(SchemaError::new(at, why));
            }
            true => {}
        }
    }
    match has(Value::is_number) {
        false => whole.push("number"),
        true => ways.extend(other_numbers(&values)),
    }
    let texts: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
    match texts.len() {
        0 => whole.push("string"),
        1..=MAX_TEXTS if wanted.contains(&"string") => {
            if texts.iter().map(|text| text.len() * text.len() / 2).sum::<usize>() > MAX_BEGINNINGS {
                return Err(SchemaError::new(at, "`not` and `if` over texts so long are not taken"));
            }
            ways.push(json!({ "type": "string", "pattern": other_texts(&texts) }));
        }
        _ if wanted.contains(&"string") => {
            let why = format!("`not` and `if` over more than {MAX_TEXTS} texts are not taken");
            return Err(SchemaError::new(at, why));
        }
        _ => {}
    }
    if !whole.is_empty() {
        ways.push(json!({ "type": whole }));
    }
    Ok(ways)
}

/// The numbers between some numbers.
fn other_numbers(values: &[Value]) -> Vec<Value> {
    let mut numbers: Vec<&Value> = values.iter().filter(|value| value.is_number()).collect();
    let float = |value: &Value| value.as_f64().unwrap_or_default();
    numbers.sort_by(|a, b| float(a).total_cmp(&float(b)));
    numbers.dedup();
    let bound = |name: &str, value: Option<&&Value>| value.map(|value| (name.to_string(), (*value).clone()));
    (0..=numbers.len())
        .map(|i| {
            let above = i.checked_sub(1).and_then(|i| bound("exclusiveMinimum", numbers.get(i)));
            let below = bound("exclusiveMaximum", numbers.get(i));
            let kind = Some(("type".to_string(), "number".into()));
            Value::Object([kind, above, below].into_iter().flatten().collect())
        })
        .collect()
}

/// A pattern of all texts but some: those that leave every one of them at some character, or end within one.
fn other_texts(texts: &[&str]) -> String {
    /// Which characters go on behind a beginning, and whether it is one of the texts itself.
    #[derive(Default)]
    struct Beginning {
        next: Vec<char>,
        is_text: bool,
    }
    let mut beginnings: BTreeMap<&str, Beginning> = BTreeMap::new();
    for text in texts {
        for (at, c) in text.char_indices() {
            let next = &mut beginnings.entry(&text[..at]).or_default().next;
            if !next.contains(&c) {
                next.push(c);
            }
        }
        beginnings.entry(text).or_default().is_text = true;
    }
    let mut branches = Vec::new();
    for (begun, Beginning { next, is_text }) in beginnings {
        let begun: String = begun.chars().map(escaped).collect();
        let next: String = next.into_iter().map(escaped).collect();
        branches.push(match next.is_empty() {
            true => format!("^{begun}(?:.|[\\n\\r\\u2028\\u2029])"),
            false => format!("^{begun}[^{next}]"),
        });
        if !is_text {
            branches.push(format!("^{begun}$"));
        }
    }
    branches.join("|")
}

/// A character as a pattern has it, alone or in a class.
fn escaped(c: char) -> String {
    match c {
        '_' => "_".into(),
        c if c.is_ascii_punctuation() => format!("\\{c}"),
        c if c.is_ascii_control() => format!("\\x{:02x}", u32::from(c)),
        c => c.into(),
    }
}
