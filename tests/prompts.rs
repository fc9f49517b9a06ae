//! Templates of prompts, by whole jobs through the binary.

#![allow(clippy::unwrap_used)]

mod support;

use arrow::array::RecordBatch;
use std::collections::HashMap;
use std::sync::Arc;
use support::job::{Bench, strings, text, texts};

const RIVERS: [Option<&str>; 3] =
    [Some("the mill by the river"), Some("where is the grain"), Some("no name")];

/// What makes a prompt show in its answer.
const FLAGS: [&str; 5] = ["--raw", "--max-tokens", "4", "--return", "prompt_logprobs"];

fn flags<'a>(further: &[&'a str]) -> Vec<&'a str> {
    [&FLAGS[..], further].concat()
}

/// All columns of answers, which tell what was asked.
fn asked(bench: &Bench, input: &str, further: &[&str]) -> RecordBatch {
    let out = bench.answers("qwen3", input, &flags(&[further, &["--fresh", "--keep", "id"]].concat()));
    // The metadata has the identity.
    let schema = out.schema().as_ref().clone().with_metadata(HashMap::new());
    RecordBatch::try_new(Arc::new(schema), out.columns().to_vec()).unwrap()
}

/// A job that ends before anything is answered, as it must; its first error line.
fn refused(bench: &Bench, input: &str, further: &[&str]) -> String {
    let ran = bench.job("qwen3", input, &bench.name("refused.parquet"), &flags(further));
    assert_eq!(ran.code, 2, "{further:?}: {}", ran.stderr);
    assert!(!bench.path("refused.parquet").exists());
    ran.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default().into()
}

fn table(bench: &Bench) -> String {
    let short: Vec<Option<String>> =
        RIVERS.iter().map(|text| text.map(|text| text.chars().take(8).collect())).collect();
    let short: Vec<Option<&str>> = short.iter().map(Option::as_deref).collect();
    let ids = [Some("0"), Some("1"), Some("2")];
    let columns =
        [("id", &ids[..]), ("text", &RIVERS), ("short", &short), ("my col", &RIVERS), ("range", &RIVERS)];
    bench.table("in.parquet", columns.map(|(name, values)| (name, strings(values))).into())
}

#[test]
fn a_template_sees_every_column_that_it_reads() {
    let bench = Bench::new();
    let input = table(&bench);
    let whole = asked(&bench, &input, &["--prompt-column", "text"]);
    let short = asked(&bench, &input, &["--prompt-column", "short"]);
    assert_ne!(whole, short);
    for template in [
        "{{ text[:8] }}",
        "{% set text = text[:8] %}{{ text }}",
        "{% with text = text[:8] %}{{ text }}{% endwith %}",
        "{{ row['my col'][:8] }}",
        "{% macro m() %}{{ text[:8] }}{% endmacro %}{{ m() }}",
        "{% filter replace('x', text) %}x{% endfilter %}",
        "{{ range }}",
        "{{ row['range'] ~ '' }}",
    ] {
        let expected = if template.contains(":8]") { &short } else { &whole };
        assert_eq!(&asked(&bench, &input, &["--prompt", template]), expected, "{template}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_at_the_start() {
    let bench = Bench::new();
    let input = table(&bench);
    for (template, why) in [
        ("Summarise: {text}", "{text} is plain text: write {{ text }}"),
        ("hello", "--prompt uses no column"),
        (
            "{{ txt }}",
            "no column `txt` (line 1), and the template does not set it; it has `id`, `text`, `short`, `my col`, `range`",
        ),
        ("{{ text }}{{ txt is defined }}", "no column `txt`"),
        ("{{ text }}{{ txt }}", "is read as row['my col']"),
        ("{{ my col }}", "The column `my col` is read as row['my col']"),
        ("{{ text }}{{ range(3) }}", "`range` is called (line 1), but it is a column"),
        ("{% set text = 'x' %}{{ text }}", "is a variable of the template and also a column"),
        ("{{ text | shout }}", "there is no filter `shout` (line 1)"),
        ("{{ text.shout() }}", "no row can be rendered (3 tried); row 0: unknown method"),
        ("@nowhere.txt", "No such file"),
    ] {
        let error = refused(&bench, &input, &["--prompt", template]);
        assert!(error.contains(why), "{template}: {error}");
    }
    let same = asked(&bench, &input, &["--prompt", "hello", "--allow-constant-prompt"]);
    assert_eq!(text(&same, "error"), [None, None, None]);
}

#[test]
fn a_template_can_be_a_file() {
    let bench = Bench::new();
    let input = table(&bench);
    std::fs::write(bench.path("t.jinja"), "\u{feff}{# cut #}\r\n{{ text[:8] }}\r\n").unwrap();
    std::fs::write(bench.path("job.toml"), "prompt-file = 't.jinja'\n").unwrap();
    let expected = asked(&bench, &input, &["--prompt", "{# cut #}\n{{ text[:8] }}"]);
    for by in [&["--prompt-file", "t.jinja"][..], &["--prompt", "@t.jinja"], &["job.toml"]] {
        assert_eq!(asked(&bench, &input, by), expected, "{by:?}");
    }
    // The text is the job's, not the name of its file.
    std::fs::write(bench.path("t.jinja"), "{{ text }}").unwrap();
    let ran = bench.job(
        "qwen3",
        &input,
        &bench.name("out.parquet"),
        &flags(&["--prompt-file", "t.jinja", "--keep", "id"]),
    );
    assert!(ran.stderr.contains("  prompt: begun with"), "{}", ran.stderr);
    std::fs::write(bench.path("latin"), b"\xe4").unwrap();
    assert!(
        refused(&bench, &input, &["--prompt-file", "latin"]).contains("--prompt-file latin: is not UTF-8")
    );
    let both = bench.job(
        "qwen3",
        &input,
        &bench.name("x.parquet"),
        &flags(&["--prompt", "x", "--prompt-file", "y"]),
    );
    assert_eq!(both.code, 2, "{}", both.stderr);
}

#[test]
fn a_null_is_an_error_of_its_row_where_it_would_become_text() {
    let bench = Bench::new();
    let values = [Some("the mill"), None, Some("grain")];
    let ids = [Some("0"), Some("1"), Some("2")];
    let input = bench.table("in.parquet", vec![("id", strings(&ids)), ("text", strings(&values))]);
    let plain = asked(&bench, &input, &["--prompt-column", "text", "--max-error-rate", "1"]);
    for template in
        ["{{ text }}", "{{ text ~ '' }}", "{{ text[:99] }}", "{{ '%s' % text }}", "{{ text | string }}"]
    {
        let out = asked(&bench, &input, &["--prompt", template, "--max-error-rate", "1"]);
        let errors = text(&out, "error");
        let why =
            "template error: --prompt: column `text` is null in this row (line 1); say what to write instead";
        assert!(errors[1].as_deref().unwrap_or_default().starts_with(why), "{template}: {errors:?}");
        for row in [0, 2] {
            assert_eq!(out.slice(row, 1), plain.slice(row, 1), "{template}: its neighbours are answered");
        }
    }
    let out = asked(&bench, &input, &["--prompt", "{{ text or 'nothing' }}{{ '!' if text is none }}"]);
    assert_eq!(text(&out, "error"), [None, None, None]);
    let rendered = "{{ text | default('nothing', true) }}";
    let chat =
        ["--prompt", rendered, "--chat-template", "{{ gone }}{{ none }}{{ messages[0].content }}", "--fresh"];
    let out = bench.answers("qwen3", &input, &chat);
    assert_eq!(texts(&out, "id"), ["0", "1", "2"], "a chat template keeps Jinja's rules");
}
