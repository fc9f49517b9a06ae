//! The report of an output: every figure stands in a table, what comes from data is text, and what is missing is said.

#![allow(clippy::unwrap_used)]

mod support;

use arrow::array::{ArrayRef, DictionaryArray, Float32Array, Int32Array, StringArray};
use arrow::datatypes::Int32Type;
use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use quick_xml::reader::Reader;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use support::job::{Bench, Ran, ints, read, strings, text};

/// A report: it is well-formed XML, too, which nothing is that closes an element of ours.
struct Report {
    html: String,
    /// The text of the sections, and the cells of the tables in their rows.
    sections: BTreeMap<String, String>,
    tables: BTreeMap<String, Vec<Vec<String>>>,
}

/// What may be on the page: nothing that runs.
const KNOWN: &str = "html head meta title style link body header h1 h2 h3 p nav a dl div dt dd small main section figure \
                     figcaption details summary table caption thead tbody tr th td bdi span svg rect path line polyline polygon \
                     circle text";

impl Report {
    fn read(path: &Path) -> Report {
        let html = std::fs::read_to_string(path).unwrap();
        let mut report = Report { html: html.clone(), sections: BTreeMap::new(), tables: BTreeMap::new() };
        let mut reader = Reader::from_str(&html);
        reader.config_mut().check_end_names = true;
        let (mut section, mut table) = (String::new(), String::new());
        let (mut in_body, mut in_cell) = (false, false);
        loop {
            let text = match reader.read_event().unwrap() {
                Event::Start(element) | Event::Empty(element) => {
                    let name = String::from_utf8(element.name().as_ref().to_vec()).unwrap();
                    assert!(KNOWN.split_whitespace().any(|known| known == name), "<{name}> on the page");
                    let mut id = String::new();
                    for attribute in element.attributes() {
                        let attribute = attribute.unwrap();
                        let value = attribute.normalized_value(XmlVersion::Implicit1_0).unwrap().into_owned();
                        let key = String::from_utf8(attribute.key.as_ref().to_vec()).unwrap();
                        assert!(!key.starts_with("on") && key != "src", "<{name} {key}={value}>");
                        assert!(key != "href" || value.starts_with('#') || value == "data:,", "{value}");
                        if key == "id" {
                            id = value;
                        }
                    }
                    match name.as_str() {
                        "section" => section = id,
                        "table" => {
                            assert!(
                                report.tables.insert(id.clone(), Vec::new()).is_none(),
                                "two tables {id}"
                            );
                            table = id;
                        }
                        "tbody" => in_body = true,
                        "tr" if in_body => report.tables.get_mut(&table).unwrap().push(Vec::new()),
                        "td" => {
                            report.row(&table).push(String::new());
                            in_cell = true;
                        }
                        _ => {}
                    }
                    continue;
                }
                Event::End(element) => {
                    match element.name().as_ref() {
                        b"table" => table.clear(),
                        b"tbody" => in_body = false,
                        b"td" => in_cell = false,
                        _ => {}
                    }
                    continue;
                }
                Event::Text(text) => text.decode().unwrap().into_owned(),
                Event::GeneralRef(reference) => match reference.resolve_char_ref().unwrap() {
                    Some(c) => c.into(),
                    None => resolve_predefined_entity(&reference.decode().unwrap()).unwrap().into(),
                },
                Event::Eof => break,
                _ => continue,
            };
            *report.sections.entry(section.clone()).or_default() += &text;
            if in_cell {
                report.row(&table).last_mut().unwrap().push_str(&text);
            }
        }
        assert!(!html.contains("url(") && !html.contains("@import"));
        report
    }

    fn row(&mut self, table: &str) -> &mut Vec<String> {
        self.tables.get_mut(table).and_then(|rows| rows.last_mut()).unwrap()
    }

    /// The cells of a table.
    fn table(&self, id: &str) -> Vec<Vec<String>> {
        self.tables
            .get(id)
            .unwrap_or_else(|| panic!("there is no table {id} in {:?}", self.tables.keys()))
            .clone()
    }

    /// A table of two columns.
    fn pairs(&self, id: &str) -> BTreeMap<String, String> {
        self.table(id).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
    }

    fn section(&self, id: &str) -> &str {
        &self.sections[id]
    }
}

fn report(bench: &Bench, output: &str, flags: &[&str]) -> Ran {
    bench.run(&[&["report", output], flags].concat())
}

/// Makes a report and reads it.
fn made(bench: &Bench, output: &str, flags: &[&str]) -> Report {
    let ran = report(bench, output, flags);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    Report::read(&bench.path(ran.stdout.trim()))
}

/// Every figure of a receipt, as its text stands in the file.
fn figures(name: &str, value: &Value, all: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            figures(&if name.is_empty() { key.clone() } else { format!("{name}.{key}") }, value, all);
        }),
        Value::Array(items) => items.iter().for_each(|item| figures(name, item, all)),
        Value::String(text) => all.push((name.into(), text.clone())),
        other => all.push((name.into(), other.to_string())),
    }
}

fn receipt_of(bench: &Bench, output: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(bench.path(&format!("{output}.gristmill/receipt.json"))).unwrap();
    let mut all = Vec::new();
    figures("", &serde_json::from_str(&text).unwrap(), &mut all);
    assert!(all.len() > 25, "{all:?}");
    all
}

const HOSTILE: &str = "</td><script>alert(\"1\")</script>'&amp;\u{202e}txet";

/// A job of two columns of choices, one with a label that would be markup, with errors and a truth.
fn labelled(bench: &Bench) -> String {
    let texts = [Some("the mill"), None, Some("grain of the river"), Some("flour"), None, Some("stone")];
    let truth = ["yes", "no", HOSTILE, "no", "yes", "yes"].map(Some);
    let input = bench.table("in.parquet", vec![("q", strings(&texts)), ("truth", strings(&truth))]);
    let columns = serde_json::json!({
        "a": {"ask": "Is it?", "choices": ["yes", "no", HOSTILE]},
        "b<b>&": {"choices": ["x", "y"]},
    });
    let columns = columns.to_string();
    let flags = ["--prompt", "{{ q }}", "--columns", &columns, "--max-error-rate", "1"];
    let model = support::golden("qwen3");
    let job =
        ["run", "--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input, "-o", "out.parquet"];
    let ran = bench.run(&[&job[..], &flags].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    "out.parquet".into()
}

#[test]
fn every_figure_of_the_receipt_and_the_output_stands_in_a_table() {
    let bench = Bench::new();
    let output = labelled(&bench);
    let page = made(&bench, &output, &["--truth", "a=truth"]);
    assert!(bench.path("out.html").exists() && !bench.path("out.html.next").exists());
    let shown: Vec<(String, String)> =
        page.table("receipt-figures").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(shown, receipt_of(&bench, &output));
    let out = read(&bench.path(&output));
    let tokens: i64 = ints(&out, "num_input_tokens").into_iter().flatten().map(i64::from).sum();
    assert_eq!(page.pairs("input_tokens-figures")["sum"], tokens.to_string());
    let bins = page.table("input_tokens-histogram");
    assert_eq!(bins.iter().map(|bin| bin[1].parse::<u64>().unwrap()).sum::<u64>(), 4);
    for column in ["a", "b<b>&"] {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        text(&out, column).into_iter().flatten().for_each(|label| *counts.entry(label).or_default() += 1);
        let shown = page.table(&format!("labels-{column}"));
        for (label, count) in counts {
            // What nobody sees is written out.
            let label = label.replace('\u{202e}', "\\u{202e}");
            let row = shown.iter().find(|row| row[0] == label).unwrap();
            assert_eq!(row[1], count.to_string());
            let probability: f64 = row[3].parse().unwrap();
            assert!((0.3..=1.0).contains(&probability), "{row:?}");
        }
        let bins = page.table(&format!("probabilities-{column}"));
        assert_eq!(bins.iter().map(|bin| bin[1].parse::<u64>().unwrap()).sum::<u64>(), 4);
        assert_eq!(page.pairs(&format!("column-{column}"))["rows without one"], "2");
    }
    // Rows with errors were never given to the engine.
    assert_eq!((page.table("time-slowest").len(), page.table("time-starts")[0][3].as_str()), (4, "6"));
    assert_eq!(page.table("errors-kinds"), [["template error", "2", "33.3 %", "1, 4"]]);
    let evaluated = bench.run(&["evaluate", &output, "--truth", "a=truth", "--json"]);
    let evaluated: Value = serde_json::from_str(&evaluated.stdout).unwrap();
    let truth = page.pairs("truth-a");
    assert_eq!(truth["right"], evaluated[0]["right"].to_string());
    assert_eq!(truth["rows without a label"], "2");
    let calibration = page.table("calibration-a");
    assert_eq!(calibration.len(), 15);
    assert_eq!(calibration.iter().map(|bin| bin[1].parse::<u64>().unwrap()).sum::<u64>(), 4);
    let manifest = std::fs::read_to_string(bench.path("out.parquet.gristmill/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let settings = page.pairs("settings-fields");
    for field in manifest["identity"].as_array().unwrap() {
        assert!(settings.contains_key(field["field"].as_str().unwrap()), "{field}");
    }
    assert_eq!(page.table("settings-inputs")[0][1], "6");
    // Markup is text, and so is what stands around it.
    assert!(
        page.html.contains("&lt;script&gt;")
            && page.section("answers").contains("</td><script>alert(\"1\")</script>'&amp;")
    );
}

/// Outputs that no manifest tells of.
#[test]
fn what_is_odd_in_an_output_is_shown_as_it_is() {
    let bench = Bench::new();
    let output = |name: &str,
                  labels: Vec<Option<String>>,
                  probabilities: Vec<Option<f32>>,
                  errors: Vec<Option<&str>>| {
        let tokens = Int32Array::from(vec![Some(3); labels.len()]);
        let labels: DictionaryArray<Int32Type> = labels.iter().map(Option::as_deref).collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("p_label", Arc::new(labels)),
            ("p_label_probability", Arc::new(Float32Array::from(probabilities))),
            ("p_num_input_tokens", Arc::new(tokens)),
            ("p_error", Arc::new(StringArray::from(errors))),
        ];
        bench.table(name, columns)
    };
    // A thousand labels, one very long, one that turns the line around, and a row of nulls.
    let mut labels: Vec<Option<String>> = (0..1000).map(|i| Some(format!("label {i}"))).collect();
    labels.extend([Some("ש".repeat(50_000)), Some("مرحبا <b>".into()), Some("\0".into()), None]);
    let mut probabilities = vec![Some(0.25); 1003];
    (probabilities[0], probabilities[1], probabilities[2]) = (Some(f32::NAN), Some(f32::INFINITY), Some(1.5));
    probabilities.push(None);
    output("many.parquet", labels, probabilities, vec![None; 1004]);
    let page = made(&bench, "many.parquet", &["--truth", "p_label=p_label"]);
    let shown = page.table("labels-p_label");
    assert_eq!(shown.len(), 1003);
    assert!(shown.iter().any(|row| row[0].ends_with("… (50000 characters)")));
    assert!(shown.iter().any(|row| row[0] == "مرحبا <b>") && shown.iter().any(|row| row[0] == "\\u{0}"));
    let column = page.pairs("column-p_label");
    assert_eq!((column["values"].as_str(), column["rows without one"].as_str()), ("1003", "1"));
    assert_eq!(column["probabilities that are no number from 0 to 1"], "3");
    let first = shown.iter().find(|row| row[0] == "label 0").unwrap();
    assert_eq!((first[1].as_str(), first[3].as_str()), ("1", "-"));
    assert!(page.html.len() < 1 << 20 && !page.html.contains("NaN"), "{} bytes", page.html.len());
    assert!(page.section("receipt").contains("There is no receipt"));
    assert!(page.section("settings").contains("is in its manifest"));

    output("empty.parquet", vec![], vec![], vec![]);
    let page = made(&bench, "empty.parquet", &[]);
    assert!(page.section("tokens").contains("The output has no rows."));
    assert_eq!(page.pairs("input_tokens-figures")["rows"], "0");
    assert_eq!(page.table("input_tokens-histogram"), [["none"]]);

    let errors =
        vec![Some("template error: secret <i>"), Some("null prompt: the column is null"), Some("strange")];
    output("errors.parquet", vec![None; 3], vec![None; 3], errors);
    let page = made(&bench, "errors.parquet", &[]);
    assert!(!page.html.contains("secret"));
    let kinds: Vec<String> = page.table("errors-kinds").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(kinds, ["null prompt", "other", "template error"]);
    let page = made(&bench, "errors.parquet", &["--with-texts"]);
    assert!(page.table("errors-texts").iter().any(|row| row[2] == "template error: secret <i>"));
}

#[test]
fn every_kind_of_output_has_a_report() {
    let bench = Bench::new();
    let input =
        bench.table("in.parquet", vec![("q", strings(&[Some("the mill"), Some("a b c d e f g"), None]))]);
    let model = support::golden("qwen3");
    let run = |flags: &[&str]| {
        let job = ["run", "--device", "cpu", "--model", model.to_str().unwrap(), "--max-error-rate", "1"];
        let ran = bench.run(&[&job[..], &["--temperature", "0", "--max-tokens", "8"], flags].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    };
    for (output, flags) in [
        ("parts", &["--rows-per-file", "2", "--prompt", "{{ q }}"][..]),
        ("lines.jsonl", &["--prompt", "{{ q }}"]),
        ("table.csv", &["--prompt", "{{ q }}", "--column-prefix", "out_"]),
        ("twice.parquet", &["--prompt", "{{ q }}", "--n", "2", "--temperature", "1"]),
    ] {
        run(&[&["-i", &input, "-o", output], flags].concat());
        let page = made(&bench, output, &[]);
        let receipt: BTreeMap<String, String> = receipt_of(&bench, output).into_iter().collect();
        assert_eq!(page.pairs("input_tokens-figures")["sum"], receipt["input_tokens"], "{output}");
        assert_eq!(page.pairs("generated_tokens-figures")["sum"], receipt["generated_tokens"], "{output}");
        assert_eq!(page.table("errors-kinds")[0][..2], ["template error", "1"], "{output}");
        assert_eq!(page.table("settings-parts").len(), if output == "parts" { 2 } else { 1 });
        let ended: u64 = page.table("finish_reasons").iter().map(|row| row[1].parse::<u64>().unwrap()).sum();
        assert!(ended >= 2, "{output}");
    }

    let schema = r#"{"type": "object", "additionalProperties": false, "required": ["mood", "urgent", "n"],
        "properties": {"mood": {"enum": ["<good>", "bad"]}, "urgent": {"type": "boolean"}, "n": {"enum": [1, 2]}}}"#;
    run(&[
        "-i",
        &input,
        "-o",
        "typed.parquet",
        "--prompt",
        "{{ q }}",
        "--json-schema",
        schema,
        "--max-tokens",
        "64",
    ]);
    let page = made(&bench, "typed.parquet", &[]);
    let out = read(&bench.path("typed.parquet"));
    let whole = text(&out, "error").iter().filter(|error| error.is_none()).count();
    let counted =
        |table: &str| page.table(table).iter().map(|row| row[1].parse::<usize>().unwrap()).sum::<usize>();
    assert_eq!((counted("labels-answer.mood"), counted("labels-answer.urgent")), (whole, whole));
    assert_eq!(page.pairs("column-answer.n")["values"], whole.to_string());

    let documents = r#"{"column": "q", "map-prompt": "{{ chunk }}", "reduce-prompt": "{% for note in notes %}{{ note }}{% endfor %}"}"#;
    run(&["-i", &input, "-o", "documents.parquet", "--documents", documents]);
    let page = made(&bench, "documents.parquet", &[]);
    assert_eq!(page.pairs("num_chunks-figures")["sum"], "2");

    let chat = |id: &str, body: &str| {
        format!(
            "{{\"custom_id\": \"{id}\", \"method\": \"POST\", \"url\": \"/v1/completions\", \"body\": {body}}}\n"
        )
    };
    let requests = [
        chat("a", "{\"prompt\": \"grain\"}"),
        chat("b", "{\"prompt\": \"x\", \"secret\": 1}"),
        chat("a", "{}"),
    ];
    std::fs::write(bench.path("requests.jsonl"), requests.concat()).unwrap();
    run(&["--batch", "requests.jsonl", "-o", "results.jsonl"]);
    let page = made(&bench, "results.jsonl", &[]);
    let kinds: Vec<Vec<String>> = page.table("errors-kinds");
    assert_eq!((kinds.len(), page.pairs("generated_tokens-figures")["rows"].as_str()), (2, "1"), "{kinds:?}");
    assert!(kinds[1][0].starts_with("status 400") && kinds[1][3] == "1", "{kinds:?}");
    assert!(!page.html.contains("secret"));
    // Without the folder beside it, a batch is known by its form.
    std::fs::rename(bench.path("results.jsonl.gristmill"), bench.path("away")).unwrap();
    assert_eq!(made(&bench, "results.jsonl", &[]).table("errors-kinds"), kinds);
}

#[test]
fn what_is_missing_or_in_the_way_is_said() {
    let bench = Bench::new();
    let output = labelled(&bench);
    let refused = |arguments: &[&str], why: &str| {
        let ran = bench.run(&[&["report"], arguments].concat());
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
    };
    refused(&["nowhere.parquet"], "there is no output nowhere.parquet");
    refused(&["s3://bucket/out.parquet"], "say where with --html");
    refused(&["in.parquet"], "in.parquet has no column num_input_tokens");
    assert!(!bench.path("in.html").exists());
    std::fs::write(bench.path("out.html"), "<!doctype html><p>mine").unwrap();
    refused(&[&output], "out.html exists and is no report of gristmill");
    assert_eq!(std::fs::read_to_string(bench.path("out.html")).unwrap(), "<!doctype html><p>mine");
    // Elsewhere, twice: a report is replaced.
    let first = made(&bench, &output, &["--html", "b.html"]).html;
    assert_eq!(made(&bench, &output, &["--html", "b.html"]).html, first);
    // The output is as it was.
    assert_eq!(bench.run(&["verify", &output]).code, 0);

    let receipt = bench.path("out.parquet.gristmill/receipt.json");
    let text = std::fs::read_to_string(&receipt).unwrap();
    std::fs::write(&receipt, text.replace("\"starts\": 1", "\"starts\": 9")).unwrap();
    let page = made(&bench, &output, &["--html", "b.html"]);
    // As `verify` refuses it, none of its figures is shown.
    let why = "receipt.json is not as it was written: its own digest does not match";
    assert!(page.section("receipt").contains(why) && !page.tables.contains_key("receipt-figures"));
    assert!(!page.html.contains("Active time") && !page.html.contains("in 9 starts"));
    for text in ["{", "no JSON at all", &text[..text.len() - 9]] {
        std::fs::write(&receipt, text).unwrap();
        let page = made(&bench, &output, &["--html", "b.html"]);
        assert!(
            page.section("receipt").contains(why) && !page.section("receipt").contains("There is no receipt")
        );
    }
    std::fs::remove_file(&receipt).unwrap();
    let page = made(&bench, &output, &["--html", "b.html"]);
    assert!(page.section("receipt").contains("There is no receipt"));
    // The journal alone knows the settings, too.
    std::fs::remove_file(bench.path("out.parquet.gristmill/manifest.json")).unwrap();
    let page = made(&bench, &output, &["--html", "b.html"]);
    assert!(page.pairs("settings-fields").contains_key("weights"));
    assert_eq!(page.table("labels-a").iter().map(|row| row[1].parse::<u64>().unwrap()).sum::<u64>(), 4);
}

/// Lines of JSON without a line have no columns either.
#[test]
fn an_output_without_rows_is_reported_and_evaluated() {
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("q", strings(&[Some("Yes"), Some("No")]))]);
    let choices = ["--limit", "0", "--prompt", "{{ q }}", "--choices", "label=a,b", "--temperature", "0"];
    for output in ["empty.jsonl", "empty.csv", "empty.parquet", "parts.jsonl"] {
        let parts = ["--rows-per-file", "5"];
        let flags = [&choices[..6], if output == "parts.jsonl" { &parts[..] } else { &[] }].concat();
        let model = support::golden("qwen3");
        let job = ["run", "--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input, "-o", output];
        let ran = bench.run(&[&job[..], &flags].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let page = made(&bench, output, &["--truth", "label=q"]);
        assert!(page.section("tokens").contains("The output has no rows."), "{output}");
        let differences = ["--differences", "wrong.csv"];
        let evaluated = bench.run(&[&["evaluate", output, "--truth", "label=q"], &differences[..]].concat());
        assert_eq!(evaluated.code, 0, "{output}: {}", evaluated.stderr);
        assert!(evaluated.stdout.contains("there are no rows, so that nothing was compared"), "{output}");
        let wrong = std::fs::read_to_string(bench.path("wrong.csv")).unwrap();
        assert!(wrong.lines().count() <= 1, "{wrong}");
        std::fs::remove_file(bench.path("wrong.csv")).unwrap();
        assert_eq!(bench.run(&["verify", output]).code, 0);
        if output != "parts.jsonl" && output != "empty.jsonl" {
            let nothing = bench.run(&["evaluate", output, "--truth", "nothing=q"]);
            assert!(nothing.code == 2 && nothing.stderr.contains("there is no column `nothing`"));
        }
    }
}

/// What was spent is the job's; the rest of the page is of the rows that the output has.
#[test]
fn a_report_of_a_part_of_a_job_says_what_is_of_all_of_it() {
    let bench = Bench::new();
    // Few enough that the journal keeps how long each took.
    let texts: Vec<String> = (0..15).map(|row| format!("the mill of {row}")).collect();
    let texts: Vec<Option<&str>> = texts.iter().map(|text| Some(text.as_str())).collect();
    let input = bench.table("in.parquet", vec![("q", strings(&texts))]);
    let output = bench.name("out.parquet");
    let run = |limit: &str| {
        let flags = ["--limit", limit, "--prompt", "{{ q }}", "--price-per-hour", "3600"];
        assert_eq!(bench.job("qwen3", &input, &output, &flags).code, 0);
        made(&bench, "out.parquet", &[])
    };
    let said = "of all 15 rows of the job";
    assert!(!run("15").html.contains(said));
    let part = run("7");
    assert_eq!(part.html.matches(said).count(), 2 + part.html.matches("W on average").count());
    assert!(part.section("time").contains("the output has the first 7 of them (--limit)"));
    let slowest: Vec<u64> = part.table("time-slowest").iter().map(|row| row[0].parse().unwrap()).collect();
    assert!(!slowest.is_empty() && slowest.iter().all(|row| *row < 7), "{slowest:?}");
    let receipt: BTreeMap<String, String> = receipt_of(&bench, "out.parquet").into_iter().collect();
    assert_eq!((receipt["rows"].as_str(), receipt["output_rows"].as_str()), ("15", "7"));
    assert_eq!(part.pairs("generated_tokens-figures")["rows"], "7");
}

#[test]
fn a_prompt_that_is_too_long_counts_no_tokens() {
    let bench = Bench::new();
    let long = "a ".repeat(200);
    let input = bench.table("in.parquet", vec![("q", strings(&[Some("Yes"), Some(&long), Some("No")]))]);
    let model = support::golden("qwen3");
    let flags = ["--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input, "--prompt-column", "q"];
    let limits = ["-o", "out.parquet", "--max-tokens", "4", "--max-model-len", "32", "--max-error-rate", "1"];
    let ran = bench.run(&[&["run"], &flags[..], &limits].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let receipt = std::fs::read(bench.path("out.parquet.gristmill/receipt.json")).unwrap();
    let receipt: Value = serde_json::from_slice(&receipt).unwrap();
    let page = made(&bench, "out.parquet", &[]);
    let tokens = receipt["input_tokens"].as_u64().unwrap();
    let out = read(&bench.path("out.parquet"));
    let sum: u64 = ints(&out, "num_input_tokens").into_iter().flatten().map(|n| n as u64).sum();
    assert!(sum > tokens + 100, "{sum} and {tokens}");
    let held = |number: u64| page.html.contains(&format!(">{number}<"));
    assert!(held(tokens) && !held(sum), "{sum} in place of {tokens}");
}

#[test]
fn an_output_that_was_edited_has_no_report() {
    let bench = Bench::new();
    let output = labelled(&bench);
    let mut bytes = std::fs::read(bench.path(&output)).unwrap();
    bytes[20] ^= 1;
    std::fs::write(bench.path(&output), bytes).unwrap();
    let ran = bench.run(&["report", &output]);
    assert_eq!((ran.code, bench.run(&["verify", &output]).code), (2, 2), "{}", ran.stderr);
    assert!(ran.stderr.contains("does not hold what was published"), "{}", ran.stderr);
    assert!(!bench.path("out.html").exists());
}

#[test]
fn rows_over_time_are_those_of_all_starts() {
    let bench = Bench::new();
    let texts: Vec<String> = (0..40).map(|row| format!("the mill of {row}")).collect();
    let texts: Vec<Option<&str>> = texts.iter().map(|text| Some(text.as_str())).collect();
    let input = bench.table("in.parquet", vec![("q", strings(&texts))]);
    for limit in ["10", "25", "40"] {
        let ran = bench.job(
            "qwen3",
            &input,
            &bench.name("out.parquet"),
            &["--limit", limit, "--prompt", "{{ q }}"],
        );
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    let page = made(&bench, "out.parquet", &[]);
    let count = |table: &str, at: usize| {
        page.table(table).iter().map(|row| row[at].parse::<u64>().unwrap()).sum::<u64>()
    };
    assert_eq!((count("time-starts", 3), count("time-rates", 1)), (40, 40));
    let marks = page.table("time-rates").iter().filter(|row| row[4] == "restart").count();
    assert_eq!((page.table("time-starts").len(), marks), (3, 2));
    let tokens = ints(&read(&bench.path("out.parquet")), "num_generated_tokens");
    for row in page.table("time-slowest") {
        let of_row = tokens[row[0].parse::<usize>().unwrap()].unwrap();
        assert!(row[3] == of_row.to_string() && row[1].parse::<f64>().unwrap() > 0.0, "{row:?}");
    }
    // What a copy without its journal lacks.
    std::fs::remove_file(bench.path("out.parquet.gristmill/journal.sqlite")).unwrap();
    assert!(made(&bench, "out.parquet", &[]).section("time").contains("There are no times"));
}

/// In a real browser: nothing goes wrong, nothing is cut off at the side, and each figure of the receipt can be seen.
#[cfg(target_os = "linux")]
#[test]
fn a_browser_shows_a_report_without_errors() {
    let Some(mut browser) = support::browser::Browser::open() else { return };
    let bench = Bench::new();
    let output = labelled(&bench);
    made(&bench, &output, &["--truth", "a=truth", "--with-texts"]);
    let figures = receipt_of(&bench, &output);
    for (width, scheme) in [(400, "light"), (400, "dark"), (1280, "light"), (1280, "dark")] {
        browser.show(&bench.path("out.html"), width, scheme);
        let wide = browser.evaluate("document.documentElement.scrollWidth");
        assert!(wide.as_u64().unwrap() <= width.into(), "{wide} of {width} pixels");
        let seen = browser.evaluate("document.getElementById('receipt').innerText");
        for (name, value) in &figures {
            assert!(seen.as_str().unwrap().contains(value), "{name}: {value} at {width} pixels: {seen}");
        }
        let charts =
            browser.evaluate("[...document.querySelectorAll('svg')].filter(e => e.checkVisibility()).length");
        let all = browser.evaluate("document.querySelectorAll('svg').length");
        // One of the two sizes of each.
        assert!(
            charts.as_u64() > Some(2) && charts.as_u64().unwrap() * 2 == all.as_u64().unwrap(),
            "{charts} of {all}"
        );
        // Letters differ from what is behind them.
        let contrast = browser.evaluate(CONTRAST);
        assert!(contrast.as_f64().unwrap() >= 4.5, "{contrast} at {width} pixels, {scheme}");
        assert_eq!(browser.evaluate("document.scripts.length"), 0);
    }
    assert!(browser.said.is_empty(), "{:?}", browser.said);
}

/// The least contrast of text and ground on the page, as WCAG 2 defines it.
#[cfg(target_os = "linux")]
const CONTRAST: &str = "(() => {
    const light = colour => {
        const [r, g, b] = colour.match(/[0-9.]+/g).map(c => c / 255).map(c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b;
    };
    const ground = element => {
        const colour = getComputedStyle(element).backgroundColor;
        return colour == 'rgba(0, 0, 0, 0)' ? ground(element.parentElement) : colour;
    };
    let least = 21;
    for (const element of document.querySelectorAll('h1, h2, h3, p, td, th, dt, dd, a, summary, small, figcaption, caption, svg text')) {
        const style = getComputedStyle(element);
        const [a, b] = [light(element.tagName == 'text' ? style.fill : style.color), light(ground(element))];
        least = Math.min(least, (Math.max(a, b) + .05) / (Math.min(a, b) + .05));
    }
    return least;
})()";
