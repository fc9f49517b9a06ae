//! Columns of choices through the binary: scores against those of prompts with the labels behind them, whatever shares a
//! step and whatever was interrupted.

#![allow(clippy::unwrap_used)]

mod support;

use arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Float64Array, Int64Array, Int64Builder, ListBuilder, RecordBatch,
    StructArray,
};
use arrow::datatypes::{Float32Type, Int32Type};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use support::golden;
use support::job::{Bench, Ran, columns, ints, read, strings, text};

const TEXTS: [Option<&str>; 4] = [Some("the mill"), Some("Where is the river?"), None, Some("grain")];
const LABELS: [&str; 4] = ["mill", "the mill", "the", "river name"];
const ENDS: [i64; 2] = [379, 381];

/// Runs a job of columns, without flags of sampling.
fn choose(bench: &Bench, input: &str, output: &str, flags: &[&str]) -> Ran {
    let model = golden("qwen3");
    let mut all =
        vec!["run", "--device", "cpu", "--model", model.to_str().unwrap(), "-i", input, "-o", output];
    all.extend(["--max-error-rate", "1"]);
    all.extend(flags);
    bench.run(&all)
}

fn chosen(bench: &Bench, input: &str, output: &str, flags: &[&str]) -> RecordBatch {
    let output = bench.name(output);
    let ran = choose(bench, input, &output, flags);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    read(Path::new(&output))
}

/// The labels of a column.
fn labels(batch: &RecordBatch, column: &str) -> Vec<Option<String>> {
    let array = batch.column_by_name(column).unwrap().as_dictionary::<Int32Type>();
    let texts = array.values().as_string::<i32>();
    array.keys().iter().map(|key| key.map(|key| texts.value(key as usize).to_string())).collect()
}

fn floats(array: &dyn Array) -> Vec<Option<f32>> {
    array.as_primitive::<Float32Type>().iter().collect()
}

/// The probability of each label of a column, row by row.
fn probabilities(batch: &RecordBatch, column: &str) -> Vec<Option<Vec<f32>>> {
    let array: &StructArray = batch.column_by_name(&format!("{column}_probabilities")).unwrap().as_struct();
    let fields: Vec<_> = array.columns().iter().map(|field| floats(field)).collect();
    let row = |row: usize| (!array.is_null(row)).then(|| fields.iter().map(|f| f[row].unwrap()).collect());
    (0..array.len()).map(row).collect()
}

/// The tokens of a row's prompt.
fn tokens(bench: &Bench, input: &str, row: usize, flags: &[&str]) -> Vec<i64> {
    let (model, row) = (golden("qwen3"), row.to_string());
    let mut all = vec!["show", "--model", model.to_str().unwrap(), "-i", input, "-o", "none.parquet"];
    all.extend(["--max-tokens", "1", "--row", &row, "--json"]);
    all.extend(flags);
    let ran = bench.run(&all);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let shown: Value = serde_json::from_str(&ran.stdout).unwrap();
    shown["tokens"].as_array().unwrap().iter().map(|token| token.as_i64().unwrap()).collect()
}

/// The natural logarithm of the probability of each sequence's tokens from a place on.
fn logprobs_of(bench: &Bench, sequences: &[(Vec<i64>, usize)]) -> Vec<f64> {
    let mut list = ListBuilder::new(Int64Builder::new());
    for (ids, _) in sequences {
        list.append_value(ids.iter().map(|&id| Some(id)));
    }
    let input = bench.table("sequences.parquet", vec![("ids", Arc::new(list.finish()) as ArrayRef)]);
    let flags = ["--prompt-tokens-column", "ids", "--return", "prompt_logprobs", "--max-tokens", "1"];
    let out = bench.answers("qwen3", &input, &flags);
    let rows = out.column_by_name("prompt_logprobs").unwrap().as_list::<i32>().clone();
    let of = |(row, (_, from)): (usize, &(Vec<i64>, usize))| {
        let positions = rows.value(row);
        let positions = positions.as_list::<i32>();
        let at = |position: usize| {
            let pairs = positions.value(position);
            f64::from(pairs.as_struct().column(1).as_primitive::<Float32Type>().value(0))
        };
        (*from..positions.len()).map(at).sum()
    };
    sequences.iter().enumerate().map(of).collect()
}

#[test]
fn scores_are_those_of_prompts_with_the_label_and_the_end_behind_them() {
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("text", strings(&TEXTS))]);
    let asks = ["Which of them?", "Where?"];
    let table = |ask: &str| json!({"ask": ask, "choices": LABELS});
    let spec = format!(r#"{{"z": {}, "a": {}}}"#, table(asks[0]), table(asks[1]));
    let flags =
        ["--prompt", "{{ text }}", "--columns", &spec, "--return", "choice_mass,choice_probabilities"];
    let out = chosen(&bench, &input, "scores.parquet", &flags);
    let fields: String = LABELS.map(|label| format!("\"{label}\": Float32")).join(", ");
    let fields = format!("Struct({fields})");
    assert_eq!(
        columns(&out),
        [
            "text: Utf8",
            "z: Dictionary(Int32, Utf8)",
            "z_probability: Float32",
            &format!("z_probabilities: {fields}"),
            "z_mass: Float32",
            "a: Dictionary(Int32, Utf8)",
            "a_probability: Float32",
            &format!("a_probabilities: {fields}"),
            "a_mass: Float32",
            "num_input_tokens: Int32",
            "error: Utf8",
        ]
    );
    let words = bench.table("labels.parquet", vec![("text", strings(&LABELS.map(Some)))]);
    let raw = |row| {
        let ids = tokens(&bench, &words, row, &["--prompt-column", "text", "--raw"]);
        // The model's BOS token is no part of a label.
        ids.strip_prefix(&[378]).map(<[i64]>::to_vec).unwrap_or(ids)
    };
    let label_tokens: Vec<Vec<i64>> = (0..LABELS.len()).map(raw).collect();
    let rows = [0, 1, 3];
    let mut sequences = Vec::new();
    for row in rows {
        for ask in asks {
            let prompt = tokens(&bench, &input, row, &["--prompt", &format!("{{{{ text }}}}\n\n{ask}")]);
            for label in &label_tokens {
                let ids = ENDS.map(|end| [prompt.as_slice(), label, &[end]].concat());
                sequences.extend(ids.map(|ids| (ids, prompt.len())));
            }
        }
    }
    let logprobs = logprobs_of(&bench, &sequences);
    let mut cases = logprobs.chunks(2 * LABELS.len());
    for row in rows {
        for column in ["z", "a"] {
            let ends = cases.next().unwrap().chunks(2);
            let each: Vec<f64> = ends.map(|ends| ends[0].exp() + ends[1].exp()).collect();
            let total: f64 = each.iter().sum();
            let got = probabilities(&out, column)[row].clone().unwrap();
            for ((got, want), label) in got.iter().zip(&each).zip(LABELS) {
                let want = want / total;
                assert!((f64::from(*got) - want).abs() < 1e-6, "row {row}, {column}, {label}: {got}, {want}");
            }
            let best = (0..LABELS.len()).max_by(|&a, &b| each[a].total_cmp(&each[b])).unwrap();
            assert_eq!(labels(&out, column)[row].as_deref(), Some(LABELS[best]));
            let named = |what: &str| floats(out.column_by_name(&format!("{column}_{what}")).unwrap())[row];
            assert_eq!(named("probability"), Some(got[best]));
            let mass = f64::from(named("mass").unwrap());
            assert!((mass / total - 1.0).abs() < 1e-4, "row {row}, {column}: {mass}, {total}");
        }
    }
    // A row that has no prompt has no label.
    assert!(text(&out, "error")[2].as_ref().unwrap().starts_with("template error: "));
    for column in ["z", "a"] {
        assert_eq!((labels(&out, column)[2].clone(), probabilities(&out, column)[2].clone()), (None, None));
    }
    // What the two prompts share counts once.
    let prompt = |ask: &str| tokens(&bench, &input, 0, &["--prompt", &format!("{{{{ text }}}}\n\n{ask}")]);
    let [first, second] = asks.map(prompt);
    let shared = first.iter().zip(&second).take_while(|(a, b)| a == b).count();
    let want = first.len() + second.len() - shared;
    assert!(shared > 5 && ints(&out, "num_input_tokens")[0] == Some(want as i32), "{want}, {shared} shared");
}

#[test]
fn an_ask_stands_where_the_template_says() {
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("text", strings(&TEXTS))]);
    let both = r#"{"a": {"ask": "Which?", "choices": ["mill", "the"]}, "b": {"ask": "What?", "choices": ["x", "the"]}}"#;
    let flags = ["--prompt", "{{ ask }} {{ text }}", "--columns", both];
    let out = chosen(&bench, &input, "both.parquet", &flags);
    for (name, template, choices) in
        [("a", "Which? {{ text }}", "a=mill,the"), ("b", "What? {{ text }}", "b=x,the")]
    {
        let flags = ["--prompt", template, "--choices", choices];
        let alone = chosen(&bench, &input, &format!("{name}.parquet"), &flags);
        for column in [name.to_string(), format!("{name}_probability")] {
            assert_eq!(out.column_by_name(&column), alone.column_by_name(&column), "{column}");
        }
    }
}

#[test]
fn calibration_divides_by_the_probabilities_of_a_row_without_content() {
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("text", strings(&TEXTS))]);
    let empty = bench.table("empty.parquet", vec![("text", strings(&[Some("")]))]);
    let flags = ["--prompt", "Is it {{ text }}?", "--return", "choice_probabilities", "--columns"];
    let run = |input: &str, output: &str, calibrate: Option<&str>| {
        let spec = json!({"label": {"choices": LABELS, "calibrate": calibrate}}).to_string();
        let out = chosen(&bench, input, output, &[flags.as_slice(), &[&spec]].concat());
        probabilities(&out, "label")
    };
    let plain = run(&input, "plain.parquet", None);
    let free = run(&empty, "free.parquet", None)[0].clone().unwrap();
    let calibrated = run(&input, "calibrated.parquet", Some("content-free"));
    for (plain, got) in plain.iter().zip(&calibrated).filter(|(plain, _)| plain.is_some()) {
        let scaled: Vec<f32> = plain.as_ref().unwrap().iter().zip(&free).map(|(p, free)| p / free).collect();
        let total: f32 = scaled.iter().sum();
        for (got, want) in got.as_ref().unwrap().iter().zip(&scaled) {
            assert!((got - want / total).abs() < 1e-5, "{got}, not {}", want / total);
        }
    }
    assert_ne!(plain, calibrated);
    // A template that a row without content makes fail.
    let spec = json!({"label": {"choices": LABELS, "calibrate": "content-free"}}).to_string();
    let refused =
        choose(&bench, &input, "no.parquet", &["--prompt", "{{ text | tojson | int }}", "--columns", &spec]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("every column is the empty string"), "{}", refused.stderr);
}

/// Many rows of random length.
fn many(bench: &Bench, rows: usize) -> String {
    let texts: Vec<String> = (0..rows).map(|i| format!("mill {i} {}", "river ".repeat(i * 7 % 23))).collect();
    let texts: Vec<Option<&str>> = texts.iter().map(|text| Some(text.as_str())).collect();
    bench.table("in.parquet", vec![("text", strings(&texts))])
}

const MANY: [&str; 4] = [
    "--columns",
    r#"{"a": {"ask": "Which of them is it?", "choices": ["mill", "the mill", "miller"]}, "b": {"ask": "What?", "choices": ["x", "y"]}}"#,
    "--prompt",
    "{{ text }}",
];

#[test]
fn no_byte_depends_on_what_shares_a_step() {
    let bench = Bench::new();
    let input = many(&bench, 40);
    let bytes = |output: &str, flags: &[&str]| {
        chosen(&bench, &input, output, &[&MANY, flags].concat());
        std::fs::read(bench.name(output)).unwrap()
    };
    let want = bytes("want.parquet", &[]);
    let alone = ["--max-num-seqs", "1", "--enable-prompt-sharing=false"];
    assert!(bytes("alone.parquet", &alone) == want);
    let tight = ["--max-num-batched-tokens", "9", "--block-size", "4", "--enable-prefix-caching=false"];
    assert!(bytes("tight.parquet", &tight) == want);
    // A job that was begun with fewer rows goes on.
    bytes("limit.parquet", &["--limit", "7"]);
    assert!(bytes("limit.parquet", &[]) == want);
    let verified = bench.run(&["verify", &bench.name("limit.parquet")]);
    assert_eq!(verified.code, 0, "{}", verified.stderr);
}

#[test]
fn a_killed_job_goes_on_to_the_same_bytes() {
    let bench = Bench::new();
    let input = many(&bench, 400);
    chosen(&bench, &input, "want.parquet", &MANY);
    let (model, output) = (golden("qwen3"), bench.name("out.parquet"));
    let mut all =
        vec!["run", "--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input, "-o", &output];
    all.extend(["--in-process", "--max-num-seqs", "2", "--threads", "1"]);
    all.extend(MANY);
    let finished = || {
        let status = bench.run(&["status", &output, "--json"]);
        let status: Option<Value> = serde_json::from_str(&status.stdout).ok();
        status.map_or(0, |status| status["finished"].as_u64().unwrap())
    };
    let mut child = bench.command(&all).spawn().unwrap();
    while finished() == 0 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let done = finished();
    assert!(done > 0 && done < 400, "{done} rows");
    let ran = bench.run(&all);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("rows already answered"), "{}", ran.stderr);
    assert!(std::fs::read(&output).unwrap() == std::fs::read(bench.name("want.parquet")).unwrap());
}

#[test]
fn rows_of_one_prompt_are_scored_once() {
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("text", strings(&[Some("grain"); 20]))]);
    let out = chosen(&bench, &input, "out.parquet", &["--prompt", "{{ text }}", "--choices", "mill,river"]);
    assert_eq!(columns(&out)[1..3], ["label: Dictionary(Int32, Utf8)", "label_probability: Float32"]);
    let status = bench.run(&["status", &bench.name("out.parquet"), "--json"]);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!((&status["shared"], &status["generated_tokens"]), (&json!(19), &json!(0)));
}

#[test]
fn a_thousand_choices_work() {
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("text", strings(&[Some("grain"), Some("the mill")]))]);
    let labels: Vec<String> = (0..1000).map(|i| format!("code {i}")).collect();
    let spec = bench.path("job.toml");
    let job = format!(
        "model = {:?}\ninput = \"in.parquet\"\noutput = \"out.parquet\"\nprompt = \"{{{{ text }}}}\"\ndevice = \"cpu\"\n\
         return = \"choice_probabilities\"\n[columns.zip]\nask = \"Which?\"\nchoices = {labels:?}\n",
        golden("qwen3")
    );
    std::fs::write(&spec, job).unwrap();
    let ran = bench.run(&["run", "job.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let out = read(&bench.path("out.parquet"));
    for row in probabilities(&out, "zip") {
        let row = row.unwrap();
        let total: f64 = row.iter().map(|&p| f64::from(p)).sum();
        assert!(row.len() == 1000 && (total - 1.0).abs() < 1e-4, "{total}");
    }
    let bytes = std::fs::read(bench.path("out.parquet")).unwrap();
    let ran = bench.run(&[
        "run",
        "job.toml",
        "-o",
        &bench.name("tight.parquet"),
        "--max-num-batched-tokens",
        "5",
        "--fresh",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(std::fs::read(bench.path("tight.parquet")).unwrap() == bytes);
    drop(input);
}

#[test]
fn what_cannot_be_a_choice_is_refused_by_name() {
    let bench = Bench::new();
    let columns = vec![("text", strings(&TEXTS)), ("error", strings(&TEXTS)), ("ask", strings(&TEXTS))];
    let input = bench.table("in.parquet", columns);
    let template = ["--prompt", "{{ text }}", "--keep", "text"];
    for (flags, why) in [
        (&["--choices", "a=x,,y"][..], "column `a`: choice 2 is empty"),
        (&["--choices", "a=x,y,x"], "column `a`: the choice \"x\" is there twice"),
        (&["--choices", "a=x,y", "--choices", "a=z,w"], "column `a` is named twice"),
        (&["--choices", "a=x,<|im_end|>"], "column `a`: the choice \"<|im_end|>\" holds the special token"),
        (&["--choices", "x,y", "--temperature", "0.5"], "--temperature does not apply"),
        (&["--choices", "x,y", "--max-tokens", "5"], "--max-tokens does not apply"),
        (&["--choices", "x,y", "--n", "2"], "--n does not apply"),
        (&["--choices", "x,y", "--seed", "2"], "--seed does not apply"),
        (
            &["--choices", "x,y", "--return", "generated_tokens"],
            "--return generated_tokens does not go together",
        ),
        (&["--return", "choice_mass", "--max-tokens", "1"], "--return choice_mass is of columns of choices"),
        (&["--choices", "x,y", "--keep", "text,error"], "error"),
        (&["--choices", "text=x,y"], "an input column has this name"),
        (&["--choices", "a=x,y", "--choices", "a_probability=x,y"], "come to this name"),
        (&["--columns", r#"{"a": {"choices": ["x", "y"], "asks": "?"}}"#], "unknown field `asks`"),
        (
            &[
                "--columns",
                r#"{"a": {"choices": ["x", "y"], "ask": "?"}}"#,
                "--prompt",
                "{{ ask }}{{ text }}",
            ],
            "also a column of the input",
        ),
        (
            &["--columns", r#"{"a": {"choices": ["x", "y"], "ask": "?"}}"#, "--prompt", "{{ ask }}"],
            "a column of the input",
        ),
    ] {
        let all = if flags.contains(&"--prompt") { flags.to_vec() } else { [&template, flags].concat() };
        let ran = choose(&bench, &input, &bench.name("no.parquet"), &all);
        assert_eq!(ran.code, 2, "{flags:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(why), "{flags:?}: {}", ran.stderr);
        assert!(!bench.path("no.parquet").exists());
    }
    let prefixed = chosen(
        &bench,
        &input,
        "p.parquet",
        &[&template[..2], &["--choices", "text=x,y", "--column-prefix", "x_"]].concat(),
    );
    assert!(columns_of(&prefixed).contains(&"x_text_probability".to_string()));
}

fn columns_of(batch: &RecordBatch) -> Vec<String> {
    batch.schema().fields().iter().map(|field| field.name().clone()).collect()
}

/// By hand: of four rows with a truth, two are right, one is wrong and one has no label.
#[test]
fn labels_are_compared_with_a_column_or_another_file() {
    let bench = Bench::new();
    let ids = ["a", "b", "c", "d", "e"].map(Some);
    let truths = [Some("x"), Some("y"), Some("x"), Some("y"), None];
    let given = [Some("x"), Some("y"), Some("y"), None, Some("x")];
    let sure: ArrayRef =
        Arc::new(Float32Array::from(vec![Some(0.9), Some(0.75), Some(0.5), None, Some(0.6)]));
    let columns = |truth| {
        let mut columns = vec![("id", strings(&ids)), ("label", strings(&given))];
        columns.push(("label_probability", sure.clone()));
        columns.extend(truth);
        columns
    };
    let own = bench.table("own.parquet", columns(Some(("truth", strings(&truths)))));
    let labels = bench.table("labels.parquet", columns(None));
    let (mut others, mut turned) = (ids.to_vec(), truths.to_vec());
    others.reverse();
    turned.reverse();
    let other = bench.table("other.parquet", vec![("name", strings(&others)), ("truth", strings(&turned))]);
    let wrong = bench.name("wrong.parquet");
    let file = ["--truth-file", &other, "--key", "id=name"];
    for (output, more) in [(&own, &[][..]), (&labels, &file)] {
        let mut all = vec!["evaluate", output, "--truth", "label=truth", "--differences", &wrong, "--json"];
        all.extend(more);
        let ran = bench.run(&all);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let figures: Value = serde_json::from_str(&ran.stdout).unwrap();
        let figures = &figures[0];
        let counts =
            ["rows", "right", "unlabelled", "without_truth"].map(|name| figures[name].as_u64().unwrap());
        assert_eq!(counts, [4, 2, 1, 1]);
        assert_eq!(figures["accuracy"], json!(2.0 / 3.0));
        assert_eq!(figures["confusion"], json!({"x": {"x": 1, "y": 1}, "y": {"": 1, "y": 1}}));
        // 0.1 and 0.25 below one, and 0.5 where none is right.
        let error = figures["expected_calibration_error"].as_f64().unwrap();
        assert!((error - 0.85 / 3.0).abs() < 1e-6, "{error}");
        let wrong = read(Path::new(&wrong));
        assert_eq!(text(&wrong, "id"), [Some("c".into()), Some("d".into())]);
        assert_eq!(text(&wrong, "truth"), [Some("x".into()), Some("y".into())]);
        std::fs::remove_file(bench.path("wrong.parquet")).unwrap();
    }
    // Integers find the floats that they have become where one was missing.
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5]));
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(2.0), None, Some(1.0), Some(0.5)]));
    let some = strings(&[Some("y"), Some("x"), Some("x"), Some("y")]);
    let numbered = bench.table("numbered.parquet", vec![("id", numbers), ("label", strings(&given))]);
    let truths =
        bench.table("floats.parquet", vec![("id", floats), ("truth", some), ("none", strings(&[None; 4]))]);
    let joined = |truth: &str, key: &str| {
        bench.run(&["evaluate", &numbered, "--truth", truth, "--truth-file", &truths, "--key", key])
    };
    let found = joined("label=truth", "id");
    assert!(found.stdout.contains("100.0 % (2 of 2 rows; 3 have no truth)"), "{}", found.stdout);
    assert!(!found.stderr.contains("warning"), "{}", found.stderr);
    for (truth, key) in [("label=none", "id"), ("label=truth", "label=id")] {
        let none = joined(truth, key);
        assert_eq!(none.code, 0, "{}", none.stderr);
        assert!(none.stderr.contains("warning: no row has a truth in"), "{}", none.stderr);
    }
    // The name says the format, and is refused before the work where it cannot be had.
    let differences = |name: &str| {
        bench.run(&["evaluate", &own, "--truth", "label=truth", "--differences", &bench.name(name)])
    };
    for (name, wanted) in [
        ("wrong.csv", "id,label,label_probability,truth\nc,y,0.5,x\nd,,,y\n"),
        (
            "wrong.jsonl",
            "{\"id\":\"c\",\"label\":\"y\",\"label_probability\":0.5,\"truth\":\"x\"}\n\
             {\"id\":\"d\",\"label\":null,\"label_probability\":null,\"truth\":\"y\"}\n",
        ),
    ] {
        assert_eq!(differences(name).code, 0);
        assert_eq!(std::fs::read_to_string(bench.path(name)).unwrap(), wanted);
    }
    let before = std::fs::read(bench.path("own.parquet")).unwrap();
    for (name, why) in [
        ("wrong.xlsx", ".xlsx is not written"),
        ("no/wrong.csv", "cannot write"),
        ("own.parquet", "replaces none"),
        ("wrong.csv", "replaces none"),
    ] {
        let ran = differences(name);
        assert!(ran.code == 2 && ran.stderr.contains(why) && ran.stdout.is_empty(), "{}", ran.stderr);
    }
    assert!(std::fs::read(bench.path("own.parquet")).unwrap() == before, "the output is as it was");
    let priced = bench.run(&["evaluate", &own, "--truth", "label=truth", "--price-per-hour", "2"]);
    assert!(priced.code == 2 && priced.stderr.contains("there is no receipt"), "{}", priced.stderr);
    let table = bench.run(&["evaluate", &own, "--truth", "label=truth"]);
    assert!(
        table.stdout.contains("accuracy     66.7 % (2 of 3 rows; 1 more have no label; 1 have no truth)"),
        "{}",
        table.stdout
    );
    for (flags, why) in [
        (&["--truth", "label"][..], "write COLUMN=TRUTH"),
        (&["--truth", "label=nothing"], "there is no column `nothing`"),
        (&["--truth", "label=truth", "--truth-file", &own], "--key"),
    ] {
        let ran = bench.run(&[&["evaluate", &own], flags].concat());
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains(why), "{flags:?}: {}", ran.stderr);
    }
}

/// A label is data: it moves no cursor and sets no title.
#[test]
fn a_terminal_obeys_no_label() {
    let bench = Bench::new();
    let hostile = "\u{1b}]0;title\u{7}\u{9b}2J\r\u{202e}";
    let labels = strings(&[Some(hostile), Some("b")]);
    let output = bench.table("l.parquet", vec![(hostile, labels.clone()), ("t", labels)]);
    let ran = bench.run(&["evaluate", &output, "--truth", &format!("{hostile}=t")]);
    let missing = bench.run(&["evaluate", &output, "--truth", "nothing=t"]);
    assert_eq!((ran.code, missing.code), (0, 2));
    for text in [ran.stdout, missing.stderr] {
        assert!(text.contains("\\u{1b}]0;title\\u{7}\\u{9b}2J\\u{d}\\u{202e}"), "{text:?}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }
}

/// Without a chat template, prompt and label are put into tokens together.
#[test]
fn a_raw_prompt_and_its_label_are_one_text() {
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("text", strings(&[Some("the mill"), Some("grain")]))]);
    let labels = [" mill", "e"];
    let flags = ["--raw", "--prompt", "{{ text }}", "--choices", "label= mill,e"];
    let out = chosen(&bench, &input, "raw.parquet", &flags);
    let prompt = |row| tokens(&bench, &input, row, &["--raw", "--prompt", "{{ text }}"]).len();
    let mut sequences = Vec::new();
    for row in 0..2 {
        for label in labels {
            let ids = tokens(&bench, &input, row, &["--raw", "--prompt", &format!("{{{{ text }}}}{label}")]);
            let ended = ENDS.map(|end| [ids.as_slice(), &[end]].concat());
            sequences.extend(ended.map(|ids| (ids, prompt(row))));
        }
    }
    let logprobs = logprobs_of(&bench, &sequences);
    for (row, each) in logprobs.chunks(4).enumerate() {
        let [first, second] = [0, 2].map(|i| each[i].exp() + each[i + 1].exp());
        let want = first.max(second) / (first + second);
        let got = floats(out.column_by_name("label_probability").unwrap())[row].unwrap();
        assert!((f64::from(got) - want).abs() < 1e-6, "row {row}: {got}, not {want}");
    }
    // Here " e" is one token, whose beginning is in the prompt.
    let joined = ["--raw", "--prompt", "{{ text }} ", "--choices", "mill,e"];
    let out = chosen(&bench, &input, "joined.parquet", &joined);
    for error in text(&out, "error") {
        assert!(error.as_ref().unwrap().contains("joins the end of the prompt with the choice"), "{error:?}");
    }
    assert_eq!(labels_of(&out), [None, None]);
}

fn labels_of(batch: &RecordBatch) -> Vec<Option<String>> {
    labels(batch, "label")
}

#[test]
fn a_label_with_a_comma_is_quoted_in_csv() {
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("text", strings(&[Some("grain")]))]);
    let output = bench.name("out.csv");
    let ran =
        choose(&bench, &input, &output, &["--prompt", "{{ text }}", "--choices", r"the\, mill,the\, river"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines = std::fs::read_to_string(&output).unwrap();
    assert!(lines.lines().nth(1).unwrap().starts_with("grain,\"the, "), "{lines}");
}

#[test]
fn names_that_differ_in_case_alone_are_told() {
    let bench = Bench::new();
    let input =
        bench.table("in.parquet", vec![("text", strings(&[Some("grain")])), ("Mood", strings(&[Some("x")]))]);
    let flags = ["--prompt", "{{ text }}", "--choices", "mood=mill,river"];
    let ran = choose(&bench, &input, &bench.name("out.parquet"), &flags);
    assert!(ran.code == 0 && ran.stderr.contains("`Mood` and `mood` differ in case alone"), "{}", ran.stderr);
    let ran = choose(&bench, &input, &bench.name("few.parquet"), &[&flags[..], &["--keep", "text"]].concat());
    assert!(ran.code == 0 && !ran.stderr.contains("in case alone"), "{}", ran.stderr);
}
