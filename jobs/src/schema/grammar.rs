//! The schema that llguidance is handed.

use super::AnswerSchema;
use super::node::{Array, Integers, Node, Numbers, Object, Strings};
use serde_json::{Map, Value, json};

impl AnswerSchema {
    /// A schema of draft 2020-12 that means the same, with nothing in it that llguidance does not enforce, for JSON on one
    /// line, with a blank or none behind commas and colons: with any white space a model may write nothing else.
    pub fn grammar(&self) -> Value {
        let mut writer = Writer::default();
        let mut schema = match writer.write(&self.root) {
            Value::Object(keys) => keys,
            _ => Map::new(),
        };
        let mut definitions = Map::new();
        for (i, node) in self.definitions.iter().enumerate() {
            definitions.insert(format!("r{i}"), writer.write(node));
        }
        for (i, leaf) in writer.leaves.into_iter().enumerate() {
            definitions.insert(format!("leaf{i}"), leaf);
        }
        if !definitions.is_empty() {
            schema.insert("$defs".into(), definitions.into());
        }
        // With `u`, a free name that is written with escapes would pass by what the schema says of it.
        let escapes = if self.has_free_names() { "nrbtf\\\"" } else { "nrbtf\\\"u" };
        let options = json!({
            "item_separator": ", ?", "key_separator": ": ?", "whitespace_flexible": false,
            "json_allowed_escapes": escapes,
        });
        schema.insert("x-guidance".into(), options);
        schema.into()
    }

    /// A value of an `enum` that needs an escape with `u` where there is none.
    pub(super) fn unwritable(&self) -> Option<&Value> {
        let nodes = || [&self.root].into_iter().chain(&self.definitions);
        self.has_free_names().then(|| nodes().find_map(unwritable)).flatten()
    }

    /// Whether an object may have names that the schema does not list, so that one may come twice.
    pub fn has_other_names(&self) -> bool {
        self.has(|node| match node {
            Node::Any => true,
            Node::Object(object) => object.is_open(),
            _ => false,
        })
    }

    /// Whether an object may have names besides those that the schema gives.
    pub(super) fn has_free_names(&self) -> bool {
        self.has(|node| match node {
            Node::Object(object) => {
                !object.patterns.is_empty() || object.is_open() && !object.properties.is_empty()
            }
            _ => false,
        })
    }

    /// Whether there is such a node, however deep.
    fn has(&self, is: impl Fn(&Node) -> bool) -> bool {
        fn within(node: &Node, is: &dyn Fn(&Node) -> bool) -> bool {
            is(node) || node.children().into_iter().any(|child| within(child, is))
        }
        [&self.root].into_iter().chain(&self.definitions).any(|node| within(node, &is))
    }
}

fn unwritable(node: &Node) -> Option<&Value> {
    fn escaped(value: &Value) -> bool {
        match value {
            Value::String(text) => {
                text.chars().any(|c| c.is_ascii_control() && !"\n\r\t\u{8}\u{c}".contains(c))
            }
            Value::Array(items) => items.iter().any(escaped),
            Value::Object(keys) => keys.values().any(escaped),
            _ => false,
        }
    }
    match node {
        Node::Enum(values) => values.iter().find(|value| escaped(value)),
        node => node.children().into_iter().find_map(unwritable),
    }
}

/// Writes nodes. Numbers and texts that are alike are one definition, and so one lexeme: a lexer grows with each.
#[derive(Default)]
struct Writer {
    leaves: Vec<Value>,
}

impl Writer {
    fn write(&mut self, node: &Node) -> Value {
        match node {
            Node::Any => json!({}),
            Node::Never => json!(false),
            Node::Null => json!({ "type": "null" }),
            Node::Boolean => json!({ "type": "boolean" }),
            Node::Integer(integers) => self.leaf(write_integers(integers)),
            Node::Number(numbers) => self.leaf(write_numbers(numbers)),
            Node::String(strings) => self.leaf(write_strings(strings)),
            Node::Array(array) => self.array(array),
            Node::Object(object) => self.object(object),
            Node::Enum(values) => json!({ "enum": values }),
            Node::AnyOf(nodes) => json!({ "anyOf": self.all(nodes) }),
            Node::Ref(at) => json!({ "$ref": format!("#/$defs/r{at}") }),
        }
    }

    fn all(&mut self, nodes: &[Node]) -> Vec<Value> {
        nodes.iter().map(|node| self.write(node)).collect()
    }

    fn leaf(&mut self, leaf: Value) -> Value {
        let known = self.leaves.iter().position(|known| *known == leaf);
        let at = known.unwrap_or(self.leaves.len());
        if known.is_none() {
            self.leaves.push(leaf);
        }
        json!({ "$ref": format!("#/$defs/leaf{at}") })
    }

    fn array(&mut self, array: &Array) -> Value {
        let mut schema = json!({ "type": "array" });
        if !array.prefix.is_empty() {
            schema["prefixItems"] = self.all(&array.prefix).into();
        }
        schema["items"] = self.write(&array.items);
        if array.min > 0 {
            schema["minItems"] = array.min.into();
        }
        if let Some(max) = array.max {
            schema["maxItems"] = max.into();
        }
        schema
    }

    fn object(&mut self, object: &Object) -> Value {
        let properties: Map<String, Value> =
            object.properties.iter().map(|p| (p.name.clone(), self.write(&p.node))).collect();
        let required: Vec<&str> =
            object.properties.iter().filter(|p| p.required).map(|p| p.name.as_str()).collect();
        let patterns: Map<String, Value> =
            object.patterns.iter().map(|(p, node)| (format!("^(?:{p})$"), self.write(node))).collect();
        let others = self.write(&object.others);
        let mut schema = json!({
            "type": "object", "properties": properties, "required": required, "additionalProperties": others,
        });
        if !patterns.is_empty() {
            schema["patternProperties"] = patterns.into();
        }
        schema
    }
}

fn write_integers(integers: &Integers) -> Value {
    let mut schema = json!({ "type": "integer", "minimum": integers.min, "maximum": integers.max });
    if let Some(multiple) = integers.multiple_of {
        schema["multipleOf"] = multiple.into();
    }
    schema
}

fn write_numbers(numbers: &Numbers) -> Value {
    if let Some(multiple_of) = numbers.multiple_of {
        let (min, max) = (numbers.min as i64, numbers.max as i64);
        return write_integers(&Integers { min, max, multiple_of: Some(multiple_of) });
    }
    let min = if numbers.above_min { "exclusiveMinimum" } else { "minimum" };
    let max = if numbers.below_max { "exclusiveMaximum" } else { "maximum" };
    json!({ "type": "number", min: numbers.min, max: numbers.max })
}

fn write_strings(strings: &Strings) -> Value {
    let mut schema = json!({ "type": "string" });
    if strings.min_length > 0 {
        schema["minLength"] = strings.min_length.into();
    }
    if let Some(max) = strings.max_length {
        schema["maxLength"] = max.into();
    }
    if let Some(pattern) = &strings.pattern {
        schema["pattern"] = format!("^(?:{pattern})$").into();
    }
    schema
}
