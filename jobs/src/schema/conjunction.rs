//! Schemas that hold together: `allOf`, and what stands beside `$ref`, `anyOf` and `oneOf`, as one schema without them.
//!
//! Two schemas are merged keyword by keyword, where what both say can be said by one of the same keyword. `anyOf` and `oneOf`
//! are multiplied out: both sides hold where one branch holds with all that stands beside it.

use super::error::SchemaError;
use super::reader::{DEPENDENT, Draft, Reader, is_annotation};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// Values that merges may copy, all together: branches multiply.
const MAX_COPIED: usize = 500_000;
/// Branches that merges may make, all together.
const MAX_BRANCHES: usize = 10_000;
/// Deeper references within each other are refused.
const MAX_DEPTH: usize = 32;

/// What a schema is made of.
enum Parts {
    /// Keywords of one schema.
    Plain(Map<String, Value>),
    /// Schemas that all hold.
    All(Vec<Value>),
    /// What holds beside one of some branches, and the keyword that has them.
    Branches(Value, &'static str, Vec<Value>),
}

impl Reader<'_> {
    /// The one schema that says what a schema of several parts does.
    pub(super) fn merged(&mut self, keys: &Map<String, Value>, at: &str) -> Result<Value, SchemaError> {
        self.merge(&Value::Object(keys.clone()), &json!({ "description": "" }), at, 0)
    }

    fn merge(&mut self, a: &Value, b: &Value, at: &str, depth: usize) -> Result<Value, SchemaError> {
        self.copied += weight(a) + weight(b);
        if self.copied > MAX_COPIED || depth > MAX_DEPTH {
            return Err(multiplies(at));
        }
        match (a, b) {
            (Value::Bool(true), other) | (other, Value::Bool(true)) => Ok(other.clone()),
            (Value::Bool(false), _) | (_, Value::Bool(false)) => Ok(false.into()),
            (Value::Object(a), Value::Object(b)) if is_listed(a) => Ok(listed(a, b)),
            (Value::Object(a), Value::Object(b)) if is_listed(b) => Ok(listed(b, a)),
            (Value::Object(a), Value::Object(b)) => {
                match (self.parts(&typed(a, b), at)?, self.parts(&typed(b, a), at)?) {
                    (Parts::Plain(a), Parts::Plain(b)) => self.merge_keywords(&a, &b, at),
                    (Parts::All(parts), _) => {
                        let whole = self.merge_all(&parts, at, depth)?;
                        self.merge(&whole, &Value::Object(b.clone()), at, depth + 1)
                    }
                    (_, Parts::All(parts)) => {
                        let whole = self.merge_all(&parts, at, depth)?;
                        self.merge(&Value::Object(a.clone()), &whole, at, depth + 1)
                    }
                    (Parts::Branches(rest, name, branches), _) => {
                        self.multiply(name, &branches, at, |reader, branch| {
                            let whole = reader.merge(&rest, branch, at, depth + 1)?;
                            reader.merge(&whole, &Value::Object(b.clone()), at, depth + 1)
                        })
                    }
                    (Parts::Plain(a), Parts::Branches(rest, name, branches)) => {
                        let a = Value::Object(a);
                        self.multiply(name, &branches, at, |reader, branch| {
                            let whole = reader.merge(&rest, branch, at, depth + 1)?;
                            reader.merge(&a, &whole, at, depth + 1)
                        })
                    }
                }
            }
            _ => Err(SchemaError::new(at, "a schema is an object, true or false")),
        }
    }

    fn merge_all(&mut self, parts: &[Value], at: &str, depth: usize) -> Result<Value, SchemaError> {
        parts.iter().try_fold(Value::Bool(true), |whole, part| self.merge(&whole, part, at, depth + 1))
    }

    fn multiply(
        &mut self,
        name: &str,
        branches: &[Value],
        at: &str,
        merge: impl Fn(&mut Self, &Value) -> Result<Value, SchemaError>,
    ) -> Result<Value, SchemaError> {
        self.branches += branches.len();
        if self.branches > MAX_BRANCHES {
            return Err(multiplies(at));
        }
        let merged = branches.iter().map(|branch| merge(self, branch)).collect::<Result<Vec<_>, _>>()?;
        if merged.is_empty() {
            return Err(SchemaError::new(&format!("{at}/{name}"), "is no array with schemas"));
        }
        Ok(json!({ name: merged }))
    }

    fn parts(&mut self, keys: &Map<String, Value>, at: &str) -> Result<Parts, SchemaError> {
        self.check_keywords(keys, at)?;
        for name in ["properties", "patternProperties"] {
            if keys.get(name).is_some_and(|properties| !properties.is_object()) {
                return Err(SchemaError::new(&format!("{at}/{name}"), "is no object"));
            }
        }
        let mut rest = keys.clone();
        rest.retain(|name, _| !is_annotation(name) && name != "$schema" && name != "$id");
        self.check_reference(keys, at)?;
        if let Some(reference) = rest.shift_remove("$ref") {
            let (_, target) = self.target(&reference, &format!("{at}/$ref"))?;
            return Ok(Parts::All(vec![Value::Object(rest), target.clone()]));
        }
        if let Some(forbidden) = rest.shift_remove("not") {
            let allowed = self.negated(&forbidden, &rest, &format!("{at}/not"))?;
            return Ok(Parts::All(vec![Value::Object(rest), allowed]));
        }
        if let Some(branches) = self.branches_of(&mut rest, at)? {
            return Ok(Parts::All(vec![Value::Object(rest), branches]));
        }
        for name in DEPENDENT {
            let Some(needs) = rest.shift_remove(name) else { continue };
            let needs =
                needs.as_object().ok_or_else(|| SchemaError::new(&format!("{at}/{name}"), "is no object"))?;
            let parts = needs.iter().map(|(property, needed)| depends(property, needed));
            return Ok(Parts::All([Value::Object(rest)].into_iter().chain(parts).collect()));
        }
        for name in ["allOf", "anyOf", "oneOf"] {
            let Some(branches) = rest.shift_remove(name) else { continue };
            let branches = match branches {
                Value::Array(branches) if !branches.is_empty() => branches,
                _ => return Err(SchemaError::new(&format!("{at}/{name}"), "is no array with schemas")),
            };
            let rest = Value::Object(rest);
            return Ok(match name {
                "allOf" => Parts::All([rest].into_iter().chain(branches).collect()),
                name => Parts::Branches(rest, name, branches),
            });
        }
        Ok(Parts::Plain(rest))
    }

    /// Merges schemas of plain keywords.
    fn merge_keywords(
        &mut self,
        a: &Map<String, Value>,
        b: &Map<String, Value>,
        at: &str,
    ) -> Result<Value, SchemaError> {
        let mut merged = Map::new();
        for (name, value) in a.iter().chain(b.iter().filter(|(name, _)| !a.contains_key(*name))) {
            let both = match (a.get(name), b.get(name)) {
                (Some(a), Some(b)) if a != b => merge_values(name, a, b),
                _ => Some(value.clone()),
            };
            let why = || {
                let why = format!(
                    "`{name}` is there twice, as {} and as {}, and cannot be merged",
                    a[name], b[name]
                );
                SchemaError::new(at, why)
            };
            merged.insert(name.clone(), both.ok_or_else(why)?);
        }
        let nothing = |name: &str| merged.get(name).and_then(Value::as_array).is_some_and(Vec::is_empty);
        if nothing("type") {
            return Ok(false.into());
        }
        self.merge_properties(a, b, &mut merged, at)?;
        self.merge_items(a, b, &mut merged);
        Ok(merged.into())
    }

    /// Properties of one that the other does not name are, to it, those of a pattern, or else others.
    fn merge_properties(
        &mut self,
        a: &Map<String, Value>,
        b: &Map<String, Value>,
        merged: &mut Map<String, Value>,
        at: &str,
    ) -> Result<(), SchemaError> {
        let named = |keys: &Map<String, Value>| keys.get("properties").and_then(Value::as_object).cloned();
        let others =
            |keys: &Map<String, Value>| keys.get("additionalProperties").cloned().unwrap_or(true.into());
        let (of_a, of_b) = (named(a).unwrap_or_default(), named(b).unwrap_or_default());
        let mut properties = Map::new();
        for name in of_a.keys().chain(of_b.keys().filter(|name| !of_a.contains_key(*name))) {
            let mut of = |named: &Map<String, Value>, keys| match named.get(name) {
                Some(schema) => Ok(schema.clone()),
                None if self.patterns_of(name, keys, at)?.is_empty() => Ok(others(keys)),
                // The pattern stays.
                None => Ok(true.into()),
            };
            properties.insert(name.clone(), both(of(&of_a, a)?, of(&of_b, b)?));
        }
        let patterns = match (patterns(a), patterns(b)) {
            (None, None) => None,
            (Some(patterns), None) => Some(self.with_others(&patterns, a, b, at)?),
            (None, Some(patterns)) => Some(self.with_others(&patterns, b, a, at)?),
            (Some(mut patterns), Some(more)) => {
                if others(a) != true || others(b) != true {
                    let why = "two `patternProperties` that hold together, one of them beside `additionalProperties`, are not \
                               taken; write them into one";
                    return Err(SchemaError::new(at, why));
                }
                for (pattern, schema) in more {
                    let known = patterns.shift_remove(&pattern).unwrap_or(true.into());
                    patterns.insert(pattern, both(known, schema));
                }
                Some(patterns)
            }
        };
        let others = both(others(a), others(b));
        for (name, value) in [
            ("properties", (!properties.is_empty()).then_some(Value::Object(properties))),
            ("patternProperties", patterns.map(Value::Object)),
            ("additionalProperties", (others != true).then_some(others)),
        ] {
            match value {
                Some(value) => _ = merged.insert(name.into(), value),
                None => _ = merged.shift_remove(name),
            }
        }
        Ok(())
    }

    /// Patterns of a schema with what another, which has none, says of names that it does not know.
    fn with_others(
        &mut self,
        patterns: &Map<String, Value>,
        keys: &Map<String, Value>,
        other: &Map<String, Value>,
        at: &str,
    ) -> Result<Map<String, Value>, SchemaError> {
        let others = other.get("additionalProperties").cloned().unwrap_or(true.into());
        if others != true {
            // Their names would be held to what the other says of names that it does not know.
            for name in other.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys) {
                if !self.patterns_of(name, keys, at)?.is_empty() {
                    let why = format!(
                        "{name:?} matches `patternProperties` and is named beside `additionalProperties` elsewhere, which is not \
                         taken; write both into one schema"
                    );
                    return Err(SchemaError::new(at, why));
                }
            }
        }
        Ok(patterns
            .iter()
            .map(|(pattern, schema)| (pattern.clone(), both(schema.clone(), others.clone())))
            .collect())
    }

    /// Items by their place, then those that are alike.
    fn merge_items(&self, a: &Map<String, Value>, b: &Map<String, Value>, merged: &mut Map<String, Value>) {
        let of = |keys: &Map<String, Value>| -> (Vec<Value>, Value) {
            let list = |name: &str| keys.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
            let rest = |name: &str| keys.get(name).cloned().unwrap_or(true.into());
            match (self.draft, keys.get("items")) {
                (Draft::Draft7, Some(Value::Array(items))) => (items.clone(), rest("additionalItems")),
                (Draft::Draft7, _) => (Vec::new(), rest("items")),
                (Draft::Draft2020, _) => (list("prefixItems"), rest("items")),
            }
        };
        let ((of_a, rest_a), (of_b, rest_b)) = (of(a), of(b));
        let len = of_a.len().max(of_b.len());
        let at = |of: &[Value], rest: &Value, i: usize| of.get(i).unwrap_or(rest).clone();
        let prefix: Vec<Value> =
            (0..len).map(|i| both(at(&of_a, &rest_a, i), at(&of_b, &rest_b, i))).collect();
        let (list, more) = match (self.draft, prefix.is_empty()) {
            (Draft::Draft2020, _) => ("prefixItems", "items"),
            (Draft::Draft7, true) => ("", "items"),
            (Draft::Draft7, false) => ("items", "additionalItems"),
        };
        let rest = both(rest_a, rest_b);
        ["prefixItems", "items", "additionalItems"].iter().for_each(|name| _ = merged.shift_remove(*name));
        if !prefix.is_empty() {
            merged.insert(list.into(), prefix.into());
        }
        if rest != true {
            merged.insert(more.into(), rest);
        }
    }
}

fn multiplies(at: &str) -> SchemaError {
    let why = "its `allOf`, `anyOf`, `oneOf` and `$ref` lead back to themselves, or multiply out to too many schemas; write \
               them into one";
    SchemaError::new(at, why)
}

/// The patterns of names that a schema has, if any.
fn patterns(keys: &Map<String, Value>) -> Option<Map<String, Value>> {
    keys.get("patternProperties").and_then(Value::as_object).filter(|patterns| !patterns.is_empty()).cloned()
}

/// How many values a value has within it; a long text counts for more.
fn weight(value: &Value) -> usize {
    1 + match value {
        Value::String(text) => text.len() / 64,
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(keys) => keys.iter().map(|(name, value)| name.len() / 64 + weight(value)).sum(),
        _ => 0,
    }
}

/// A property is not there, or what is needed then holds: other properties, or a schema.
fn depends(property: &str, needed: &Value) -> Value {
    let absent = json!({ "properties": { property: false } });
    let there = match needed {
        Value::Array(names) => {
            let names: Vec<Value> = [property.into()].into_iter().chain(names.iter().cloned()).collect();
            json!({ "required": names })
        }
        schema => json!({ "allOf": [{ "required": [property] }, schema] }),
    };
    json!({ "anyOf": [absent, there] })
}

/// A schema that holds where both do.
fn both(a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Bool(true), other) | (other, Value::Bool(true)) => other,
        (a, b) if a == b => a,
        (a, b) => json!({ "allOf": [a, b] }),
    }
}

/// A keyword that says what two of its values do; `None` if none does. Properties and items are merged elsewhere.
fn merge_values(name: &str, a: &Value, b: &Value) -> Option<Value> {
    let pick = |greater: bool| {
        let a_is_greater = a.as_f64()? >= b.as_f64()?;
        Some(if a_is_greater == greater { a.clone() } else { b.clone() })
    };
    match name {
        "minimum" | "exclusiveMinimum" | "minLength" | "minItems" | "minProperties" => pick(true),
        "maximum" | "exclusiveMaximum" | "maxLength" | "maxItems" | "maxProperties" => pick(false),
        "uniqueItems" => Some((a.as_bool()? || b.as_bool()?).into()),
        "type" => {
            let list = |value: &Value| match value {
                Value::Array(names) => names.clone(),
                name => vec![name.clone()],
            };
            let (a, b) = (list(a), list(b));
            let has = |of: &[Value], name: &Value| {
                of.contains(name) || *name == "integer" && of.contains(&"number".into())
            };
            let mut types: Vec<Value> = a.iter().filter(|name| has(&b, name)).cloned().collect();
            types.extend(b.iter().filter(|name| has(&a, name) && !a.contains(name)).cloned());
            Some(types.into())
        }
        "required" => {
            let mut names = a.as_array()?.clone();
            names.extend(
                b.as_array()?.iter().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>(),
            );
            Some(names.into())
        }
        "multipleOf" => {
            let whole = |value: &Value| value.as_f64().filter(|x| *x >= 1.0 && x.fract() == 0.0 && *x <= 1e8);
            let (a, b) = (whole(a)? as u64, whole(b)? as u64);
            let (mut x, mut y) = (a, b);
            while y > 0 {
                (x, y) = (y, x % y);
            }
            Some((a / x * b).into())
        }
        "properties"
        | "patternProperties"
        | "additionalProperties"
        | "prefixItems"
        | "items"
        | "additionalItems" => Some(a.clone()),
        _ => None,
    }
}

/// Whether a schema lists its values: then each of them is looked at, and nothing need be merged.
fn is_listed(keys: &Map<String, Value>) -> bool {
    keys.contains_key("enum") || keys.contains_key("const")
}

/// A schema that lists its values, with another that holds beside it.
fn listed(keys: &Map<String, Value>, beside: &Map<String, Value>) -> Value {
    let mut keys = keys.clone();
    keys.retain(|name, _| !is_annotation(name) && name != "$schema" && name != "$id");
    let all = match keys.shift_remove("allOf") {
        Some(Value::Array(all)) => all,
        // What is wrong with it is told when it is read.
        other => other.into_iter().map(|other| json!({ "allOf": other })).collect(),
    };
    let mut beside = beside.clone();
    beside.retain(|name, _| !is_annotation(name) && name != "$schema" && name != "$id");
    let all: Vec<Value> = all.into_iter().chain([beside.into()]).collect();
    keys.insert("allOf".into(), all.into());
    keys.into()
}

/// A schema with the types of another beside it, where it names none: what `not` leaves depends on them.
fn typed<'a>(keys: &'a Map<String, Value>, beside: &Map<String, Value>) -> Cow<'a, Map<String, Value>> {
    let negates = keys.contains_key("not") || keys.contains_key("if");
    match beside.get("type").filter(|_| negates && !keys.contains_key("type")) {
        None => Cow::Borrowed(keys),
        Some(types) => {
            let mut keys = keys.clone();
            keys.insert("type".into(), types.clone());
            Cow::Owned(keys)
        }
    }
}
