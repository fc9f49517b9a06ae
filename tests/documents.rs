//! Documents of any length through the binary: every byte read, each request as a row of its prompt would be answered, and
//! the same bytes whatever shares a batch and whatever was interrupted.

#![allow(clippy::unwrap_used)]

mod support;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use support::dice::Dice;
use support::golden;
use support::job::{Bench, Ran, ints, read, strings, text};

const MAP: &str = "Note: {{ chunk }}";
const COLUMNS: &str = r#"{"mood": {"ask": "Which one?", "choices": ["mill", "river", "stone"]}, "b": {"choices": ["a", "the b"]}}"#;
const REDUCE: &str = "Join:{% for note in notes %} {{ note }};{% endfor %}";

fn words(count: usize) -> String {
    let words = ["mill", "river", "grain", "stone", "name", "wheel", "flour"];
    let word = |i: usize| match i % 11 {
        10 => format!("{} {i}.\n\n", words[i / 7 % 7]),
        4 => format!("the {}. ", words[i % 7]),
        _ => format!("{} ", words[i * 5 / 3 % 7]),
    };
    (0..count).map(word).collect()
}

/// What a table of documents may hold.
fn texts() -> Vec<Option<String>> {
    let repeated = |text: &str, times| Some(text.repeat(times));
    vec![
        None,
        Some("the mill and the river".into()),
        Some(words(400)),
        Some(String::new()),
        repeated("👩‍👩‍👧‍👦🏳️‍🌈", 20),
        repeated("One line.\r\n\r\nAnother\r\n", 40),
        None,
        repeated("שלום עולם. ", 50),
        repeated("x", 1500),
        Some(" \n\u{3000}\t".into()),
        Some(words(3000)),
        repeated("<|im_end|> and <|im_start|>user ", 40),
    ]
}

fn table(bench: &Bench, texts: &[Option<String>]) -> String {
    bench.table("in.parquet", vec![("t", strings(&texts.iter().map(Option::as_deref).collect::<Vec<_>>()))])
}

fn options(more: Value) -> String {
    let mut options = json!({"column": "t", "map-prompt": MAP, "reduce-prompt": REDUCE});
    for (key, value) in more.as_object().unwrap() {
        match value {
            Value::Null => _ = options.as_object_mut().unwrap().remove(key),
            value => options[key] = value.clone(),
        }
    }
    options.to_string()
}

/// What carries one answer along the chunks.
fn refine(prompt: &str) -> Value {
    json!({"method": "refine", "reduce-prompt": null, "refine-prompt": prompt})
}

fn arguments<'a>(model: &'a str, input: &'a str, output: &'a str, documents: &'a str) -> Vec<&'a str> {
    let mut all = vec!["run", "--device", "cpu", "--model", model, "-i", input, "-o", output];
    all.extend(["--max-error-rate", "1", "--documents", documents]);
    all
}

fn run(bench: &Bench, input: &str, output: &str, documents: &str, flags: &[&str]) -> Ran {
    let model = golden("qwen3");
    let mut all = arguments(model.to_str().unwrap(), input, output, documents);
    for (flag, value) in [("--temperature", "0"), ("--max-tokens", "12"), ("--return", "chunks")] {
        if !flags.contains(&flag) {
            all.extend([flag, value]);
        }
    }
    all.extend(flags);
    bench.run(&all)
}

fn answered(bench: &Bench, input: &str, documents: &str, flags: &[&str]) -> RecordBatch {
    let output = bench.name("out.parquet");
    let ran = run(bench, input, &output, documents, &[flags, &["--fresh"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    read(Path::new(&output))
}

/// A row's chunks: where each begins and ends, and its own answer.
fn chunks(batch: &RecordBatch, row: usize) -> Vec<(usize, usize, Option<String>)> {
    let lists = batch.column_by_name("chunks").unwrap().as_list::<i32>();
    if lists.is_null(row) {
        return Vec::new();
    }
    let list = lists.value(row);
    let of = |name: &str| list.as_struct().column_by_name(name).unwrap().clone();
    let (starts, ends, texts) = (of("start"), of("end"), of("text"));
    let number = |array: &dyn Array, i| array.as_primitive::<Int64Type>().value(i) as usize;
    let text = |i| (!texts.is_null(i)).then(|| texts.as_string::<i32>().value(i).to_string());
    (0..list.len()).map(|i| (number(&starts, i), number(&ends, i), text(i))).collect()
}

/// The answers that prompts have as rows of a job without documents.
fn plain(bench: &Bench, prompts: Vec<String>) -> Vec<Option<String>> {
    let prompts: Vec<Option<&str>> = prompts.iter().map(|prompt| Some(prompt.as_str())).collect();
    let input = bench.table("plain.parquet", vec![("q", strings(&prompts))]);
    let flags = ["--prompt-column", "q", "--max-tokens", "12", "--fresh"];
    text(&bench.answers("qwen3", &input, &flags), "generated_text")
}

/// Every byte of every document is in a chunk; only of overlapping ones in two.
fn assert_covered(batch: &RecordBatch, texts: &[Option<String>], overlap: bool) {
    for (row, text) in texts.iter().enumerate() {
        let Some(text) = text.as_ref().filter(|text| !text.trim().is_empty()) else { continue };
        let chunks = chunks(batch, row);
        assert_eq!((chunks[0].0, chunks[chunks.len() - 1].1), (0, text.len()), "row {row}");
        let joins = |pair: &[(usize, usize, Option<String>)]| match overlap {
            false => pair[0].1 == pair[1].0,
            true => pair[1].0 <= pair[0].1 && pair[0].1 < pair[1].1,
        };
        assert!(chunks.windows(2).all(joins), "row {row}: {chunks:?}");
        assert_eq!(ints(batch, "num_chunks")[row], Some(chunks.len() as i32));
        assert!(chunks.iter().all(|(start, end, _)| text.get(*start..*end).is_some_and(|t| !t.is_empty())));
    }
}

#[test]
fn each_request_is_answered_as_a_row_of_its_prompt() {
    let bench = Bench::new();
    let texts = texts();
    let out = answered(&bench, &table(&bench, &texts), &options(json!({})), &[]);
    assert_covered(&out, &texts, false);
    let errors = text(&out, "error");
    let answers = text(&out, "generated_text");
    let levels = ints(&out, "num_levels");
    for (row, error) in errors.iter().enumerate() {
        let kind = match texts[row].as_deref() {
            None => Some("null prompt: the column t is null"),
            Some("") => Some("empty prompt: the column t is empty"),
            Some(text) if text.trim().is_empty() => {
                Some("empty prompt: the column t holds nothing but white space")
            }
            Some(_) => None,
        };
        match (kind, error) {
            (None, None) => assert!(answers[row].is_some()),
            (Some(kind), Some(error)) => assert!(error.starts_with(kind), "{error}"),
            other => panic!("row {row}: {other:?}"),
        }
        assert_eq!(levels[row].is_none(), kind.is_some());
    }
    assert_eq!(levels[1], Some(0), "it fits");
    assert!(levels.iter().flatten().any(|&levels| levels > 1), "{levels:?}");
    let mut prompts = Vec::new();
    let mut expected = Vec::new();
    for row in (0..texts.len()).filter(|&row| errors[row].is_none()) {
        let (document, chunks) = (texts[row].as_ref().unwrap(), chunks(&out, row));
        for (start, end, note) in &chunks {
            prompts.push(format!("Note: {}", &document[*start..*end]));
            expected.push(note.clone());
        }
        if levels[row] == Some(1) {
            let notes: String =
                chunks.iter().map(|(_, _, note)| format!(" {};", note.as_ref().unwrap())).collect();
            prompts.push(format!("Join:{notes}"));
            expected.push(answers[row].clone());
        }
    }
    assert_eq!(plain(&bench, prompts), expected);
}

#[test]
fn no_byte_depends_on_what_shares_a_batch() {
    let bench = Bench::new();
    let texts = texts();
    let input = table(&bench, &texts);
    for (more, flags) in [
        (json!({}), &["--temperature", "0"][..]),
        (json!({}), &["--temperature", "0.8", "--seed", "3"]),
        (json!({"overlap": 12, "format": "markdown"}), &["--temperature", "0"]),
        (json!({"sources": true, "reduce-prompt": "{{ notes }} {{ sources }}"}), &["--temperature", "0"]),
        (refine("{{ answer }} {{ chunk }}"), &["--temperature", "0.8"]),
        (json!({}), &["--temperature", "0", "--columns", COLUMNS]),
        (
            json!({"map-columns": true}),
            &["--temperature", "0", "--json-schema", r#"{"enum": [7, 12, 3001]}"#],
        ),
        (refine("{{ answer }} {{ chunk }}"), &["--temperature", "0.8", "--columns", COLUMNS]),
    ] {
        let documents = options(more.clone());
        let bytes = |name: &str, how: &[&str]| {
            let ran =
                run(&bench, &input, &bench.name(name), &documents, &[flags, how, &["--fresh"]].concat());
            assert_eq!(ran.code, 0, "{more}: {}", ran.stderr);
            std::fs::read(bench.path(name)).unwrap()
        };
        let one = bytes("one.parquet", &["--max-num-seqs", "1", "--enable-prompt-sharing=false"]);
        let many = bytes("many.parquet", &["--max-num-seqs", "40", "--block-size", "4", "--threads", "2"]);
        assert!(one == many, "{more}");
        assert_covered(&read(&bench.path("many.parquet")), &texts, more.get("overlap").is_some());
    }
}

#[test]
fn refine_carries_one_answer_along_the_chunks() {
    let bench = Bench::new();
    let texts = [Some(words(300)), Some("the mill".into())];
    let more = refine("{{ answer }} | {{ chunk_index }} {{ chunk }}");
    let out = answered(&bench, &table(&bench, &texts), &options(more), &[]);
    assert_covered(&out, &texts, false);
    let (document, found) = (texts[0].as_ref().unwrap(), chunks(&out, 0));
    assert!(found.len() > 3, "{found:?}");
    let prompt = |i: usize| {
        let chunk = &document[found[i].0..found[i].1];
        match i {
            0 => format!("Note: {chunk}"),
            i => format!("{} | {i} {chunk}", found[i - 1].2.as_ref().unwrap()),
        }
    };
    let answers: Vec<_> = found.iter().map(|(_, _, answer)| answer.clone()).collect();
    assert_eq!(plain(&bench, (0..found.len()).map(prompt).collect()), answers);
    assert_eq!(text(&out, "generated_text")[0], answers[found.len() - 1]);
}

#[test]
fn chunks_that_are_cut_again_overlap_as_others_do() {
    let bench = Bench::new();
    let texts = [Some("One two three four. Five six seven. Eight nine. ".repeat(60))];
    // Twice as long as the text that it is cut by.
    let along = refine("{{ answer }} {{ chunk }} {{ chunk }}");
    for (more, map) in [(json!({}), "{{ chunk }} {{ chunk }}"), (along, "{{ chunk }}")] {
        let mut more = more;
        more["overlap"] = 24.into();
        more["map-prompt"] = map.into();
        let out = answered(&bench, &table(&bench, &texts), &options(more.clone()), &[]);
        assert_covered(&out, &texts, true);
        let found = chunks(&out, 0);
        assert!(found.len() > 6 && found.windows(2).all(|pair| pair[1].0 < pair[0].1), "{more}: {found:?}");
    }
}

#[test]
fn a_longer_prompt_of_refine_cuts_no_chunk_again() {
    let bench = Bench::new();
    let texts = [Some(words(600))];
    let prompt = format!("{} {{{{ answer }}}} {{{{ chunk }}}}", "the mill and the river ".repeat(10));
    let out = answered(&bench, &table(&bench, &texts), &options(refine(&prompt)), &[]);
    assert_covered(&out, &texts, false);
    let found = chunks(&out, 0);
    let lengths: Vec<usize> = found.iter().map(|(start, end, _)| end - start).collect();
    assert!(lengths[0] < 2 * lengths[1] && lengths[0] < 2 * lengths[2], "{lengths:?}");
}

/// A copy of a model in which a token makes all logits behind it NaN: its embedding is, and the head has weights of its own.
fn model_without(bench: &Bench, token: usize) -> String {
    const EMBEDDING: &str = "model.embed_tokens.weight";
    let folder = bench.model("qwen3");
    let path = folder.join("model.safetensors");
    let file = std::fs::read(&path).unwrap();
    let mut tensors = SafeTensors::deserialize(&file).unwrap().tensors();
    let (_, embedding) = tensors.iter().find(|(name, _)| name == EMBEDDING).unwrap().clone();
    let (dtype, shape) = (embedding.dtype(), embedding.shape().to_vec());
    let mut changed = embedding.data().to_vec();
    let row = changed.len() / shape[0];
    changed[token * row..][..row].fill(0xff);
    tensors.retain(|(name, _)| name != EMBEDDING);
    tensors.push((EMBEDDING.into(), TensorView::new(dtype, shape, &changed).unwrap()));
    tensors.push(("lm_head.weight".into(), embedding));
    std::fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
    folder.to_str().unwrap().to_string()
}

#[test]
fn a_chunk_that_fails_is_named_and_the_others_are_kept() {
    let bench = Bench::new();
    let (start, end) = (words(250), words(200));
    let texts = [Some(format!("{start}Q {end}")), Some("the mill".into()), Some("the Q".into())];
    let input = table(&bench, &texts);
    // Q.
    let model = model_without(&bench, 48);
    let bytes = |seqs: &str, more: Value| {
        let output = bench.name(&format!("out{seqs}.parquet"));
        let documents = options(more);
        let mut all = arguments(&model, &input, &output, &documents);
        all.extend([
            "--temperature",
            "0",
            "--max-tokens",
            "12",
            "--return",
            "chunks",
            "--max-num-seqs",
            seqs,
        ]);
        let ran = bench.run(&all);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        std::fs::read(output).unwrap()
    };
    // The chunk with the token is named in the first row's error.
    let failed = |out: &RecordBatch| {
        let (errors, found) = (text(out, "error"), chunks(out, 0));
        let failed = found.iter().position(|(from, to, _)| (*from..*to).contains(&start.len())).unwrap();
        let (from, to, _) = found[failed];
        let said = format!("not finite: chunk {failed} (bytes {from} to {to}): the model's logits");
        assert!(errors[0].as_ref().unwrap().starts_with(&said), "{errors:?}, not {said}");
        (errors, found, failed)
    };
    assert!(bytes("1", json!({})) == bytes("30", json!({})), "another batch");
    let out = read(&bench.path("out1.parquet"));
    assert_covered(&out, &texts, false);
    let (errors, found, at) = failed(&out);
    assert!(found.iter().enumerate().all(|(i, (_, _, text))| text.is_some() == (i != at)), "{found:?}");
    assert!(
        errors[1].is_none() && errors[2].as_ref().unwrap().contains("chunk 0 (bytes 0 to 5)"),
        "{errors:?}"
    );
    // An answer that is carried along ends there: the chunks before are kept, and those behind are not answered.
    let along = || refine("{{ answer }} {{ chunk }}");
    assert!(bytes("2", along()) == bytes("31", along()), "another batch");
    let out = read(&bench.path("out2.parquet"));
    assert_covered(&out, &texts, false);
    let (_, found, at) = failed(&out);
    assert!(
        at > 0 && found.iter().enumerate().all(|(i, (.., text))| text.is_some() == (i < at)),
        "{found:?}"
    );
    // A prompt that cannot be made is named, too.
    let documents = options(json!({"map-prompt": "{{ chunk }} {{ 1 // (chunk_index - 1) }}"}));
    let out = answered(&bench, &input, &documents, &[]);
    let error = text(&out, "error")[0].clone().unwrap();
    assert!(error.starts_with("template error: chunk 1 (bytes ") && error.contains("map-prompt"), "{error}");
}

#[test]
fn only_the_answer_to_a_document_has_a_structure() {
    let bench = Bench::new();
    let texts = [Some("the mill".into()), Some(words(300)), Some(words(3000))];
    let input = table(&bench, &texts);
    let flags = ["--regex", "[AB]-[0-9]{5}"];
    let out = answered(&bench, &input, &options(json!({})), &flags);
    let is_code = |text: &str| {
        let digits = text.strip_prefix("A-").or(text.strip_prefix("B-")).unwrap_or_default();
        digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let answers = text(&out, "generated_text");
    assert!(answers.iter().all(|answer| answer.as_deref().is_some_and(is_code)), "{answers:?}");
    assert_eq!(text(&out, "error"), [None, None, None]);
    assert!(ints(&out, "num_levels")[2] > Some(1));
    let free = answered(&bench, &input, &options(json!({})), &[]);
    for row in 1..3 {
        assert_eq!(chunks(&out, row), chunks(&free, row), "notes have none");
    }
    let flags = ["--json-schema", r#"{"enum": [7, 12]}"#, "--return", "field_probabilities"];
    let out = answered(&bench, &input, &options(json!({})), &flags);
    let given = out.column_by_name("answer_probabilities").unwrap();
    let given = given.as_primitive::<arrow::datatypes::Float32Type>();
    assert!(given.null_count() == 0 && given.values().iter().all(|p| *p > 0.0 && *p < 1.0), "{given:?}");
    let typed = out.column_by_name("answer").unwrap().as_primitive::<arrow::datatypes::Int64Type>();
    assert!(typed.iter().all(|answer| matches!(answer, Some(7 | 12))), "{typed:?}");
    let out = answered(&bench, &input, &options(json!({})), &["--regex", "[ab]{40}"]);
    for error in text(&out, "error") {
        assert!(error.as_ref().unwrap().starts_with("incomplete: the answer was cut off"), "{error:?}");
    }
}

/// The columns of choices as bits, so that equal ones are the same.
fn labels(batch: &RecordBatch) -> Vec<(String, u32, String, u32)> {
    let label = |name: &str| {
        let texts =
            arrow::compute::cast(batch.column_by_name(name).unwrap(), &arrow::datatypes::DataType::Utf8);
        texts.unwrap().as_string::<i32>().iter().map(|text| text.unwrap().to_string()).collect::<Vec<_>>()
    };
    let bits = |name: &str| {
        let column = batch.column_by_name(name).unwrap().as_primitive::<arrow::datatypes::Float32Type>();
        column.iter().map(|value| value.unwrap().to_bits()).collect::<Vec<_>>()
    };
    let (mood, moods, b, bs) = (label("mood"), bits("mood_probability"), label("b"), bits("b_probability"));
    (0..mood.len()).map(|row| (mood[row].clone(), moods[row], b[row].clone(), bs[row])).collect()
}

#[test]
fn columns_of_choices_are_asked_behind_the_last_merge() {
    let bench = Bench::new();
    let mut texts = vec![Some("the mill".into()), Some(words(90)), Some(words(300)), Some(words(3000))];
    // Some of these fit into one chunk, but not with what the columns ask.
    texts.extend((200..250).step_by(3).map(|length| Some("x".repeat(length))));
    let input = table(&bench, &texts);
    let flags = ["--columns", COLUMNS, "--max-tokens", "6"];
    let out = answered(&bench, &input, &options(json!({})), &flags);
    assert_covered(&out, &texts, false);
    assert!(out.column_by_name("generated_text").is_none() && out.column_by_name("num_cut_notes").is_some());
    assert_eq!(text(&out, "error"), vec![None; texts.len()]);
    let levels = ints(&out, "num_levels");
    let one = ints(&out, "num_chunks").iter().zip(&levels).any(|both| both == (&Some(1), &Some(1)));
    assert!(levels[0] == Some(0) && one, "{levels:?} {:?}", ints(&out, "num_chunks"));
    assert!(levels[1..3] == [Some(1), Some(1)] && levels[3] > Some(1), "{levels:?}");
    let known: Vec<usize> = (0..texts.len()).filter(|&row| levels[row] <= Some(1)).collect();
    let prompt = |&row: &usize| {
        let note = |(_, _, note): (usize, usize, Option<String>)| format!(" {};", note.unwrap());
        match levels[row] {
            Some(0) => format!("Note: {}", texts[row].as_ref().unwrap()),
            _ => format!("Join:{}", chunks(&out, row).into_iter().map(note).collect::<String>()),
        }
    };
    let prompts: Vec<String> = known.iter().map(prompt).collect();
    let prompts: Vec<Option<&str>> = prompts.iter().map(|prompt| Some(prompt.as_str())).collect();
    let rows = bench.table("plain.parquet", vec![("q", strings(&prompts))]);
    let (model, output) = (golden("qwen3"), bench.name("plain-out.parquet"));
    let mut all =
        vec!["run", "--device", "cpu", "--model", model.to_str().unwrap(), "-i", &rows, "-o", &output];
    all.extend(["--prompt-column", "q", "--columns", COLUMNS]);
    let ran = bench.run(&all);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let plain = read(Path::new(&output));
    let all = labels(&out);
    assert_eq!(known.iter().map(|&row| all[row].clone()).collect::<Vec<_>>(), labels(&plain));
    // Notes are those of a job that generates the answer, where that cuts the document at the same places.
    let free = answered(&bench, &input, &options(json!({})), &flags[2..]);
    assert_eq!(chunks(&out, 3), chunks(&free, 3));
    // Of what a template says of the ask, only the last prompt has any.
    let reduce = "{% if ask %}{{ ask }} {% endif %}{% for note in notes %}{{ note }};{% endfor %}";
    let out = answered(&bench, &input, &options(json!({"reduce-prompt": reduce})), &flags);
    assert_eq!(chunks(&out, 3), chunks(&free, 3));
    assert_ne!(labels(&out)[2], all[2]);
}

#[test]
fn chunks_are_answered_under_the_schema_too_where_that_is_asked_for() {
    let bench = Bench::new();
    let texts = [Some("the mill".into()), None, Some(words(300)), Some(words(3000))];
    let input = table(&bench, &texts);
    let documents = options(json!({"map-columns": true}));
    let schema = ["--json-schema", r#"{"enum": [7, 12, 3001]}"#];
    let out = answered(&bench, &input, &documents, &schema);
    assert_covered(&out, &texts, false);
    let lists = out.column_by_name("chunk_answers").unwrap().as_list::<i32>();
    let answers = out.column_by_name("answer").unwrap().as_primitive::<Int64Type>();
    for row in [0, 2, 3] {
        let list = lists.value(row);
        let list = list.as_primitive::<Int64Type>();
        let texts: Vec<_> = chunks(&out, row).into_iter().map(|(_, _, text)| text).collect();
        assert_eq!(list.iter().map(|n| n.map(|n| n.to_string())).collect::<Vec<_>>(), texts);
        assert!(list.iter().chain([Some(answers.value(row))]).all(|n| matches!(n, Some(7 | 12 | 3001))));
    }
    assert!(lists.is_null(1) && lists.value(0).as_primitive::<Int64Type>().value(0) == answers.value(0));
    // Each as a row of its prompt would be.
    let document = texts[2].as_ref().unwrap();
    let prompts: Vec<String> =
        chunks(&out, 2).iter().map(|(start, end, _)| format!("Note: {}", &document[*start..*end])).collect();
    let prompts: Vec<Option<&str>> = prompts.iter().map(|prompt| Some(prompt.as_str())).collect();
    let rows = bench.table("plain.parquet", vec![("q", strings(&prompts))]);
    let flags = [&["--prompt-column", "q", "--max-tokens", "12", "--fresh"][..], &schema].concat();
    let plain = bench.answers("qwen3", &rows, &flags);
    assert_eq!(
        plain.column_by_name("answer").unwrap().as_primitive::<Int64Type>(),
        lists.value(2).as_primitive::<Int64Type>()
    );
    // A number that was cut off is no answer.
    let schema = ["--json-schema", r#"{"type": "integer", "minimum": 1000000000000000}"#];
    let out = answered(&bench, &input, &documents, &schema);
    let cut = ints(&out, "num_cut_notes");
    assert!(cut[2] > Some(0), "{cut:?}");
    let lists = out.column_by_name("chunk_answers").unwrap().as_list::<i32>();
    for row in [0, 2, 3] {
        let list = lists.value(row);
        for ((_, _, text), answer) in chunks(&out, row).into_iter().zip(list.as_primitive::<Int64Type>()) {
            assert!(answer.is_none() || text.as_ref().unwrap().len() >= 16, "{text:?} is {answer:?}");
        }
    }
    assert!([0, 2, 3].iter().any(|&row| lists.value(row).null_count() > 0));
}

#[test]
fn equal_documents_run_once_and_all_end() {
    let bench = Bench::new();
    let texts: Vec<Option<String>> =
        (0..40).map(|i| Some(words(if i % 2 == 0 { 500 } else { 700 }))).collect();
    let input = table(&bench, &texts);
    let out = answered(&bench, &input, &options(json!({})), &["--max-num-seqs", "2"]);
    assert_covered(&out, &texts, false);
    let answers = text(&out, "generated_text");
    assert!((2..40).all(|row| answers[row].is_some() && answers[row] == answers[row % 2]), "{answers:?}");
    let receipt = |bench: &Bench| -> Value {
        serde_json::from_slice(&std::fs::read(bench.path("out.parquet.gristmill/receipt.json")).unwrap())
            .unwrap()
    };
    let shared = |receipt: &Value| {
        let [input, generated] =
            ["shared_input_tokens", "shared_generated_tokens"].map(|key| receipt[key].as_u64());
        input.unwrap() + generated.unwrap()
    };
    let all = receipt(&bench);
    let saved = shared(&all);
    let tokens = all["input_tokens"].as_u64().unwrap() + all["generated_tokens"].as_u64().unwrap();
    assert!(saved > tokens * 8 / 10 && saved < tokens, "{saved} of {tokens}");
    let apart = answered(&bench, &input, &options(json!({})), &["--enable-prompt-sharing=false"]);
    assert_eq!(shared(&receipt(&bench)), 0);
    assert_eq!(text(&apart, "generated_text"), answers);
}

/// `GRISTMILL_DOCUMENT_KILLS` sets the number of kills; a full run has 200.
#[test]
#[cfg(unix)]
fn killed_jobs_publish_the_bytes_of_an_undisturbed_one() {
    let kills: u64 = std::env::var("GRISTMILL_DOCUMENT_KILLS").map_or(12, |kills| kills.parse().unwrap());
    let schema = r#"{"type": "string", "maxLength": 6}"#;
    let kept = kill_jobs(kills, json!({}), &[])
        + kill_jobs(kills.div_ceil(4), json!({}), &["--columns", COLUMNS])
        + kill_jobs(kills.div_ceil(4), json!({"map-columns": true}), &["--json-schema", schema])
        + kill_jobs(kills.div_ceil(4), refine("{{ answer }} {{ chunk }}"), &[]);
    assert!(kept > 0, "no kill met a document in its middle");
}

/// Kills jobs of documents so many times, and gives the notes that were left of documents under way.
fn kill_jobs(kills: u64, more: Value, flags: &[&str]) -> i64 {
    let bench = Bench::new();
    let texts: Vec<Option<String>> =
        (0..24).map(|i| Some(format!("{i} {}", words(if i % 3 == 0 { 20 } else { 400 + 20 * i })))).collect();
    let input = table(&bench, &texts);
    let documents = options(more);
    let begun = Instant::now();
    let alone = [flags, &["--enable-prompt-sharing=false"]].concat();
    let calm = run(&bench, &input, &bench.name("calm.parquet"), &documents, &alone);
    assert_eq!(calm.code, 0, "{}", calm.stderr);
    let whole = begun.elapsed().as_millis() as u64;
    let expected = std::fs::read(bench.path("calm.parquet")).unwrap();
    let (model, mut done, mut jobs, mut kept) = (golden("qwen3"), 0, 0, 0);
    let mut dice = Dice(3);
    while done < kills {
        let output = bench.name(&format!("out{jobs}.parquet"));
        jobs += 1;
        for attempt in 0.. {
            let seqs = (1 + dice.below(20)).to_string();
            let mut all = arguments(model.to_str().unwrap(), &input, &output, &documents);
            all.extend(["--temperature", "0", "--max-tokens", "12", "--return", "chunks", "--threads", "1"]);
            all.extend(["--max-num-seqs", &seqs]);
            all.extend(flags);
            let mut child = bench.command(&all).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
            // A job gets more time after each kill, so that it finishes eventually.
            std::thread::sleep(Duration::from_millis(dice.below(whole * (2 + attempt) / 2)));
            let lock = std::fs::read_to_string(format!("{output}.gristmill/lock")).unwrap_or_default();
            let ended = child.try_wait().unwrap().is_some();
            let worker = lock.split_whitespace().next().map(String::from);
            for process in [Some(child.id().to_string()), worker].into_iter().flatten().filter(|_| !ended) {
                std::process::Command::new("kill")
                    .args(["-KILL", &process])
                    .stderr(Stdio::null())
                    .status()
                    .unwrap();
            }
            let ran = Ran::of(child.wait_with_output().unwrap());
            assert!(ran.code == 0 || ran.code == -1, "{}: {}", ran.code, ran.stderr);
            if ran.code == 0 {
                break;
            }
            done += 1;
            kept += notes_of_rows_without_answer(&output);
        }
        assert!(std::fs::read(&output).unwrap() == expected, "{output} differs");
    }
    println!(
        "{done} kills over {jobs} jobs of documents of {whole} ms, which left {kept} notes of documents under way"
    );
    kept
}

fn notes_of_rows_without_answer(output: &str) -> i64 {
    // Where no journal is yet, none is made.
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
    let path = format!("{output}.gristmill/journal.sqlite");
    let Ok(journal) = rusqlite::Connection::open_with_flags(path, flags) else { return 0 };
    let query =
        "SELECT count(*) FROM answers WHERE part > 1 AND row NOT IN (SELECT row FROM answers WHERE part = 0)";
    journal.query_row(query, [], |row| row.get(0)).unwrap_or(0)
}

#[test]
fn what_leaves_no_room_is_refused_with_the_arithmetic() {
    let bench = Bench::new();
    let input = table(&bench, &[Some("the mill".into())]);
    let long = format!("{} {{{{ chunk }}}}", "the mill ".repeat(115));
    let asks = json!({"a": {"ask": "the mill ".repeat(115), "choices": ["b", "c"]}}).to_string();
    for (more, flags, said) in [
        (
            json!({"map-prompt": long}),
            &[][..],
            "of the context of 256 tokens (--max-model-len), 12 are for the answer",
        ),
        (json!({}), &["--max-tokens", "100"], "a merge needs room for two notes of 100"),
        (json!({"map-prompt": "Note"}), &[], "map-prompt does not read `chunk`"),
        (json!({"reduce-prompt": "Join {{ level }}"}), &[], "reduce-prompt does not read `notes`"),
        (json!({"map-prompt": "{{ t }} {{ chunk }}"}), &[], "map-prompt reads the column t"),
        (json!({"map-prompt": "{{ chunks }}"}), &[], "map-prompt: the input has no column `chunks`"),
        (json!({"reduce-prompt": "{{ note }}"}), &[], "reduce-prompt: the input has no column `note`"),
        (json!({"map-prompt": "{{ chunk"}), &[], "map-prompt"),
        (json!({"column": "u"}), &[], "documents: column"),
        (
            json!({}),
            &["--prompt", "Sum up", "--allow-constant-prompt"],
            "the prompt does not read the column t",
        ),
        (json!({"reduce-prompt": null}), &[], "needs a reduce-prompt"),
        (json!({}), &["--n", "2"], "--n above 1 does not go together with documents"),
        (
            json!({}),
            &["--columns", r#"{"a": {"choices": ["b", "c"], "calibrate": "content-free"}}"#],
            "`calibrate` does not go together with documents",
        ),
        (json!({}), &["--choices", "a,b", "--regex", "a"], "do not go together"),
        (json!({}), &["--choices", "a,b", "--return", "token_logprobs"], "--return token_logprobs does not"),
        (json!({"map-columns": true}), &["--regex", "a"], "the job has none; give --json-schema"),
        (
            json!({}),
            &["--columns", &asks],
            "are for reduce-prompt with the ask and the choice of the longest column",
        ),
        (json!({}), &["--return", "prompt_logprobs"], "--return prompt_logprobs"),
    ] {
        let ran = run(&bench, &input, &bench.name("none.parquet"), &options(more.clone()), flags);
        assert_eq!(ran.code, 2, "{more} {}", ran.stderr);
        assert!(ran.stderr.contains(said), "{more}: {}", ran.stderr);
    }
    let flags = ["--prompt", "{{ t }}", "--return", "chunks", "--max-tokens", "8"];
    let ran = bench.job("qwen3", &input, &bench.name("none.parquet"), &flags);
    assert!(ran.code == 2 && ran.stderr.contains("the job has none"), "{}", ran.stderr);
}

#[test]
fn what_is_given_goes_before_columns_of_its_name() {
    let bench = Bench::new();
    let column = |texts: &[&str]| strings(&texts.iter().map(|text| Some(*text)).collect::<Vec<_>>());
    let document = words(300);
    let named = vec![("t", column(&[&document])), ("chunk", column(&["A"])), ("notes", column(&["B"]))];
    let input = bench.table("named.parquet", named);
    let more = json!({"map-prompt": format!("{MAP} {{{{ row['chunk'] }}}}"), "reduce-prompt": format!("{REDUCE} {{{{ row.notes }}}}")});
    let out = answered(&bench, &input, &options(more), &[]);
    let plain_input = table(&bench, &[Some(document)]);
    let plain = json!({"map-prompt": format!("{MAP} A"), "reduce-prompt": format!("{REDUCE} B")});
    let plain = answered(&bench, &plain_input, &options(plain), &[]);
    assert_eq!(chunks(&out, 0), chunks(&plain, 0));
    assert_eq!(text(&out, "generated_text"), text(&plain, "generated_text"));
}

#[test]
fn a_row_whose_columns_fill_the_prompt_of_merges_is_an_error_that_a_plan_foresees() {
    let bench = Bench::new();
    let (document, title) = (words(300), "the mill ".repeat(110));
    let texts: Vec<Option<&str>> = vec![Some(&document), Some("the mill"), Some(&document)];
    let input = bench.table(
        "titles.parquet",
        vec![("t", strings(&texts)), ("title", strings(&[Some(&title), Some(&title), Some("mill")]))],
    );
    let documents = options(json!({"reduce-prompt": format!("{{{{ title }}}} {REDUCE}")}));
    let out = answered(&bench, &input, &documents, &[]);
    let errors = text(&out, "error");
    let said = errors[0].as_deref().unwrap();
    assert!(
        said.starts_with("prompt too long: reduce-prompt has ") && said.contains("room for two notes of 12"),
        "{said}"
    );
    assert_eq!(errors[1..], [None, None]);
    let model = golden("qwen3");
    let mut all = arguments(model.to_str().unwrap(), &input, "none.parquet", &documents);
    all[0] = "plan";
    all.extend(["--temperature", "0", "--max-tokens", "12"]);
    let planned = bench.run(&all);
    assert!(planned.stdout.contains("1 prompt too long: rows 0\n"), "{}{}", planned.stdout, planned.stderr);
    assert!(planned.stdout.contains("rows       3 of 3 in 1 file\n"), "{}", planned.stdout);
}

#[test]
fn a_row_that_is_too_long_says_how_it_can_be_read() {
    let bench = Bench::new();
    let input = table(&bench, &[Some(words(400)), Some("x".repeat(9_000_000))]);
    let out = bench.answers("qwen3", &input, &["--prompt", "{{ t }}"]);
    for error in text(&out, "error") {
        assert!(error.as_ref().unwrap().contains("[documents] in a job file, or --documents"), "{error:?}");
    }
}

#[test]
fn notes_that_are_cut_are_counted_and_run_again_with_a_greater_limit() {
    let bench = Bench::new();
    let input = table(&bench, &[Some(words(200)), Some("the mill".into())]);
    let (documents, output) = (options(json!({})), bench.name("out.parquet"));
    let run = |flags: &[&str]| {
        let ran = run(&bench, &input, &output, &documents, flags);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        (read(Path::new(&output)), ran.stderr)
    };
    let (first, said) = run(&["--max-tokens", "4"]);
    let cut = ints(&first, "num_cut_notes");
    assert!(cut[0].unwrap() > 0 && cut[1] == Some(0), "{cut:?}");
    assert!(said.contains(&format!("{} notes cut off at length in 1 row\n", cut[0].unwrap())), "{said}");
    let (again, said) = run(&["--max-tokens", "12", "--retry", "length"]);
    assert!(said.contains("rows again (--retry)"), "{said}");
    assert_covered(&again, &[Some(words(200))], false);
    assert!(ints(&again, "num_generated_tokens")[0] > ints(&first, "num_generated_tokens")[0]);
    // As a job that began with that limit.
    let fresh = answered(&bench, &input, &documents, &[]);
    assert_eq!(text(&again, "generated_text")[0], text(&fresh, "generated_text")[0]);
    assert_eq!(chunks(&again, 0), chunks(&fresh, 0));
}

#[test]
fn notes_count_only_for_the_prompt_that_they_answer() {
    let bench = Bench::new();
    let texts = [Some(words(400))];
    let input = table(&bench, &texts);
    let (documents, output) = (options(json!({})), bench.name("out.parquet"));
    // Some notes end at a letter, and some at the limit.
    let flags = ["--max-tokens", "6", "--stop", "e", "--stop", "o", "--stop", "a"];
    let ran = run(&bench, &input, &output, &documents, &[&flags[..], &["--max-model-len", "160"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let (first, cut) =
        (chunks(&read(Path::new(&output)), 0), ints(&read(Path::new(&output)), "num_cut_notes")[0]);
    assert!(cut > Some(0) && cut < Some(first.len() as i32), "{cut:?} of {first:?}");
    // A longer context makes other chunks.
    let ran = run(&bench, &input, &output, &documents, &[&flags[..], &["--retry", "length"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let (again, fresh) = (read(Path::new(&output)), answered(&bench, &input, &documents, &flags));
    assert!(chunks(&again, 0).len() < first.len());
    assert_eq!(chunks(&again, 0), chunks(&fresh, 0));
    assert_eq!(text(&again, "generated_text"), text(&fresh, "generated_text"));
}

#[test]
fn prompts_of_documents_are_shown_and_decide_the_identity() {
    let bench = Bench::new();
    let texts = texts();
    let (input, output) = (table(&bench, &texts), bench.name("out.parquet"));
    let ran = run(&bench, &input, &output, &options(json!({})), &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let other = run(&bench, &input, &output, &options(json!({"overlap": 3})), &[]);
    assert!(other.code == 2 && other.stderr.contains("  documents: begun with {"), "{}", other.stderr);
    let model = golden("qwen3");
    let documents = options(json!({}));
    let mut all = vec!["show", "--model", model.to_str().unwrap(), "-i", &input, "-o", &output, "--row", "2"];
    all.extend([
        "--documents",
        &documents,
        "--max-tokens",
        "12",
        "--temperature",
        "0",
        "--return",
        "chunks",
        "--answer",
    ]);
    let shown = bench.run(&all);
    assert!(shown.stdout.contains("bytes 0 to ") && shown.stdout.contains("answer ("), "{}", shown.stdout);
    all.push("--json");
    let shown: Value = serde_json::from_str(&bench.run(&all).stdout).unwrap();
    let count = 1 + shown["chunks"].as_array().unwrap().len();
    assert_eq!(ints(&read(Path::new(&output)), "num_chunks")[2], Some(count as i32));
}

#[test]
fn a_job_file_has_a_table_of_documents_and_a_prompt_of_those_that_fit() {
    let bench = Bench::new();
    let texts = [Some("the mill".into()), Some(words(200))];
    table(&bench, &texts);
    let job = format!(
        "model = {:?}\ninput = \"in.parquet\"\noutput = \"out.jsonl\"\nprompt = \"All: {{{{ t }}}}\"\nmax-tokens = 12\n\
         temperature = 0\nreturn = \"chunks\"\n\n[documents]\ncolumn = \"t\"\nmap-prompt = {MAP:?}\nreduce-prompt = {REDUCE:?}\n",
        golden("qwen3")
    );
    std::fs::write(bench.path("job.toml"), job).unwrap();
    let ran = bench.run(&["run", "job.toml", "--device", "cpu"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines = std::fs::read_to_string(bench.path("out.jsonl")).unwrap();
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = &rows[1]["chunks"][0];
    let chunk = &texts[1].as_ref().unwrap()[..first["end"].as_u64().unwrap() as usize];
    let answers = plain(&bench, vec!["All: the mill".into(), format!("Note: {chunk}")]);
    assert_eq!(rows[0]["generated_text"].as_str(), answers[0].as_deref());
    assert_eq!(first["text"].as_str(), answers[1].as_deref());
}

#[test]
fn nano_reads_a_thread_of_20_000_tokens() {
    let bench = Bench::new();
    let message = "My parcel has not arrived, and nobody answers the phone. Please refund order A-12345.\n\n";
    let texts = [Some(message.into()), Some(message.repeat(800))];
    let nano = concat!(env!("CARGO_MANIFEST_DIR"), "/nano");
    let input = table(&bench, &texts);
    let summarise = "Summarise this customer message in one line.\n\n{{ chunk }}";
    let documents = options(json!({"map-prompt": summarise}));
    let mut all = arguments(nano, &input, "out.parquet", &documents);
    all.extend(["--temperature", "0", "--max-tokens", "60", "--return", "chunks"]);
    let ran = bench.run(&all);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let out = read(&bench.path("out.parquet"));
    assert_covered(&out, &texts, false);
    assert!(ints(&out, "num_input_tokens")[1] > Some(15_000), "{:?}", ints(&out, "num_input_tokens"));
    assert_eq!(text(&out, "error"), [None, None]);
}
