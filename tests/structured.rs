//! Structured outputs through the binary: every text is what the structure allows, whatever shares a step and whatever was
//! interrupted, and what cannot be enforced is refused.

#![allow(clippy::unwrap_used)]

#[path = "support/hostile_structures.rs"]
mod hostile_structures;
mod support;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Date32Type, Float32Type, Int32Type, Int64Type};
use engine::constraint::Constraint;
use engine::numbers::Numbers;
use jobs::prompt::tokenizer::Tokenizer;
use jobs::structured::constraint::Structure;
use jobs::structured::vocabulary::Vocabulary;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use support::job::{Bench, Ran, ints, read, text};

const MESSAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/messages.parquet");
const EXTRACT: &str = "Extract the order number, the product and the amount from this customer message as JSON.\n\n\
                       {{ message }}";
const ORDER: &str = r#"{"type": "object", "additionalProperties": false,
    "properties": {"amount": {"type": ["number", "null"]}, "mood": {"enum": ["good", "bad"]}, "urgent": {"type": "boolean"}},
    "required": ["amount", "mood", "urgent"]}"#;

/// nano's end token.
const END: u32 = 2;

/// A structure whose answers are not made by then hangs; the slowest take half a minute, and of a loaded machine minutes.
const HANGS: Duration = Duration::from_secs(900);

/// Runs a job of nano on the first messages.
fn run(bench: &Bench, output: &str, flags: &[&str]) -> Ran {
    let output = bench.name(output);
    let mut all =
        vec!["run", "--device", "cpu", "--model", "nano", "-i", MESSAGES, "-o", &output, "--keep", "message"];
    if !flags.contains(&"--limit") {
        all.extend(["--limit", "12"]);
    }
    if !flags.iter().any(|flag| flag.starts_with("--prompt")) {
        all.extend(["--prompt", EXTRACT]);
    }
    all.extend(flags);
    bench.run(&all)
}

fn answers(bench: &Bench, output: &str, flags: &[&str]) -> RecordBatch {
    let ran = run(bench, output, flags);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    read(Path::new(&bench.name(output)))
}

fn texts(batch: &RecordBatch) -> Vec<String> {
    text(batch, "generated_text").into_iter().map(Option::unwrap).collect()
}

/// What the schema [`ORDER`] says.
fn is_order(text: &str) -> bool {
    let Ok(Value::Object(order)) = serde_json::from_str(text) else { return false };
    order.keys().collect::<Vec<_>>() == ["amount", "mood", "urgent"]
        && (order["amount"].is_number() || order["amount"].is_null())
        && ["good", "bad"].contains(&order["mood"].as_str().unwrap_or_default())
        && order["urgent"].is_boolean()
}

#[test]
fn every_text_is_what_the_structure_allows() {
    let bench = Bench::new();
    let is_code = |text: &str| {
        let rest = text.strip_prefix("A-").or(text.strip_prefix("B-"));
        rest.is_some_and(|rest| rest.len() == 5 && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    std::fs::write(bench.path("mood.lark"), "start: MOOD \", \" MOOD\nMOOD: \"good\" | \"bad\"\n").unwrap();
    let (schema, lark) = (bench.name("order.json"), bench.name("mood.lark"));
    std::fs::write(&schema, ORDER).unwrap();
    let is_mood = |text: &str| text.split(", ").filter(|mood| ["good", "bad"].contains(mood)).count() == 2;
    type Case<'a> = (&'a [&'a str], &'a dyn Fn(&str) -> bool);
    let cases: [Case; 4] = [
        (&["--regex", "[AB]-[0-9]{5}"], &is_code),
        (&["--json-schema", &schema], &is_order),
        (&["--grammar", &lark], &is_mood),
        (&["--structured-outputs", r#"{"choice": ["yes", "no", "a while"]}"#], &|text| {
            ["yes", "no", "a while"].contains(&text)
        }),
    ];
    for (i, (flags, allows)) in cases.into_iter().enumerate() {
        for (name, more) in [("greedy", &["--temperature", "0"][..]), ("drawn", &["--temperature", "1.5"])] {
            let more = [flags, more, &["--max-tokens", "100", "--return", "generated_tokens,token_logprobs"]]
                .concat();
            let batch = answers(&bench, &format!("{name}{i}.parquet"), &more);
            for answer in texts(&batch) {
                assert!(allows(&answer), "{flags:?}, {name}: {answer:?}");
            }
            assert!(text(&batch, "error").iter().all(Option::is_none));
            assert!(text(&batch, "finish_reason").iter().all(|reason| reason.as_deref() == Some("stop")));
            // Whatever shares a step, of a regex greedily and of a schema drawn.
            if [(0, "greedy"), (1, "drawn")].contains(&(i, name)) {
                let alone = [&more[..], &["--max-num-seqs", "1", "--enable-prompt-sharing=false"]].concat();
                assert_eq!(answers(&bench, &format!("{name}{i}-alone.parquet"), &alone), batch, "{flags:?}");
            }
        }
    }
    let n = answers(&bench, "n.parquet", &["--regex", "[AB]-[0-9]{5}", "--max-tokens", "20", "--n", "3"]);
    let lists = n.column_by_name("generated_text").unwrap().as_list::<i32>();
    let all = lists.values().as_string::<i32>();
    assert_eq!(all.len(), 36);
    assert!(all.iter().all(|text| is_code(text.unwrap())));
}

#[test]
fn an_answer_that_is_cut_off_is_incomplete_until_it_has_room() {
    let bench = Bench::new();
    let flags = ["--json-schema", ORDER, "--temperature", "0", "--max-tokens"];
    let cut = run(&bench, "out.parquet", &[&flags[..], &["9"]].concat());
    assert_eq!(cut.code, 3, "{}", cut.stderr);
    let batch = read(&bench.path("out.parquet"));
    let whole = answers(&bench, "whole.parquet", &[&flags[..], &["60"]].concat());
    for (error, (text, whole)) in
        text(&batch, "error").into_iter().zip(texts(&batch).iter().zip(texts(&whole)))
    {
        assert_eq!(
            error.unwrap(),
            "incomplete: the answer was cut off after 9 tokens, before its structure's end"
        );
        assert!(whole.starts_with(text.as_str()) && whole.len() > text.len(), "{text:?}: {whole:?}");
    }
    assert!(text(&batch, "finish_reason").iter().all(|reason| reason.as_deref() == Some("length")));
    assert_eq!(ints(&batch, "num_generated_tokens"), vec![Some(9); 12]);
    // Either word runs them again, where there is more room.
    for retry in ["errors", "length"] {
        run(&bench, "again.parquet", &[&flags[..], &["9"]].concat());
        let more = [&flags[..], &["60", "--retry", retry]].concat();
        assert_eq!(answers(&bench, "again.parquet", &more).columns(), whole.columns(), "--retry {retry}");
        std::fs::remove_file(bench.path("again.parquet")).unwrap();
        std::fs::remove_dir_all(bench.path("again.parquet.gristmill")).unwrap();
    }
}

#[test]
fn another_structure_is_another_job_and_the_same_one_goes_on() {
    let bench = Bench::new();
    let flags = ["--temperature", "0", "--max-tokens", "30"];
    let of = |regex: &'static str| [&flags[..], &["--regex", regex]].concat();
    run(&bench, "out.parquet", &[&of("[a-f]{3}")[..], &["--limit", "5"]].concat());
    let other = run(&bench, "out.parquet", &of("[a-f]{4}"));
    assert_eq!(other.code, 2);
    assert!(other.stderr.contains("structured_outputs: begun with"), "{}", other.stderr);
    let whole = answers(&bench, "whole.parquet", &of("[a-f]{3}"));
    assert_eq!(answers(&bench, "out.parquet", &of("[a-f]{3}")).columns(), whole.columns());
    // Rows of one prompt are one run under one structure.
    let ran = run(
        &bench,
        "same.parquet",
        &[&of("[a-f]{3}")[..], &["--prompt", "Hi", "--allow-constant-prompt"]].concat(),
    );
    assert!(ran.stderr.contains("11 rows answered by another of the same prompt"), "{}", ran.stderr);
}

#[test]
fn a_job_file_has_a_table_and_the_command_line_goes_over_it() {
    let bench = Bench::new();
    let job = |structured: &str| {
        let text = format!(
            "model = \"nano\"\ninput = {MESSAGES:?}\noutput = \"out.parquet\"\nkeep = \"message\"\nlimit = 4\n\
             prompt = \"{{{{ message }}}}\"\nmax-tokens = 40\ntemperature = 0\ndevice = \"cpu\"\nfresh = true\n{structured}"
        );
        std::fs::write(bench.path("job.toml"), text).unwrap();
        bench.name("job.toml")
    };
    std::fs::write(bench.path("yes.lark"), "start: \"yes\"").unwrap();
    for (structured, flags, expected) in [
        ("[structured-outputs]\nchoice = [\"only this\"]", &[][..], "only this"),
        ("[structured-outputs]\nguided_regex = \"x{3}\"", &[], "xxx"),
        ("grammar = \"yes.lark\"", &[], "yes"),
        ("grammar = \"yes.lark\"", &["--regex", "no"], "no"),
        ("[structured-outputs.json]\nconst = 7", &[], "7"),
    ] {
        let ran = bench.run(&[&["run", &job(structured)][..], flags].concat());
        assert_eq!(ran.code, 0, "{structured}: {}", ran.stderr);
        assert_eq!(texts(&read(&bench.path("out.parquet"))), vec![expected; 4], "{structured}");
    }
}

#[test]
fn what_cannot_be_enforced_is_refused_before_the_start() {
    let bench = Bench::new();
    std::fs::write(bench.path("hot.lark"), "start[temperature=2]: /a+/").unwrap();
    std::fs::write(bench.path("end.lark"), "start: \"a\" <|im_end|>").unwrap();
    std::fs::write(bench.path("twice.json"), "{\"type\": \"string\",\n \"type\": \"null\"}").unwrap();
    std::fs::write(bench.path("long.json"), format!(r#"{{"description": "{}"}}"#, "x".repeat(1 << 20)))
        .unwrap();
    let deep = format!("{}{{}}{}", r#"{"items": "#.repeat(200), "}".repeat(200));
    let long = bench.name("long.json");
    let (hot, end, twice) = (bench.name("hot.lark"), bench.name("end.lark"), bench.name("twice.json"));
    for (flags, why) in [
        (&["--regex", "a", "--json-schema", "{}"][..], "--json-schema and --regex are two kinds"),
        (&["--regex", "a", "--stop", "b"], "--stop could end"),
        (&["--regex", "a", "--stop-token-ids", "7"], "--stop-token-ids could end"),
        (&["--regex", "a", "--ignore-eos"], "--ignore-eos leaves"),
        (&["--regex", r"(a)\1"], "structured outputs: regex: "),
        (&["--regex", "a^b"], "regex: `^` behind its beginning is not taken; leave it out"),
        (&["--regex", r"\bfoo\b"], r"regex: a word boundary (such as `\b`) is not taken"),
        (&["--regex", "(?=a)b"], "regex: a lookaround, such as (?=...) is not taken"),
        (
            &["--grammar", "start: \"a\""],
            "there is no file start: \"a\": --grammar takes a file; give the text of a grammar as",
        ),
        (
            &["--json-schema", "true"],
            "there is no file true: --json-schema takes a file, or the schema itself",
        ),
        (&["--json-schema", &deep], "it is nested more than 64 deep; name inner parts in `$defs`"),
        (&["--json-schema", &long], "has more than 1048576 bytes; leave out descriptions"),
        (&["--regex", ""], "--regex: is empty"),
        (
            &["--json-schema", &twice],
            "twice.json: the key `type` comes twice in an object at line 2 column 7",
        ),
        (&["--structured-outputs", r#"{"json": "s.json"}"#], "a file is named by --json-schema"),
        (&["--grammar", &end], "line 1: <|im_end|> is taken for <|im_end|>, which ends an answer"),
        (&["--grammar", &hot], "line 1: `temperature` is not taken"),
        (&["--grammar", "none.lark"], "none.lark"),
        (&["--json-schema", r#"{"type": "strng"}"#], "strng"),
        (&["--json-schema", r#"{"$ref": "https://example.org/x.json"}"#], "--json-schema: /$ref: "),
        (&["--structured-outputs", r#"{"choices": ["a"]}"#], "unknown field `choices`"),
    ] {
        let ran = run(&bench, "out.parquet", &[flags, &["--max-tokens", "9"]].concat());
        assert_eq!(ran.code, 2, "{flags:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(why), "{flags:?}: {}", ran.stderr);
    }
    let both = run(&bench, "out.parquet", &["--regex", "a", "--choices", "a,b"]);
    assert_eq!(both.code, 2);
    assert!(both.stderr.contains("columns of choices are scored"), "{}", both.stderr);
    assert!(!bench.path("out.parquet.gristmill").exists());
}

#[test]
fn a_limit_of_the_engine_is_no_dead_end() {
    let bench = Bench::new();
    // More ways behind a text than are followed, which only an answer meets.
    let ways = |of: char| (0..1500).map(|i| format!("\"{of}{i}x\"")).collect::<Vec<_>>().join(" | ");
    let grammar = format!("start: \"a\" b \".\" | \"a\" c \"!\"\nb: {}\nc: {}\n", ways('w'), ways('v'));
    std::fs::write(bench.path("ways.lark"), grammar).unwrap();
    let flags =
        ["--grammar", &bench.name("ways.lark"), "--max-tokens", "9", "--limit", "1", "--max-error-rate", "1"];
    let error = text(&answers(&bench, "out.parquet", &flags), "error").remove(0).unwrap();
    assert!(
        error.starts_with("too complex: after 1 tokens: its rules may go on in too many ways here"),
        "{error}"
    );
    assert!(
        error.contains("more than 2500 items of a parser") && error.contains("as one terminal"),
        "{error}"
    );
}

#[test]
fn a_grammar_that_never_ends_is_refused_by_each_command_and_by_its_request() {
    let bench = Bench::new();
    let grammar = "start: A A\nA: /a+/";
    let job = format!(
        "model = \"nano\"\ndevice = \"cpu\"\ninput = {MESSAGES:?}\noutput = {:?}\nprompt = \"{{{{ message }}}}\"\nmax-tokens = 9\n\
         [structured-outputs]\ngrammar = {grammar:?}\n",
        bench.name("out.parquet")
    );
    std::fs::write(bench.path("job.toml"), job).unwrap();
    let job = bench.name("job.toml");
    for command in [&["run", &job][..], &["plan", &job], &["show", &job, "--row", "1"]] {
        let ran = bench.run(command);
        assert_eq!(ran.code, 2, "{command:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("so that it never ends"), "{command:?}: {}", ran.stderr);
    }
    // Other requests of a batch are answered.
    let request = |id: &str, grammar: &str| {
        serde_json::json!({ "custom_id": id, "method": "POST", "url": "/v1/completions",
                "body": { "model": "nano", "prompt": "a", "max_tokens": 9, "structured_outputs": { "grammar": grammar } } })
    };
    let requests = [request("a", grammar), request("b", "start: \"yes\"")].map(|r| r.to_string() + "\n");
    std::fs::write(bench.path("requests.jsonl"), requests.concat()).unwrap();
    let (requests, results) = (bench.name("requests.jsonl"), bench.name("results.jsonl"));
    let ran = bench.run(&["run", "--device", "cpu", "--model", "nano", "--batch", &requests, "-o", &results]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let results = std::fs::read_to_string(bench.path("results.jsonl")).unwrap();
    let lines: Vec<&str> = results.lines().collect();
    assert!(lines[0].contains("so that it never ends") && lines[1].contains("\"yes\""), "{results}");
}

#[test]
fn reasoning_goes_to_a_column_and_the_structure_begins_behind_it() {
    let bench = Bench::new();
    let ask = "Label this customer message with its sentiment (positive, neutral or negative) and its topic (delivery, billing, \
               refund, quality, account, website, service or stock).\n\n{{ message }}";
    let flags = [
        "--prompt",
        ask,
        "--regex",
        " (yes|no)",
        "--temperature",
        "0",
        "--max-tokens",
        "30",
        "--reasoning-end",
    ];
    let batch = answers(&bench, "out.parquet", &[&flags[..], &[","]].concat());
    for (reasoning, answer) in text(&batch, "reasoning").into_iter().zip(texts(&batch)) {
        assert!(["positive", "neutral", "negative"].contains(&reasoning.unwrap().as_str()));
        assert!([" yes", " no"].contains(&answer.as_str()), "{answer:?}");
    }
    let alone = [&flags[..], &[",", "--max-num-seqs", "1", "--enable-prompt-sharing=false"]].concat();
    assert_eq!(answers(&bench, "alone.parquet", &alone), batch);
    // A value behind reasoning has its probability, too.
    let answer = ["--json-schema", r#"{"type": "boolean"}"#, "--return", "field_probabilities"];
    let batch = answers(&bench, "boolean.parquet", &[&flags[..2], &answer, &flags[4..], &[","]].concat());
    let given = batch.column_by_name("answer_probabilities").unwrap().as_primitive::<Float32Type>();
    assert!(given.null_count() == 0 && given.values().iter().all(|p| *p > 0.0 && *p < 1.0), "{given:?}");
    // One that never ends says so, and keeps what it has thought.
    let endless = run(&bench, "endless.parquet", &[&flags[..], &["</think>"]].concat());
    assert_eq!(endless.code, 3, "{}", endless.stderr);
    let batch = read(&bench.path("endless.parquet"));
    for (error, reasoning) in text(&batch, "error").into_iter().zip(text(&batch, "reasoning")) {
        let error = error.unwrap();
        assert!(
            error.starts_with("incomplete: the answer is ") && error.contains("</think> does not end"),
            "{error}"
        );
        assert!(reasoning.unwrap().contains(", "));
    }
    assert_eq!(batch.column_by_name("generated_text").unwrap().null_count(), 12);
    // What the end token is called does not end it: not from within, and not where it is shown.
    for shown in ["true", "false"] {
        let shows = format!("--skip-special-tokens={shown}");
        let flags = [&flags[..], &["im_e", &shows]].concat();
        let endless = run(&bench, &format!("name-{shown}.parquet"), &flags);
        assert_eq!(endless.code, 3, "{}", endless.stderr);
        let batch = read(&bench.path(&format!("name-{shown}.parquet")));
        let errors = text(&batch, "error");
        assert!(
            errors.iter().flatten().filter(|e| e.contains("im_e does not end")).count() == 12,
            "{errors:?}"
        );
        assert_eq!(batch.column_by_name("generated_text").unwrap().null_count(), 12);
    }
    let other = run(&bench, "out.parquet", &[&flags[..], &["."]].concat());
    assert!(other.stderr.contains("reasoning_end: begun with ,, now ."), "{}", other.stderr);
    let useless = run(&bench, "x.parquet", &["--max-tokens", "9", "--reasoning-end", "</think>"]);
    assert_eq!(useless.code, 2);
    assert!(useless.stderr.contains("--reasoning-end has no effect"), "{}", useless.stderr);
}

/// A schema whose answers have a field of each kind.
const KINDS: &str = r#"{"type": "object", "additionalProperties": false, "required": ["amount", "mood", "day", "tags"],
    "properties": {"amount": {"type": "integer", "minimum": 0, "maximum": 999}, "mood": {"enum": ["good", "bad"]},
        "day": {"type": "string", "format": "date"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 2},
        "urgent": {"type": ["boolean", "null"]}}}"#;

#[test]
fn answers_under_a_schema_are_typed_columns() {
    let bench = Bench::new();
    let flags = ["--json-schema", KINDS, "--temperature", "1.2", "--max-tokens", "120", "--limit", "100"];
    let batch = answers(&bench, "kinds.parquet", &flags);
    let answer = batch.column_by_name("answer").unwrap().as_struct();
    let types: Vec<String> = answer.fields().iter().map(|field| field.data_type().to_string()).collect();
    assert_eq!(types, ["Int64", "Dictionary(Int32, Utf8)", "Date32", "List(non-null Utf8)", "Boolean"]);
    assert_eq!(batch.num_rows(), 100);
    let amounts = answer.column(0).as_primitive::<Int64Type>();
    let moods = answer.column(1).as_dictionary::<Int32Type>();
    let labels = moods.values().as_string::<i32>();
    for (row, text) in texts(&batch).iter().enumerate() {
        let value: Value = serde_json::from_str(text).unwrap();
        assert!(answer.is_valid(row));
        assert_eq!(value["amount"], amounts.value(row));
        assert_eq!(value["mood"], labels.value(moods.key(row).unwrap()));
        let tags = answer.column(3).as_list::<i32>().value(row);
        let tags: Vec<Option<&str>> = tags.as_string::<i32>().iter().collect();
        assert_eq!(value["tags"], serde_json::json!(tags));
        let urgent = answer.column(4).as_boolean();
        assert_eq!(
            value.get("urgent").and_then(Value::as_bool),
            urgent.is_valid(row).then(|| urgent.value(row))
        );
        let day = answer.column(2).as_primitive::<Date32Type>().value_as_date(row).unwrap();
        assert_eq!(value["day"], day.format("%Y-%m-%d").to_string());
    }
    // Of several answers to a row, a list; a row with an error has none; names have their prefix.
    let cut = [
        "--json-schema",
        ORDER,
        "--max-tokens",
        "9",
        "--n",
        "2",
        "--temperature",
        "1",
        "--column-prefix",
        "my_",
    ];
    let ran = run(&bench, "cut.parquet", &cut);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let batch = read(&bench.path("cut.parquet"));
    let lists = batch.column_by_name("my_answer").unwrap().as_list::<i32>();
    assert!(
        (0..batch.num_rows()).all(|row| lists.value(row).len() == 2 && lists.value(row).null_count() == 2)
    );
    // As lines, and what has no type of its own is said.
    let flags = ["--structured-outputs", r#"{"json": {"enum": ["yes", 1]}}"#, "--max-tokens", "20"];
    let ran = run(&bench, "mixed.jsonl", &flags);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("strings of JSON") && ran.stderr.contains("answer"), "{}", ran.stderr);
    for line in std::fs::read_to_string(bench.path("mixed.jsonl")).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["answer"], line["generated_text"]);
    }
    let refused = run(
        &bench,
        "no.parquet",
        &["--json-schema", r#"{"type": "array", "uniqueItems": true}"#, "--max-tokens", "9"],
    );
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("/uniqueItems: `uniqueItems` cannot be enforced"), "{}", refused.stderr);
}

/// What [`VALUES`] says of its values: in a struct, in lists, and none where there is no such value.
const VALUES: &str = r#"{"type": "object", "additionalProperties": false, "required": ["mood", "tags", "note"],
    "properties": {"mood": {"enum": ["good", "bad", "neutral"]}, "note": {"type": "string", "maxLength": 12},
        "tags": {"type": "array", "items": {"type": ["boolean", "null"]}, "minItems": 1, "maxItems": 3},
        "more": {"type": "object", "properties": {"size": {"enum": [1, 12, 2]}}, "additionalProperties": false}}}"#;

#[test]
fn values_that_are_chosen_have_probabilities() {
    let bench = Bench::new();
    let flags = [
        "--json-schema",
        VALUES,
        "--temperature",
        "1.5",
        "--max-tokens",
        "90",
        "--return",
        "field_probabilities",
    ];
    let batch = answers(&bench, "values.parquet", &[&flags[..], &["--limit", "40"]].concat());
    let probabilities = batch.column_by_name("answer_probabilities").unwrap().as_struct();
    let types: Vec<String> = probabilities
        .fields()
        .iter()
        .map(|field| format!("{}: {}", field.name(), field.data_type()))
        .collect();
    assert_eq!(types, ["mood: Float32", "tags: List(Float32)", "more: Struct(\"size\": Float32)"]);
    let (moods, tags) =
        (probabilities.column(0).as_primitive::<Float32Type>(), probabilities.column(1).as_list::<i32>());
    let sizes = probabilities.column(2).as_struct().column(0).as_primitive::<Float32Type>();
    let mut seen = 0;
    for (row, text) in texts(&batch).iter().enumerate() {
        let value: Value = serde_json::from_str(text).unwrap();
        let given = tags.value(row);
        let given = given.as_primitive::<Float32Type>();
        assert_eq!(given.len(), value["tags"].as_array().unwrap().len());
        assert_eq!(given.null_count(), 0);
        assert_eq!(sizes.is_valid(row), value["more"].get("size").is_some(), "{text}");
        seen += usize::from(sizes.is_valid(row));
        let all = given.values().iter().chain([&moods.values()[row]]);
        assert!(all.copied().all(|p| p > 0.0 && p <= 1.0), "{text}: {given:?}");
    }
    assert!(seen > 0);
    // Whatever shares a step, and whatever was interrupted.
    let alone =
        [&flags[..], &["--limit", "40", "--max-num-seqs", "1", "--enable-prompt-sharing=false"]].concat();
    assert_eq!(answers(&bench, "alone.parquet", &alone), batch);
    answers(&bench, "again.parquet", &[&flags[..], &["--limit", "7"]].concat());
    assert_eq!(answers(&bench, "again.parquet", &[&flags[..], &["--limit", "40"]].concat()), batch);
    // The answers are those without the probabilities.
    let plain = answers(&bench, "plain.parquet", &[&flags[..6], &["--limit", "40"]].concat());
    assert_eq!(plain.column_by_name("answer"), batch.column_by_name("answer"));
    let other = run(&bench, "plain.parquet", &[&flags[..], &["--limit", "40"]].concat());
    assert!(other.stderr.contains("return: "), "{}", other.stderr);
}

#[test]
fn probabilities_of_all_values_come_to_one() {
    let bench = Bench::new();
    for (schema, count) in [
        (r#"{"enum": ["good", "bad", null, "neutral"]}"#, 4),
        (r#"{"type": "boolean"}"#, 2),
        // Of numbers one of which begins another.
        (r#"{"enum": [1, 12, 2]}"#, 3),
    ] {
        let flags =
            ["--prompt", "Is it good?", "--allow-constant-prompt", "--temperature", "4", "--limit", "60"];
        let more =
            ["--max-tokens", "20", "--fresh", "--json-schema", schema, "--return", "field_probabilities"];
        let batch = answers(&bench, "out.parquet", &[&flags[..], &more].concat());
        let given = batch.column_by_name("answer_probabilities").unwrap().as_primitive::<Float32Type>();
        let mut of: std::collections::BTreeMap<String, f32> = [].into();
        for (text, given) in texts(&batch).into_iter().zip(given.values()) {
            assert_eq!(*of.entry(text).or_insert(*given), *given, "{schema}");
        }
        let sum: f32 = of.values().sum();
        assert!(of.len() == count && (sum - 1.0).abs() < 1e-5, "{schema}: {of:?}");
    }
    // Each a token: what is reported of the rows that chose it.
    let flags = ["--prompt", "Is it good?", "--allow-constant-prompt", "--temperature", "4", "--limit", "60"];
    let more = ["--max-tokens", "9", "--fresh", "--json-schema", r#"{"enum": [3, 7, 8]}"#, "--return"];
    let batch = answers(
        &bench,
        "out.parquet",
        &[&flags[..], &more, &["field_probabilities,token_logprobs"]].concat(),
    );
    let given = batch.column_by_name("answer_probabilities").unwrap().as_primitive::<Float32Type>();
    let logprobs = batch.column_by_name("token_logprobs").unwrap().as_list::<i32>();
    let first = |row: usize| logprobs.value(row).as_primitive::<Float32Type>().value(0).exp();
    let chosen = texts(&batch);
    let all: std::collections::BTreeMap<&String, f32> =
        chosen.iter().enumerate().map(|(i, text)| (text, first(i))).collect();
    let sum: f32 = all.values().sum();
    assert_eq!(all.len(), 3);
    for (text, given) in chosen.iter().zip(given.values()) {
        assert!((given - all[text] / sum).abs() < 1e-5, "{text}: {given}, {all:?}");
    }
    let schema = r#"{"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": false}"#;
    let two = ["--json-schema", schema, "--return", "field_probabilities", "--n", "2", "--temperature", "1"];
    let ran = run(&bench, "two.jsonl", &[&two[..], &["--max-tokens", "20"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines = std::fs::read_to_string(bench.path("two.jsonl")).unwrap();
    for line in lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let given = line["answer_probabilities"].as_array().unwrap();
        assert!(given.len() == 2 && given.iter().all(|given| given["a"].as_f64().unwrap() > 0.0), "{line}");
    }
    // What is cut off has none, and where there are none the job does not begin.
    let cut = run(
        &bench,
        "cut.parquet",
        &["--json-schema", schema, "--return", "field_probabilities", "--max-tokens", "2"],
    );
    assert_eq!(cut.code, 3, "{}", cut.stderr);
    assert_eq!(
        read(&bench.path("cut.parquet")).column_by_name("answer_probabilities").unwrap().null_count(),
        12
    );
    for (flags, why) in [
        (&["--json-schema", r#"{"type": "string"}"#][..], "the schema has no enumeration and no boolean"),
        (&["--regex", "a"], "is of answers under a JSON Schema"),
        (&["--choices", "a,b"], "does not go together with columns of choices"),
    ] {
        let ran = run(
            &bench,
            "no.parquet",
            &[flags, &["--return", "field_probabilities", "--max-tokens", "9"]].concat(),
        );
        assert!(ran.code == 2 && ran.stderr.contains(why), "{flags:?}: {}", ran.stderr);
    }
}

/// Each is refused by name, or makes masks to the end of an answer, in a time that is bounded: one that hangs ends the test.
#[test]
fn structures_that_are_made_to_harm_are_refused_or_answered() {
    let tokenizer = Arc::new(Tokenizer::open(Path::new("nano")).unwrap());
    let size = (0..).take_while(|id| tokenizer.written_form(*id).is_some()).count();
    let vocabulary = Arc::new(Vocabulary::new(&tokenizer, size, &[END]).unwrap());
    for case in hostile_structures::cases() {
        let (send, ended) = std::sync::mpsc::channel();
        let (vocabulary, name) = (vocabulary.clone(), case.name.clone());
        let checked = std::thread::spawn(move || {
            check_hostile(case, size, &vocabulary);
            _ = send.send(());
        });
        match ended.recv_timeout(HANGS) {
            Err(RecvTimeoutError::Timeout) => panic!("{name}: no end after {HANGS:?}"),
            _ => checked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        }
    }
}

fn check_hostile(case: hostile_structures::Case, size: usize, vocabulary: &Arc<Vocabulary>) {
    let name = case.name;
    let structure = match (Structure::compile(&case.outputs, vocabulary), case.refused) {
        (Ok(structure), None) => structure,
        (Err(why), Some(text)) => return assert!(why.contains(text) && why.len() < 1000, "{name}: {why}"),
        (Err(why), None) => panic!("{name} is refused: {why}"),
        (Ok(_), Some(text)) => panic!("{name} is not refused: {text}"),
    };
    let (mut matcher, now) = (structure.matcher(), || Duration::ZERO);
    let walked = hostile_structures::walk_at_random(matcher.as_mut(), &mut Numbers(1), (size, END), 100, now);
    match (walked, case.row_error) {
        (Ok(_), None) => {}
        (Err(why), Some(text)) => assert!(why.contains(text), "{name}: {why}"),
        (walked, error) => panic!("{name}: {error:?}, {:?}", walked.map(|walked| walked.tokens)),
    }
}
