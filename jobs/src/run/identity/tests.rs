#![allow(clippy::unwrap_used)]
use super::*;
use crate::cli::args::{Cli, Command};
use crate::journal::format1;
use crate::journal::identity::Identity;
use arrow::array::{
    ArrayRef, Int64Builder, ListBuilder, RecordBatch, StringArray, StringBuilder, StructBuilder,
};
use arrow::datatypes::{DataType, Field};
use clap::{CommandFactory, Parser};
use engine::device::{ComputeTypes, DeviceKind};
use engine::dtype::DType;
use parquet::arrow::ArrowWriter;
use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/qwen3");

/// Flags that change an answer, each with a value that is not the default.
const DECIDE: &[(&str, &[&str])] = &[
    ("prompt", &["--prompt", "{{ prompt }}"]),
    ("prompt-column", &["--prompt-column", "other"]),
    ("messages-column", &["--messages-column", "talk"]),
    ("prompt-tokens-column", &["--prompt-tokens-column", "tokens"]),
    ("system-prompt", &["--system-prompt", "Be brief."]),
    ("raw", &["--raw"]),
    ("chat-template", &["--chat-template", "{{ messages[0].content }}"]),
    ("chat-template-kwargs", &["--chat-template-kwargs", r#"{"mood": "mild"}"#]),
    ("return", &["--return", "generated_tokens"]),
    ("n", &["--n", "2"]),
    ("temperature", &["--temperature", "0"]),
    ("top-p", &["--top-p", "0.5"]),
    ("top-k", &["--top-k", "3"]),
    ("min-p", &["--min-p", "0.1"]),
    ("presence-penalty", &["--presence-penalty", "0.5"]),
    ("frequency-penalty", &["--frequency-penalty", "0.5"]),
    ("repetition-penalty", &["--repetition-penalty", "1.5"]),
    ("seed", &["--seed", "7"]),
    ("stop", &["--stop", "x"]),
    ("stop-token-ids", &["--stop-token-ids", "5"]),
    ("ignore-eos", &["--ignore-eos"]),
    ("max-tokens", &["--max-tokens", "9"]),
    ("min-tokens", &["--min-tokens", "2"]),
    ("logprobs", &["--return", "logprobs", "--logprobs", "3"]),
    ("prompt-logprobs", &["--return", "prompt_logprobs", "--prompt-logprobs", "3"]),
    ("skip-special-tokens", &["--skip-special-tokens=false"]),
    ("include-stop-str-in-output", &["--include-stop-str-in-output"]),
    ("logit-bias", &["--logit-bias", "5:-1.5"]),
    ("allowed-token-ids", &["--allowed-token-ids", "5,6"]),
    ("bad-words", &["--bad-words", "mill"]),
    ("generation-config", &["--generation-config", "none"]),
    ("choices", &["--choices", "mill,river"]),
    ("columns", &["--columns", r#"{"label": {"ask": "Which?", "choices": ["mill", "river"]}}"#]),
    (
        "documents",
        &[
            "--documents",
            r#"{"column": "other", "map-prompt": "{{ chunk }}", "reduce-prompt": "{{ notes }}"}"#,
        ],
    ),
    ("json-schema", &["--json-schema", r#"{"type": "object"}"#]),
    ("regex", &["--regex", "[a-z]+"]),
    ("reasoning-end", &["--regex", "[a-z]+", "--reasoning-end", "."]),
    ("structured-outputs", &["--structured-outputs", r#"{"choice": ["mill", "river"]}"#]),
    ("max-model-len", &["--max-model-len", "128"]),
    ("dtype", &["--dtype", "float32"]),
    ("kv-cache-dtype", &["--kv-cache-dtype", "float32"]),
    ("quantization", &["--quantization", "q8_0"]),
    ("gemm", &["--gemm", "cublaslt"]),
    ("float32-matmul-precision", &["--float32-matmul-precision", "medium"]),
    ("load-format", &["--load-format", "dummy"]),
];

/// Flags that change no answer.
const DO_NOT: &[(&str, &[&str])] = &[
    ("limit", &["--limit", "1"]),
    ("keep", &["--keep", "other"]),
    ("column-prefix", &["--column-prefix", "x_"]),
    ("max-error-rate", &["--max-error-rate", "0.2"]),
    ("stop-on-errors", &["--stop-on-errors"]),
    ("retry", &["--retry", "errors"]),
    ("max-errors", &["--max-errors", "1"]),
    ("on-corrupt", &["--on-corrupt", "row-errors"]),
    ("rows-per-file", &["--rows-per-file", "1"]),
    ("shard", &["--shard", "2/2", "--rows-per-file", "1"]),
    ("resume", &["--resume", "never"]),
    ("fresh", &["--fresh"]),
    ("allow-constant-prompt", &["--allow-constant-prompt"]),
    ("enable-prompt-sharing", &["--enable-prompt-sharing=false"]),
    ("price-per-hour", &["--price-per-hour", "1"]),
    ("compare-price", &["--compare-price", "1,2"]),
    ("hang-timeout", &["--hang-timeout", "5"]),
    ("in-process", &["--in-process"]),
    ("download-dir", &["--download-dir", "elsewhere"]),
    ("threads", &["--threads", "1"]),
    ("max-num-seqs", &["--max-num-seqs", "4"]),
    ("max-num-batched-tokens", &["--max-num-batched-tokens", "64"]),
    ("block-size", &["--block-size", "8"]),
    ("gpu-memory-utilization", &["--gpu-memory-utilization", "0.5"]),
    ("kv-cache-memory-bytes", &["--kv-cache-memory-bytes", "1M"]),
    ("enable-prefix-caching", &["--enable-prefix-caching=false"]),
    ("log-level", &["--log-level", "info"]),
    ("log-format", &["--log-format", "json"]),
    ("metrics", &["--metrics", "0"]),
    ("color", &["--color", "never"]),
];

/// Flags that say where something is. What decides is its content, which other tests look at: the device's family, and
/// digests of inputs and of the model's files. `take-over` says where the journal is, for outputs in a store.
const SAY_WHERE: &[&str] = &[
    "device",
    "input",
    "input-format",
    "output",
    "state-dir",
    "take-over",
    "model",
    "tokenizer",
    "revision",
    "prompt-file",
    "grammar",
];

/// Flags of a batch, which has another input; a test of its own looks at them.
const OF_A_BATCH: &[&str] = &["batch", "served-model-name"];

/// Flags that say, once more, what the base job resolves to.
const SAY_AGAIN: &[&[&str]] = &[
    &["--prompt-column", "prompt"],
    &["--temperature", "0.6"],
    &["--top-k", "20"],
    &["--dtype", "bfloat16"],
    &["--kv-cache-dtype", "float16"],
    &["--max-model-len", "256"],
    &["--stop-token-ids", "379,381"],
    &["--device", "cpu"],
];

/// A device with several types of everything.
fn device(family: &'static str) -> DeviceInfo {
    let [f16, bf16, f32] = [DType::F16, DType::BF16, DType::F32];
    let types = ComputeTypes {
        activations: f32,
        kv: vec![f16, f32, bf16, DType::E4M3],
        weights: [&[bf16.into(), f16.into(), f32.into()], Format::SCALED].concat(),
    };
    DeviceInfo {
        kind: DeviceKind::Wgpu,
        family,
        name: "a device".into(),
        memory_total: 1 << 30,
        memory_free: 1 << 30,
        max_buffer: 1 << 30,
        types: vec![types],
        breaks_contract: None,
    }
}

/// A folder with an input.
fn folder() -> tempfile::TempDir {
    let text = |texts: [&str; 2]| -> ArrayRef { Arc::new(StringArray::from(texts.to_vec())) };
    let mut tokens = ListBuilder::new(Int64Builder::new());
    let utf8 = |name: &str| Field::new(name, DataType::Utf8, true);
    let mut messages = ListBuilder::new(StructBuilder::from_fields(vec![utf8("role"), utf8("content")], 0));
    for _ in 0..2 {
        tokens.append_value([Some(5), Some(6)]);
        for (i, value) in ["user", "hello"].into_iter().enumerate() {
            messages.values().field_builder::<StringBuilder>(i).unwrap().append_value(value);
        }
        messages.values().append(true);
        messages.append(true);
    }
    let columns: [(&str, ArrayRef); 4] = [
        ("prompt", text(["the mill", "a river"])),
        ("other", text(["grain", "rye"])),
        ("talk", Arc::new(messages.finish())),
        ("tokens", Arc::new(tokens.finish())),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut writer =
        ArrowWriter::try_new(File::create(folder.path().join("in.parquet")).unwrap(), batch.schema(), None)
            .unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    folder
}

fn identity_of(folder: &Path, device: &DeviceInfo, flags: &[&str]) -> JobIdentity {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_string();
    let (input, output) = (path("in.parquet"), path("out.parquet"));
    let mut all = vec!["gristmill", "run", "--model", MODEL, "-i", &input, "-o", &output];
    if !["--max-tokens", "--choices", "--columns"].iter().any(|flag| flags.contains(flag)) {
        all.extend(["--max-tokens", "8"]);
    }
    all.extend(flags);
    let Command::Run(args) = Cli::try_parse_from(&all).unwrap().command else { panic!("{all:?}") };
    let job = Job::prepare(args.job_options().unwrap()).unwrap_or_else(|error| panic!("{flags:?}: {error}"));
    identity(&job, device).unwrap_or_else(|error| panic!("{flags:?}: {error}"))
}

/// What format 1 says of one job, begun as another.
fn old_differences(now: &JobIdentity, begun: &JobIdentity) -> String {
    let mut journal = Identity::default();
    for field in &begun.format1 {
        field.value.iter().for_each(|value| journal.push(field.name, value));
    }
    format1::differences(&journal, &now.format1)
}

#[test]
fn every_flag_either_decides_answers_or_does_not() {
    let mut run = Cli::command();
    run.build();
    let run = run.find_subcommand("run").unwrap();
    let flags: BTreeSet<&str> =
        run.get_arguments().filter_map(|arg| arg.get_long()).filter(|flag| *flag != "help").collect();
    let listed = DECIDE.iter().chain(DO_NOT).map(|(flag, _)| *flag).chain(SAY_WHERE.iter().copied());
    let listed = listed.chain(OF_A_BATCH.iter().copied());
    assert_eq!(
        listed.clone().count(),
        listed.clone().collect::<BTreeSet<_>>().len(),
        "a flag is listed twice"
    );
    assert_eq!(listed.collect::<BTreeSet<_>>(), flags);
}

#[test]
fn flags_that_decide_answers_are_in_the_identity_and_no_others() {
    let folder = folder();
    let of = |flags: &[&str]| identity_of(folder.path(), &device("wgpu"), flags);
    let base = of(&[]);
    let decide = DECIDE.iter().map(|(_, flags)| (*flags, true));
    let do_not = DO_NOT.iter().map(|(_, flags)| (*flags, false));
    for (flags, differs) in decide.chain(do_not) {
        let changed = of(flags);
        let differences = changed.identity.differences(&base.identity);
        assert_eq!(!differences.is_empty(), differs, "{flags:?}: {differences}");
        let differences = old_differences(&changed, &base);
        assert_eq!(!differences.is_empty(), differs, "format 1, {flags:?}: {differences}");
    }
}

#[test]
fn an_identity_has_what_flags_resolve_to() {
    let folder = folder();
    let of = |flags: &[&str]| identity_of(folder.path(), &device("wgpu"), flags).identity;
    let base = of(&[]);
    for flags in SAY_AGAIN {
        assert_eq!(of(flags).differences(&base), "", "{flags:?}");
    }
    let fields: Vec<(&str, &str)> =
        base.fields().iter().map(|f| (f.field.as_str(), f.value.as_str())).collect();
    let weights = base.get("weights").unwrap().value.clone();
    assert_eq!(weights.len(), 64 + 2);
    for expected in [
        ("numerics_version", "2"),
        ("prompts_version", "3"),
        ("weights", &*weights),
        ("device", r#""wgpu""#),
        ("activations", r#""f32""#),
        ("kv_cache", r#""f16""#),
        ("weight_formats", r#"["bf16"]"#),
        ("gemm", r#""builtin""#),
        ("prompt_column", r#""prompt""#),
        ("temperature", "0.6"),
        ("top_k", "20"),
        ("stop_token_ids", "[379,381]"),
        ("return", "[]"),
    ] {
        assert!(fields.contains(&expected), "{expected:?}: {fields:?}");
    }
    let fp8 = of(&["--kv-cache-dtype", "fp8"]);
    assert_eq!(fp8.get("kv_cache").unwrap().value, r#""fp8_e4m3""#);
    assert_eq!(of(&["--kv-cache-dtype", "fp8_e4m3"]).differences(&fp8), "");
    // What is not used is not there, so that a version which does not know of it has the same identity.
    for absent in
        ["quantization", "prompt", "system_prompt", "chat_template_kwargs", "date", "allowed_token_ids"]
    {
        assert_eq!(base.get(absent), None);
    }
    for text in fields.iter().map(|(_, value)| value) {
        for spelling in ["Auto", "auto", "Some(", "None", "(none)", "null"] {
            assert!(!text.contains(spelling), "{text}");
        }
    }
}

#[test]
fn columns_of_choices_are_in_the_identity_with_their_order_and_no_sampling_is() {
    let folder = folder();
    let of = |flags: &[&str]| identity_of(folder.path(), &device("wgpu"), flags).identity;
    let json = |a: &str, b: &str| format!(r#"{{"a": {{"choices": [{a}]}}, "b": {{"choices": [{b}]}}}}"#);
    let base = json(r#""x", "y""#, r#""z", "w""#);
    let base = of(&["--columns", &base]);
    assert_eq!(
        of(&["--choices", "a=x,y", "--choices", "b=z,w", "--return", "choice_mass"]).differences(&base),
        ""
    );
    for absent in ["temperature", "max_tokens", "return", "n"] {
        assert_eq!(base.get(absent), None);
    }
    assert_eq!(base.get("end_token_ids").unwrap().value, "[379,381]");
    let calibrated =
        r#"{"a": {"choices": ["x", "y"], "calibrate": "content-free"}, "b": {"choices": ["z", "w"]}}"#;
    for other in [
        &["--choices", "a=y,x", "--choices", "b=z,w"][..],
        &["--choices", "b=z,w", "--choices", "a=x,y"],
        &["--columns", calibrated],
    ] {
        assert!(of(other).differences(&base).contains("columns"), "{other:?}");
    }
}

#[test]
fn the_names_that_requests_may_use_are_in_the_identity_of_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.jsonl"), "{}\n").unwrap();
    let of = |flags: &[&str]| {
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
        let (input, output) = (path("in.jsonl"), path("out.jsonl"));
        let all = ["gristmill", "run", "--model", MODEL, "--batch", &input, "-o", &output];
        let Command::Run(args) = Cli::try_parse_from(all.iter().chain(flags)).unwrap().command else {
            panic!()
        };
        identity(&Job::prepare(args.job_options().unwrap()).unwrap(), &device("wgpu")).unwrap().identity
    };
    let base = of(&[]);
    let value = |field: &str| base.get(field).map(|field| field.value.clone());
    assert_eq!(value("served_model_names").as_deref(), Some(r#"["qwen3"]"#));
    for field in ["batch_version", "date", "llguidance"] {
        assert!(value(field).is_some(), "{field}");
    }
    assert_eq!((value("prompt_column"), value("input_schema")), (None, None));
    assert_eq!(of(&["--served-model-name", "qwen3", "--max-tokens", "255"]).differences(&base), "");
    for flags in
        [["--served-model-name", "x"], ["--temperature", "0.1"], ["--max-tokens", "9"], ["--seed", "4"]]
    {
        assert_ne!(of(&flags).differences(&base), "", "{flags:?}");
    }
}

#[test]
fn a_job_does_not_move_between_families_of_instructions() {
    let folder = folder();
    let of = |family| identity_of(folder.path(), &device(family), &[]);
    let (mma, later) = (of("cuda mma"), of("cuda sm_90a"));
    let moved = "  device: begun with cuda mma, now cuda sm_90a";
    assert_eq!(later.identity.differences(&mma.identity), moved);
    assert_eq!(old_differences(&later, &mma), "  device: begun with cuda, now cuda sm_90a");
}

#[test]
fn a_journal_that_is_older_than_a_flag_has_its_value_of_then() {
    let folder = folder();
    let of = |flags: &[&str]| identity_of(folder.path(), &device("wgpu"), flags);
    let mut older = of(&[]);
    older.format1.retain(|field| !["gemm", "float32 matmul precision", "quantization"].contains(&field.name));
    assert_eq!(old_differences(&of(&[]), &older), "");
    for (flags, line) in [
        (["--gemm", "cublaslt"], "  gemm: begun with builtin, now cublaslt, outside the numeric contract"),
        (
            ["--float32-matmul-precision", "medium"],
            "  float32 matmul precision: begun with highest, now medium",
        ),
        (["--quantization", "q8_0"], "  quantization: begun with (none), now q8_0"),
    ] {
        assert_eq!(old_differences(&of(&flags), &older), line);
    }
}
