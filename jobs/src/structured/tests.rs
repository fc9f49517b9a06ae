#![allow(clippy::unwrap_used)]
use super::constraint::Structure;
use super::vocabulary::Vocabulary;
use super::*;
use crate::prompt::tokenizer::Tokenizer;
use crate::prompt::tokenizer::tests::metaspace;
use engine::constraint::{Constraint, Matcher};
use engine::numbers::Numbers;
use std::path::Path;
use std::sync::Arc;

/// nano's.
fn nano() -> (Arc<Tokenizer>, Arc<Vocabulary>) {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../nano"));
    let tokenizer = Arc::new(Tokenizer::open(folder).unwrap());
    let vocabulary = Vocabulary::new(&tokenizer, 2048, &[2]).unwrap();
    (tokenizer, Arc::new(vocabulary))
}

fn regex(text: &str) -> StructuredOutputs {
    StructuredOutputs::Regex(text.into())
}

/// Tokens chosen at random among those that are allowed, until the end or as many as that.
fn walk(matcher: &mut dyn Matcher, numbers: &mut Numbers, end: u32, most: usize) -> Result<Vec<u32>, String> {
    let mut tokens = Vec::new();
    while tokens.len() < most {
        let mut mask = vec![0u32; 64];
        matcher.fill_mask(&mut mask).map_err(|why| why.to_string())?;
        let allowed: Vec<u32> = (0..2048).filter(|t| mask[*t as usize / 32] >> (t % 32) & 1 == 1).collect();
        let token = allowed[numbers.below(allowed.len())];
        if token == end {
            break;
        }
        matcher.accept(token);
        tokens.push(token);
        if matcher.is_ended() {
            break;
        }
    }
    Ok(tokens)
}

#[test]
fn what_is_allowed_is_what_the_structure_says() {
    let (tokenizer, vocabulary) = nano();
    let mut numbers = Numbers(3);
    let choices: Vec<String> = ["late", "late parcel", "\"so\" / \\ \n", "é"].map(String::from).into();
    let lark = "start: greeting \", \" /[a-z]{3}/\ngreeting: \"hello\" | \"hi\"\n";
    let is_lark = |text: &str| {
        let rest = text.strip_prefix("hello, ").or(text.strip_prefix("hi, "));
        rest.is_some_and(|rest| rest.len() == 3 && rest.bytes().all(|b| b.is_ascii_lowercase()))
    };
    let is_code = |text: &str| {
        let (letter, digits) = text.split_at(2);
        ["A-", "B-"].contains(&letter) && digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit())
    };
    let known = choices.clone();
    type Allows<'a> = Box<dyn Fn(&str) -> bool + 'a>;
    let cases: [(StructuredOutputs, Allows<'_>); 4] = [
        (regex("^[AB]-[0-9]{5}$"), Box::new(is_code)),
        (StructuredOutputs::Choice(choices), Box::new(move |text| known.iter().any(|known| known == text))),
        (StructuredOutputs::Grammar(lark.into()), Box::new(is_lark)),
        (
            StructuredOutputs::Json(json!({ "enum": ["a", 1, null] })),
            Box::new(|text| ["\"a\"", "1", "null"].contains(&text)),
        ),
    ];
    for (outputs, allows) in cases {
        let structure = Structure::compile(&outputs, &vocabulary).unwrap();
        let mut texts = std::collections::HashSet::new();
        for _ in 0..40 {
            let tokens = walk(structure.matcher().as_mut(), &mut numbers, 2, 100).unwrap();
            let text = tokenizer.decode(&tokens, true).unwrap();
            assert!(allows(&text), "{outputs:?}: {text:?}");
            texts.insert(text);
        }
        assert!(texts.len() > 1, "{outputs:?}: {texts:?}");
    }
}

#[test]
fn what_cannot_be_enforced_is_refused() {
    let (_, vocabulary) = nano();
    let lark = |text: &str| StructuredOutputs::Grammar(text.into());
    for (outputs, why) in [
        (regex("a(?=b)"), ""),
        (regex(r"(a)\1"), ""),
        (regex(r"a\bb"), "a word boundary"),
        (regex("a[b"), ""),
        (regex(&"(".repeat(10_000)), "nested"),
        (lark("start[temperature=0.5]: /a+/"), "line 1: `temperature`"),
        (lark("start: a\na[capture, stop=\"x\"]: /a+/"), "line 2: `"),
        (lark("start: %json {\"type\": \"object\"}"), "`%json`"),
        (lark("%llguidance {\"no_forcing\": true}\nstart: \"a\""), "`%llguidance`"),
        (lark("start: nothing"), "nothing"),
        (lark("start: @other"), "other"),
        (lark("begin: \"a\""), "start"),
        (StructuredOutputs::Json(json!({ "type": "strng" })), "strng"),
        (StructuredOutputs::Json(json!({ "$ref": "https://example.org/a.json" })), ""),
        (StructuredOutputs::Json(json!({ "$ref": "#" })), ""),
    ] {
        let error = Structure::compile(&outputs, &vocabulary).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    assert!(Structure::compile(&lark("start: \"[temperature=1] %json \" // [stop=1]"), &vocabulary).is_ok());
}

#[test]
fn an_answer_without_a_token_is_an_error_and_no_end() {
    // `c` is no token of this vocabulary, and a blank that comes first is lost.
    let tokenizer = Arc::new(metaspace());
    let c = (0..).map_while(|id| tokenizer.written_form(id).map(|written| (id, written)));
    let size = c.count();
    let vocabulary = Arc::new(Vocabulary::new(&tokenizer, size, &[2]).unwrap());
    for (text, ok) in [("a c", true), (" a", false), ("a", true)] {
        assert_eq!(Structure::compile(&regex(text), &vocabulary).is_ok(), ok, "{text}");
    }
    assert!(Vocabulary::new(&tokenizer, size, &[]).unwrap_err().contains("no end token"));
}

/// A schema of a chain of references.
fn chain(len: usize, link: impl Fn(Value) -> Value) -> StructuredOutputs {
    let reference = |i: usize| json!({ "$ref": format!("#/$defs/a{i}") });
    let mut defs: serde_json::Map<String, Value> =
        (0..len).map(|i| (format!("a{i}"), link(reference(i + 1)))).collect();
    defs.insert(format!("a{len}"), json!({ "type": "null" }));
    StructuredOutputs::Json(json!({ "$ref": "#/$defs/a0", "$defs": defs }))
}

fn properties(count: usize, each: Value) -> StructuredOutputs {
    let properties: serde_json::Map<String, Value> =
        (0..count).map(|i| (format!("property_{i}"), each.clone())).collect();
    StructuredOutputs::Json(
        json!({ "type": "object", "properties": properties, "additionalProperties": false }),
    )
}

#[test]
fn structures_that_are_made_to_harm_are_refused_or_work() {
    let (_, vocabulary) = nano();
    let lark = |text: String| StructuredOutputs::Grammar(text);
    let json = StructuredOutputs::Json;
    let values: Vec<String> = (0..100_000).map(|i| format!("value {i}")).collect();
    let two = |next: Value| json!({ "anyOf": [next.clone(), next] });
    let many = |count| {
        (0..count)
            .map(|i| json!({ "type": "object", "properties": { format!("p{i}"): { "type": "integer" } } }))
            .collect::<Vec<_>>()
    };
    let rules = |count| (0..count).map(|i| format!("a{i}: \"x\" a{}\n", i + 1)).collect::<String>();
    let nots = (0..60).map(|i| format!(" & ~/(?s:.*)a{{{i}}}b(?s:.*)/")).collect::<String>();
    for (outputs, refused) in [
        (properties(500, json!({ "type": "string" })), None),
        (properties(2000, json!({ "type": "number" })), None),
        (properties(5000, json!({})), Some("more than 2000 properties")),
        (chain(900, |next| json!({ "allOf": [next] })), None),
        (chain(20_000, |next| json!({ "allOf": [next] })), Some("more than 1000 schemas")),
        (chain(30, two), None),
        (json(json!({ "allOf": many(500) })), None),
        (json(json!({ "allOf": many(4000) })), Some("multiply out to too many schemas")),
        (json(json!({ "enum": values })), Some("bytes; at most")),
        (StructuredOutputs::Choice(values), Some("bytes; at most")),
        (json(json!({ "$ref": "#" })), Some("no answer satisfies it")),
        (json(json!({ "$ref": "https://example.org/a.json" })), Some("")),
        (json(json!({ "type": "integer", "multipleOf": 982_451_653 })), Some("`multipleOf` 982451653")),
        (json(json!({ "type": "string", "minLength": 1_000_000_000 })), Some("`minLength` 1000000000")),
        (json(json!({ "type": "array", "minItems": 1_000_000_000 })), Some("`minItems` 1000000000")),
        (regex("(a+)+$"), None),
        (regex("(a?){1000}a{1000}"), None),
        (regex("[ab]*a[ab]{200}"), None),
        (regex("(((a{1,100}){1,100}){1,100}){1,100}"), Some("in 100000000 places of it at once")),
        (regex(&"a?".repeat(1001)), Some("1001 optional parts in a row")),
        (regex(&"\\p{L}".repeat(501)), Some("501 classes")),
        (lark("start: a{0,100}\na: b{0,100}\nb: \"x\"{0,100}".into()), Some("a: its counts")),
        (regex(&"a".repeat(1 << 20)), Some("bytes; at most")),
        (regex(&format!("{}a", "(".repeat(10_000))), Some("nested 10000 deep")),
        (
            lark("start: \"a\" <|im_end|>".into()),
            Some("line 1: <|im_end|> is taken for <|im_end|>, which ends an answer"),
        ),
        (lark("start: \"<[2]>\" T\nT: /<[2]>/ // <[2]>\n".into()), None),
        (lark("start: \"a\" b\nb: <[1-3]>".into()), Some("line 2: <[1-3]> is taken for")),
        (lark("start: start start | \"a\"".into()), None),
        (lark("start: a\na: b\nb: a".into()), Some("no answer can begin")),
        (lark(format!("start: a0\n{}a5000: \"x\"", rules(5000))), Some("")),
        (lark(format!("start: T\nT: /(?s:.*)/{nots}")), Some("60 intersections")),
    ] {
        let compiled = Structure::compile(&outputs, &vocabulary);
        let text: String = outputs.text().chars().take(60).collect();
        match (refused, compiled) {
            (None, Ok(structure)) => {
                let walked = walk(structure.matcher().as_mut(), &mut Numbers(1), 2, 30);
                assert!(walked.is_ok(), "{text}: {walked:?}");
            }
            (Some(why), Err(error)) => assert!(error.contains(why), "{text}: {error}"),
            (refused, compiled) => panic!("{text}: {refused:?}, {compiled:?}"),
        }
    }
}

#[test]
fn a_terminal_that_never_ends_is_refused() {
    let (tokenizer, vocabulary) = nano();
    let mut wrong = Vec::new();
    let lark = |text: &str| StructuredOutputs::Grammar(text.into());
    for (grammar, says) in [
        (
            "start: A A\nA: /a+/",
            "start: the terminal ('a')+ takes as much text as it can, and what follows it (('a')+) begins with",
        ),
        ("start: A B\nA: /a+/\nB: /ab/", "and what follows it ("),
        ("start: A B\nA: /a+/\nB: /a+b/", "(T: A B)"),
        ("start: /a+/ /a+b/", "begins with what it takes itself"),
        ("start: /a+/ \"ab\"", "begins with what it takes itself"),
        ("start: \"x\" A A | \"y\" x\nx: A A b\nb: \"!\"\nA: /(ab)+/", "takes as much text"),
        ("start: \"x\" A b? C\nb: B\nA: /[a-z]+/\nB: /b!/\nC: /[a-c]/", "takes as much text"),
        ("start: x{2}\nx: A\nA: /(ab)+/", "takes as much text"),
        // What need not be there, what goes on otherwise, and rules that make nothing.
        ("start: \"x\" A A | \"y\" B\nA: /a+/\nB: /e+/", ""),
        ("start: A A\nA: /cd*/", ""),
    ] {
        let compiled = Structure::compile(&lark(grammar), &vocabulary);
        let as_said = match &compiled {
            Ok(_) => says.is_empty(),
            Err(why) => !says.is_empty() && why.contains(says),
        };
        wrong.extend((!as_said).then(|| format!("{grammar}: {compiled:?}")));
    }
    // What ends in one way is taken, and what must come next is given without end.
    for (grammar, text, goes_on) in [
        ("start: \"x\" A A | A\nA: /a+/", "xa", "a"),
        ("start: A (B | \"!\")\nA: /a+/\nB: /ab/", "aaa", "a!"),
        ("start: \"x\" A B | A \"!\"\nA: /(ab)+/\nB: /abc/", "xab", "a"),
        ("start: \"a\" \" b\" \"c\"\n%ignore / +/", "a  ", " "),
        ("start: A b? \"!\"\nb: B\nA: /a+/\nB: /b/", "aa", "ab!"),
        ("start: A B\nA: /a*/\nB: /ab/", "", "a"),
        ("start: WORD{3}\nWORD: /[a-z]+ ?/", "one ", ""),
    ] {
        let structure = match Structure::compile(&lark(grammar), &vocabulary) {
            Ok(structure) => structure,
            Err(why) => {
                wrong.push(format!("{grammar}: {why}"));
                continue;
            }
        };
        let mut matcher = structure.matcher();
        for &byte in text.as_bytes() {
            matcher.fill_mask(&mut [0; 64]).unwrap();
            let token = (0..2048).find(|&token| vocabulary.token_bytes[token as usize] == [byte]).unwrap();
            matcher.accept(token);
        }
        let mut mask = [0u32; 64];
        matcher.fill_mask(&mut mask).unwrap();
        let allowed = (0..2048u32).filter(|t| mask[*t as usize / 32] >> (t % 32) & 1 == 1);
        let first: std::collections::BTreeSet<char> =
            allowed.filter_map(|token| tokenizer.decode(&[token], true).unwrap().chars().next()).collect();
        let expected = goes_on.chars().all(|c| first.contains(&c))
            && (goes_on.is_empty() || first.len() == goes_on.len());
        wrong.extend((!expected).then(|| format!("{grammar}: {first:?}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_name_comes_twice_in_an_object() {
    let (_, vocabulary) = nano();
    let a_or_b = json!({ "type": "object", "patternProperties": { "^[ab]{1,2}$": { "type": "null" } },
                         "additionalProperties": false });
    let free = json!({ "type": "object", "additionalProperties": { "type": "null" } });
    let listed = json!({ "type": "object", "properties": { "a": { "type": "null" } },
                         "additionalProperties": { "type": "null" }, "required": ["a"] });
    let mut repeated = 0;
    for schema in [a_or_b, free, listed, json!({ "type": "array", "items": {} })] {
        let structure = Structure::compile(&StructuredOutputs::Json(schema.clone()), &vocabulary).unwrap();
        for seed in 0..60 {
            let mut matcher = structure.matcher();
            // A model that likes few letters writes names again and again.
            let mut text = String::new();
            let mut numbers = Numbers(seed + 1);
            for _ in 0..60 {
                let mut mask = vec![0u32; 64];
                if let Err(why) = matcher.fill_mask(&mut mask) {
                    let why = why.to_string();
                    assert!(why.contains("a name that its object has already"), "{schema}: {text}: {why}");
                    repeated += 1;
                    break;
                }
                let allowed = (0..2048u32).filter(|t| mask[*t as usize / 32] >> (t % 32) & 1 == 1);
                let known = |t: &u32| {
                    let bytes = &vocabulary.token_bytes[*t as usize];
                    bytes.len() < 3 && bytes.iter().all(|b| b"{}[]\", :ablnu".contains(b))
                };
                let mut few: Vec<u32> = allowed.clone().filter(known).collect();
                if few.is_empty() {
                    few = allowed.collect();
                }
                let token = few[numbers.below(few.len())];
                if token == 2 {
                    break;
                }
                matcher.accept(token);
                text.push_str(std::str::from_utf8(&vocabulary.token_bytes[token as usize]).unwrap());
                if matcher.is_ended() {
                    break;
                }
            }
            assert!(names::Names::default().take(text.as_bytes()), "{schema}: {text}");
        }
    }
    assert!(repeated > 0, "the six names of the first schema are soon used up");
}
