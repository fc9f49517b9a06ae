#![allow(clippy::unwrap_used)]

mod random;
mod suite;

use super::AnswerSchema;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::ApproximateTokEnv;
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use std::sync::Arc;

/// A compiled schema over the 256 bytes as tokens.
fn compile(schema: &Value) -> Result<Matcher, String> {
    let read = AnswerSchema::read(schema).map_err(|error| error.to_string())?;
    let mut factory = ParserFactory::new_simple(&ApproximateTokEnv::single_byte_env()).unwrap();
    factory.quiet();
    let grammar = TopLevelGrammar::from_json_schema(read.grammar());
    let matcher = Matcher::new(factory.create_parser(grammar));
    matcher.get_error().map_or(Ok(matcher), |why| Err(format!("compile: {why}")))
}

/// Whether a text goes through the masks, byte by byte, to an end.
fn accepts(matcher: &Matcher, text: &str) -> bool {
    let mut matcher = matcher.deep_clone();
    for &byte in text.as_bytes() {
        if !matcher.compute_mask().is_ok_and(|mask| mask.is_allowed(byte.into())) {
            return false;
        }
        matcher.consume_token(byte.into()).unwrap();
    }
    matcher.is_accepting().unwrap()
}

#[test]
fn valid_texts_are_accepted_and_others_are_not() {
    let object = |properties: Value| json!({ "type": "object", "properties": properties });
    let tree = json!({ "$ref": "#/$defs/t", "$defs": { "t": {
        "type": "array", "items": { "$ref": "#/$defs/t" }, "maxItems": 2
    }}});
    let cases: [(Value, &[&str], &[&str]); 34] = [
        (json!(true), &["null", "[1,{\"a\":2.5}]"], &["[1", "01"]),
        (
            json!({ "type": "integer" }),
            &["0", "-12", "9223372036854774784"],
            &["1.5", "9223372036854775808", "1e3"],
        ),
        (json!({ "type": "integer", "minimum": 2.5, "exclusiveMaximum": 12 }), &["3", "11"], &["2", "12"]),
        (
            json!({ "type": "integer", "minimum": -3, "maximum": 3, "multipleOf": 2 }),
            &["-2", "0", "2"],
            &["1", "4"],
        ),
        (
            json!({ "type": "number" }),
            &["0.5", "-12", "9007199254740992"],
            &["1e999", "9007199254740993.5", "1."],
        ),
        (
            json!({ "type": "number", "exclusiveMinimum": 1, "maximum": 2 }),
            &["1.01", "2", "2.0"],
            &["1", "1.0", "2.1"],
        ),
        (
            json!({ "type": "number", "minimum": -1.5, "exclusiveMaximum": 1 }),
            &["-1.5", "0", "0.99"],
            &["-1.6", "1"],
        ),
        (json!({ "type": ["number", "integer"] }), &["1", "1.5"], &["\"1\""]),
        (json!({ "minimum": 3 }), &["3", "\"a\"", "null", "{}"], &["2"]),
        (
            json!({ "type": "string", "minLength": 2, "maxLength": 2 }),
            &["\"ab\"", "\"é\\n\""],
            &["\"a\"", "\"abc\""],
        ),
        (
            json!({ "type": "string", "pattern": "^a.\\d$|b" }),
            &["\"ax1\"", "\"xbx\""],
            &["\"a\\n1\"", "\"xa11\"", "\"\""],
        ),
        (
            json!({ "type": "string", "pattern": "[\\w-]/\\s" }),
            &["\"x-/ y\"", "\"a/\\t\""],
            &["\"!/ \"", "\"a/\""],
        ),
        (json!({ "type": "string", "pattern": "^[a&&b]{2}?$" }), &["\"a&\""], &["\"a\"", "\"ac\""]),
        (
            json!({ "type": "string", "format": "date" }),
            &["\"2024-02-29\"", "\"1900-12-31\""],
            &["\"2023-02-29\"", "\"1900-02-29\"", "\"2024-04-31\""],
        ),
        (
            json!({ "type": "string", "format": "date-time" }),
            &["\"2024-02-29T23:59:59.123456+02:00\""],
            &["\"2024-02-29T23:59:60Z\"", "\"2024-02-29T00:00:00\""],
        ),
        (json!({ "type": "string", "format": "time" }), &["\"23:59:59Z\""], &["\"24:00:00Z\""]),
        (
            json!({ "type": "string", "format": "uuid" }),
            &["\"123e4567-e89b-12d3-a456-426614174000\""],
            &["\"123e4567\""],
        ),
        (
            json!({ "type": "string", "format": "ipv4" }),
            &["\"255.0.10.1\""],
            &["\"256.0.10.1\"", "\"1.2.3\""],
        ),
        (
            json!({ "enum": ["a\"\\é", 1.0, -0.5, null, true, { "b": 1, "a": [2] }] }),
            &["\"a\\\"\\\\é\"", "1", "-0.5", "null", "true", "{\"b\":1,\"a\":[2]}"],
            &["\"a\"", "2", "false", "{\"b\":1}"],
        ),
        (json!({ "type": "string", "enum": ["a", 1] }), &["\"a\""], &["1"]),
        (json!({ "type": ["integer", "null"], "enum": [1.0, 1.5, null] }), &["1", "null"], &["1.5"]),
        (json!({ "const": "nul\u{0}" }), &["\"nul\\u0000\""], &["\"nul\""]),
        (
            json!({ "type": "array", "items": { "type": "null" }, "minItems": 1.0, "maxItems": 2 }),
            &["[null]", "[null, null]"],
            &["[]", "[null,null,null]", "[1]"],
        ),
        (
            json!({ "type": "array", "prefixItems": [{ "type": "null" }, false] }),
            &["[]", "[null]"],
            &["[null,1]", "[1]"],
        ),
        (
            json!({ "type": "array", "prefixItems": [{ "type": "null" }], "items": { "type": "boolean" } }),
            &["[null,true]", "[]"],
            &["[true]", "[null,null]"],
        ),
        (
            json!({ "$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": [{ "type": "null" }], "additionalItems": false }),
            &["[null]", "[]"],
            &["[null,1]"],
        ),
        (
            object(json!({ "foo": { "type": "integer" } })),
            &["{}", "{\"foo\":1,\"x\":\"y\"}"],
            &["{\"foo\":\"x\"}", "{\"\\u0066oo\":\"x\"}"],
        ),
        (
            json!({ "type": "object", "properties": { "b": { "type": "null" }, "a": false }, "required": ["c", "b"], "additionalProperties": { "type": "null" } }),
            &["{\"b\":null,\"c\":null}", "{\"b\":null,\"c\":null,\"d\":null}"],
            &["{\"b\":null}", "{\"b\":null,\"c\":1}", "{\"b\":null,\"a\":null,\"c\":null}"],
        ),
        (
            json!({ "properties": { "a": { "type": "null" } }, "additionalProperties": false }),
            &["1", "{}", "{\"a\":null}"],
            &["{\"b\":null}", "{\"a\":1}"],
        ),
        (tree.clone(), &["[]", "[[],[[]]]"], &["[1]", "[[],[],[]]"]),
        (
            json!({ "anyOf": [{ "type": "null" }, false, { "allOf": [{ "$ref": "#/$defs/a%25~1" }] }], "$defs": { "a%/": { "type": "boolean" } } }),
            &["null", "true"],
            &["1"],
        ),
        (
            json!({ "oneOf": [
            { "type": "object", "properties": { "kind": { "const": "a" }, "x": { "type": "null" } }, "required": ["kind", "x"], "additionalProperties": false },
            { "type": "object", "properties": { "kind": { "enum": ["b", "c"] } }, "required": ["kind"], "additionalProperties": false }, { "type": "integer" }] }),
            &["{\"kind\":\"a\",\"x\":null}", "{\"kind\":\"c\"}", "3"],
            &["{\"kind\":\"a\"}", "{\"kind\":\"b\",\"x\":null}"],
        ),
        (
            json!({ "maxProperties": 1, "minProperties": 1, "type": "object", "properties": { "a": true }, "required": ["a"], "additionalProperties": false }),
            &["{\"a\":0}"],
            &["{}"],
        ),
        (
            json!({ "type": "array", "maxItems": 1, "uniqueItems": true, "items": { "type": "null" } }),
            &["[null]"],
            &["[null,null]"],
        ),
    ];
    for (schema, valid, invalid) in cases {
        let matcher = compile(&schema).unwrap_or_else(|why| panic!("{schema}: {why}"));
        for text in valid {
            assert!(accepts(&matcher, text), "{schema} refuses {text}");
        }
        for text in invalid {
            assert!(!accepts(&matcher, text), "{schema} accepts {text}");
        }
    }
}

#[test]
fn schemas_that_hold_together_are_one() {
    let base = json!({ "$ref": "#/$defs/base" });
    let defs = json!({ "base": { "type": "object", "properties": { "id": { "type": "integer" } }, "required": ["id"] },
        "small": { "maximum": 9 } });
    let cases: [(Value, &[&str], &[&str]); 15] = [
        (
            json!({ "allOf": [{ "type": "integer", "minimum": 2, "maximum": 20 }, { "maximum": 9, "minimum": 1 }, { "multipleOf": 2 }, { "multipleOf": 3 }] }),
            &["6"],
            &["0", "4", "12", "\"a\""],
        ),
        (
            json!({ "$defs": defs, "allOf": [base, { "properties": { "name": { "type": "null" } }, "required": ["name"] }] }),
            &["{\"id\":1,\"name\":null}", "{\"id\":1,\"name\":null,\"x\":2}"],
            &["{\"id\":1}", "{\"name\":null}", "{\"id\":\"\",\"name\":null}", "[]"],
        ),
        // What the one does not name is another property to the other.
        (
            json!({ "$defs": defs, "type": "object", "allOf": [base], "properties": { "a": {} }, "additionalProperties": { "type": "integer" } }),
            &["{\"a\":null,\"id\":1}", "{\"id\":1,\"b\":2}"],
            &["{\"id\":1,\"b\":null}", "{\"a\":1}"],
        ),
        (
            json!({ "$defs": defs, "allOf": [base, { "properties": { "a": {} }, "additionalProperties": false }] }),
            &[],
            &["{\"id\":1}", "{\"a\":1}", "{}"],
        ),
        (
            json!({ "allOf": [{ "properties": { "a": { "type": ["integer", "null"] } } }, { "properties": { "a": { "$ref": "#/$defs/small" } } }],
                "type": "object", "required": ["a"], "additionalProperties": false, "properties": { "a": true }, "$defs": defs }),
            &["{\"a\":9}", "{\"a\":null}"],
            &["{\"a\":10}", "{\"a\":\"\"}"],
        ),
        (
            json!({ "$ref": "#/$defs/small", "minimum": 7, "type": "integer", "$defs": defs }),
            &["7", "9"],
            &["6", "10"],
        ),
        (
            json!({ "type": "object", "properties": { "a": { "type": "null" }, "b": { "type": "null" } }, "additionalProperties": false,
                "anyOf": [{ "required": ["a"] }, { "required": ["b"] }] }),
            &["{\"a\":null}", "{\"b\":null}", "{\"a\":null,\"b\":null}"],
            &["{}", "{\"c\":null}"],
        ),
        (
            json!({ "type": "object", "required": ["kind"], "properties": { "n": { "type": "integer" } }, "additionalProperties": true,
                "oneOf": [{ "properties": { "kind": { "const": "a" } } }, { "properties": { "kind": { "const": "b" } } }] }),
            &["{\"n\":1,\"kind\":\"a\"}", "{\"kind\":\"b\",\"x\":1}"],
            &["{\"kind\":\"c\"}", "{\"n\":1}"],
        ),
        (
            json!({ "allOf": [{ "enum": [1, 2.0, "x", { "a": 1, "b": 2 }] }, { "enum": [2, { "b": 2, "a": 1 }, 3] }] }),
            &["2", "{\"a\":1,\"b\":2}"],
            &["1", "3", "\"x\""],
        ),
        (
            json!({ "allOf": [{ "type": "array", "prefixItems": [{ "type": "integer" }], "items": { "type": "null" } },
                { "items": { "maximum": 3 }, "maxItems": 2 }] }),
            &["[]", "[3]", "[1,null]"],
            &["[4]", "[1,1]", "[1,null,null]"],
        ),
        (
            json!({ "$schema": "http://json-schema.org/draft-07/schema#", "allOf": [{ "type": "array", "items": [{ "type": "integer" }], "additionalItems": false },
                { "items": { "maximum": 3 } }] }),
            &["[3]", "[]"],
            &["[4]", "[1,1]"],
        ),
        (
            json!({ "anyOf": [{ "type": "integer" }, { "type": "string" }], "allOf": [{ "type": ["number", "null"] }, { "minimum": 0 }] }),
            &["3"],
            &["\"a\"", "null", "-1", "0.5"],
        ),
        (
            json!({ "type": "object", "properties": { "a": { "type": "null" }, "b": { "type": "integer" } }, "additionalProperties": false,
                "dependentRequired": { "a": ["b"] }, "dependentSchemas": { "b": { "properties": { "b": { "minimum": 3 } } } } }),
            &["{}", "{\"b\":3}", "{\"a\":null,\"b\":3}"],
            &["{\"a\":null}", "{\"b\":2}", "{\"a\":null,\"b\":1}"],
        ),
        (
            json!({ "$schema": "http://json-schema.org/draft-07/schema#", "dependencies": { "a": ["b"], "c": { "required": ["d"] } } }),
            &["1", "{}", "{\"a\":1,\"b\":2}", "{\"x\":1}", "{\"c\":1,\"d\":2}"],
            &["{\"a\":1}", "{\"c\":1,\"x\":2}"],
        ),
        (json!({ "allOf": [true, { "anyOf": [false, { "type": "boolean" }] }, {}] }), &["true"], &["1"]),
    ];
    for (schema, valid, invalid) in cases {
        let matcher = match compile(&schema) {
            Err(why) if valid.is_empty() => {
                assert!(why.contains("no answer satisfies"), "{schema}: {why}");
                continue;
            }
            matcher => matcher.unwrap_or_else(|why| panic!("{schema}: {why}")),
        };
        for text in valid {
            assert!(accepts(&matcher, text), "{schema} refuses {text}");
        }
        for text in invalid {
            assert!(!accepts(&matcher, text), "{schema} accepts {text}");
        }
    }
    // Branches that differ in what they require are one struct.
    let branches = json!({ "type": "object", "properties": { "a": { "type": "boolean" }, "b": { "type": "integer" } },
        "additionalProperties": false, "anyOf": [{ "required": ["a"] }, { "required": ["b"] }] });
    let read = AnswerSchema::read(&branches).unwrap();
    let fields =
        [("a", DataType::Boolean), ("b", DataType::Int64)].map(|(name, kind)| Field::new(name, kind, true));
    assert_eq!(read.data_type(), DataType::Struct(fields.to_vec().into()));
    let depends = json!({ "type": "object", "properties": { "a": { "type": "boolean" }, "b": { "type": "integer" } },
        "additionalProperties": false, "dependentRequired": { "a": ["b"] } });
    assert_eq!(AnswerSchema::read(&depends).unwrap().data_type(), read.data_type());
}

#[test]
fn what_cannot_be_enforced_is_refused_by_name_and_place() {
    let deep = (0..1000).fold(json!({}), |inner, _| json!({ "items": inner }));
    let values: Vec<u32> = (0..100_000).collect();
    let bounds: Vec<Value> = (0..300).map(|i| json!({ "type": "integer", "minimum": i })).collect();
    let at = |schema: Value| json!({ "type": "object", "properties": { "a/b": schema } });
    for (schema, why) in [
        (
            at(json!({ "type": "array", "uniqueItems": true })),
            "/properties/a~1b/uniqueItems: `uniqueItems` cannot",
        ),
        (at(json!({ "contains": {} })), "/properties/a~1b: `contains` cannot be enforced"),
        (json!({ "not": {} }), "the schema: `not`"),
        (json!({ "if": {} }), "`if`"),
        (json!({ "propertyNames": {} }), "`propertyNames`"),
        (json!({ "patternProperties": { "a": {} } }), "`patternProperties`"),
        (json!({ "dependentRequired": { "a": "b" } }), "a schema is an object"),
        (
            json!({ "dependencies": { "a": ["b"] } }),
            "`dependencies` cannot be enforced in draft 2020-12, which writes",
        ),
        (json!({ "unevaluatedProperties": false }), "`unevaluatedProperties`"),
        (json!({ "$dynamicRef": "#a" }), "`$dynamicRef`"),
        (json!({ "minProperties": 1 }), "/minProperties: `minProperties` above"),
        (json!({ "maxProperties": 1 }), "/maxProperties: "),
        (json!({ "nullable": true }), "`nullable` cannot be enforced, as it is no keyword"),
        (json!({ "minimun": 3 }), "`minimun`"),
        (json!({ "x-guidance": {} }), "`x-guidance`"),
        (json!({ "$schema": "http://json-schema.org/draft-04/schema#" }), "/$schema: "),
        (at(json!({ "$id": "a" })), "`$id` cannot be enforced below the root"),
        (json!({ "$ref": "https://example.org/a.json" }), "/$ref: \"https://example.org/a.json\" leads out"),
        (json!({ "$ref": "#a" }), "anchor"),
        (json!({ "$ref": "#/$defs/a" }), "leads to nothing"),
        (json!({ "$ref": "#" }), "no answer satisfies it"),
        (json!({ "anyOf": [{ "$ref": "#/anyOf/0" }, {}] }), "no answer satisfies"),
        (json!({ "anyOf": [{ "$ref": "#" }, { "type": "null" }] }), "leads back to itself"),
        (
            json!({ "type": "object", "properties": { "a": { "$ref": "#" } }, "required": ["a"] }),
            "no answer satisfies it",
        ),
        (json!(false), "no answer satisfies it"),
        (json!({ "type": "string", "minLength": 2, "maxLength": 1 }), "no answer satisfies it"),
        (
            json!({ "$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/$defs/a", "minimum": 1, "$defs": { "a": {} } }),
            "`$ref` beside `minimum` is not taken in draft 7",
        ),
        (json!({ "allOf": [{ "$ref": "#" }, { "type": "object" }] }), "lead back to themselves"),
        (json!({ "allOf": [{ "$ref": "#" }, { "$ref": "#/allOf/2" }, {}] }), "lead back to themselves"),
        (
            json!({ "allOf": [{ "pattern": "a" }, { "pattern": "b" }] }),
            "`pattern` is there twice, as \"a\" and as \"b\"",
        ),
        (json!({ "allOf": [{ "not": {} }, {}] }), "`not` cannot be enforced"),
        (json!({ "allOf": [{ "properties": [] }, {}] }), "/properties: is no object"),
        (json!({ "allOf": [{ "const": 1, "enum": [2] }, { "enum": [1] }] }), "no answer satisfies it"),
        (
            json!({ "anyOf": [{}, {}], "allOf": vec![json!({ "anyOf": [{ "type": "null" }, { "type": "integer" }] }); 20] }),
            "multiply out",
        ),
        (
            json!({ "allOf": [{ "$ref": "#/$defs/a" }, { "$ref": "#/$defs/b" }], "$defs": {
                "a": { "properties": { "x": { "$ref": "#/$defs/b" } } }, "b": { "properties": { "x": { "$ref": "#/$defs/a" } } } } }),
            "leads into itself again and again",
        ),
        (json!({ "enum": [1], "minimum": 1 }), "`enum` beside `minimum`"),
        (json!({ "oneOf": [{ "type": "integer" }, { "type": "number" }] }), "/oneOf: `oneOf` is taken only"),
        (json!({ "const": 9_007_199_254_740_993u64 }), "/const: the number"),
        (json!({ "maximum": 1e20 }), "/maximum: 1e+20 is no number between"),
        (json!({ "type": "number", "multipleOf": 0.01 }), "/multipleOf: "),
        (json!({ "type": "integer", "multipleOf": 0 }), "/multipleOf: "),
        (
            json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 0.5 }),
            "both bounds have one whole part",
        ),
        (json!({ "type": "string", "format": "hostname" }), "/format: `format` \"hostname\""),
        (json!({ "type": "string", "pattern": "(?<stop>a)" }), "/pattern: of groups"),
        (json!({ "type": "string", "pattern": "a\\b" }), "/pattern: `\\b` is not taken"),
        (json!({ "type": "string", "minLength": "ééé".repeat(50) }), "/minLength: "),
        (json!({ "type": "strng" }), "/type: \"strng\" is no type"),
        (json!({ "additionalItems": false }), "in draft 2020-12, which writes"),
        (json!([]), "a schema is an object"),
        (at(json!({ "const": ["\u{1}"] })), "the value [\"\\u0001\"] has a control character"),
        (deep, "nested more than 64 deep"),
        (json!({ "anyOf": bounds }), "/anyOf/250: it has more than 250 different bounds"),
        (json!({ "enum": values }), "/enum: more than 10000 values"),
        (json!({ "description": "x".repeat(2 << 20) }), "bytes; at most"),
    ] {
        let error = AnswerSchema::read(&schema).unwrap_err().to_string();
        assert!(error.contains(why), "{error}\nagainst {why}");
    }
}

#[test]
fn numbers_keep_to_their_bounds() {
    let bounds = [-10.5, -1.0, -0.25, 0.0, 0.5, 1.0, 1.75, 12.0];
    let texts = [
        "-11", "-10.6", "-10.5", "-10.49", "-2", "-1.01", "-1", "-1.0", "-0.9", "-0.26", "-0.25", "-0.250",
        "-0.1", "-0", "0", "0.0", "0.1", "0.49", "0.5", "0.50", "0.51", "0.99", "1", "1.0", "1.01", "1.74",
        "1.75", "1.76", "2", "9.99", "10", "11.99", "12", "12.0", "12.01", "13",
    ];
    let mut compiled = 0;
    for (a, min) in bounds.iter().enumerate() {
        for max in &bounds[a..] {
            for (low, high) in [
                ("minimum", "maximum"),
                ("exclusiveMinimum", "maximum"),
                ("minimum", "exclusiveMaximum"),
                ("exclusiveMinimum", "exclusiveMaximum"),
            ] {
                let schema = json!({ "type": "number", low: min, high: max });
                let Ok(matcher) = compile(&schema) else { continue };
                compiled += 1;
                for text in texts {
                    let x: f64 = text.parse().unwrap();
                    let above = if low == "minimum" { x >= *min } else { x > *min };
                    let below = if high == "maximum" { x <= *max } else { x < *max };
                    let accepted = accepts(&matcher, text);
                    assert!(!accepted || (above && below), "{schema} accepts {text}");
                    // A zero behind the point, and one with a sign, need not be written.
                    let short = text != "-0" && (!text.contains('.') || !text.ends_with('0'));
                    assert!(accepted || !(above && below && short), "{schema} refuses {text}");
                }
            }
        }
    }
    assert!(compiled > 100, "{compiled}");
}

/// An array as lines of JSON.
fn lines(array: &ArrayRef) -> Vec<String> {
    let field = Field::new("answer", array.data_type().clone(), true);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array.clone()]).unwrap();
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    String::from_utf8(writer.into_inner()).unwrap().lines().map(str::to_string).collect()
}

#[test]
fn answers_are_columns_of_the_types_that_the_schema_says() {
    let schema = json!({ "type": "object", "required": ["id", "kind", "when", "tags", "flat"], "properties": {
        "id": { "type": "integer" },
        "kind": { "enum": ["a", "b"] },
        "price": { "type": ["number", "null"] },
        "when": { "type": "string", "format": "date-time" },
        "day": { "anyOf": [{ "type": "string", "format": "date" }, { "type": "null" }] },
        "at": { "type": "string", "format": "time" },
        "sure": { "type": "boolean" },
        "tags": { "type": "array", "items": { "$ref": "#/$defs/tag" } },
        "mixed": { "type": ["string", "integer"] },
        "flat": { "type": "object", "properties": { "x": { "type": "integer" } } },
        "tree": { "$ref": "#/$defs/tree" },
    }, "additionalProperties": false, "$defs": {
        "tag": { "type": "object", "properties": { "name": { "type": "string" } }, "required": ["name"], "additionalProperties": false },
        "tree": { "type": "array", "items": { "$ref": "#/$defs/tree" } },
    } });
    let schema = AnswerSchema::read(&schema).unwrap();
    assert_eq!(schema.untyped(), ["answer.mixed", "answer.tree[]"]);
    let DataType::Struct(fields) = schema.data_type() else { panic!("{}", schema.data_type()) };
    let types: Vec<String> = fields
        .iter()
        .map(|f| format!("{}{}: {}", f.name(), if f.is_nullable() { "?" } else { "" }, f.data_type()))
        .collect();
    assert_eq!(
        types,
        [
            "id: Int64",
            "kind: Dictionary(Int32, Utf8)",
            "price?: Float64",
            "when: Timestamp(µs, \"UTC\")",
            "day?: Date32",
            "at?: Time64(µs)",
            "sure?: Boolean",
            "tags: List(non-null Struct(\"name\": non-null Utf8))",
            "mixed?: Utf8",
            "flat: Struct(\"x\": Int64, \"additional_properties\": Utf8)",
            "tree?: List(Utf8)",
        ]
    );
    let texts = [
        Some(
            r#"{"id": -0,"kind":"b","price":null,"when":"2024-02-29T23:30:00.5-01:00","day":"2024-02-29","at":"00:30:00+01:00","sure":true,"tags":[{"name":"é\n"},{"name":""}],"mixed":12345678901234567890,"flat":{"x":1,"y":[1e400],"y":2},"tree":[[],[[]]]}"#,
        ),
        None,
        Some(r#"{"id":9223372036854774784,"kind":"a","when":"0000-01-01T00:00:00Z","tags":[],"flat":{}}"#),
        Some("{\"id\":1"),
        Some(r#"{"id":1,"kind":"c","when":"0000-01-01T00:00:00Z","tags":[],"flat":{}}"#),
    ];
    let (array, wrong) = schema.array(&texts);
    assert_eq!((array.data_type(), wrong), (&schema.data_type(), vec![3, 4]));
    assert_eq!(
        lines(&array),
        [
            r#"{"answer":{"id":0,"kind":"b","when":"2024-03-01T00:30:00.500Z","day":"2024-02-29","at":"23:30:00","sure":true,"tags":[{"name":"é\n"},{"name":""}],"mixed":"12345678901234567890","flat":{"x":1,"additional_properties":"{\"y\":[1e400],\"y\":2}"},"tree":["[]","[[]]"]}}"#,
            "{}",
            r#"{"answer":{"id":9223372036854774784,"kind":"a","when":"0000-01-01T00:00:00Z","tags":[],"flat":{}}}"#,
            "{}",
            "{}",
        ]
    );
}

#[test]
fn what_has_no_type_of_its_own_is_json() {
    // Each of thirty definitions is there twice in the one before: too many fields for a column.
    let mut defs: serde_json::Map<String, Value> = (0..30)
        .map(|i| {
            let next = json!({ "$ref": format!("#/$defs/a{}", i + 1) });
            (format!("a{i}"), json!({ "type": "object", "properties": { "x": next, "y": next } }))
        })
        .collect();
    defs.insert("a30".into(), json!({ "type": "null" }));
    for schema in [
        json!({}),
        json!({ "type": "object" }),
        json!({ "type": "object", "additionalProperties": false }),
        json!({ "type": ["integer", "number", "string"] }),
        json!({ "enum": [1, "a"] }),
        json!({ "type": "array", "prefixItems": [{ "type": "null" }] }),
        json!({ "type": "object", "properties": { "additional_properties": true } }),
        json!({ "$ref": "#/$defs/a0", "$defs": defs }),
    ] {
        let read = AnswerSchema::read(&schema).unwrap();
        assert_eq!(
            (read.data_type(), read.untyped()),
            (DataType::Utf8, vec!["answer".to_string()]),
            "{schema}"
        );
        let (array, wrong) = read.array(&[Some("{\"a\" : 1.0}"), Some("null")]);
        assert_eq!(
            (lines(&array), wrong),
            (vec![r#"{"answer":"{\"a\" : 1.0}"}"#.into(), "{}".into()], Vec::new())
        );
    }
    for (schema, kind) in [
        (json!({ "enum": [1, null, 2] }), DataType::Int64),
        (json!({ "enum": [1, 2.5] }), DataType::Float64),
        (json!({ "const": true }), DataType::Boolean),
        (json!({ "anyOf": [{ "type": "string" }, { "type": "string", "format": "uuid" }] }), DataType::Utf8),
    ] {
        assert_eq!(AnswerSchema::read(&schema).unwrap().data_type(), kind, "{schema}");
    }
}
