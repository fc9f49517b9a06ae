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
    let cases: [(Value, &[&str], &[&str]); 38] = [
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
        // Classes of control characters have neither `"` nor `\`.
        (
            json!({ "type": "string", "pattern": "^[^\"\\\\]{2}$" }),
            &["\"a\\n\"", "\"é\\u001f\"", "\"//\""],
            &["\"a\\\"\"", "\"\\\\a\""],
        ),
        (
            json!({ "type": "string", "pattern": "^(?:[\\u0000-\\u000f]|[\\u0010-\\u001f]){2}$" }),
            &["\"\\n\\u0001\"", "\"\\u001f\\t\""],
            &["\"\\\"\\n\"", "\"\\\\\\n\"", "\"a\\n\""],
        ),
        (
            json!({ "type": "string", "pattern": "^[^\\n\"]{2}$" }),
            &["\"a\\\\\"", "\"\\t\\r\""],
            &["\"a\\\"\"", "\"a\\n\""],
        ),
        (
            json!({ "not": { "const": "a\"" }, "type": "string" }),
            &["\"a\"", "\"a\\\\\"", "\"a\\\"b\"", "\"\""],
            &["\"a\\\"\""],
        ),
        (
            json!({ "type": "string", "format": "date" }),
            &["\"2024-02-29\"", "\"1900-12-31\"", "\"0001-01-01\"", "\"0400-02-29\"", "\"9999-12-31\""],
            &["\"2023-02-29\"", "\"1900-02-29\"", "\"2024-04-31\"", "\"0000-01-01\"", "\"0000-02-29\""],
        ),
        (
            json!({ "type": "string", "format": "date-time" }),
            // Offsets are for years that they do not leave the range of.
            &[
                "\"2024-02-29T23:59:59.123456+02:00\"",
                "\"0001-01-01T00:00:00Z\"",
                "\"9998-12-31T23:59:59-11:00\"",
            ],
            &[
                "\"2024-02-29T23:59:60Z\"",
                "\"2024-02-29T00:00:00\"",
                "\"0001-01-01T00:00:00+01:00\"",
                "\"9999-12-31T23:59:59-11:00\"",
                "\"0000-06-06T06:10:00-06:00\"",
            ],
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
    check(&cases);
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
    // Each character leads to another state of the pattern.
    let mut word = 1u64;
    let mut letter = |_| {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if word >> 63 == 0 { 'a' } else { 'b' }
    };
    let mixed: String = (0..9000).map(&mut letter).collect();
    let named: serde_json::Map<_, _> = (0..20).map(|i| (format!("p{i}"), json!({ "const": i }))).collect();
    let at = |schema: Value| json!({ "type": "object", "properties": { "a/b": schema } });
    for (schema, why) in [
        (
            at(json!({ "type": "array", "uniqueItems": true })),
            "/properties/a~1b/uniqueItems: `uniqueItems` cannot",
        ),
        (at(json!({ "contains": {} })), "/properties/a~1b: `contains` cannot be enforced"),
        (json!({ "not": {} }), "no answer satisfies it"),
        (json!({ "not": { "type": "integer" } }), "/not/type: `not` and `if` over the type integer leave"),
        (
            at(json!({ "not": { "pattern": "a" } })),
            "/properties/a~1b/not: `not` and `if` cannot be enforced over `pattern`",
        ),
        (json!({ "if": { "contains": {} }, "then": false }), "/if: `contains` cannot be enforced"),
        (
            json!({ "if": { "multipleOf": 2 }, "then": false }),
            "/if: `not` and `if` cannot be enforced over `multipleOf`",
        ),
        (json!({ "not": { "const": [] } }), "/not/const: `not` and `if` over a value that is an array"),
        (json!({ "not": { "$ref": "#" } }), "lead back to themselves"),
        (json!({ "not": { "const": "x".repeat(3000) } }), "/not/const: `not` and `if` over texts so long"),
        (
            json!({ "allOf": vec![json!({ "not": { "properties": named } }); 5] }),
            "multiply out to too many schemas",
        ),
        (json!({ "propertyNames": {} }), "`propertyNames`"),
        (json!({ "patternProperties": [] }), "/patternProperties: is no object"),
        (
            json!({ "patternProperties": { "a": { "type": "null" }, "b": {} } }),
            "/patternProperties: a name may match two patterns",
        ),
        (
            json!({ "properties": { "ab": { "minimum": 1 } }, "patternProperties": { "^a": { "maximum": 3 } } }),
            "/properties/ab: \"ab\" is named and matches",
        ),
        (
            json!({ "allOf": [{ "patternProperties": { "^a": {} } }, { "properties": { "ab": {} }, "additionalProperties": false }] }),
            "\"ab\" matches `patternProperties` and is named beside",
        ),
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
        (json!({ "allOf": [{ "not": {} }, {}] }), "no answer satisfies"),
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
        (json!({ "enum": [1], "minimum": 2 }), "no answer satisfies"),
        (json!({ "enum": [[1]], "unevaluatedItems": false }), "`unevaluatedItems` cannot be enforced"),
        (json!({ "enum": [1], "allOf": [{ "$ref": "#" }] }), "lead back to themselves"),
        (json!({ "enum": [mixed], "pattern": "a.{300}$" }), "/pattern: its pattern is too complex"),
        (json!({ "oneOf": [{ "type": "integer" }, { "type": "number" }] }), "/oneOf: `oneOf` is taken only"),
        (json!({ "const": 9_007_199_254_740_993u64 }), "/const: the number"),
        (json!({ "enum": ["a", "b".repeat(65_535)] }), "/enum: a value of 65537 bytes"),
        (json!({ "maximum": 1e20 }), "/maximum: 1e+20 is no number between"),
        (json!({ "type": "number", "multipleOf": 0.01 }), "/multipleOf: "),
        (json!({ "type": "integer", "multipleOf": 0 }), "/multipleOf: "),
        (
            json!({ "type": "integer", "multipleOf": 100_001 }),
            "/multipleOf: `multipleOf` 100001 is no whole number from 1 to",
        ),
        (
            json!({ "prefixItems": [{ "type": "integer", "multipleOf": 50_000 }, { "type": "integer", "multipleOf": 50_001 }] }),
            "/prefixItems/1/multipleOf: all different `multipleOf` together",
        ),
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

#[test]
fn what_is_forbidden_is_said_by_what_is_left() {
    let kinds = json!({ "enum": ["a", "b", "c"] });
    let by_kind = json!({ "type": "object", "properties": { "kind": kinds, "n": { "type": "integer" } }, "required": ["kind"],
        "additionalProperties": false,
        "if": { "properties": { "kind": { "const": "a" } } }, "then": { "required": ["n"] },
        "else": { "properties": { "n": false } } });
    let cases: [(Value, &[&str], &[&str]); 24] = [
        // What stands beside an enumeration is decided for each of its values.
        (
            json!({ "enum": [1, 2.5, 3, "x", null], "minimum": 2, "multipleOf": 1 }),
            &["3", "\"x\"", "null"],
            &["1", "2.5"],
        ),
        (
            json!({ "enum": ["a", "bb", "ccc", 1], "minLength": 2, "pattern": "^b|c$", "not": { "const": "bb" } }),
            &["\"ccc\"", "1"],
            &["\"a\"", "\"bb\""],
        ),
        (
            json!({ "enum": [[1, 1], [1, 2], [3, 4, 5], {}], "uniqueItems": true, "contains": { "const": 1 } }),
            &["[1,2]", "{}"],
            &["[1,1]", "[3,4,5]"],
        ),
        (
            json!({ "enum": [{ "a": 1 }, { "ab": 1 }, { "b": 1 }, {}, 2], "minProperties": 1, "patternProperties": { "^a": { "minimum": 0 } },
                "additionalProperties": false, "propertyNames": { "maxLength": 1 } }),
            &["{\"a\":1}", "2"],
            &["{\"ab\":1}", "{\"b\":1}", "{}"],
        ),
        (
            json!({ "enum": [1, 2, 3, 4, 6], "oneOf": [{ "multipleOf": 2 }, { "multipleOf": 3 }], "if": { "minimum": 4 }, "then": false }),
            &["2", "3"],
            &["1", "4", "6"],
        ),
        (
            json!({ "allOf": [{ "enum": [1, 2, 3] }, { "$ref": "#/$defs/a" }, { "dependentRequired": {} }], "$defs": { "a": { "not": { "enum": [2] } } } }),
            &["1", "3"],
            &["2"],
        ),
        (
            json!({ "enum": ["2024-02-29", "2023-02-29"], "format": "date" }),
            &["\"2024-02-29\""],
            &["\"2023-02-29\""],
        ),
        // `not`
        (
            json!({ "not": { "type": ["number", "object"] } }),
            &["null", "\"a\"", "[]", "true"],
            &["1", "1.5", "{}"],
        ),
        (json!({ "type": ["string", "integer"], "not": { "type": "integer" } }), &["\"a\""], &["1", "null"]),
        (
            json!({ "type": "string", "not": { "enum": ["no", "not", "", "é-", 3, []] } }),
            &["\"n\"", "\"nob\"", "\"note\"", "\"x\"", "\"é\"", "\"é--\"", "\"no\\n\""],
            &["\"no\"", "\"not\"", "\"\"", "\"é-\"", "3"],
        ),
        (json!({ "type": "integer", "not": { "enum": [3, 5.0] } }), &["2", "4", "6", "-3"], &["3", "5"]),
        (
            json!({ "type": ["number", "null"], "not": { "const": 0 } }),
            &["null", "0.5", "-1", "7"],
            &["0", "0.0", "-0"],
        ),
        (json!({ "not": { "const": true } }), &["false", "null", "1", "\"a\"", "[]", "{}"], &["true"]),
        (
            json!({ "type": "integer", "minimum": 0, "not": { "minimum": 5, "maximum": 9 } }),
            &["0", "4", "10"],
            &["5", "9", "-1"],
        ),
        (json!({ "type": "string", "not": { "minLength": 2 } }), &["\"\"", "\"a\""], &["\"ab\""]),
        (json!({ "type": "array", "not": { "maxItems": 1 } }), &["[1,2]"], &["[]", "[1]"]),
        (
            json!({ "not": { "type": "object", "properties": { "a": { "type": "string" } }, "required": ["b"] } }),
            &["1", "{\"a\":1}", "{\"a\":1,\"b\":2}", "{\"a\":\"x\"}"],
            &["{\"b\":1}", "{\"a\":\"x\",\"b\":1}"],
        ),
        (json!({ "type": "null", "not": { "not": {} } }), &["null"], &["1"]),
        (
            json!({ "type": "integer", "not": { "anyOf": [{ "minimum": 7 }, { "$ref": "#/$defs/a" }] }, "$defs": { "a": { "maximum": 3 } } }),
            &["4", "6"],
            &["3", "7"],
        ),
        // `if`
        (
            by_kind.clone(),
            &["{\"kind\":\"a\",\"n\":1}", "{\"kind\":\"b\"}", "{\"kind\":\"c\"}"],
            &["{\"kind\":\"a\"}", "{\"kind\":\"b\",\"n\":1}", "{\"kind\":\"d\"}", "{}"],
        ),
        (
            json!({ "type": "integer", "if": { "minimum": 10 }, "then": { "multipleOf": 10 }, "else": { "maximum": 3 } }),
            &["3", "10", "20"],
            &["4", "9", "11"],
        ),
        (json!({ "type": "integer", "if": { "minimum": 3 }, "else": false }), &["3"], &["2"]),
        (json!({ "type": "integer", "if": { "minimum": 3 } }), &["2"], &["\"a\""]),
        (json!({ "type": "integer", "then": false, "else": false }), &["2"], &["\"a\""]),
    ];
    check(&cases);
    let fields = [
        Field::new("kind", DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into()), false),
        Field::new("n", DataType::Int64, true),
    ];
    assert_eq!(AnswerSchema::read(&by_kind).unwrap().data_type(), DataType::Struct(fields.to_vec().into()));
    // Multiples of a whole number are numbers all the same.
    assert_eq!(
        AnswerSchema::read(&json!({ "type": "number", "multipleOf": 5 })).unwrap().data_type(),
        DataType::Float64
    );
}

#[test]
fn names_that_match_a_pattern_have_its_schema() {
    let cases: [(Value, &[&str], &[&str]); 8] = [
        (
            json!({ "type": "object", "patternProperties": { "^n_[a-z]+$": { "type": "integer" } }, "additionalProperties": false }),
            &["{}", "{\"n_a\":1}", "{\"n_a\":1,\"n_bc\":-2}"],
            &["{\"n_a\":\"x\"}", "{\"n_\":1}", "{\"m_a\":1}", "{\"n_a1\":1}", "{\"\\u006e_a\":\"x\"}"],
        ),
        (
            json!({ "type": "object", "properties": { "id": { "type": "null" } }, "required": ["id"],
                "patternProperties": { "^x": { "type": "boolean" }, "^y|^z": { "type": "integer" } } }),
            &["{\"id\":null}", "{\"id\":null,\"xa\":true,\"z\":1,\"other\":\"\"}"],
            &["{\"id\":1}", "{\"xa\":true}", "{\"id\":null,\"x\":1}", "{\"id\":null,\"y\":true}"],
        ),
        // Two patterns of one schema may match one name.
        (
            json!({ "patternProperties": { "a": { "type": "null" }, "b": { "type": "null" } }, "additionalProperties": { "type": "integer" } }),
            &["1", "{\"a\":null,\"ab\":null,\"c\":1}"],
            &["{\"a\":1}", "{\"b\":1}", "{\"c\":null}"],
        ),
        (json!({ "patternProperties": { "a": false } }), &["{\"b\":1}"], &["{\"a\":1}", "{\"xay\":1}"]),
        (
            json!({ "properties": { "foo": {}, "bar": { "type": "null" } }, "patternProperties": { "^f": { "type": "integer" }, "^v": {} },
                "required": ["fee"], "additionalProperties": false }),
            &["{\"foo\":1,\"bar\":null,\"fee\":2}", "{\"fee\":2,\"vx\":[]}", "{\"fee\":1,\"fa\":1}"],
            &[
                "{\"foo\":\"\",\"fee\":1}",
                "{\"fee\":null}",
                "{}",
                "{\"fee\":1,\"fa\":\"\"}",
                "{\"fee\":1,\"x\":1}",
            ],
        ),
        (
            json!({ "type": "object", "allOf": [{ "patternProperties": { "^a": { "type": "integer" } } },
                { "patternProperties": { "^a": { "minimum": 3 }, "^b": { "type": "null" } } }] }),
            &["{\"a\":3,\"b\":null,\"c\":[]}"],
            &["{\"a\":2}", "{\"b\":1}"],
        ),
        // To the other, names of a pattern are others.
        (
            json!({ "type": "object", "allOf": [{ "patternProperties": { "^a": { "maximum": 9 } } },
                { "properties": { "b": { "type": "null" } }, "additionalProperties": { "type": "integer" } }] }),
            &["{\"b\":null,\"a\":9,\"c\":10}"],
            &["{\"a\":10}", "{\"a\":\"\"}", "{\"c\":\"\"}"],
        ),
        (
            json!({ "type": "object", "allOf": [{ "patternProperties": { "^a": { "maximum": 9 } }, "additionalProperties": { "type": "null" } },
                { "properties": { "ab": {}, "c": true } }] }),
            &["{\"ab\":9,\"c\":null}", "{\"ax\":\"\",\"d\":null}"],
            &["{\"ab\":10}", "{\"c\":1}", "{\"d\":1}", "{\"ax\":10}"],
        ),
    ];
    check(&cases);
    let open = json!({ "type": "object", "properties": { "a": { "type": "null" }, "b": { "type": "integer" } }, "patternProperties": { "^x": {} },
        "additionalProperties": false });
    let read = AnswerSchema::read(&open).unwrap();
    let DataType::Struct(fields) = read.data_type() else { panic!("{}", read.data_type()) };
    assert_eq!(fields.last().unwrap().name(), "additional_properties");
}

fn check(cases: &[(Value, &[&str], &[&str])]) {
    for (schema, valid, invalid) in cases {
        let matcher = compile(schema).unwrap_or_else(|why| panic!("{schema}: {why}"));
        for text in *valid {
            assert!(accepts(&matcher, text), "{schema} refuses {text}");
        }
        for text in *invalid {
            assert!(!accepts(&matcher, text), "{schema} accepts {text}");
        }
    }
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
        Some(r#"{"id":9223372036854774784,"kind":"a","when":"0001-01-01T00:00:00Z","tags":[],"flat":{}}"#),
        Some("{\"id\":1"),
        Some(r#"{"id":1,"kind":"c","when":"0001-01-01T00:00:00Z","tags":[],"flat":{}}"#),
    ];
    let (array, wrong) = schema.array(&texts);
    assert_eq!((array.data_type(), wrong), (&schema.data_type(), vec![3, 4]));
    assert_eq!(
        lines(&array),
        [
            r#"{"answer":{"id":0,"kind":"b","when":"2024-03-01T00:30:00.500Z","day":"2024-02-29","at":"23:30:00","sure":true,"tags":[{"name":"é\n"},{"name":""}],"mixed":"12345678901234567890","flat":{"x":1,"additional_properties":"{\"y\":[1e400],\"y\":2}"},"tree":["[]","[[]]"]}}"#,
            "{}",
            r#"{"answer":{"id":9223372036854774784,"kind":"a","when":"0001-01-01T00:00:00Z","tags":[],"flat":{}}}"#,
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
