//! Files with random changes are refused or served, and nothing panics, overflows or hangs.
//!
//! A changed file with a new outcome is changed further. `GRISTMILL_FUZZ_SECONDS` sets the time for each target;
//! without it a few hundred cases run. `tests/fuzz` has the same targets for libFuzzer.

#![allow(clippy::unwrap_used)]

mod support;
#[path = "fuzz/targets.rs"]
mod targets;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};
use support::dice::Dice;

/// Cases without `GRISTMILL_FUZZ_SECONDS`.
const CASES: u64 = 400;

/// The maximum length of a file, in bytes.
const LONGEST: usize = 1 << 16;

fn range(dice: &mut Dice, of: usize, most: usize) -> std::ops::Range<usize> {
    let start = dice.index(of + 1);
    start..(start + dice.index(most)).min(of)
}

/// Changes a file in one to eight places, with pieces of it, pieces of `other`, and `words`.
fn mutate(dice: &mut Dice, file: &[u8], other: &[u8], words: &[&str]) -> Vec<u8> {
    const NUMBERS: [&str; 12] = [
        "0",
        "-1",
        "1e308",
        "-0.0",
        "4294967296",
        "18446744073709551615",
        "9223372036854775808",
        "1e-999",
        "null",
        "[]",
        "{}",
        "\"\"",
    ];
    let mut file = file.to_vec();
    for _ in 0..1 + dice.index(8) {
        let at = range(dice, file.len(), 24);
        match dice.index(8) {
            0 if !file.is_empty() => {
                let at = dice.index(file.len());
                file[at] ^= 1 << dice.index(8);
            }
            1 => drop(file.splice(at, [])),
            2 => {
                let piece = file[range(dice, file.len(), 64)].to_vec();
                file.splice(at, piece);
            }
            3 => {
                let piece = other[range(dice, other.len(), 200)].to_vec();
                file.splice(at, piece);
            }
            4 => {
                // A number, where there is one.
                let start = at.start + file[at.start..].iter().position(u8::is_ascii_digit).unwrap_or(0);
                let digits = file[start..].iter().take_while(|b| b.is_ascii_digit()).count();
                file.splice(start..start + digits, NUMBERS[dice.index(NUMBERS.len())].bytes());
            }
            5 => {
                let piece = file[range(dice, file.len(), 16)].repeat(1 + dice.index(200));
                file.splice(at, piece);
            }
            6 => file.truncate(file.len() - dice.index(file.len() / 4 + 1)),
            _ => drop(file.splice(at.start..at.start, words[dice.index(words.len())].bytes())),
        }
        file.truncate(LONGEST);
    }
    file
}

/// An outcome without its numbers and quoted names, of which there are too many.
fn shape(outcome: &str) -> String {
    let mut quoted = false;
    let keep = |c: &char| {
        let quote = matches!(c, '`' | '"' | '\'');
        quoted ^= quote;
        !quoted && !quote && c.is_ascii_alphabetic()
    };
    outcome.chars().filter(keep).take(160).collect()
}

fn try_out(name: &str, target: fn(&[u8]) -> String, seeds: Vec<Vec<u8>>, words: &[&str]) {
    let seconds = std::env::var("GRISTMILL_FUZZ_SECONDS").ok().map(|s| s.parse().unwrap());
    let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    // After an abort, the file that caused it is still there.
    let last = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mutation-{name}"));
    let mut dice = Dice(seconds.map_or(1, |_| u64::from(std::process::id())));
    let mut corpus = seeds;
    let mut shapes: HashSet<String> = corpus.iter().map(|seed| shape(&target(seed))).collect();
    let (mut cases, mut slowest) = (0u64, Duration::ZERO);
    while until.map_or(cases < CASES, |until| Instant::now() < until) {
        let (one, other) = (dice.index(corpus.len()), dice.index(corpus.len()));
        let file = mutate(&mut dice, &corpus[one], &corpus[other], words);
        std::fs::write(&last, &file).unwrap();
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| target(&file)));
        slowest = slowest.max(begun.elapsed());
        cases += 1;
        let Ok(outcome) = outcome else { panic!("{name}: {} made it panic", last.display()) };
        if shapes.insert(shape(&outcome)) && corpus.len() < 5000 {
            corpus.push(file);
        }
    }
    std::fs::remove_file(last).unwrap();
    println!("{name}: {cases} cases, {} outcomes, the slowest took {slowest:?}", shapes.len());
    assert!(shapes.len() > 5, "{name}: all files have the same outcome: {shapes:?}");
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(support::golden(name)).unwrap()
}

#[test]
fn configs() {
    let models = ["qwen3", "llama3", "mistral", "qwen2-window", "llama-linear", "mistral-nemo"];
    let seeds = models.map(|model| file(&format!("{model}/config.json"))).to_vec();
    let words =
        ["\"rope_scaling\":{\"rope_type\":\"yarn\"},", "\"layer_types\":[\"sliding_attention\"],", "true"];
    try_out("configs", targets::config, seeds, &words);
}

#[test]
fn safetensors() {
    // A header and no data, one with its data, and a shard.
    let whole = file("qwen3/model.safetensors");
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let small = br#"{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}"#;
    let tiny = [&(small.len() as u64).to_le_bytes()[..], small, &[0; 8]].concat();
    let seeds = vec![
        whole[..8 + header].to_vec(),
        tiny,
        whole,
        file("llama3-sharded/model-00001-of-00002.safetensors"),
    ];
    let words =
        ["\"dtype\":\"BF16\",", "\"__metadata__\":{},", "[0,0]", "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}"];
    try_out("safetensors", targets::safetensors, seeds, &words);
}

#[test]
fn templates() {
    let text = |name: &str| {
        let json: serde_json::Value =
            serde_json::from_slice(&file(&format!("templates/{name}.json"))).unwrap();
        json["template"].as_str().unwrap().as_bytes().to_vec()
    };
    let names = ["chatml", "dated-generation", "llama2", "llama3", "mistral", "qwen-tools"];
    let words = [
        "{% for m in messages %}",
        "{% endfor %}",
        "{% if true %}",
        "{% endif %}",
        "{{ messages | tojson(indent=4) }}",
        "{% macro f(x) %}",
        "{% endmacro %}",
        "{% set ns = namespace(a=1) %}",
        "| upper",
        "[::-1]",
        "~",
        "* 1000000",
        "{{ range(99999) | list }}",
        "strftime_now('%d %b')",
        "raise_exception('no')",
        "{%- generation %}",
        "{#",
        "'é'",
        ".split('a')",
        "loop.previtem",
        "{% break %}",
        "is defined",
        "**",
        "//",
    ];
    try_out("templates", targets::template, names.map(text).to_vec(), &words);
}

#[test]
fn job_files() {
    let job = "model = 'm'\ninput = ['a.parquet', \"b\"]\noutput = 'out'\nprompt = '{{ q }}'\nmax-tokens = 16\n\
               temperature = 0.5\nstop = [\"\\n\"]\nlogit_bias = { 3 = 1.5 }\nkeep = ['q']\nlimit = '2K'\nfresh = true\n\
               chat_template_kwargs = { a = [1, { b = 2 }] }\ndevice = 'cuda:1'\nreturn = ['logprobs']\n";
    let mut seeds = vec![job.as_bytes().to_vec()];
    for name in ["label-messages", "extract-orders", "summarise-messages", "summarise-threads"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.toml"));
        seeds.extend(std::fs::read(path).ok());
    }
    let words = [
        "[a.b]\n",
        "[[x]]\n",
        "\"\"\"",
        "'''",
        "= nan\n",
        "2024-01-01",
        "--",
        "\\u0000",
        "0x7f",
        "input = []\n",
    ];
    try_out("job files", targets::job, seeds, &words);
}

#[test]
fn parquet() {
    let bench = support::job::Bench::new();
    let words: Vec<String> = (0..400).map(|i| format!("word {}", i % 90)).collect();
    let rows: Vec<Option<&str>> = words.iter().map(|w| (w != "word 7").then_some(w.as_str())).collect();
    let numbers = arrow::array::Int32Array::from_iter_values(0..400);
    let lists = arrow::array::ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>(
        (0..400).map(|i| (i % 9 != 0).then(|| vec![Some(i); i as usize % 4])),
    );
    let columns: Vec<(&str, arrow::array::ArrayRef)> = vec![
        ("q", support::job::strings(&rows)),
        ("n", std::sync::Arc::new(numbers)),
        ("l", std::sync::Arc::new(lists)),
    ];
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    let batch = arrow::array::RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let small = batch.slice(0, 3).project(&[0]).unwrap();
    let seeds = [bench.batch("a.parquet", &batch, 150), bench.batch("b.parquet", &small, 10)];
    let words = ["PAR1", "\u{15}\u{2}\u{19}", "\u{7f}\u{7f}\u{7f}\u{7f}\u{7}", "\0\0\0\0"];
    try_out("parquet", targets::parquet, seeds.map(|seed| std::fs::read(seed).unwrap()).to_vec(), &words);
}

#[test]
fn requests() {
    let line = |url: &str, body: &str| {
        let body = format!(
            "{{{body}, \"max_tokens\": 4, \"stop\": [\"a\"], \"logit_bias\": {{\"3\": 1}}, \"seed\": -1}}"
        );
        format!("{{\"custom_id\": \"a\", \"method\": \"POST\", \"url\": \"{url}\", \"body\": {body}}}")
            .into_bytes()
    };
    let seeds = vec![
        line(
            "/v1/chat/completions",
            r#""messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]"#,
        ),
        line("/v1/completions", r#""prompt": [1, 2], "n": 2, "logprobs": 3"#),
    ];
    let words = [
        "\"top_logprobs\": 3, \"logprobs\": true,",
        "\"tools\": [],",
        "\"stream\": true,",
        "\"chat_template_kwargs\": {\"a\": [1]},",
        "\"temperature\": 0.5,",
        "\"prompt\": \"\\ud83d\",",
        "\u{0}",
        "[[",
    ];
    try_out("requests", targets::request, seeds, &words);
}
