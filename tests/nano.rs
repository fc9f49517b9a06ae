//! The built-in model: runs the jobs of `examples` through the binary and compares with the true answers.

#![allow(clippy::unwrap_used)]

mod support;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, Float64Type, Int32Type};
use serde_json::{Value, json};
use support::job::{Bench, read, text, texts};

/// Runs a job of `examples` on its first rows, and reads its output.
fn answers(bench: &Bench, job: &str, rows: usize) -> RecordBatch {
    let (limit, output) = (rows.to_string(), bench.name("out.parquet"));
    let job = format!("examples/{job}.toml");
    let mut command = bench.command(&["run", &job, "--limit", &limit, "-o", &output, "--device", "cpu"]);
    // Like the README's commands.
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("GRISTMILL_CACHE", bench.path("cache"));
    let run = command.output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let out = read(output.as_ref());
    assert_eq!(out.num_rows(), rows);
    assert_eq!(out.column_by_name("error").unwrap().null_count(), rows);
    out
}

/// Checks the share of rows whose answer in a column is right; a failure shows messages and answers of wrong ones.
fn assert_share(least: f64, out: &RecordBatch, column: &str, right: impl Fn(usize, &str) -> bool) {
    let answers = texts(out, column);
    let wrong: Vec<usize> = (0..answers.len()).filter(|&row| !right(row, &answers[row])).collect();
    let share = 1.0 - wrong.len() as f64 / answers.len() as f64;
    eprintln!("{:.2} % of {} rows are right", 100.0 * share, answers.len());
    let messages = texts(out, if out.column_by_name("message").is_some() { "message" } else { "thread" });
    let wrong: Vec<_> = wrong.iter().take(5).map(|&row| (&messages[row], &answers[row])).collect();
    assert!(share >= least, "{share}, for example {wrong:#?}");
}

#[test]
fn labels_are_right() {
    let bench = Bench::new();
    let out = answers(&bench, "label-messages", 500);
    for column in ["sentiment", "topic"] {
        let truths = texts(&out, &format!("true_{column}"));
        assert_share(0.96, &out, column, |row, answer| answer == truths[row]);
        let probabilities = out.column_by_name(&format!("{column}_probability")).unwrap();
        assert!(probabilities.as_primitive::<Float32Type>().values().iter().all(|p| (0.1..=1.0).contains(p)));
    }
}

#[test]
fn orders_are_right() {
    let bench = Bench::new();
    let out = answers(&bench, "extract-orders", 200);
    let (numbers, products) = (text(&out, "true_order_number"), text(&out, "true_product"));
    let amounts = out.column_by_name("true_amount").unwrap().as_primitive::<Float64Type>();
    assert_share(0.93, &out, "generated_text", |row, answer| {
        let Ok(found) = serde_json::from_str::<Value>(answer) else { return false };
        // Compare amounts as numbers: 49 and 49.00 are equal.
        let amount = amounts.is_valid(row).then(|| amounts.value(row));
        let facts =
            json!({"order_number": numbers[row], "product": products[row], "amount": found["amount"]});
        found == facts
            && found["amount"].as_f64() == amount
            && (amount.is_some() || found["amount"].is_null())
    });
}

#[test]
fn summaries_hold_the_facts() {
    let bench = Bench::new();
    let out = answers(&bench, "summarise-messages", 200);
    let facts = texts(&out, "key_facts");
    assert_share(0.88, &out, "generated_text", |row, answer| {
        let answer = answer.to_lowercase();
        facts[row].split("; ").all(|fact| answer.contains(&fact.to_lowercase()))
    });
}

#[test]
fn summaries_of_threads_hold_the_facts() {
    let bench = Bench::new();
    let out = answers(&bench, "summarise-threads", 24);
    let chunks = out.column_by_name("num_chunks").unwrap().as_primitive::<Int32Type>().values();
    let long = chunks.iter().filter(|&&chunks| chunks > 1).count();
    assert!((4..20).contains(&long), "{long} of the threads exceed the context");
    let facts = texts(&out, "key_facts");
    let (mut held, mut all) = (0, 0);
    for (facts, answer) in facts.iter().zip(texts(&out, "generated_text")) {
        assert!(!answer.trim().contains('\n'), "{answer:?}");
        let answer = answer.to_lowercase();
        all += facts.split("; ").count();
        held += facts.split("; ").filter(|fact| answer.contains(&fact.to_lowercase())).count();
    }
    assert!(held as f64 >= 0.85 * all as f64, "{held} of {all} facts");
}

#[test]
fn its_folder_gives_the_same_bytes() {
    let bench = Bench::new();
    let named = answers(&bench, "label-messages", 20);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/nano");
    let output = bench.name("folder.parquet");
    let arguments =
        ["run", "examples/label-messages.toml", "--model", folder, "--limit", "20", "-o", &output];
    let mut command = bench.command(&arguments);
    let run = command.args(["--device", "cpu"]).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(read(output.as_ref()).columns(), named.columns());
}
