//! Random JSON Schemas over all that is enforced, each with the type that its column is promised to have.

use super::support::dice::Dice;
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// A schema and its column.
#[derive(Clone)]
pub struct Made {
    pub schema: Value,
    pub data_type: DataType,
    pub nullable: bool,
}

/// A schema of a seed: of draft 2020-12, or of draft 7 and saying so.
pub fn schema(seed: u64) -> Made {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let draft7 = dice.below(3) == 0;
    let mut random = Random { dice, draft7, definitions: Map::new(), types: Vec::new() };
    let mut made = match random.dice.below(5) {
        0 => random.node(2),
        _ => random.object(2),
    };
    let keys = made.schema.as_object_mut().unwrap();
    if draft7 {
        keys.insert("$schema".into(), "http://json-schema.org/draft-07/schema#".into());
    }
    if !random.definitions.is_empty() {
        keys.insert(random.definitions_key().into(), random.definitions.into());
    }
    made
}

/// Whether an answer may go on for ever: in a text, in the digits of a number, in items or properties without a name.
pub fn is_endless(schema: &Value) -> bool {
    let keys = match schema {
        Value::Object(keys) => keys,
        schema => return *schema == true,
    };
    let has = |name: &str| keys.contains_key(name);
    let is = |name: &str| {
        schema["type"] == name || schema["type"].as_array().is_some_and(|all| all.contains(&name.into()))
    };
    let pattern = schema["pattern"].as_str().unwrap_or("+");
    let free = ["type", "enum", "const", "required", "$ref", "anyOf", "oneOf", "allOf"]
        .iter()
        .all(|name| !has(name));
    let no_schemas = ["enum", "const", "dependentRequired", "dependencies"];
    let below = keys.iter().filter(|(name, _)| !no_schemas.contains(&name.as_str()));
    let whole = pattern.ends_with('$') && !pattern.contains('+');
    let text_ends = has("maxLength") || has("format") || has("enum") || whole;
    let mut parts = below.flat_map(|(name, value)| match (name.as_str(), value) {
        ("properties" | "$defs" | "definitions", Value::Object(keys)) => keys.values().collect(),
        (_, Value::Array(items)) => {
            items.iter().filter(|item| item.is_object() || item.is_boolean()).collect()
        }
        (_, value @ Value::Object(_)) => vec![value],
        _ => Vec::new(),
    });
    free || schema.pointer("/properties/next").is_some()
        || is("number")
        || is("string") && !text_ends
        || is("object") && schema["additionalProperties"] != false
        || parts.any(is_endless)
}

struct Random {
    dice: Dice,
    draft7: bool,
    definitions: Map<String, Value>,
    /// What each definition is as a column, once it is written.
    types: Vec<Option<(DataType, bool)>>,
}

/// Names that take some care to write.
const NAMES: [&str; 9] = ["amount", "order number", "é", "a/b", "a~b", "\"q\"", "back\\slash", "日本", "x"];
const TEXTS: [&str; 10] = ["yes", "no", "maybe so", "é", "a\"b", "c\\d", "new\nline", "", "日本", " x"];
const PIECES: [&str; 10] =
    ["[a-c]{1,3}", "\\d+", "x?", "(?:ab|cd)", "\\w{2}", "[^a-z\\s]", "-", "\\.", "(a|b\\d){0,2}", "é"];

impl Random {
    fn pick<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.dice.index(of.len())]
    }

    fn flip(&mut self) -> bool {
        self.dice.below(2) == 0
    }

    fn definitions_key(&self) -> &'static str {
        if self.draft7 { "definitions" } else { "$defs" }
    }

    /// A schema of any kind, with `depth` more of them within each other.
    fn node(&mut self, depth: u32) -> Made {
        let kinds = if depth == 0 { 9 } else { 16 };
        let mut made = match self.dice.below(kinds) {
            0 => plain(self.integer(), DataType::Int64),
            1 => plain(self.number(), DataType::Float64),
            2 => plain(json!({ "type": "boolean" }), DataType::Boolean),
            3 | 4 => plain(self.string(), DataType::Utf8),
            5 => self.format(),
            6 | 7 => self.values(),
            8 => self.types(),
            9 | 10 => self.array(depth - 1),
            11 | 12 => self.object(depth - 1),
            13 => self.or_null(depth - 1),
            14 => self.either(depth - 1),
            _ => self.reference(depth - 1),
        };
        if self.dice.below(4) == 0 {
            made.schema["description"] = "What it is.".into();
        }
        made
    }

    /// Narrow as often as not, so that answers come to the bounds.
    fn width(&mut self) -> u64 {
        if self.flip() { self.dice.below(3) } else { self.dice.below(500) }
    }

    fn integer(&mut self) -> Value {
        let least = self.dice.below(2000) as i64 - 1000;
        let most = least + self.width() as i64;
        match self.dice.below(6) {
            5 => {
                json!({ "allOf": [{ "type": "number", "minimum": least }, { "type": ["integer", "null"], "maximum": most }] })
            }
            0 => json!({ "type": "integer" }),
            1 => json!({ "type": "integer", "minimum": least }),
            2 => json!({ "type": "integer", "exclusiveMinimum": least, "maximum": most + 1 }),
            3 => json!({ "type": "integer", "minimum": least, "maximum": most + 12, "multipleOf": 7 }),
            _ => json!({ "type": "integer", "minimum": least as f64 - 0.5, "exclusiveMaximum": most + 1 }),
        }
    }

    fn number(&mut self) -> Value {
        let least = self.dice.below(2000) as f64 / 8.0 - 100.0;
        let most = least + 2.0 + self.width() as f64 / 16.0;
        match self.dice.below(4) {
            0 => json!({ "type": "number" }),
            1 => json!({ "type": "number", "minimum": least }),
            2 => json!({ "type": "number", "exclusiveMinimum": least, "maximum": most }),
            _ => json!({ "type": "number", "minimum": least, "maximum": most }),
        }
    }

    fn string(&mut self) -> Value {
        let (least, more) = (self.dice.below(6), self.dice.below(12));
        match self.dice.below(5) {
            0 => json!({ "type": "string" }),
            1 => json!({ "type": "string", "maxLength": least + more }),
            2 => json!({ "type": "string", "minLength": least, "maxLength": least + more }),
            3 => json!({ "type": "string", "pattern": format!("^{}$", self.pattern()) }),
            _ => {
                let (one, two) = (self.pattern(), self.pattern());
                // Bounds that leave some texts of the pattern: it has at most 30 characters, or any number.
                json!({ "type": "string", "pattern": format!("^{one}|{two}"), "maxLength": 40 + more })
            }
        }
    }

    fn pattern(&mut self) -> String {
        (0..1 + self.dice.below(3)).map(|_| *self.pick(&PIECES)).collect()
    }

    fn format(&mut self) -> Made {
        let time = DataType::Time64(TimeUnit::Microsecond);
        let moment = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let (name, data_type) = [
            ("date", DataType::Date32),
            ("time", time),
            ("date-time", moment),
            ("uuid", DataType::Utf8),
            ("ipv4", DataType::Utf8),
        ][self.dice.index(5)]
        .clone();
        plain(json!({ "type": "string", "format": name }), data_type)
    }

    /// `enum` and `const`.
    fn values(&mut self) -> Made {
        let mut texts: Vec<Value> = TEXTS.map(Value::from).to_vec();
        let drop = self.dice.index(5);
        texts.drain(..drop);
        texts.truncate(1 + self.dice.index(5));
        let label = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        match self.dice.below(8) {
            0 => plain(json!({ "enum": [3, -7, 12.0] }), DataType::Int64),
            1 => plain(json!({ "enum": [0.1, 2, 0.30000000000000004, -1.5] }), DataType::Float64),
            2 => plain(json!({ "enum": ["a", 1, { "b": [1, null], "a": "x" }] }), DataType::Utf8),
            3 => plain(json!({ "const": texts[0] }), label),
            4 => plain(json!({ "const": [1, { "é": false }] }), DataType::Utf8),
            5 => {
                texts.push(Value::Null);
                Made { nullable: true, ..plain(json!({ "enum": texts }), label) }
            }
            6 => plain(json!({ "type": "string", "enum": [texts[0], 7, null] }), label),
            _ => plain(json!({ "enum": texts }), label),
        }
    }

    /// Several types, or any value.
    fn types(&mut self) -> Made {
        let json = |schema| Made { nullable: true, ..plain(schema, DataType::Utf8) };
        match self.dice.below(6) {
            0 => Made {
                nullable: true,
                ..plain(json!({ "type": ["integer", "null"], "minimum": 5 }), DataType::Int64)
            },
            1 => Made {
                nullable: true,
                ..plain(json!({ "type": ["null", "string"], "maxLength": 9 }), DataType::Utf8)
            },
            2 => {
                plain(json!({ "type": ["boolean", "integer"], "maximum": 30, "minimum": 0 }), DataType::Utf8)
            }
            3 => plain(json!({ "type": ["integer", "number"], "minimum": -2 }), DataType::Float64),
            4 => json(json!({ "type": "null" })),
            _ => json(json!({ "maxLength": 5, "minimum": -1, "maxItems": 1 })),
        }
    }

    fn array(&mut self, depth: u32) -> Made {
        let items = self.node(depth);
        let least = self.dice.below(3);
        let most = least + self.dice.below(3);
        let mut schema = json!({ "type": "array", "maxItems": most });
        if self.flip() {
            schema["minItems"] = least.into();
        }
        if most < 2 && self.flip() {
            schema["uniqueItems"] = true.into();
        }
        if self.dice.below(5) > 0 {
            schema["items"] = items.schema;
            // Of an array that is empty in any case nobody asks what its items are.
            let items = Field::new("item", items.data_type, items.nullable);
            let typed = if most == 0 { DataType::Utf8 } else { DataType::List(Arc::new(items)) };
            return plain(schema, typed);
        }
        let (first, rest) = if self.draft7 { ("items", "additionalItems") } else { ("prefixItems", "items") };
        schema[first] = json!([items.schema, true]);
        schema[rest] = json!({ "type": "boolean" });
        // Where it has no item, all are alike.
        plain(schema, DataType::Utf8)
    }

    fn object(&mut self, depth: u32) -> Made {
        let count = 1 + self.dice.index(4);
        let first = self.dice.index(NAMES.len());
        let (mut properties, mut required, mut fields) = (Map::new(), Vec::new(), Vec::new());
        for i in 0..count {
            let name = NAMES[(first + i) % NAMES.len()];
            let made = self.node(depth);
            let needed = self.dice.below(3) > 0;
            fields.push(Field::new(name, made.data_type, made.nullable || !needed));
            properties.insert(name.into(), made.schema);
            required.extend(needed.then_some(name));
        }
        let mut schema = json!({ "type": "object", "properties": properties });
        if self.dice.below(3) > 0 || !required.is_empty() {
            schema["required"] = json!(required);
        }
        let others = match self.dice.below(8) {
            0 => None,
            1 => Some(self.node(0)),
            _ => {
                schema["additionalProperties"] = false.into();
                if count > 1 && self.dice.below(3) == 0 {
                    let needs = |i: usize| json!({ "required": [NAMES[(first + i) % NAMES.len()]] });
                    schema["anyOf"] = json!([needs(0), needs(1)]);
                } else if count > 1 && !required.contains(&NAMES[first]) && self.flip() {
                    let keyword = if self.draft7 { "dependencies" } else { "dependentRequired" };
                    schema[keyword] = json!({ NAMES[first]: [NAMES[(first + 1) % NAMES.len()]] });
                } else if self.dice.below(4) == 0 {
                    schema["minProperties"] = required.len().into();
                    schema["maxProperties"] = count.into();
                }
                return plain(schema, DataType::Struct(fields.into()));
            }
        };
        let others = others.map(|made| {
            schema["additionalProperties"] = made.schema;
            (made.data_type, made.nullable)
        });
        if self.flip() {
            let (data_type, nullable) = others.unwrap_or((DataType::Utf8, true));
            fields.push(Field::new("unlisted", data_type, nullable));
            required.push("unlisted");
            schema["required"] = json!(required);
        }
        fields.push(Field::new("additional_properties", DataType::Utf8, true));
        plain(schema, DataType::Struct(Fields::from(fields)))
    }

    fn or_null(&mut self, depth: u32) -> Made {
        let Made { schema, data_type, .. } = self.node(depth);
        let mut branches = [schema, json!({ "type": "null" })];
        if self.flip() {
            branches.reverse();
        }
        Made { schema: json!({ "anyOf": branches }), data_type, nullable: true }
    }

    /// Branches that have no type in common, or one schema in `allOf`.
    fn either(&mut self, depth: u32) -> Made {
        if self.dice.below(3) == 0 {
            let made = self.node(depth);
            return Made { schema: json!({ "allOf": [made.schema] }), ..made };
        }
        let name = if self.flip() { "anyOf" } else { "oneOf" };
        let branches = [self.integer(), self.string(), self.object(depth).schema];
        let first = self.dice.index(2);
        plain(json!({ name: branches[first..] }), DataType::Utf8)
    }

    /// A definition that may have been referred to before, or one that goes on in itself.
    fn reference(&mut self, depth: u32) -> Made {
        let key = self.definitions_key();
        let target = |number: usize| json!({ "$ref": format!("#/{key}/of%20{number}") });
        let written: Vec<usize> = (0..self.types.len()).filter(|i| self.types[*i].is_some()).collect();
        let number = match self.dice.below(4) {
            0 => {
                let number = self.types.len();
                let tree = json!({ "type": "object", "additionalProperties": false, "required": ["value"],
                    "properties": { "value": self.integer(), "next": target(number) } });
                self.definitions.insert(format!("of {number}"), tree);
                let value = Field::new("value", DataType::Int64, false);
                let tree = DataType::Struct(vec![value, Field::new("next", DataType::Utf8, true)].into());
                self.types.push(Some((tree, false)));
                number
            }
            1 if !written.is_empty() => *self.pick(&written),
            _ => {
                let number = self.types.len();
                self.types.push(None);
                let made = self.node(depth);
                self.definitions.insert(format!("of {number}"), made.schema);
                self.types[number] = Some((made.data_type, made.nullable));
                number
            }
        };
        let (data_type, nullable) = self.types[number].clone().unwrap();
        Made { schema: target(number), data_type, nullable }
    }
}

fn plain(schema: Value, data_type: DataType) -> Made {
    Made { schema, data_type, nullable: false }
}
