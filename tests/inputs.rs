//! Whole jobs over folders, files of several schemas and formats: every row once, every value as the input has it.

#![allow(clippy::unwrap_used)]

mod support;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use std::path::Path;
use std::sync::Arc;
use support::job::{Bench, Ran, columns, read, strings, text, texts};

const QUICK: [&str; 4] = ["--prompt-column", "q", "--max-tokens", "1"];

fn ints(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

/// A job of one token a row with more flags.
fn job(bench: &Bench, input: &str, output: &str, flags: &[&str]) -> Ran {
    bench.job("qwen3", input, &bench.name(output), &[&QUICK[..], flags].concat())
}

fn answered(bench: &Bench, input: &str, output: &str, flags: &[&str]) -> RecordBatch {
    let ran = job(bench, input, output, flags);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    read(&bench.path(output))
}

fn refused(ran: &Ran, words: &[&str]) {
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    for word in words {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
}

/// A folder `in` with a table of two rows.
fn folder(bench: &Bench) {
    std::fs::create_dir(bench.path("in")).unwrap();
    bench.table("in/a.parquet", vec![("q", strings(&[Some("grain"), Some("mill")]))]);
}

#[test]
fn an_output_is_never_an_input_of_its_job() {
    let bench = Bench::new();
    folder(&bench);
    // Named from here or from the root, by the folder or by a glob, begun and resumed.
    for (input, output) in [("in", "in/answers.parquet"), ("in/*.parquet", "in/b.parquet")] {
        for again in [false, true] {
            let ran = bench.run(
                &[
                    &["run", "--device", "cpu", "--model", support::golden("qwen3").to_str().unwrap()][..],
                    &["-i", input, "-o", &bench.name(output), "--temperature", "0"],
                    &QUICK,
                ]
                .concat(),
            );
            assert_eq!(ran.code, 0, "{}", ran.stderr);
            assert_eq!(ran.stderr.contains("left out"), again, "{}", ran.stderr);
            assert_eq!(texts(&read(&bench.path(output)), "q"), ["grain", "mill"]);
        }
        refused(&job(&bench, &bench.name(output), output, &[]), &["is what the job writes"]);
        // To another job it is an output among files that are none.
        refused(
            &job(&bench, "in", "other.parquet", &["--keep", "q"]),
            &["is the output", "of a job", "answered twice"],
        );
        std::fs::remove_file(bench.path(output)).unwrap();
    }
    // A folder of parts within the folder of the input.
    for rows in [2, 1] {
        let ran = job(&bench, "in", "in/parts", &["--rows-per-file", "1"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(ran.stderr.contains("left out"), rows == 1, "{}", ran.stderr);
        assert_eq!(texts(&read(&bench.path("in/parts/part-00001.parquet")), "q"), ["mill"]);
    }
    refused(&job(&bench, "in/parts", "in/parts", &["--rows-per-file", "1"]), &["is what the job writes"]);
    // Named by itself, an output is an input as any other.
    let named = answered(&bench, &bench.name("in/parts"), "next.parquet", &["--column-prefix", "x_"]);
    assert_eq!(texts(&named, "q"), ["grain", "mill"]);
}

#[test]
fn an_output_is_of_the_format_that_its_name_says() {
    let bench = Bench::new();
    folder(&bench);
    for name in ["out.arrow", "out.feather", "out.tsv", "out.xlsx", "out.csv.gz"] {
        refused(&job(&bench, "in", name, &[]), &[name, "is not written"]);
        assert!(!bench.path(name).exists() && !bench.path(&format!("{name}.gristmill")).exists());
    }
}

#[test]
fn folders_are_searched_and_name_columns() {
    let bench = Bench::new();
    let names = [
        "year=2023/land=no",
        "year=2024/land=s%C3%A9%2Fx",
        "year=2024/land=__HIVE_DEFAULT_PARTITION__",
        "_tmp/x",
        ".x",
    ];
    for (i, name) in names.iter().enumerate() {
        std::fs::create_dir_all(bench.path("in").join(name)).unwrap();
        bench.table(
            &format!("in/{name}/part-{i}.parquet"),
            vec![("q", strings(&[Some(&format!("text {i}"))]))],
        );
    }
    bench.table("in/year=2023/_metadata.parquet", vec![("other", ints(&[1]))]);
    // By natural order of the paths, in which `%` and `_` come before letters.
    let (rows, lands) = ([0, 2, 1], [Some("no"), None, Some("sé/x")]);
    for (at, input) in
        ["in", "in/*/*/*.parquet", "in/**/part-?.parquet", "./in/year=*/*/part-*"].iter().enumerate()
    {
        if at == 2 {
            std::fs::remove_dir_all(bench.path("in/_tmp")).unwrap();
            std::fs::remove_dir_all(bench.path("in/.x")).unwrap();
        }
        let input = if at == 1 { "in/year*/*/part*.parquet" } else { input };
        let output = format!("out-{at}.parquet");
        let out = answered(&bench, input, &output, &[]);
        let expected: Vec<String> = rows.iter().map(|i| format!("text {i}")).collect();
        assert_eq!(texts(&out, "q"), expected, "{input}");
        assert_eq!(columns(&out)[..3], ["q: Utf8", "year: Int32", "land: Utf8"]);
        let years = out.column_by_name("year").unwrap().as_primitive::<Int32Type>();
        assert_eq!(years.values(), &[2023, 2024, 2024]);
        assert_eq!(text(&out, "land"), lands.map(|land| land.map(String::from)));
        assert_eq!(bench.run(&["verify", &output]).code, 0);
    }
    // What a folder says is read by prompts, and decides them: renamed, it is another job.
    let flags = [
        "--prompt",
        "{{ q }} {{ year }} {{ land | default('', true) }}",
        "--max-tokens",
        "1",
        "--keep",
        "land",
    ];
    let run = || bench.job("qwen3", "in", &bench.name("prompt.parquet"), &flags);
    assert_eq!(run().code, 0);
    std::fs::rename(bench.path("in/year=2023"), bench.path("in/year=2022")).unwrap();
    refused(&run(), &["holds another job", "input 1"]);
    // A file beside the folders lacks their columns, which matters where they are read.
    bench.table("in/part-9.parquet", vec![("q", strings(&[Some("text 9")]))]);
    refused(&job(&bench, "in", "stray.parquet", &[]), &["part-9.parquet, column year: is missing", "--keep"]);
    assert_eq!(answered(&bench, "in", "stray.parquet", &["--keep", "q"]).num_rows(), 4);
}

#[test]
fn columns_differ_where_nobody_reads_them_and_widths_are_widened() {
    let bench = Bench::new();
    let none: ArrayRef = Arc::new(arrow::array::NullArray::new(2));
    let words: ArrayRef = Arc::new(arrow::array::LargeStringArray::from(vec!["c", "d"]));
    let few: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    let fractions: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 1.5]));
    bench.table(
        "a.parquet",
        vec![("id", few), ("q", strings(&[Some("a"), None])), ("note", none), ("odd", fractions)],
    );
    let (many, texts_of) = (ints(&[3, i64::MAX]), strings(&[Some("x"), None]));
    bench.table("b.parquet", vec![("odd", texts_of.clone()), ("note", texts_of), ("q", words), ("id", many)]);
    let flags = ["-i", "b.parquet", "--on-corrupt", "row-errors", "--max-error-rate", "1"];
    let all = [&flags[..], &["--keep", "id,q,note"]].concat();
    let out = answered(&bench, "a.parquet", "out.parquet", &all);
    assert_eq!(columns(&out)[..3], ["id: Int64", "q: LargeUtf8", "note: Utf8"]);
    let id = out.column_by_name("id").unwrap().as_primitive::<Int64Type>();
    assert_eq!(id.values(), &[1, 2, 3, i64::MAX]);
    let q: Vec<_> = out.column_by_name("q").unwrap().as_string::<i64>().iter().collect();
    assert_eq!(q, [Some("a"), None, Some("c"), Some("d")]);
    assert_eq!(text(&out, "note"), [None, None, Some("x".into()), None]);
    assert_eq!(bench.run(&["verify", "out.parquet"]).code, 0);
    refused(
        &job(&bench, "a.parquet", "all.parquet", &flags),
        &[
            "b.parquet, column odd: is Utf8, but it is Float64 in a.parquet",
            "cast it to Utf8 in a.parquet",
            "--keep",
        ],
    );
    let prompt = ["--prompt", "{{ odd }}", "--keep", "id", "-i", "b.parquet", "--max-tokens", "1"];
    refused(&bench.job("qwen3", "a.parquet", &bench.name("p.parquet"), &prompt), &["column odd"]);
    assert_eq!(out.column_by_name("q").unwrap().data_type(), &DataType::LargeUtf8);
    assert!(Path::new(&bench.name("out.parquet")).exists());
}
