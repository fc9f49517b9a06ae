//! Structures that are made to harm, or that are only large: each is refused by name, or works.

use engine::constraint::Matcher;
use engine::numbers::Numbers;
use jobs::structured::StructuredOutputs;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// A structure, and what a refusal says of it where it is refused.
pub struct Case {
    pub name: String,
    pub outputs: StructuredOutputs,
    pub refused: Option<&'static str>,
    /// What the error of a row says where no answer comes to an end.
    pub row_error: Option<&'static str>,
}

impl Case {
    /// One whose rows are errors.
    fn row_error(self, says: &'static str) -> Case {
        Case { row_error: Some(says), ..self }
    }
}

/// What a walk through a structure took.
#[derive(Default)]
pub struct Walked {
    /// Tokens of the answer.
    pub tokens: usize,
    /// The time of the first mask, and of the longest step behind it.
    pub first: Duration,
    pub worst: Duration,
}

/// An answer of at most so many tokens, at random among those that a structure allows. It ends as late as it may: an answer that
/// goes on is the harder one. `size` is that of the vocabulary, and `clock` says what time it is.
pub fn walk_at_random(
    matcher: &mut dyn Matcher,
    numbers: &mut Numbers,
    (size, end): (usize, u32),
    longest: usize,
    clock: impl Fn() -> Duration,
) -> Result<Walked, String> {
    let mut walked = Walked::default();
    while walked.tokens < longest && !matcher.is_ended() {
        let (mut mask, begun) = (vec![0u32; size.div_ceil(32)], clock());
        matcher.fill_mask(&mut mask).map_err(|why| format!("{why:?}"))?;
        let took = clock() - begun;
        if walked.tokens == 0 {
            walked.first = took;
        } else {
            walked.worst = walked.worst.max(took);
        }
        let mut allowed: Vec<u32> =
            (0..size as u32).filter(|token| mask[*token as usize / 32] >> (token % 32) & 1 == 1).collect();
        if allowed.len() > 1 {
            allowed.retain(|token| *token != end);
        }
        let token = allowed[numbers.below(allowed.len())];
        if token == end {
            break;
        }
        let begun = clock();
        matcher.accept(token);
        walked.worst = walked.worst.max(clock() - begun);
        walked.tokens += 1;
    }
    Ok(walked)
}

fn json(name: &str, schema: Value, refused: Option<&'static str>) -> Case {
    Case { name: name.into(), outputs: StructuredOutputs::Json(schema), refused, row_error: None }
}

fn regex(name: &str, regex: impl Into<String>, refused: Option<&'static str>) -> Case {
    Case { name: name.into(), outputs: StructuredOutputs::Regex(regex.into()), refused, row_error: None }
}

fn lark(name: &str, lark: impl Into<String>, refused: Option<&'static str>) -> Case {
    Case { name: name.into(), outputs: StructuredOutputs::Grammar(lark.into()), refused, row_error: None }
}

fn choice(name: &str, texts: Vec<String>, refused: Option<&'static str>) -> Case {
    Case { name: name.into(), outputs: StructuredOutputs::Choice(texts), refused, row_error: None }
}

/// Texts that share a long beginning.
fn prefixed(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("department of customer relations, desk {i}")).collect()
}

/// Texts that share nothing.
fn mixed(count: usize, words: usize) -> Vec<String> {
    let mut state = 7u64;
    let mut word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{:x}", state >> 20)
    };
    (0..count).map(|_| (0..words).map(|_| word()).collect::<Vec<_>>().join(" ")).collect()
}

fn numbered(count: usize, each: impl Fn(usize) -> Value) -> Map<String, Value> {
    (0..count).map(|i| (format!("property_{i}"), each(i))).collect()
}

fn closed(properties: Map<String, Value>) -> Value {
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn all_required(properties: Map<String, Value>) -> Value {
    let required: Vec<String> = properties.keys().cloned().collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false, "required": required })
}

/// A schema of a chain of references.
fn chain(len: usize, link: impl Fn(Value) -> Value) -> Value {
    let reference = |i: usize| json!({ "$ref": format!("#/$defs/a{i}") });
    let mut defs: Map<String, Value> = (0..len).map(|i| (format!("a{i}"), link(reference(i + 1)))).collect();
    defs.insert(format!("a{len}"), json!({ "type": "null" }));
    json!({ "$ref": "#/$defs/a0", "$defs": defs })
}

fn nested(depth: usize, outer: impl Fn(Value) -> Value) -> Value {
    (0..depth).fold(json!({ "type": "null" }), |inner, _| outer(inner))
}

fn pattern(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let string = || json!({ "type": "string" });
    let optional =
        |i: usize| json!({ "type": "object", "properties": { format!("p{i}"): { "type": "integer" } } });
    let variant = |i: usize| {
        json!({ "type": "object", "additionalProperties": false, "required": ["kind", "a", "b"],
                "properties": { "kind": { "const": format!("kind {i}") }, "a": { "type": "integer" }, "b": string() } })
    };
    let rules = |count| (0..count).map(|i| format!("a{i}: \"x\" a{}\n", i + 1)).collect::<String>();
    let nots = (0..60).map(|i| format!(" & ~/(?s:.*)a{{{i}}}b(?s:.*)/")).collect::<String>();
    let ifs = |count: usize| {
        let conditions: Vec<Value> = (0..count)
            .map(|i| {
                json!({ "if": { "properties": { format!("p{i}"): { "const": true } }, "required": [format!("p{i}")] },
                        "then": { "required": [format!("q{i}")] }, "else": { "required": [format!("r{i}")] } })
            })
            .collect();
        json!({ "type": "object", "allOf": conditions })
    };
    vec![
        // Values of an `enum`.
        json("enum, 1,000 texts of one beginning", json!({ "enum": prefixed(1000) }), None),
        json("enum, 10,000 texts of one beginning", json!({ "enum": prefixed(10_000) }), None),
        json("enum, 10,000 texts of nothing in common", json!({ "enum": mixed(10_000, 1) }), None),
        json(
            "enum, 10,000 numbers",
            json!({ "enum": (0..10_000).map(|i| i * 37).collect::<Vec<_>>() }),
            None,
        ),
        json("enum, 100,000 short texts", json!({ "enum": mixed(100_000, 1) }), Some("bytes; at most")),
        json("enum, 100,000 numbers", json!({ "enum": (0..100_000).collect::<Vec<_>>() }), Some("more than")),
        json("enum, 100 texts of 10 kB", json!({ "enum": mixed(100, 900) }), Some("bytes; at most")),
        json("enum, 90 texts of 10 kB", json!({ "enum": mixed(90, 900) }), None),
        json("enum, 1,000 texts of 1 kB", json!({ "enum": mixed(1000, 80) }), None),
        json("enum, one text of 60 kB", json!({ "enum": ["a".repeat(60_000)] }), None),
        json(
            "enum, one text of 1 MB",
            json!({ "enum": ["a".repeat(1_000_000)] }),
            Some("a value of 1000002 bytes"),
        ),
        json(
            "enum, 10,000 texts with escapes",
            json!({ "enum": (0..10_000).map(|i| format!("\u{1f600}\n\"{i}\"\u{e9}")).collect::<Vec<_>>() }),
            Some("too large together"),
        ),
        json(
            "enum, 8,000 objects",
            json!({ "enum": (0..8000).map(|i| json!({ "a": i })).collect::<Vec<_>>() }),
            None,
        ),
        json(
            "enum, 9,900 objects",
            json!({ "enum": (0..9900).map(|i| json!({ "a": i })).collect::<Vec<_>>() }),
            Some("ways at one place"),
        ),
        json(
            "enum, 2,000 objects",
            json!({ "enum": (0..2000).map(|i| json!({ "a": i, "b": [i, "x"] })).collect::<Vec<_>>() }),
            None,
        ),
        json(
            "enum of 1,000 texts in 10 properties",
            closed(numbered(
                10,
                |i| json!({ "enum": prefixed(1000).iter().map(|t| format!("{t} {i}")).collect::<Vec<_>>() }),
            )),
            None,
        ),
        // Properties.
        json("500 properties", closed(numbered(500, |_| string())), None),
        json(
            "2,000 properties, none required",
            closed(numbered(2000, |_| json!({ "type": "number" }))),
            None,
        ),
        json("2,000 properties, all required", all_required(numbered(2000, |_| string())), None),
        json(
            "2,000 properties of other lengths",
            all_required(numbered(2000, |i| json!({ "type": "string", "maxLength": i + 1 }))),
            Some("more than"),
        ),
        json("10,000 properties", closed(numbered(10_000, |_| json!({}))), Some("more than 2000 properties")),
        json("240 objects with free names", all_required(numbered(240, optional)), None),
        json(
            "240 texts of other lengths",
            all_required(numbered(240, |i| json!({ "type": "string", "maxLength": 900 + i }))),
            None,
        ),
        json(
            "240 other ranges of integers",
            all_required(numbered(
                240,
                |i| json!({ "type": "integer", "minimum": i, "maximum": i * 1_000_003 + 77 }),
            )),
            None,
        ),
        json(
            "240 other ranges of numbers",
            all_required(numbered(
                240,
                |i| json!({ "type": "number", "minimum": i as f64 + 0.12345, "maximum": i as f64 * 1_000_003.7 + 77.123_456 }),
            )),
            None,
        ),
        json(
            "240 other multiples",
            all_required(numbered(240, |i| json!({ "type": "integer", "multipleOf": 3001 + i }))),
            Some("all different `multipleOf` together"),
        ),
        // Depth, size and references.
        json(
            "1,000 deep",
            nested(500, |inner| json!({ "items": [inner] })),
            Some("nested more than 64 deep"),
        ),
        json(
            "30 arrays within each other",
            nested(30, |inner| json!({ "type": "array", "items": inner })),
            None,
        ),
        json("1 MB of annotations", json!({ "type": "null", "description": "a".repeat(1_000_000) }), None),
        json("2 MB", json!({ "type": "null", "description": "a".repeat(2_000_000) }), Some("bytes; at most")),
        json("900 references in a chain", chain(900, |next| json!({ "allOf": [next] })), None),
        json(
            "20,000 references in a chain",
            chain(20_000, |next| json!({ "allOf": [next] })),
            Some("more than 1000 schemas"),
        ),
        json(
            "2^30 ways through references",
            chain(30, |next| json!({ "anyOf": [next.clone(), next] })),
            None,
        ),
        json(
            "a tree of arrays by references",
            json!({ "$ref": "#/$defs/t", "$defs": { "t": { "anyOf": [{ "type": "null" }, { "type": "array", "items": { "$ref": "#/$defs/t" } }] } } }),
            None,
        ),
        json("a reference to itself", json!({ "$ref": "#" }), Some("no answer satisfies it")),
        json(
            "a remote reference",
            json!({ "$ref": "https://example.org/a.json" }),
            Some("nothing is fetched"),
        ),
        // Unions and products.
        json("anyOf of 500 objects", json!({ "anyOf": (0..500).map(variant).collect::<Vec<_>>() }), None),
        json(
            "anyOf of 500 open objects",
            json!({ "anyOf": (0..500).map(optional).collect::<Vec<_>>() }),
            Some("more than 250"),
        ),
        json(
            "anyOf of 240 open objects",
            json!({ "anyOf": (0..240).map(optional).collect::<Vec<_>>() }),
            None,
        ),
        json("oneOf of 500 objects", json!({ "oneOf": (0..500).map(variant).collect::<Vec<_>>() }), None),
        json("allOf of 500 objects", json!({ "allOf": (0..500).map(optional).collect::<Vec<_>>() }), None),
        json(
            "allOf of 4,000 objects",
            json!({ "allOf": (0..4000).map(optional).collect::<Vec<_>>() }),
            Some("multiply out to too many schemas"),
        ),
        json(
            "allOf of 14 anyOf",
            json!({ "allOf": (0..14).map(|i| json!({ "anyOf": [optional(2 * i), optional(2 * i + 1)] })).collect::<Vec<_>>() }),
            Some(""),
        ),
        json("3 conditions", ifs(3), None),
        json("7 conditions", ifs(7), Some("multiply out to too many")),
        json("20 conditions", ifs(20), Some("")),
        json(
            "40 not",
            json!({ "type": "object", "allOf": (0..40).map(|i| json!({ "not": { "required": [format!("p{i}"), format!("q{i}")] } })).collect::<Vec<_>>() }),
            Some(""),
        ),
        // Bounds and patterns.
        json(
            "minItems 1,000",
            json!({ "type": "array", "minItems": 1000, "items": { "type": "integer" } }),
            None,
        ),
        json(
            "maxItems 100,000",
            json!({ "type": "array", "maxItems": 100_000, "items": { "enum": ["a", "b"] } }),
            Some("`maxItems` 100000"),
        ),
        json(
            "minItems 1,000,000,000",
            json!({ "type": "array", "minItems": 1_000_000_000 }),
            Some("`minItems` 1000000000"),
        ),
        json("minLength 10,000", json!({ "type": "string", "minLength": 10_000 }), None),
        json(
            "minLength 1,000,000,000",
            json!({ "type": "string", "minLength": 1_000_000_000 }),
            Some("`minLength` 1000000000"),
        ),
        json(
            "multipleOf 999,983",
            json!({ "type": "integer", "multipleOf": 999_983 }),
            Some("`multipleOf` 999983"),
        ),
        json("multipleOf 99,991", json!({ "type": "integer", "multipleOf": 99_991 }), None),
        json(
            "multipleOf 982,451,653",
            json!({ "type": "integer", "multipleOf": 982_451_653 }),
            Some("`multipleOf` 982451653"),
        ),
        json("multipleOf 0.01", json!({ "type": "number", "multipleOf": 0.01 }), Some("`multipleOf` 0.01")),
        json("pattern (a+)+$", pattern("(a+)+$"), None),
        json("pattern with `a` 1,000 before the end", pattern("a.{1000}$"), None),
        json("pattern [ab]*a[ab]{200}", pattern("^[ab]*a[ab]{200}$"), None),
        json("pattern (.*a){20}", pattern("^(.*a){20}.*$"), None),
        json(
            "pattern .{0,1000} thrice nested",
            pattern("^((.{0,1000}){0,1000}){0,1000}$"),
            Some("3000000000 places of it at once"),
        ),
        json("pattern [a-z ]{0,100} twice nested", pattern("^([a-z ]{0,100}){0,100}$"), None),
        json(
            "pattern [a-z ]{0,100} twice nested, of a length",
            json!({ "type": "string", "pattern": "^([a-z ]{0,100}){0,100}$", "minLength": 100, "maxLength": 5000 }),
            Some("beside `minLength` or `maxLength`"),
        ),
        json(
            "pattern [a-z ]{0,30} twice nested, of a length",
            json!({ "type": "string", "pattern": "^([a-z ]{0,30}){0,30}$", "minLength": 50, "maxLength": 800 }),
            Some("may match one of its patterns with the length"),
        ),
        json(
            "three patterns .{0,50} twice nested",
            json!({ "anyOf": (["a", "b", "c"].map(|c| pattern(&format!("^([{c}x]{{0,50}}){{0,50}}$")))) }),
            None,
        ),
        json(
            "three patterns .{0,100} twice nested",
            json!({ "anyOf": (["a", "b", "c"].map(|c| pattern(&format!("^([{c}x]{{0,100}}){{0,100}}$")))) }),
            Some("20000 places of it at once"),
        ),
        json(
            "names of nested counts",
            json!({ "type": "object", "patternProperties": { "^((a{1,100}){1,100}){1,100}$": {} } }),
            Some("1000000 places of it at once"),
        ),
        json(
            "arrays of up to 10,000 nested four deep",
            (0..4).fold(
                json!({ "enum": [0, 1] }),
                |inner, _| json!({ "type": "array", "items": inner, "maxItems": 10_000 }),
            ),
            None,
        ),
        json(
            "arrays of at least 1,000 nested three deep",
            (0..3).fold(
                json!({ "enum": [0, 1] }),
                |inner, _| json!({ "type": "array", "items": inner, "minItems": 1000, "maxItems": 2000 }),
            ),
            None,
        ),
        json("pattern .{0,100000}", pattern("^.{0,100000}$"), Some("up to 1000")),
        json("pattern of 20 words in any order", pattern(&format!("^({})*$", mixed(20, 1).join("|"))), None),
        json("pattern of 4 kB", pattern(&"[a-z]?x*".repeat(500)), Some("1002 optional parts")),
        json("pattern of 1 kB", pattern(&"[a-z]?x*".repeat(125)), None),
        json(
            "240 patterns",
            all_required(numbered(240, |i| pattern(&format!("^x{i}(a|b)*c{{{}}}$", i + 1)))),
            None,
        ),
        json(
            "100 patterns that overlap",
            json!({ "anyOf": (1..100).map(|i| pattern(&format!("^[ab]*a[ab]{{{i}}}$"))).collect::<Vec<_>>() }),
            None,
        ),
        json(
            "patternProperties, 100",
            json!({ "type": "object", "patternProperties": numbered(100, |i| json!({ "type": "integer", "minimum": i })).into_iter().map(|(k, v)| (format!("^{k}_"), v)).collect::<Map<_, _>>() }),
            Some("more than 32 patterns"),
        ),
        // Texts of one of many.
        choice("choice, 1,000", prefixed(1000), None),
        choice("choice, 10,000 of one beginning", prefixed(10_000), None),
        choice("choice, 10,000 of nothing in common", mixed(10_000, 1), None),
        choice(
            "choice, 100,000 short",
            (0..100_000).map(|i| format!("{i:x}")).collect(),
            Some("100000 choices"),
        ),
        choice("choice, 50,000 short", (0..50_000).map(|i| format!("{i:x}")).collect(), None),
        choice("choice, 50,000 of nothing in common", mixed(50_000, 1), None),
        choice("choice, 100,000", mixed(100_000, 1), Some("bytes; at most")),
        choice("choice, 100 of 10 kB", mixed(100, 900), Some("bytes; at most")),
        choice("choice, 90 of 10 kB", mixed(90, 900), None),
        choice(
            "choice, one of 1 MB",
            vec!["a".repeat(1_000_000)],
            Some("choice 1 has more than 65536 bytes"),
        ),
        // Regular expressions.
        regex("regex (a+)+$", "(a+)+$", None),
        regex("regex (a|a)*(a|a)*b", "(a|a)*(a|a)*(a|a)*(a|a)*b", None),
        regex("regex (a?){1000}a{1000}", "(a?){1000}a{1000}", None),
        regex("regex a{0,100000}", "a{0,100000}", None),
        regex("regex .{0,100000}", "(?s:.{0,100000})", None),
        regex("regex \\w{0,100000}", "\\w{0,100000}", None),
        regex("regex [ab]*a[ab]{200}", "[ab]*a[ab]{200}", None),
        regex("regex [ab]*a[ab]{20}", "[ab]*a[ab]{20}", None),
        regex(
            "regex four nested counts",
            "(((a{1,100}){1,100}){1,100}){1,100}",
            Some("100000000 places of it at once"),
        ),
        regex("regex two nested counts", "(a{1,100}){1,100}", None),
        regex("regex two nested counts of letters", "([a-z ]{1,100}){1,100}", None),
        regex(
            "regex two nested counts of any character",
            "(.{1,100}){1,100}",
            Some("30000 places of it at once"),
        ),
        regex("regex two lesser counts of any character", "(.{1,55}){1,60}", None),
        regex("regex lines within a count", "([a-z ]{1,100}\n){1,100}", None),
        regex("regex counts that follow any text", "(?s:.*)([a-z]{1,100} ){1,90}", None),
        regex("regex counts of optional parts", "((a?b?c?){1,50}d?){1,60}", None),
        regex("regex 900 optional parts", "[a-f]?".repeat(900), Some("too much work to begin with")),
        regex("regex 300 optional parts", "[a-f]?".repeat(300), None),
        regex("regex two unbounded counts", "(a{100,}){100,}b", None),
        regex("regex 600 classes of letters", "\\p{L}".repeat(600), Some("600 classes")),
        regex("regex (x+x+)+y", "(x+x+)+y", None),
        regex("regex (.*)*(.*)*(.*)*", "((.*)*(.*)*(.*)*)*x", None),
        regex("regex \\p{L}", "(\\p{L}|\\p{N}|\\p{S})*\\p{Lu}(\\p{L}\\p{N}?){50}", None),
        regex(
            "regex 100 unicode classes",
            "(?i)".to_string() + &"[\\p{L}--\\p{Lu}]?\\p{Greek}*".repeat(100),
            None,
        ),
        regex("regex (?i) of 10 kB", "(?i)".to_string() + &"k\u{df}s".repeat(2500), None),
        regex("regex of 64 kB", mixed(64, 70).join("|"), None),
        regex("regex of 64 kB of classes", "[a-f]?".repeat(10_000), Some("10000 optional parts in a row")),
        regex("regex of 1 MB", "a".repeat(1 << 20), Some("bytes; at most")),
        regex("regex 10,000 deep", format!("{}a", "(".repeat(10_000)), Some("nested 10000 deep")),
        regex("regex 150 deep", format!("{}a{}", "(".repeat(150), "*)?".repeat(150)), Some("invalid regex")),
        // Grammars.
        lark("lark, left recursion", "start: start \"a\" | \"b\"", None),
        lark("lark, ambiguous", "start: start start | \"a\" | start start start", None),
        lark("lark, ambiguous by lexemes", "start: x*\nx: A | B | C\nA: /a+/\nB: /a*b?/\nC: /(a|b)+/", None),
        lark("lark, expressions", "start: e\ne: e \"+\" e | e \"*\" e | \"(\" e \")\" | /[0-9]+/", None),
        lark("lark, a circle", "start: a\na: b\nb: a", Some("no answer can begin")),
        lark("lark, empty rules", "start: a a a a a a a a a a \"x\"\na: | b b\nb: | a a", None),
        lark("lark, 3,000 rules", format!("start: a0\n{}a3000: \"x\"", rules(3000)), None),
        lark("lark, 5,000 rules", format!("start: a0\n{}a5000: \"x\"", rules(5000)), Some("")),
        lark("lark, 60 intersections", format!("start: T\nT: /(?s:.*)/{nots}"), Some("60 intersections")),
        lark(
            "lark, 8 intersections",
            format!(
                "start: T\nT: /(?s:.*)/{}",
                nots.split(" & ").skip(20).take(8).map(|n| format!(" & {n}")).collect::<String>()
            ),
            None,
        ),
        lark("lark, counts of 100,000", "start: (\"a\" | \"b\" c){0,100000}\nc: \"x\"{1000}", None),
        lark(
            "lark, nested counts",
            "start: a{0,100}\na: b{0,100}\nb: c{0,100}\nc: \"x\"{0,100}",
            Some("b: its counts"),
        ),
        lark("lark, two nested counts of letters", "start: a{0,30}\na: /[a-z ]/{0,30}", None),
        lark(
            "lark, lines within a count",
            "start: line{1,100}\nline: WORD{1,100} \"\\n\"\nWORD: /[a-z]+ ?/",
            None,
        ),
        lark(
            "lark, nested counts of terminals",
            "start: T\nT: A{1,100}\nA: B{1,100}\nB: /[a-z]{1,100}/",
            Some("T: its counts"),
        ),
        lark("lark, two nested counts of terminals", "start: T\nT: A{1,100}\nA: /[a-z]{1,100}/", None),
        lark(
            "lark, a count of a complement",
            "start: T\nT: (~/(?s:.*)a[ab]{60}(?s:.*)/){1,100}",
            Some("T: its counts"),
        ),
        lark(
            "lark, a count of an intersection",
            "start: T\nT: (/[ab]{0,99}a/ & /a[ab]{0,99}/){1,100}",
            Some("T: its counts"),
        ),
        lark(
            "lark, a count of parts of a text",
            format!("start: T\nT: P{{1,100}}\nP: %regex {{ \"substring_chars\": {:?} }}", mixed(1, 400)[0]),
            Some("T: its counts"),
        ),
        lark(
            "lark, a part of a text of 40 kB",
            format!("start: P\nP: %regex {{ \"substring_words\": {:?} }}", mixed(1, 3500)[0]),
            None,
        ),
        lark(
            "lark, a suffix of nested counts",
            "start: a\na[suffix=/((a{1,100}){1,100}){1,100}/]: /b*/",
            Some("a: its counts"),
        ),
        lark(
            "lark, nested counts in a nested grammar",
            "start: \"b\" %lark {\n start: T\n T: /((a{1,100}){1,100}){1,100}/\n}",
            Some("T: its counts"),
        ),
        lark(
            "lark, a count of a rule that leads to itself",
            "start: e\ne: \"x\" | \"y\" e{0,100} \"z\" | e e",
            None,
        ),
        lark(
            "lark, letters as rules",
            format!(
                "start: e\ne: /[a-z ]/ | {}",
                (2..10).map(|n| vec!["e"; n].join(" ")).collect::<Vec<_>>().join(" | ")
            ),
            None,
        )
        .row_error("TooComplex(\"its rules may"),
        lark(
            "lark, 2,390 texts as alternatives of a rule",
            format!("start: {}", (0..2390).map(|i| format!("\"w{i}x\"")).collect::<Vec<_>>().join(" | ")),
            None,
        ),
        lark(
            "lark, 2,401 texts as alternatives of a rule",
            format!(
                "start: \"a\" b\nb: {}",
                (0..2401).map(|i| format!("\"w{i}x\"")).collect::<Vec<_>>().join(" | ")
            ),
            Some("b: it has 2401 alternatives at one place"),
        ),
        lark(
            "lark, 5,000 texts as one terminal",
            format!(
                "start: T\nT: {}",
                (0..5000).map(|i| format!("\"w{i}x\"")).collect::<Vec<_>>().join(" | ")
            ),
            None,
        ),
        lark(
            "lark, 1,500 alternatives behind 1,500 others of the same beginning",
            format!(
                "start: \"a\" b \".\" | \"a\" c \"!\"\nb: {}\nc: {}",
                (0..1500).map(|i| format!("\"w{i}x\"")).collect::<Vec<_>>().join(" | "),
                (0..1500).map(|i| format!("\"v{i}x\"")).collect::<Vec<_>>().join(" | ")
            ),
            None,
        )
        .row_error("TooComplex(\"its rules may go on in too many ways here: more than 2500 items"),
        lark("lark, a terminal twice", "start: A A\nA: /a+/", Some("so that it never ends")),
        lark(
            "lark, a terminal that has what follows it",
            "start: A B\nA: /a+/\nB: /ab/",
            Some("so that it never ends"),
        ),
        lark("lark, /a+/ before /a+b/", "start: A B\nA: /a+/\nB: /a+b/", Some("so that it never ends")),
        lark("lark, /a+/ before /a+b/ without names", "start: /a+/ /a+b/", Some("so that it never ends")),
        lark("lark, /(ab)+/ twice", "start: \"x\" A A \"y\"\nA: /(ab)+/", Some("so that it never ends")),
        lark(
            "lark, /[a-z]+/ before /[a-z]+;/",
            "start: A B\nA: /[a-z]+/\nB: /[a-z]+;/",
            Some("so that it never ends"),
        ),
        lark("lark, /a+/ twice at one place of two", "start: \"x\" A A | A\nA: /a+/", None),
        lark("lark, /a+/ before /ab/ or an end", "start: A (B | \"!\")\nA: /a+/\nB: /ab/", None),
        lark("lark, blanks that are ignored before a blank", "start: \"a\" \" b\" \"c\"\n%ignore / +/", None),
        lark(
            "lark, 2,000 terminals in any order",
            format!(
                "start: ({})+\n{}",
                (0..2000).map(|i| format!("T{i}")).collect::<Vec<_>>().join(" | "),
                (0..2000).map(|i| format!("T{i}: /a+{i}/\n")).collect::<String>()
            ),
            None,
        ),
        lark(
            "lark, 1,500 terminals that overlap",
            format!(
                "start: ({})*\n{}",
                (0..1500).map(|i| format!("T{i}")).collect::<Vec<_>>().join(" | "),
                (0..1500).map(|i| format!("T{i}: /[a-z]+{i}/\n")).collect::<String>()
            ),
            None,
        ),
    ]
}
