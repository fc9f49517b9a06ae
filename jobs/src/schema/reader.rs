//! Reads a schema, by a list of what is taken.

use super::error::SchemaError;
use super::exclusion::exclude;
use super::matching::Matching;
use super::node::{MAX_EXACT, MAX_INTEGER, Node, Strings};
use super::pattern;
use crate::structured::growth::Growth;
use serde_json::{Map, Value};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// What is taken at most: deeper schemas would overflow stacks, larger ones take too long to compile.
const MAX_BYTES: usize = 1 << 20;
pub const MAX_DEPTH: usize = 64;

/// What to do about a schema that is too deep, or too large.
pub const LESS_DEEP: &str = "name inner parts in `$defs` and refer to them by `$ref`";
pub const SMALLER: &str =
    "leave out descriptions and examples, and name what is there more than once in `$defs`";
const MAX_NODES: usize = 20_000;
const MAX_DEFINITIONS: usize = 1000;
const MAX_PROPERTIES: usize = 2000;
const MAX_VALUES: usize = 10_000;
/// Bounds, patterns, formats and objects with free names: a lexer looks for all of them at once, and the time to make it
/// grows with the square of their number.
const MAX_LEXEMES: usize = 250;
/// Merged schemas within merged schemas, whose references may lead into themselves.
const MAX_MERGING: usize = 32;
/// Pairs of branches and values that are compared for `oneOf`.
const MAX_PAIRS: usize = 1_000_000;

/// Keywords that say nothing about which values are valid.
const ANNOTATIONS: [&str; 12] = [
    "$comment",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentEncoding",
    "contentMediaType",
    "$defs",
    "definitions",
];

/// Keywords that say what a value of one type is.
const OF_TYPES: [&str; 21] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "items",
    "prefixItems",
    "additionalItems",
    "minItems",
    "maxItems",
    "uniqueItems",
    "properties",
    "required",
    "patternProperties",
    "additionalProperties",
    "minProperties",
    "maxProperties",
];

/// Keywords that stand for the whole of a schema.
const WHOLE: [&str; 6] = ["$ref", "anyOf", "oneOf", "allOf", "enum", "const"];

/// Keywords that are said by others before a schema is read.
const LOWERED: [&str; 4] = ["not", "if", "then", "else"];

/// Keywords that are decided for the values of an `enum` alone.
const DECIDED: [&str; 4] = ["contains", "minContains", "maxContains", "propertyNames"];

/// Keywords that say what holds where a property is there.
pub(super) const DEPENDENT: [&str; 3] = ["dependentRequired", "dependentSchemas", "dependencies"];

pub(super) const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

/// The versions of JSON Schema whose meaning is enforced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Draft {
    Draft7,
    Draft2020,
}

/// Reads a schema into its tree and what `$ref` leads to.
pub(super) fn read(schema: &Value) -> Result<(Node, Vec<Node>), SchemaError> {
    if depth(schema) > MAX_DEPTH {
        return Err(SchemaError::new("", format!("it is nested more than {MAX_DEPTH} deep; {LESS_DEEP}")));
    }
    let bytes = schema.to_string().len();
    if bytes > MAX_BYTES {
        return Err(SchemaError::new(
            "",
            format!("it has {bytes} bytes; at most {MAX_BYTES} are taken; {SMALLER}"),
        ));
    }
    let mut reader = Reader {
        document: schema,
        draft: draft(schema)?,
        places: HashMap::new(),
        pending: Vec::new(),
        exclusions: Vec::new(),
        nodes: 0,
        properties: 0,
        values: 0,
        lexemes: HashSet::new(),
        multiples: HashSet::new(),
        objects: 0,
        growth: Growth::EMPTY,
        copied: 0,
        merging: 0,
        branches: 0,
        looks: 0,
        wholes: HashMap::new(),
        matching: Matching::default(),
    };
    let root = reader.schema(schema, "")?;
    let mut definitions = Vec::new();
    while definitions.len() < reader.pending.len() {
        let (pointer, target) = reader.pending[definitions.len()].clone();
        definitions.push(reader.schema(target, &pointer)?);
    }
    let left = Cell::new(MAX_PAIRS);
    for (pointer, branches) in &reader.exclusions {
        for (i, a) in branches.iter().enumerate() {
            if let Some(j) = (i + 1..branches.len()).find(|j| !exclude(a, &branches[*j], &definitions, &left))
            {
                let why = format!(
                    "`oneOf` is taken only where its branches exclude each other, by type or by a required property with \
                     other values; branches {i} and {j} may overlap; say anyOf if both may be true"
                );
                return Err(SchemaError::new(pointer, why));
            }
        }
    }
    Ok((root, definitions))
}

/// How deep arrays and objects are nested, counted as far as one beyond what is taken.
fn depth(value: &Value) -> usize {
    let mut level: Vec<&Value> = vec![value];
    for depth in 0..=MAX_DEPTH {
        level = level
            .into_iter()
            .flat_map(|value| match value {
                Value::Array(items) => items.iter().collect::<Vec<_>>(),
                Value::Object(keys) => keys.values().collect(),
                _ => Vec::new(),
            })
            .collect();
        if level.is_empty() {
            return depth;
        }
    }
    MAX_DEPTH + 1
}

fn draft(schema: &Value) -> Result<Draft, SchemaError> {
    let Some(name) = schema.get("$schema") else { return Ok(Draft::Draft2020) };
    match name.as_str().map(|name| name.strip_suffix('#').unwrap_or(name)) {
        Some("https://json-schema.org/draft/2020-12/schema") => Ok(Draft::Draft2020),
        Some("http://json-schema.org/draft-07/schema") => Ok(Draft::Draft7),
        _ => {
            let why = format!("{name} is not taken; draft 2020-12 and draft 7 are");
            Err(SchemaError::new("/$schema", why))
        }
    }
}

pub(super) struct Reader<'a> {
    document: &'a Value,
    pub draft: Draft,
    /// Definitions by their pointer.
    places: HashMap<String, usize>,
    /// Where they stand.
    pending: Vec<(String, &'a Value)>,
    /// Branches that must exclude each other, by their place.
    exclusions: Vec<(String, Vec<Node>)>,
    nodes: usize,
    pub properties: usize,
    values: usize,
    /// Bounds, patterns and formats that differ, and objects with free names.
    lexemes: HashSet<String>,
    /// The values of `multipleOf`.
    pub multiples: HashSet<u32>,
    objects: usize,
    /// Of all patterns.
    growth: Growth,
    /// What merges have copied so far, and how many merged schemas are being read within each other.
    pub copied: usize,
    merging: usize,
    /// Branches that merges have made.
    pub branches: usize,
    /// What was looked at for the values of enumerations.
    pub looks: usize,
    /// What `pattern` and `format` stand for in Rust's syntax.
    pub wholes: HashMap<String, Rc<str>>,
    pub matching: Matching,
}

impl<'a> Reader<'a> {
    /// Reads what stands at a place.
    pub fn schema(&mut self, schema: &Value, at: &str) -> Result<Node, SchemaError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(SchemaError::new(at, format!("it has more than {MAX_NODES} schemas")));
        }
        let keys = match schema {
            Value::Bool(true) => return Ok(Node::Any),
            Value::Bool(false) => return Ok(Node::Never),
            Value::Object(keys) => keys,
            _ => return Err(SchemaError::new(at, "a schema is an object, true or false")),
        };
        if keys.contains_key("enum") || keys.contains_key("const") {
            return self.values(keys, at);
        }
        self.check_keywords(keys, at)?;
        let whole = WHOLE.iter().find(|name| keys.contains_key(**name));
        let depends = DEPENDENT.iter().chain(&LOWERED).any(|name| keys.contains_key(*name));
        let is_alone = |name: &str| {
            let several = name == "allOf" && keys[name].as_array().is_some_and(|all| all.len() > 1);
            let mut others = keys.keys().filter(|other| *other != name);
            !several && others.all(|other| is_annotation(other) || other.starts_with('$'))
        };
        match whole {
            None if !depends => return self.of_types(keys, at),
            Some(name) if is_alone(name) => return self.whole(name, keys, at),
            _ => {}
        }
        let merged = self.merged(keys, at)?;
        self.merging += 1;
        if self.merging > MAX_MERGING {
            let why =
                "its `allOf` leads into itself again and again; write what holds together into one schema";
            return Err(SchemaError::new(at, why));
        }
        let node = self.schema(&merged, at);
        self.merging -= 1;
        node
    }

    pub fn check_keywords(&self, keys: &Map<String, Value>, at: &str) -> Result<(), SchemaError> {
        self.check_known(keys, at, &[])
    }

    /// For what stands beside an `enum`.
    pub fn check_deciding(&self, keys: &Map<String, Value>, at: &str) -> Result<(), SchemaError> {
        self.check_reference(keys, at)?;
        self.check_known(keys, at, &DECIDED)
    }

    /// Refuses keywords beside `$ref` where the draft passes over them.
    pub fn check_reference(&self, keys: &Map<String, Value>, at: &str) -> Result<(), SchemaError> {
        let is_beside = |name: &&String| *name != "$ref" && !is_annotation(name) && !name.starts_with('$');
        match keys.keys().find(is_beside) {
            Some(beside) if self.draft == Draft::Draft7 && keys.contains_key("$ref") => {
                let why = format!(
                    "`$ref` beside `{beside}` is not taken in draft 7, which passes over it; use allOf"
                );
                Err(SchemaError::new(at, why))
            }
            _ => Ok(()),
        }
    }

    fn check_known(&self, keys: &Map<String, Value>, at: &str, decided: &[&str]) -> Result<(), SchemaError> {
        for name in keys.keys() {
            let known = match name.as_str() {
                "$schema" | "$id" => at.is_empty(),
                "type" => true,
                "prefixItems" => self.draft == Draft::Draft2020,
                "additionalItems" => self.draft == Draft::Draft7,
                "dependentRequired" | "dependentSchemas" => self.draft == Draft::Draft2020,
                "dependencies" => self.draft == Draft::Draft7,
                name => [&ANNOTATIONS[..], &OF_TYPES, &WHOLE, &LOWERED, decided]
                    .iter()
                    .any(|names| names.contains(&name)),
            };
            if !known {
                let why = format!("`{name}` cannot be enforced{}; leave it out", beside(name, self.draft));
                return Err(SchemaError::new(at, why));
            }
        }
        Ok(())
    }

    /// A schema that one keyword says, beside annotations.
    fn whole(&mut self, name: &str, keys: &Map<String, Value>, at: &str) -> Result<Node, SchemaError> {
        let value = &keys[name];
        let place = format!("{at}/{name}");
        match name {
            "$ref" => self.reference(value, &place),
            _ => {
                let list = value.as_array().filter(|list| !list.is_empty());
                let list = list.ok_or_else(|| SchemaError::new(&place, "is no array with schemas"))?;
                let mut branches = Vec::new();
                for (i, branch) in list.iter().enumerate() {
                    branches.push(self.schema(branch, &format!("{place}/{i}"))?);
                }
                match name {
                    "allOf" => Ok(branches.remove(0)),
                    "oneOf" => {
                        self.exclusions.push((place, branches.clone()));
                        Ok(Node::any_of(branches))
                    }
                    _ => Ok(Node::any_of(branches)),
                }
            }
        }
    }

    /// Counts values of enumerations.
    pub fn count_values(&mut self, more: usize, at: &str) -> Result<(), SchemaError> {
        self.values += more;
        check_values(self.values, at)
    }

    /// `$ref`, a pointer into the document.
    fn reference(&mut self, value: &Value, at: &str) -> Result<Node, SchemaError> {
        let (pointer, target) = self.target(value, at)?;
        if let Some(known) = self.places.get(&pointer) {
            return Ok(Node::Ref(*known));
        }
        if self.pending.len() == MAX_DEFINITIONS {
            return Err(SchemaError::new(
                at,
                format!("`$ref` to more than {MAX_DEFINITIONS} schemas is not taken"),
            ));
        }
        let number = self.pending.len();
        self.places.insert(pointer.clone(), number);
        self.pending.push((pointer, target));
        Ok(Node::Ref(number))
    }

    /// Where a `$ref` leads to: a pointer, and what stands there.
    pub fn target(&self, value: &Value, at: &str) -> Result<(String, &'a Value), SchemaError> {
        let wrong = |why: &str| SchemaError::new(at, format!("{value} {why}"));
        let text = value.as_str().ok_or_else(|| wrong("is no text"))?;
        let pointer = text.strip_prefix('#').ok_or_else(|| {
            wrong("leads out of the document, and nothing is fetched; put what it names into $defs, as #/$defs/NAME")
        })?;
        let pointer = percent_encoding::percent_decode_str(pointer).decode_utf8();
        let pointer = pointer.map_err(|_| wrong("is not UTF-8"))?.into_owned();
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(wrong("is an anchor, which is not taken; write a pointer, as #/$defs/NAME"));
        }
        let mut target = self.document;
        for (i, step) in pointer.split('/').skip(1).enumerate() {
            if i > 0 && target.get("$id").is_some() {
                return Err(wrong("leads through a schema with an `$id` of its own, which is not taken"));
            }
            let name = step.replace("~1", "/").replace("~0", "~");
            let next = match target {
                Value::Object(keys) => keys.get(&name),
                Value::Array(items) => {
                    let place = name.parse().ok().filter(|place: &usize| place.to_string() == name);
                    place.and_then(|place| items.get(place))
                }
                _ => None,
            };
            target = next.ok_or_else(|| wrong("leads to nothing"))?;
        }
        Ok((pointer, target))
    }

    fn of_types(&mut self, keys: &Map<String, Value>, at: &str) -> Result<Node, SchemaError> {
        let types = types(keys, at)?;
        let free = !keys.contains_key("type");
        if free && !keys.keys().any(|name| OF_TYPES.contains(&name.as_str())) {
            return Ok(Node::Any);
        }
        let mut nodes = Vec::new();
        for name in &types {
            // Every integer is a number.
            if *name == "integer" && types.contains(&"number") {
                continue;
            }
            nodes.push(match *name {
                "null" => Node::Null,
                "boolean" => Node::Boolean,
                "integer" => self.integer(keys, at)?,
                "number" => self.number(keys, at)?,
                "string" => self.string(keys, at)?,
                "array" => self.array(keys, at)?,
                _ => self.object(keys, at)?,
            });
        }
        for node in nodes.iter().filter(|node| is_lexeme(node)) {
            match node {
                Node::Object(object) => {
                    self.objects += 1 + object.patterns.len();
                    object.patterns.iter().try_for_each(|(pattern, _)| self.count_growth(pattern, at))?;
                }
                leaf => {
                    let is_new = self.lexemes.insert(format!("{leaf:?}"));
                    match leaf {
                        Node::String(Strings { pattern: Some(pattern), .. }) if is_new => {
                            self.count_growth(pattern, at)?;
                        }
                        _ => {}
                    }
                }
            }
        }
        if self.lexemes.len() + self.objects > MAX_LEXEMES {
            let why = format!(
                "it has more than {MAX_LEXEMES} different bounds, patterns, formats and objects with other properties; leave some \
                 out, or forbid other properties with additionalProperties: false"
            );
            return Err(SchemaError::new(at, why));
        }
        Ok(Node::any_of(nodes))
    }

    /// Counts the places of patterns, which a lexer may have to follow side by side.
    fn count_growth(&mut self, pattern: &str, at: &str) -> Result<(), SchemaError> {
        let growth = pattern::growth(pattern).map_err(|why| SchemaError::new(at, why))?;
        self.growth = self.growth.beside(growth);
        self.growth.check().map_err(|why| SchemaError::new(at, format!("with all patterns before it, {why}")))
    }

    /// Counts properties that are named.
    pub fn count_properties(&mut self, more: usize, at: &str) -> Result<(), SchemaError> {
        self.properties += more;
        if self.properties > MAX_PROPERTIES {
            let why = format!("it names more than {MAX_PROPERTIES} properties, which are not taken");
            return Err(SchemaError::new(at, why));
        }
        Ok(())
    }
}

/// Whether a node is a lexeme of its own, as those without bounds are not.
fn is_lexeme(node: &Node) -> bool {
    match node {
        Node::Integer(integers) => {
            integers.max != MAX_INTEGER || integers.min != -MAX_INTEGER || integers.multiple_of.is_some()
        }
        Node::Number(numbers) => {
            numbers.max != MAX_EXACT || numbers.min != -MAX_EXACT || numbers.multiple_of.is_some()
        }
        Node::String(strings) => {
            strings.pattern.is_some() || strings.max_length.is_some() || strings.min_length > 0
        }
        Node::Object(object) => {
            !object.patterns.is_empty() || object.is_open() && !object.properties.is_empty()
        }
        _ => false,
    }
}

/// Refuses more values than a schema may have.
pub(super) fn check_values(count: usize, at: &str) -> Result<(), SchemaError> {
    if count > MAX_VALUES {
        return Err(SchemaError::new(at, format!("more than {MAX_VALUES} values of `enum` are not taken")));
    }
    Ok(())
}

/// What to say of a keyword that another draft has.
fn beside(name: &str, draft: Draft) -> &'static str {
    match (name, draft) {
        ("prefixItems", Draft::Draft7) => " in draft 7, which writes an array in `items`",
        ("additionalItems", Draft::Draft2020) => " in draft 2020-12, which writes `prefixItems` and `items`",
        ("dependentRequired" | "dependentSchemas", Draft::Draft7) => {
            " in draft 7, which writes `dependencies`"
        }
        ("dependencies", Draft::Draft2020) => {
            " in draft 2020-12, which writes `dependentRequired` and `dependentSchemas`"
        }
        ("nullable", _) => r#", as it is no keyword of JSON Schema: write "type": ["...", "null"]"#,
        ("$id", _) => " below the root",
        _ => "",
    }
}

/// The types of a schema: all, where it names none.
pub(super) fn types(keys: &Map<String, Value>, at: &str) -> Result<Vec<&'static str>, SchemaError> {
    let find = |name: &Value| {
        let known = TYPES.iter().find(|known| name.as_str() == Some(**known)).copied();
        known.ok_or_else(|| SchemaError::new(&format!("{at}/type"), format!("{name} is no type")))
    };
    match keys.get("type") {
        None => Ok(TYPES.to_vec()),
        Some(Value::Array(names)) if names.is_empty() => {
            Err(SchemaError::new(&format!("{at}/type"), "names no type"))
        }
        Some(Value::Array(names)) => names.iter().map(find).collect(),
        Some(name) => Ok(vec![find(name)?]),
    }
}

/// Whether a keyword says nothing about which values are valid.
pub(super) fn is_annotation(name: &str) -> bool {
    ANNOTATIONS.contains(&name)
}

/// Whether a value, as [`normal`] makes it, is of a type.
pub(super) fn is_of(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        _ => value.is_object(),
    }
}

/// A value with whole numbers as such, and none that a float64 may not hold exactly.
pub(super) fn normal(value: &Value) -> Result<Value, String> {
    Ok(match value {
        Value::Number(number) => {
            let within = match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => whole.unsigned_abs() <= MAX_EXACT as u64,
                (None, float) => float.is_some_and(|x| x.abs() <= MAX_EXACT),
            };
            let float = number.as_f64().filter(|_| within);
            let float =
                float.ok_or_else(|| format!("the number {number} is beyond 2^53, which is not taken"))?;
            if float.fract() == 0.0 { (float as i64).into() } else { value.clone() }
        }
        Value::Array(items) => items.iter().map(normal).collect::<Result<Vec<_>, _>>()?.into(),
        Value::Object(keys) => {
            let keys = keys.iter().map(|(name, value)| Ok((name.clone(), normal(value)?)));
            Value::Object(keys.collect::<Result<Map<_, _>, String>>()?)
        }
        value => value.clone(),
    })
}

/// A keyword whose value is a whole number from 0, which may be written with a fraction of 0.
pub(super) fn whole_number(
    keys: &Map<String, Value>,
    name: &str,
    most: u64,
    at: &str,
) -> Result<Option<u64>, SchemaError> {
    let Some(value) = keys.get(name) else { return Ok(None) };
    let number = value.as_f64().filter(|x| *x >= 0.0 && x.fract() == 0.0 && *x <= most as f64);
    match number {
        Some(number) => Ok(Some(number as u64)),
        None => {
            let why = format!("`{name}` {value} is no whole number from 0 to {most}");
            Err(SchemaError::new(&format!("{at}/{name}"), why))
        }
    }
}
