//! Random schemas of keywords that are said by others: what the masks accept is what a validator of its own accepts.

use jobs::schema::AnswerSchema;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::ApproximateTokEnv;
use llguidance::{Matcher, ParserFactory};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A compiled schema over the 256 bytes as tokens, if it is taken.
fn compile(schema: &Value) -> Option<Matcher> {
    let read = AnswerSchema::read(schema).ok()?;
    let mut factory = ParserFactory::new_simple(&ApproximateTokEnv::single_byte_env()).unwrap();
    factory.quiet();
    let matcher = Matcher::new(factory.create_parser(TopLevelGrammar::from_json_schema(read.grammar())));
    matcher.get_error().is_none().then_some(matcher)
}

/// Whether a text goes through the masks, byte by byte, to an end.
fn accepts(matcher: &Matcher, text: &str) -> bool {
    let mut matcher = matcher.deep_clone();
    let allowed = |matcher: &mut Matcher, byte: u8| {
        matcher.compute_mask().is_ok_and(|mask| mask.is_allowed(byte.into()))
            && matcher.consume_token(byte.into()).is_ok()
    };
    text.bytes().all(|byte| allowed(&mut matcher, byte)) && matcher.is_accepting().unwrap()
}

fn values() -> Vec<Value> {
    let objects = [
        json!({ "a": 1 }),
        json!({ "a": "x" }),
        json!({ "b": null }),
        json!({ "ab": 2 }),
        json!({ "a": 3, "ab": true }),
    ];
    let others = json!([
        null,
        true,
        false,
        0,
        1,
        2,
        3,
        7,
        -1,
        1.5,
        "",
        "a",
        "ab",
        "b",
        "x",
        [],
        [1],
        ["a"],
        [1, 2],
        {}
    ]);
    others.as_array().unwrap().iter().cloned().chain(objects).collect()
}

fn scalar() -> impl Strategy<Value = Value> {
    (0usize..15).prop_map(|i| values()[i].clone())
}

fn schema() -> impl Strategy<Value = Value> {
    let kinds = vec!["null", "boolean", "integer", "number", "string", "array", "object"];
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        prop::sample::subsequence(kinds, 1..4).prop_map(|names| json!({ "type": names })),
        prop::collection::vec(scalar(), 1..4).prop_map(|values| json!({ "enum": values })),
        (0usize..25).prop_map(|i| json!({ "const": values()[i] })),
        (-1i32..4, any::<bool>())
            .prop_map(|(n, low)| json!({ if low { "minimum" } else { "exclusiveMaximum" }: n })),
        (0u32..3, any::<bool>())
            .prop_map(|(n, low)| json!({ if low { "minLength" } else { "maxLength" }: n })),
        (0u32..3, any::<bool>()).prop_map(|(n, low)| json!({ if low { "minItems" } else { "maxItems" }: n })),
        prop::sample::select(vec!["a", "ab", "b"]).prop_map(|name| json!({ "required": [name] })),
        (1u32..4).prop_map(|n| json!({ "multipleOf": n })),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        let two = || (inner.clone(), inner.clone());
        let name = || prop::sample::select(vec!["a", "ab", "b"]);
        let pattern = prop::sample::select(vec!["^a", "b", "^a$"]);
        prop_oneof![
            3 => inner.clone().prop_map(|schema| json!({ "not": schema })),
            2 => (inner.clone(), two()).prop_map(|(a, (b, c))| json!({ "if": a, "then": b, "else": c })),
            2 => two().prop_map(|(a, b)| json!({ "allOf": [a, b] })),
            2 => two().prop_map(|(a, b)| json!({ "anyOf": [a, b] })),
            1 => two().prop_map(|(a, b)| json!({ "oneOf": [a, b] })),
            2 => (name(), inner.clone()).prop_map(|(name, a)| json!({ "properties": { name: a } })),
            2 => (pattern, inner.clone()).prop_map(|(name, a)| json!({ "patternProperties": { name: a } })),
            1 => inner.clone().prop_map(|a| json!({ "additionalProperties": a })),
            1 => inner.clone().prop_map(|a| json!({ "items": a })),
            // Keywords beside each other.
            3 => two().prop_map(|(a, b)| match (a, b) {
                (Value::Object(a), Value::Object(b)) => a.into_iter().chain(b).collect::<Map<_, _>>().into(),
                (a, _) => a,
            }),
        ]
    })
}

#[test]
fn what_is_accepted_is_what_another_validator_accepts() {
    let cases = std::env::var("GRISTMILL_SCHEMAS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let compiled = std::cell::Cell::new(0);
    let checked = runner.run(&schema(), |schema| {
        let Some(matcher) = compile(&schema) else { return Ok(()) };
        compiled.set(compiled.get() + 1);
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        for value in values() {
            let text = value.to_string();
            let (accepted, valid) = (accepts(&matcher, &text), validator.is_valid(&value));
            // Of several properties the order is the schema's.
            let ordered = value.as_object().is_none_or(|properties| properties.len() < 2);
            prop_assert!(
                if ordered { accepted == valid } else { !accepted || valid },
                "{schema}: {text}: {accepted}"
            );
        }
        Ok(())
    });
    println!("{} of {cases} random schemas enforced", compiled.get());
    checked.unwrap();
    assert!(compiled.get() * 4 > cases, "{} of {cases}", compiled.get());
}
