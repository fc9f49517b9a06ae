//! What a job takes: the plan before it says what the run then does.

#![allow(clippy::unwrap_used)]

mod support;

use arrow::array::{Array, ArrayRef, Int32Array, ListArray, RecordBatch};
use arrow::datatypes::Int32Type;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use support::golden;
use support::job::{Bench, Ran, ints, read, strings, text};

fn json_of(ran: &Ran) -> Value {
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// Plans a job with these flags.
fn plan(bench: &Bench, flags: &[&str]) -> Value {
    json_of(&bench.run(&[&["plan", "--json"], flags].concat()))
}

/// All names below a folder.
fn listing(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            names.push(path.display().to_string());
        }
    }
    names.sort();
    names
}

/// Errors by kind with their first rows, tokens of rows without an error, and rows, of an output.
fn of_output(out: &RecordBatch) -> (Value, u64, u64) {
    let mut kinds: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let (mut tokens, mut answered) = (0, 0);
    for (row, (error, count)) in text(out, "error").iter().zip(ints(out, "num_input_tokens")).enumerate() {
        match error {
            Some(error) => {
                let kind = error.split(':').next().unwrap().to_string();
                kinds.entry(kind).or_default().push(row as u64);
            }
            None => {
                tokens += count.unwrap() as u64;
                answered += 1;
            }
        }
    }
    let of = |(kind, rows): (String, Vec<u64>)| {
        let first: Vec<u64> = rows.iter().copied().take(5).collect();
        (kind, json!({"rows": rows.len(), "first": first}))
    };
    (Value::Object(kinds.into_iter().map(of).collect()), tokens, answered)
}

/// Prompts, of which some are null, empty, too long or there twice.
fn prompts(rows: usize) -> Vec<Option<String>> {
    let prompt = |row: usize| match row % 10 {
        3 => None,
        5 => Some("the mill grinds ".repeat(40)),
        7 => Some("the river".to_string()),
        _ => Some(format!("the mill by the river grinds the grain of {row}")),
    };
    (0..rows).map(prompt).collect()
}

fn table(bench: &Bench, rows: usize) -> String {
    let prompts = prompts(rows);
    let prompts: Vec<Option<&str>> = prompts.iter().map(Option::as_deref).collect();
    let columns = vec![("q", strings(&prompts), true), ("other", strings(&prompts), true)];
    bench.batch("in.parquet", &RecordBatch::try_from_iter_with_nullable(columns).unwrap(), 20)
}

#[test]
fn a_plan_says_what_the_run_does() {
    let bench = Bench::new();
    let input = table(&bench, 100);
    let model = golden("qwen3");
    let output = bench.name("out.parquet");
    let job = ["--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input, "-o", &output];
    let job = [&job[..], &["--prompt-column", "q", "--max-tokens", "4", "--temperature", "0"]].concat();
    let job = [&job[..], &["--max-model-len", "60", "--max-error-rate", "1", "--block-size", "4"]].concat();
    let before = listing(&bench.path(""));
    for more in [&[][..], &["--limit", "37"], &["--keep", "other", "--n", "2"], &["--min-tokens", "2"]] {
        let flags = [&job[..], more].concat();
        let planned = plan(&bench, &flags);
        assert_eq!(listing(&bench.path("")), before, "it has written something");
        let ran = bench.run(&[&["run", "--fresh"], &flags[..]].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let status = json_of(&bench.run(&["status", &output, "--json"]));
        let (errors, tokens, answered) = of_output(&read(Path::new(&output)));
        assert_eq!(planned["rows"], status["rows"], "{more:?}");
        assert_eq!(planned["errors"], errors, "{more:?}");
        assert_eq!(planned["prompts"], answered, "{more:?}");
        assert_eq!(planned["prompt_tokens"]["sum"], tokens, "{more:?}");
        assert_eq!(planned["shared_prompts"], status["shared"], "{more:?}");
        let distinct = answered - status["shared"].as_u64().unwrap();
        assert_eq!(planned["distinct_prompts"], distinct, "{more:?}");
        assert_eq!(planned["too_long"]["rows"], errors["prompt too long"]["rows"]);
        let generated = status["generated_tokens"].as_u64().unwrap();
        let span = &planned["generated_tokens"];
        assert!(span["least"].as_u64().unwrap() <= generated && generated <= span["most"].as_u64().unwrap());
        if more == ["--min-tokens", "2"] {
            assert_eq!(span, &json!({"least": 2 * answered, "most": 4 * answered}));
        }
        if !more.contains(&"--n") {
            let number = |key: &str| planned[key].as_u64().unwrap();
            let all = number("computed_tokens") + number("cached_tokens") + number("shared_tokens");
            assert_eq!(all, tokens, "{more:?}");
            assert!(number("cached_tokens") > 0);
        }
        // The job that is there is counted and left as it is.
        let there = listing(&bench.path(""));
        let journal = std::fs::read(bench.path("out.parquet.gristmill/journal.sqlite")).unwrap();
        let again = plan(&bench, &flags);
        assert_eq!(again["finished"], planned["rows"], "{more:?}");
        assert_eq!(listing(&bench.path("")), there);
        assert_eq!(std::fs::read(bench.path("out.parquet.gristmill/journal.sqlite")).unwrap(), journal);
        std::fs::remove_file(&output).unwrap();
        std::fs::remove_dir_all(bench.path("out.parquet.gristmill")).unwrap();
    }
    // Sampled answers are no function of the prompt.
    let sampled = plan(&bench, &[&job[..], &["--temperature", "1"]].concat());
    assert_eq!((sampled["shared_prompts"].as_u64(), sampled["prompts"].as_u64()), (Some(0), Some(80)));
    // By hand: KV of a token is that of 2 tensors of each layer; a row at its longest fills whole pages.
    let whole = plan(&bench, &[&job[..], &["--kv-cache-memory-bytes", "1m"]].concat());
    let device = &whole["devices"][0];
    let number = |key: &str| device[key].as_u64().unwrap();
    let of_page = 4 * number("kv_bytes_per_token");
    let longest = device["row_tokens"]["max"].as_u64().unwrap();
    assert_eq!(longest, whole["prompt_tokens"]["max"].as_u64().unwrap() + 4);
    assert_eq!(number("kv_pages"), (1_000_000 / of_page).min(256 * 15));
    assert_eq!(device["row_kv_bytes"]["max"], longest.div_ceil(4) * of_page);
    assert_eq!(device["rows_at_once"]["max"], (number("kv_pages") / longest.div_ceil(4)).min(256));
    assert!(number("weight_bytes") > 0 && device["chosen"] == json!(true));
    let text = bench.run(&[&["plan"], &job[..]].concat());
    assert!(text.stdout.starts_with("rows       100 of 100 in 1 files\nerrors     20\n"), "{}", text.stdout);
    assert!(
        text.stdout.contains("           10 null prompt: rows 3, 13, 23, 33, 43, ...\n"),
        "{}",
        text.stdout
    );
}

#[test]
fn a_plan_counts_asks_and_branches() {
    let bench = Bench::new();
    let input = table(&bench, 30);
    let model = golden("qwen3");
    let columns = json!({
        "a": {"ask": "Which of them?", "choices": ["mill", "the mill", "the", "river name"]},
        "b": {"ask": "Where is the river?", "choices": ["mill", "grain"], "calibrate": "content-free"},
    });
    let columns = columns.to_string();
    let output = bench.name("out.parquet");
    let job = ["--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input, "-o", &output];
    let job = [&job[..], &["--prompt", "{{ q }}", "--columns", &columns, "--max-error-rate", "1"]].concat();
    let job = [&job[..], &["--max-model-len", "70"]].concat();
    let planned = plan(&bench, &job);
    let ran = bench.run(&[&["run"], &job[..]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let out = read(Path::new(&output));
    let (errors, tokens, answered) = of_output(&out);
    assert_eq!((&planned["errors"], &planned["prompt_tokens"]["sum"]), (&errors, &json!(tokens)));
    assert_eq!(planned["choices"]["asks"], 2 * answered);
    let status = json_of(&bench.run(&["status", &output, "--json"]));
    assert_eq!(planned["shared_prompts"], status["shared"]);
    assert_eq!(planned["generated_tokens"], json!({"least": 0, "most": 0}));
    // One request walks both columns of a row, if most of their tokens are the same: not those of three short rows.
    let walked = planned["choices"]["walked_tokens"].as_u64().unwrap();
    assert_eq!(planned["choices"]["requests"], answered + 3);
    assert!(planned["choices"]["branches"].as_u64().unwrap() >= 2 * answered && walked > tokens);
}

#[test]
fn a_sample_says_how_far_off_it_may_be() {
    let bench = Bench::new();
    let input = table(&bench, 100);
    let model = golden("qwen3");
    let job = ["--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input, "-o", "out.parquet"];
    let job = [&job[..], &["--prompt-column", "q", "--max-tokens", "4"]].concat();
    let whole = plan(&bench, &job);
    let some = plan(&bench, &[&job[..], &["--sample", "3"]].concat());
    let sample = &some["sample"];
    assert_eq!(
        (&sample["row_groups"], &sample["of_row_groups"], &sample["rows"]),
        (&json!(3), &json!(5), &json!(60))
    );
    let (value, error) = (
        sample["prompt_tokens"]["value"].as_f64().unwrap(),
        sample["prompt_tokens"]["error"].as_f64().unwrap(),
    );
    let all = whole["prompt_tokens"]["sum"].as_f64().unwrap();
    assert!((value - all).abs() <= error.max(0.05 * all) && error > 0.0, "{value} ± {error}, {all}");
    assert_eq!(
        sample["error_rows"],
        json!({"value": whole["errors"]["null prompt"]["rows"].as_f64(), "error": 0.0})
    );
    let every = plan(&bench, &[&job[..], &["--sample", "9"]].concat());
    assert_eq!(every["sample"]["prompt_tokens"], json!({"value": all, "error": 0.0}));
    assert_eq!(every["prompt_tokens"], whole["prompt_tokens"]);
    let one = bench.run(&[&["plan"], &job[..], &["--sample", "1"]].concat());
    assert!(one.stdout.contains("does not say how far off that is"), "{}", one.stdout);
}

#[test]
fn an_input_without_rows_has_a_plan() {
    let bench = Bench::new();
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(Vec::<Option<Vec<Option<i32>>>>::new());
    let empty: ArrayRef = Arc::new(lists);
    let numbers: ArrayRef = Arc::new(Int32Array::from(Vec::<i32>::new()));
    assert_eq!(empty.len() + numbers.len(), 0);
    let input = bench.table("in.parquet", vec![("ids", empty), ("other", numbers)]);
    let model = golden("qwen3");
    let job = ["--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input, "-o", "out.parquet"];
    let planned = plan(&bench, &[&job[..], &["--prompt-tokens-column", "ids", "--max-tokens", "4"]].concat());
    assert_eq!((planned["rows"].as_u64(), planned["prompt_tokens"]["max"].as_u64()), (Some(0), Some(0)));
    assert_eq!((planned["errors"].clone(), planned["finished"].clone()), (json!({}), Value::Null));
}

#[test]
fn plans_of_the_examples_are_what_their_runs_do() {
    let bench = Bench::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for entry in std::fs::read_dir(folder).unwrap() {
        let job = entry.unwrap().path();
        if job.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let output = bench.name("out.parquet");
        let job = [job.to_str().unwrap(), "-o", &output, "--limit", "8", "--device", "cpu"];
        let planned = plan(&bench, &job);
        let ran = bench.run(&[&["run", "--fresh"], &job[..]].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let status = json_of(&bench.run(&["status", &output, "--json"]));
        let (errors, tokens, _) = of_output(&read(Path::new(&output)));
        assert_eq!(
            (&planned["errors"], &planned["prompt_tokens"]["sum"]),
            (&errors, &json!(tokens)),
            "{job:?}"
        );
        assert_eq!((&planned["rows"], &planned["shared_prompts"]), (&status["rows"], &status["shared"]));
    }
}
