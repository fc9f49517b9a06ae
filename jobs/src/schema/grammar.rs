//! The schema that llguidance is handed.

use super::AnswerSchema;
use super::node::{Array, Integers, Node, Numbers, Object, Strings};
use serde_json::{Map, Value, json};

impl AnswerSchema {
    /// A schema of draft 2020-12 that means the same, with nothing in it that llguidance does not enforce, for JSON on one
    /// line, with a blank or none behind commas and colons: with any white space a model may write nothing else.
    pub fn grammar(&self) -> Value {
        let mut schema = match write(&self.root) {
            Value::Object(keys) => keys,
            _ => Map::new(),
        };
        let mut definitions = Map::new();
        for (i, node) in self.definitions.iter().enumerate() {
            definitions.insert(format!("r{i}"), write(node));
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

    /// Whether an object may have names besides those that the schema gives.
    pub(super) fn has_free_names(&self) -> bool {
        [&self.root].into_iter().chain(&self.definitions).any(free_names)
    }
}

fn free_names(node: &Node) -> bool {
    match node {
        Node::Object(object) if *object.others != Node::Never && !object.properties.is_empty() => true,
        node => node.children().into_iter().any(free_names),
    }
}

fn write(node: &Node) -> Value {
    match node {
        Node::Any => json!({}),
        Node::Never => json!(false),
        Node::Null => json!({ "type": "null" }),
        Node::Boolean => json!({ "type": "boolean" }),
        Node::Integer(integers) => write_integers(integers),
        Node::Number(numbers) => write_numbers(numbers),
        Node::String(strings) => write_strings(strings),
        Node::Array(array) => write_array(array),
        Node::Object(object) => write_object(object),
        Node::Enum(values) => json!({ "enum": values }),
        Node::AnyOf(nodes) => json!({ "anyOf": nodes.iter().map(write).collect::<Vec<_>>() }),
        Node::Ref(at) => json!({ "$ref": format!("#/$defs/r{at}") }),
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

fn write_array(array: &Array) -> Value {
    let mut schema = json!({ "type": "array" });
    if !array.prefix.is_empty() {
        schema["prefixItems"] = array.prefix.iter().map(write).collect();
    }
    schema["items"] = write(&array.items);
    if array.min > 0 {
        schema["minItems"] = array.min.into();
    }
    if let Some(max) = array.max {
        schema["maxItems"] = max.into();
    }
    schema
}

fn write_object(object: &Object) -> Value {
    let properties: Map<String, Value> =
        object.properties.iter().map(|p| (p.name.clone(), write(&p.node))).collect();
    let required: Vec<&str> =
        object.properties.iter().filter(|p| p.required).map(|p| p.name.as_str()).collect();
    json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": write(&object.others),
    })
}
