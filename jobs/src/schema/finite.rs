//! Which values of an `enum` or `const` the keywords beside it allow. Each is looked at when the schema is read, so that here
//! keywords are taken that no grammar enforces.

use super::error::SchemaError;
use super::node::{Node, Strings};
use super::numbers::bound;
use super::reader::{Draft, Reader, check_values, is_annotation, is_of, normal, types, whole_number};
use serde_json::{Map, Value};
use std::rc::Rc;

/// What is looked at for all values of a schema together: keywords, and items, names and characters in them.
const MAX_LOOKS: usize = 2_000_000;
/// Bytes of one value: a text of a megabyte takes half a gigabyte to follow.
pub const MAX_TEXT: usize = 64 << 10;
/// Schemas within schemas and `$ref` in `$ref`, for one value.
const MAX_DEPTH: usize = 200;

impl Reader<'_> {
    /// Whether a schema allows a value, which is as [`normal`] makes them.
    pub(super) fn allows(
        &mut self,
        schema: &Value,
        value: &Value,
        at: &str,
        depth: usize,
    ) -> Result<bool, SchemaError> {
        if depth > MAX_DEPTH {
            return Err(SchemaError::new(at, "its `$ref` lead back to themselves"));
        }
        let keys = match schema {
            Value::Bool(all) => return Ok(*all),
            Value::Object(keys) => keys,
            _ => return Err(SchemaError::new(at, "a schema is an object, true or false")),
        };
        self.look(1 + keys.len(), at)?;
        self.check_deciding(keys, at)?;
        for (name, keyword) in keys {
            if !self.keyword_allows(name, keyword, keys, value, at, depth)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn look(&mut self, more: usize, at: &str) -> Result<(), SchemaError> {
        self.looks += more;
        if self.looks > MAX_LOOKS {
            let why = "there is too much beside its `enum` to look at for each value; leave the values out that it forbids";
            return Err(SchemaError::new(at, why));
        }
        Ok(())
    }

    /// What one keyword says of a value; `keys` are all of its schema.
    fn keyword_allows(
        &mut self,
        name: &str,
        keyword: &Value,
        keys: &Map<String, Value>,
        value: &Value,
        at: &str,
        depth: usize,
    ) -> Result<bool, SchemaError> {
        let place = || format!("{at}/{name}");
        let wrong = |why: &str| SchemaError::new(&place(), why);
        let count = |name: &str| whole_number(keys, name, u64::MAX, at).map(Option::unwrap_or_default);
        Ok(match name {
            "type" => types(keys, at)?.iter().any(|name| is_of(value, name)),
            "enum" => {
                let list = keyword.as_array().ok_or_else(|| wrong("is no array"))?;
                self.look(list.len(), at)?;
                is_among(value, list).map_err(|why| wrong(&why))?
            }
            "const" => is_among(value, std::slice::from_ref(keyword)).map_err(|why| wrong(&why))?,
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => {
                match (bound(keys, name, at)?, value.as_f64()) {
                    (Some(bound), Some(number)) => match name {
                        "minimum" => number >= bound,
                        "maximum" => number <= bound,
                        "exclusiveMinimum" => number > bound,
                        _ => number < bound,
                    },
                    _ => true,
                }
            }
            "multipleOf" => {
                let whole = keyword.as_f64().filter(|x| *x >= 1.0 && x.fract() == 0.0);
                let multiple = whole.ok_or_else(|| wrong("is no whole number from 1"))?;
                value.as_f64().is_none_or(|number| number % multiple == 0.0)
            }
            "minLength" | "maxLength" | "pattern" | "format" => match value {
                Value::String(text) => {
                    self.look(1 + text.len() / 16, at)?;
                    match name {
                        "minLength" => text.chars().count() as u64 >= count(name)?,
                        "maxLength" => text.chars().count() as u64 <= count(name)?,
                        _ => {
                            let pattern = self.whole_of(name, keyword, at)?;
                            self.matching.matches(&pattern, text).map_err(|why| wrong(&why))?
                        }
                    }
                }
                _ => true,
            },
            "items" | "prefixItems" | "additionalItems" | "contains" | "minItems" | "maxItems"
            | "uniqueItems" => match value {
                Value::Array(items) => self.items_allow(name, keyword, keys, items, at, depth)?,
                _ => true,
            },
            "required"
            | "properties"
            | "patternProperties"
            | "additionalProperties"
            | "propertyNames"
            | "minProperties"
            | "maxProperties"
            | "dependentRequired"
            | "dependentSchemas"
            | "dependencies" => match value {
                Value::Object(properties) => match name {
                    "minProperties" => properties.len() as u64 >= count(name)?,
                    "maxProperties" => properties.len() as u64 <= count(name)?,
                    _ => self.properties_allow(name, keyword, keys, properties, at, depth)?,
                },
                _ => true,
            },
            "allOf" | "anyOf" | "oneOf" => {
                let branches = keyword.as_array().filter(|branches| !branches.is_empty());
                let branches = branches.ok_or_else(|| wrong("is no array with schemas"))?;
                let mut allowing = 0;
                for (i, branch) in branches.iter().enumerate() {
                    allowing +=
                        usize::from(self.allows(branch, value, &format!("{}/{i}", place()), depth + 1)?);
                }
                match name {
                    "allOf" => allowing == branches.len(),
                    "anyOf" => allowing > 0,
                    _ => allowing == 1,
                }
            }
            "not" => !self.allows(keyword, value, &place(), depth + 1)?,
            "if" => {
                let next = if self.allows(keyword, value, &place(), depth + 1)? { "then" } else { "else" };
                match keys.get(next) {
                    Some(schema) => self.allows(schema, value, &format!("{at}/{next}"), depth + 1)?,
                    None => true,
                }
            }
            "$ref" => {
                let (pointer, target) = self.target(keyword, &place())?;
                self.allows(target, value, &pointer, depth + 1)?
            }
            // Of what is left, each is looked at beside another, or says nothing.
            _ => true,
        })
    }

    /// The pattern in Rust's syntax that `pattern` or `format` stands for.
    fn whole_of(&mut self, name: &str, keyword: &Value, at: &str) -> Result<Rc<str>, SchemaError> {
        let key = format!("{name} {keyword}");
        if let Some(known) = self.wholes.get(&key) {
            return Ok(known.clone());
        }
        let only = Map::from_iter([(name.to_string(), keyword.clone())]);
        let whole = match self.string(&only, at)? {
            Node::String(Strings { pattern: Some(pattern), .. }) => pattern.into(),
            _ => return Err(SchemaError::new(at, format!("`{name}` is no pattern"))),
        };
        Ok(self.wholes.entry(key).or_insert(whole).clone())
    }

    fn items_allow(
        &mut self,
        name: &str,
        keyword: &Value,
        keys: &Map<String, Value>,
        items: &[Value],
        at: &str,
        depth: usize,
    ) -> Result<bool, SchemaError> {
        let place = format!("{at}/{name}");
        let wrong = |why: &str| SchemaError::new(&place, why);
        let count = |name: &str| whole_number(keys, name, u64::MAX, at);
        let listed = match (self.draft, keys.get("items")) {
            (Draft::Draft7, Some(Value::Array(list))) => list.len(),
            (Draft::Draft7, _) => 0,
            (Draft::Draft2020, _) => keys.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len),
        };
        match (name, keyword) {
            ("minItems", _) => return Ok(items.len() as u64 >= count(name)?.unwrap_or(0)),
            ("maxItems", _) => return Ok(count(name)?.is_none_or(|most| items.len() as u64 <= most)),
            ("uniqueItems", Value::Bool(unique)) => {
                self.look(items.len().saturating_mul(items.len()), at)?;
                let twice = || (1..items.len()).any(|i| items[..i].contains(&items[i]));
                return Ok(!unique || !twice());
            }
            ("uniqueItems", _) => return Err(wrong("is neither true nor false")),
            ("contains", _) => {
                let mut found = 0;
                for item in items {
                    found += u64::from(self.allows(keyword, item, &place, depth + 1)?);
                }
                let (least, most) = match self.draft {
                    Draft::Draft2020 => (count("minContains")?, count("maxContains")?),
                    Draft::Draft7 => (None, None),
                };
                return Ok(found >= least.unwrap_or(1) && most.is_none_or(|most| found <= most));
            }
            ("prefixItems" | "items", Value::Array(list)) => {
                for (i, (schema, item)) in list.iter().zip(items).enumerate() {
                    if !self.allows(schema, item, &format!("{place}/{i}"), depth + 1)? {
                        return Ok(false);
                    }
                }
                return Ok(true);
            }
            ("prefixItems", _) => return Err(wrong("is no array")),
            // Without a list in `items`, it says nothing.
            ("additionalItems", _) if !keys.get("items").is_some_and(Value::is_array) => return Ok(true),
            _ => {}
        }
        for item in items.iter().skip(listed) {
            if !self.allows(keyword, item, &place, depth + 1)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn properties_allow(
        &mut self,
        name: &str,
        keyword: &Value,
        keys: &Map<String, Value>,
        properties: &Map<String, Value>,
        at: &str,
        depth: usize,
    ) -> Result<bool, SchemaError> {
        let place = format!("{at}/{name}");
        let wrong = |why: &str| SchemaError::new(&place, why);
        let texts = |list: &Value| -> Result<Vec<String>, SchemaError> {
            let texts = list.as_array().and_then(|list| {
                list.iter().map(|name| name.as_str().map(str::to_string)).collect::<Option<_>>()
            });
            texts.ok_or_else(|| wrong("is no array of texts"))
        };
        match name {
            "required" => {
                return Ok(texts(keyword)?.iter().all(|name| properties.contains_key(name)));
            }
            "propertyNames" => {
                for name in properties.keys() {
                    if !self.allows(keyword, &name.as_str().into(), &place, depth + 1)? {
                        return Ok(false);
                    }
                }
                return Ok(true);
            }
            "additionalProperties" => {
                for (name, value) in properties {
                    let named = keys.get("properties").is_some_and(|named| named.get(name).is_some());
                    if !named
                        && self.patterns_of(name, keys, at)?.is_empty()
                        && !self.allows(keyword, value, &place, depth + 1)?
                    {
                        return Ok(false);
                    }
                }
                return Ok(true);
            }
            "patternProperties" => {
                for (name, value) in properties {
                    for pattern in self.patterns_of(name, keys, at)? {
                        if !self.allows(&keyword[&pattern], value, &place, depth + 1)? {
                            return Ok(false);
                        }
                    }
                }
                return Ok(true);
            }
            _ => {}
        }
        let named = keyword.as_object().ok_or_else(|| wrong("is no object"))?;
        for (property, schema) in named {
            let Some(value) = properties.get(property) else { continue };
            let allowed = match (name, schema) {
                ("properties", _) => self.allows(schema, value, &format!("{place}/{property}"), depth + 1)?,
                (_, Value::Array(_)) if name != "dependentSchemas" => {
                    texts(schema)?.iter().all(|name| properties.contains_key(name))
                }
                ("dependentRequired", _) => return Err(wrong("is no object of arrays")),
                _ => {
                    let value = Value::Object(properties.clone());
                    self.look(properties.len(), at)?;
                    self.allows(schema, &value, &format!("{place}/{property}"), depth + 1)?
                }
            };
            if !allowed {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The patterns of `patternProperties` that a name matches.
    pub(super) fn patterns_of(
        &mut self,
        name: &str,
        keys: &Map<String, Value>,
        at: &str,
    ) -> Result<Vec<String>, SchemaError> {
        let place = format!("{at}/patternProperties");
        let Some(patterns) = keys.get("patternProperties") else { return Ok(Vec::new()) };
        let patterns = patterns.as_object().ok_or_else(|| SchemaError::new(&place, "is no object"))?;
        let mut matching = Vec::new();
        for pattern in patterns.keys() {
            self.look(1 + name.len() / 16, at)?;
            let matches = super::pattern::whole(pattern)
                .and_then(|whole| self.matching.matches(&whole, name))
                .map_err(|why| SchemaError::new(&place, format!("{pattern:?}: {why}")))?;
            if matches {
                matching.push(pattern.clone());
            }
        }
        Ok(matching)
    }

    /// What is left of a list of values by all that stands beside it.
    pub(super) fn values(&mut self, keys: &Map<String, Value>, at: &str) -> Result<Node, SchemaError> {
        let (name, list) = match (keys.get("const"), keys.get("enum")) {
            (Some(value), _) => ("const", std::slice::from_ref(value)),
            (None, Some(Value::Array(list))) => ("enum", &list[..]),
            _ => return Err(SchemaError::new(&format!("{at}/enum"), "is no array")),
        };
        let place = format!("{at}/{name}");
        check_values(list.len(), &place)?;
        let mut beside = keys.clone();
        beside.retain(|other, _| other != name && !is_annotation(other));
        self.check_reference(keys, at)?;
        self.check_deciding(&beside, at)?;
        let beside = Value::Object(beside);
        let mut seen = std::collections::HashSet::new();
        let mut values = Vec::new();
        for value in list {
            let value = normal(value).map_err(|why| SchemaError::new(&place, why))?;
            let text = value.to_string();
            if text.len() > MAX_TEXT {
                let why = format!("a value of {} bytes: at most {MAX_TEXT} are taken", text.len());
                return Err(SchemaError::new(&place, why));
            }
            // Texts of objects may differ while they are equal, which costs a branch.
            if seen.insert(text) && self.allows(&beside, &value, at, 0)? {
                values.push(value);
            }
        }
        self.count_values(values.len(), &place)?;
        Ok(if values.is_empty() { Node::Never } else { Node::Enum(values) })
    }
}

fn is_among(value: &Value, list: &[Value]) -> Result<bool, String> {
    for other in list {
        if normal(other)? == *value {
            return Ok(true);
        }
    }
    Ok(false)
}
