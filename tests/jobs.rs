//! Whole jobs through the binary: Parquet in, Parquet out, with the small models of `tests/golden`.

#![allow(clippy::unwrap_used)]

mod support;

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int64Builder, ListBuilder, StringBuilder, StructBuilder,
};
use arrow::array::{DictionaryArray, LargeStringArray, StringArray, StringViewArray};
use arrow::datatypes::{DataType, Field, Float32Type, Int8Type, Int32Type};
use safetensors::SafeTensors;
use serde_json::Value;
use std::sync::Arc;
use support::job::{Bench, columns, float_list, int_list, ints, read, strings, text, texts};

const RIVERS: [Option<&str>; 5] = [
    Some("the mill"),
    Some("Where is the river?"),
    Some("grain"),
    Some("no name"),
    Some("the name of the river"),
];

/// The prompts of a golden model, with the greedy tokens and their log-probabilities.
fn expected(model: &str) -> Vec<(Vec<i32>, Vec<i32>, Vec<f32>)> {
    let bytes = std::fs::read(support::golden(model).join("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: String| tensors.tensor(&name).unwrap().data().as_chunks::<4>().0.to_vec();
    let ints = |name| words(name).into_iter().map(i32::from_le_bytes).collect();
    let floats = |name| words(name).into_iter().map(f32::from_le_bytes).collect();
    (0..3)
        .map(|i| {
            let part = |part| format!("prompt.{i}.{part}");
            (ints(part("ids")), ints(part("greedy_ids")), floats(part("greedy_logprobs")))
        })
        .collect()
}

fn id_lists(lists: impl IntoIterator<Item = Vec<i32>>) -> ArrayRef {
    let mut list = ListBuilder::new(Int64Builder::new());
    for ids in lists {
        list.append_value(ids.into_iter().map(|id| Some(i64::from(id))));
    }
    Arc::new(list.finish())
}

#[test]
fn answers_are_those_of_transformers() {
    let bench = Bench::new();
    let expected = expected("qwen3");
    let prompts = id_lists(expected.iter().map(|(prompt, ..)| prompt.clone()));
    let input =
        bench.table("in.parquet", vec![("ids", prompts), ("n", Arc::new(Int32Array::from(vec![7, 8, 9])))]);
    let flags =
        ["--prompt-tokens-column", "ids", "--return", "generated_tokens,token_logprobs", "--keep", "n"];
    let out = bench.answers("qwen3", &input, &flags);
    assert_eq!(
        columns(&out),
        [
            "n: Int32",
            "generated_text: Utf8",
            "finish_reason: Utf8",
            "num_input_tokens: Int32",
            "num_generated_tokens: Int32",
            "error: Utf8",
            "generated_tokens: List(Int32)",
            "token_logprobs: List(Float32)"
        ]
        .map(|column| column
            .replace("List(Int32)", &list_of("Int32"))
            .replace("List(Float32)", &list_of("Float32")))
    );
    assert_eq!(ints(&out, "n"), [Some(7), Some(8), Some(9)]);
    for (row, (prompt, tokens, logprobs)) in expected.iter().enumerate() {
        assert_eq!(&int_list(&out, "generated_tokens", row), tokens, "row {row}");
        for (ours, theirs) in float_list(&out, "token_logprobs", row).iter().zip(logprobs) {
            assert!((ours - theirs).abs() < 1e-4, "{ours} {theirs}");
        }
        assert_eq!(ints(&out, "num_input_tokens")[row], Some(prompt.len() as i32));
    }
    assert_eq!(ints(&out, "num_generated_tokens"), [Some(16); 3]);
    assert_eq!(texts(&out, "finish_reason"), ["length"; 3]);
    assert_eq!(text(&out, "error"), [None, None, None]);
}

/// How a list type of the output is written.
fn list_of(item: &str) -> String {
    let item = if item == "Int32" { DataType::Int32 } else { DataType::Float32 };
    DataType::List(Arc::new(Field::new("item", item, true))).to_string()
}

#[test]
fn conversations_have_as_many_tokens_as_in_transformers() {
    let chat: Value = serde_json::from_slice(&std::fs::read(support::golden("chat.json")).unwrap()).unwrap();
    let cases = chat["conversations"].as_array().unwrap();
    let cases: Vec<&Value> = cases.iter().filter(|case| case["add_generation_prompt"] == true).collect();
    assert!(cases.len() > 5);
    let utf8 = |name: &str| Field::new(name, DataType::Utf8, true);
    let mut list = ListBuilder::new(StructBuilder::from_fields(vec![utf8("role"), utf8("content")], 0));
    for case in &cases {
        for message in case["messages"].as_array().unwrap() {
            for (i, key) in ["role", "content"].into_iter().enumerate() {
                let field = list.values().field_builder::<StringBuilder>(i).unwrap();
                field.append_value(message[key].as_str().unwrap());
            }
            list.values().append(true);
        }
        list.append(true);
    }
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("messages", Arc::new(list.finish()))]);
    let out = bench.answers("qwen3", &input, &["--messages-column", "messages", "--max-tokens", "1"]);
    let tokens: Vec<_> =
        cases.iter().map(|case| Some(case["ids"].as_array().unwrap().len() as i32)).collect();
    assert_eq!(ints(&out, "num_input_tokens"), tokens);
}

#[test]
fn every_string_type_gives_the_same_answers() {
    let bench = Bench::new();
    let plain = RIVERS.map(Option::unwrap);
    let arrays: [ArrayRef; 4] = [
        Arc::new(StringArray::from(plain.to_vec())),
        Arc::new(LargeStringArray::from(plain.to_vec())),
        Arc::new(StringViewArray::from(plain.to_vec())),
        Arc::new(plain.into_iter().collect::<DictionaryArray<Int8Type>>()),
    ];
    let mut answers = Vec::new();
    for (i, array) in arrays.into_iter().enumerate() {
        let input = bench.table(&format!("in{i}.parquet"), vec![("q", array)]);
        let out = bench.answers("qwen3", &input, &["--prompt", "{{ q }}", "--fresh"]);
        answers.push(texts(&out, "generated_text"));
    }
    assert!(answers.iter().all(|texts| texts == &answers[0]), "{answers:?}");
    assert!(answers[0].iter().collect::<std::collections::BTreeSet<_>>().len() > 1);
}

#[test]
fn bad_rows_get_errors_and_their_neighbours_do_not_notice() {
    let bench = Bench::new();
    let long = "river ".repeat(2000);
    let huge = "a".repeat(1_000_000);
    let marker = "<|im_end|><|im_start|>";
    let emoji = "🌾".repeat(250_000);
    let rows = [
        Some("the mill"),
        None,
        Some(&*long),
        Some("grain"),
        Some(&*huge),
        Some(marker),
        Some("no\0name"),
        Some(&*emoji),
    ];
    let input = bench.table("in.parquet", vec![("q", strings(&rows))]);
    let out = bench.answers("qwen3", &input, &["--prompt-column", "q"]);
    let errors = text(&out, "error");
    assert_eq!(errors[1].as_deref(), Some("null prompt: the prompt column is null in this row"));
    for row in [2, 4, 7] {
        let error = errors[row].as_deref().unwrap();
        assert!(error.starts_with("prompt too long: ") && error.contains("--max-model-len"), "{error}");
    }
    for row in [1, 2, 4, 7] {
        assert_eq!(texts(&out, "finish_reason")[row], "error");
        assert_eq!(
            (text(&out, "generated_text")[row].clone(), ints(&out, "num_generated_tokens")[row]),
            (None, Some(0))
        );
    }
    for row in [0, 3, 5, 6] {
        assert_eq!(errors[row], None);
    }
    // As markup the two markers would be two tokens; as text they are many.
    let tokens = ints(&out, "num_input_tokens");
    assert!(tokens[5] > tokens[3].map(|grain| grain + 4), "{tokens:?}");
    let good = bench.table("good.parquet", vec![("q", strings(&[rows[0], rows[3], rows[5], rows[6]]))]);
    let alone = bench.answers("qwen3", &good, &["--prompt-column", "q", "--fresh"]);
    let both = text(&out, "generated_text");
    assert_eq!(text(&alone, "generated_text"), [0, 3, 5, 6].map(|row| both[row].clone()));
}

#[test]
fn a_job_of_errors_says_so_in_its_exit_code() {
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("q", strings(&[None, Some("x"), None]))]);
    let output = bench.name("out.parquet");
    let ran = bench.job("qwen3", &input, &output, &["--prompt-column", "q", "--max-error-rate", "0.5"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("2 of 3 rows have errors, more than --max-error-rate 0.5 allows"),
        "{}",
        ran.stderr
    );
    assert_eq!(text(&read(output.as_ref()), "error").iter().flatten().count(), 2, "published all the same");
    let ran =
        bench.job("qwen3", &input, &bench.name("b.parquet"), &["--prompt-column", "q", "--max-errors", "1"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let ran = bench.job("qwen3", &input, &bench.name("c.parquet"), &["--prompt-column", "q"]);
    assert_eq!(ran.code, 3, "one in ten is too many: {}", ran.stderr);
}

#[test]
fn a_limited_job_resumes_with_the_rest() {
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("q", strings(&RIVERS))]);
    let few = bench.answers("qwen3", &input, &["--prompt-column", "q", "--limit", "2"]);
    assert_eq!(few.num_rows(), 2);
    let ran = bench.job("qwen3", &input, &bench.name("out.parquet"), &["--prompt-column", "q"]);
    assert!(ran.code == 0 && ran.stderr.contains("resuming: 2 of 5 rows already answered"), "{}", ran.stderr);
    let all = read(&bench.path("out.parquet"));
    assert_eq!(texts(&all, "generated_text")[..2], texts(&few, "generated_text"));
    assert_eq!(texts(&all, "q"), RIVERS.map(Option::unwrap));
}

#[test]
fn quantised_matrices_are_of_another_job() {
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("q", strings(&RIVERS))]);
    let output = bench.name("out.parquet");
    let flags = ["--prompt-column", "q", "--quantization", "q8_0"];
    let ran = bench.job("qwen3", &input, &output, &flags);
    assert!(ran.code == 0 && ran.stderr.contains("weights q8_0, activations f32"), "{}", ran.stderr);
    assert!(texts(&read(output.as_ref()), "generated_text").iter().any(|text| !text.is_empty()));
    let ran = bench.job("qwen3", &input, &output, &["--prompt-column", "q"]);
    assert!(
        ran.code == 2 && ran.stderr.contains("quantization: begun with q8_0, now (none)"),
        "{}",
        ran.stderr
    );
    // FP8 leaves the embeddings, which are the head too, as they are.
    let output = bench.name("fp8.parquet");
    let ran = bench.job("qwen3", &input, &output, &["--prompt-column", "q", "--quantization", "fp8"]);
    assert!(ran.code == 0 && ran.stderr.contains("weights bf16 and fp8, activations f32"), "{}", ran.stderr);
    let ran = bench.job("qwen3", &input, &output, &flags);
    let why = "quantization: begun with fp8, now q8_0";
    assert!(ran.code == 2 && ran.stderr.contains(why), "{}", ran.stderr);
}

#[test]
fn an_option_of_the_engine_is_refused_by_its_flag() {
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("q", strings(&RIVERS))]);
    let ran = bench.job(
        "qwen3",
        &input,
        &bench.name("out.parquet"),
        &["--prompt-column", "q", "--kv-cache-dtype", "float16"],
    );
    let why = "--kv-cache-dtype: the cpu device holds KV pages in f32, bf16, fp8_e4m3, not f16";
    assert!(ran.code == 2 && ran.stderr.contains(why), "{}", ran.stderr);
    for (dtype, why) in [("fp8_e5m2", "held in e4m3 only; give fp8"), ("int8", "known are auto, float32")] {
        let flags = ["--prompt-column", "q", "--kv-cache-dtype", dtype];
        let ran = bench.job("qwen3", &input, &bench.name("out.parquet"), &flags);
        assert!(ran.code == 2 && ran.stderr.contains(why), "{}", ran.stderr);
    }
}

#[test]
fn a_stop_string_ends_the_text_across_tokens() {
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("q", strings(&RIVERS))]);
    let flags = ["--prompt-column", "q", "--return", "generated_tokens", "--max-tokens", "24"];
    let free = bench.answers("qwen3", &input, &flags);
    let whole = texts(&free, "generated_text");
    // A stop string from the middle of the first answer.
    let middle = whole[0].chars().count() / 2;
    let stop: String = whole[0].chars().skip(middle).take(3).collect();
    let mut stopping = flags.to_vec();
    stopping.extend(["--stop", &stop, "--fresh"]);
    let cut = bench.answers("qwen3", &input, &stopping);
    stopping.push("--include-stop-str-in-output");
    let kept = bench.answers("qwen3", &input, &stopping);
    for (row, whole) in whole.iter().enumerate() {
        let (text, reason) = (&texts(&cut, "generated_text")[row], &texts(&cut, "finish_reason")[row]);
        match whole.find(&stop) {
            Some(at) => {
                assert_eq!((text.as_str(), reason.as_str()), (&whole[..at], "stop"));
                assert_eq!(texts(&kept, "generated_text")[row], whole[..at + stop.len()]);
                let tokens = int_list(&cut, "generated_tokens", row);
                assert!(int_list(&free, "generated_tokens", row).starts_with(&tokens));
            }
            None => assert_eq!((text, reason), (whole, &texts(&free, "finish_reason")[row])),
        }
    }
    assert_eq!(texts(&cut, "finish_reason")[0], "stop");
}

#[test]
fn several_completions_are_lists_that_depend_on_seed_and_row_only() {
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("q", strings(&RIVERS))]);
    let lists = |flags: &[&str]| {
        let mut all = vec!["--prompt-column", "q", "--n", "3", "--temperature", "1", "--fresh"];
        all.extend(flags);
        let out = bench.answers("qwen3", &input, &all);
        let texts = out.column_by_name("generated_text").unwrap().as_list::<i32>();
        let row = |row| {
            texts.value(row).as_string::<i32>().iter().map(|t| t.unwrap().to_string()).collect::<Vec<_>>()
        };
        (0..5).map(row).collect::<Vec<_>>()
    };
    let some = lists(&["--seed", "5"]);
    assert!(some.iter().all(|texts| texts.len() == 3));
    assert!(some.iter().any(|texts| texts[0] != texts[1]));
    assert_eq!(some, lists(&["--seed", "5", "--max-num-seqs", "2", "--block-size", "4"]));
    assert_ne!(some, lists(&["--seed", "6"]));
}

#[test]
fn log_probabilities_are_returned() {
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("q", strings(&RIVERS[..2]))]);
    let flags =
        ["--prompt-column", "q", "--return", "logprobs,token_logprobs,prompt_logprobs", "--logprobs", "2"];
    let out = bench.answers("qwen3", &input, &flags);
    for row in 0..2 {
        let tokens = float_list(&out, "token_logprobs", row);
        let all = out.column_by_name("logprobs").unwrap().as_list::<i32>().value(row);
        for (i, token) in tokens.iter().enumerate() {
            let best = all.as_list::<i32>().value(i);
            let values =
                best.as_struct().column_by_name("logprob").unwrap().as_primitive::<Float32Type>().clone();
            assert_eq!(values.len(), 2);
            // Greedy: the token is the most likely one.
            assert!(values.value(0) == *token && values.value(1) <= *token && *token < 0.0);
        }
        let prompt = out.column_by_name("prompt_logprobs").unwrap().as_list::<i32>().value(row);
        assert_eq!(Some(prompt.len() as i32), ints(&out, "num_input_tokens")[row]);
        assert!(prompt.is_null(0) && prompt.null_count() == 1, "the first token has no log-probability");
    }
}

#[test]
fn rows_of_one_prompt_are_run_once() {
    let bench = Bench::new();
    let prompts: Vec<Option<&str>> =
        (0..600).map(|i| RIVERS[i % 5].filter(|_| i % 50 != 9)).chain([Some("the last one")]).collect();
    let input = bench.table("in.parquet", vec![("q", strings(&prompts))]);
    let mut flags = vec!["--prompt-column", "q", "--max-num-seqs", "3", "--n", "2", "--logprobs", "2"];
    flags.extend(["--return", "generated_tokens,token_logprobs,logprobs,prompt_logprobs"]);
    let run = |output: &str, more: &[&str]| {
        let flags = [&flags, more].concat();
        let ran = bench.job("qwen3", &input, &bench.name(output), &flags);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let shared = ran.stderr.lines().find(|line| line.contains("of the same prompt")).map(String::from);
        (std::fs::read(bench.path(output)).unwrap(), shared)
    };
    let (apart, none) = run("apart.parquet", &["--enable-prompt-sharing=false"]);
    assert_eq!(none, None);
    let (together, shared) = run("out.parquet", &[]);
    assert!(together == apart, "the output differs");
    // 601 rows, minus 12 without a prompt and 6 that ran.
    assert!(shared.as_ref().is_some_and(|line| line.contains(" 583 rows answered by another")), "{shared:?}");
    let status = bench.run(&["status", &bench.name("out.parquet")]).stdout;
    assert!(status.contains("rows       601 of 601") && status.contains("shared     583 "), "{status}");
    // Sampled answers are not shared.
    assert_eq!(run("sampled.parquet", &["--temperature", "1"]).1, None);
}

#[test]
fn a_job_file_is_the_same_job() {
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("q", strings(&RIVERS)), ("drop", strings(&RIVERS))]);
    bench.answers(
        "qwen3",
        &input,
        &["--prompt", "{{ q | upper }}", "--keep", "q", "--stop", "e", "--top-k", "5"],
    );
    let flags = std::fs::read(bench.path("out.parquet")).unwrap();
    let model = support::golden("qwen3");
    let job = format!(
        "model = {model:?}\ninput = 'in.parquet'\noutput = 'file.parquet'\nprompt = '{{{{ q | upper }}}}'\nkeep = ['q']\n\
         stop = ['e']\ntop_k = 5\ntemperature = 0\nmax-new-tokens = 16\ndevice = 'cpu'\n"
    );
    std::fs::write(bench.path("job.toml"), job).unwrap();
    let ran = bench.run(&["run", "job.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(std::fs::read(bench.path("file.parquet")).unwrap() == flags, "the outputs differ in their bytes");
}

#[test]
fn empty_and_wide_inputs_are_inputs() {
    let bench = Bench::new();
    let none = bench.table("none.parquet", vec![("q", strings(&[]))]);
    let out = bench.answers("qwen3", &none, &["--prompt-column", "q"]);
    assert_eq!((out.num_rows(), out.num_columns()), (0, 6));
    let nulls = bench.table("nulls.parquet", vec![("q", strings(&[None; 3]))]);
    let flags = ["--prompt-column", "q", "--fresh", "--max-error-rate", "1"];
    let out = bench.answers("qwen3", &nulls, &flags);
    assert!(text(&out, "error").iter().all(Option::is_some));
    let names: Vec<String> = (0..2000).map(|i| format!("column {i}")).collect();
    let mut columns: Vec<(&str, ArrayRef)> =
        names.iter().map(|name| (name.as_str(), Arc::new(Int32Array::from(vec![1])) as ArrayRef)).collect();
    columns.push(("q", strings(&[Some("grain")])));
    let wide = bench.table("wide.parquet", columns);
    let out = bench.answers("qwen3", &wide, &["--prompt-column", "q", "--fresh"]);
    assert_eq!((out.num_columns(), text(&out, "error")), (2006, vec![None]));
    assert_eq!(out.column(1999).as_primitive::<Int32Type>().value(0), 1);
}

#[test]
fn what_runs_here_is_shown() {
    let ran = Bench::new().run(&["devices"]);
    assert_eq!(ran.code, 0);
    assert!(ran.stdout.lines().any(|line| line.starts_with("cpu   usable")), "{}", ran.stdout);
    for kind in ["cuda", "wgpu"] {
        assert!(ran.stdout.lines().any(|line| line.starts_with(kind)), "{}", ran.stdout);
    }
}

#[test]
fn throughput_is_measured_on_made_up_weights() {
    let bench = Bench::new();
    let config = bench.path("config.json");
    std::fs::copy(support::golden("llama3").join("config.json"), config).unwrap();
    let flags =
        ["--input-len", "12", "--output-len", "5", "--num-prompts", "7", "--output-json", "figures.json"];
    let mut all = vec!["bench", "throughput", "--device", "cpu", "--model", ".", "--load-format", "dummy"];
    all.extend(flags);
    let ran = bench.run(&all);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.starts_with("Throughput: ") && ran.stdout.contains(" total tokens/s, "),
        "{}",
        ran.stdout
    );
    let figures: Value = serde_json::from_slice(&std::fs::read(bench.path("figures.json")).unwrap()).unwrap();
    assert_eq!(figures["num_requests"], 7);
    assert_eq!(figures["total_num_tokens"], 7 * 17);
    for rate in ["elapsed_time", "requests_per_second", "tokens_per_second", "output_tokens_per_second"] {
        assert!(figures[rate].as_f64().unwrap() > 0.0, "{rate}");
    }
}
