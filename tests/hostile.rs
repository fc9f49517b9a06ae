//! Malicious and broken inputs: each is served, or refused with a message that says what is wrong, where, and what to do.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;
use support::job::{Bench, Ran, strings, text};

/// Memory that a refusal may take beyond that of a valid model with a wrong flag.
const EXTRA_KIB: u64 = 64 << 10;

/// CPU time after which a refusal counts as hung. In a release build it should take less than a second; here
/// it is printed, and only much more fails.
const HUNG_MS: u64 = 20_000;

/// Runs a job with a model folder that must be refused before the job starts.
fn refused(bench: &Bench, model: &Path, flags: &[&str], messages: &[&str]) {
    let input = bench.table("in.parquet", vec![("q", strings(&[Some("grain")]))]);
    let mut all = vec!["--prompt-column", "q"];
    all.extend(flags);
    refused_on(bench, model, &input, &all, messages);
    assert!(!bench.path("out.parquet").exists());
}

/// As [`refused`], with the caller's input and prompts.
fn refused_on(bench: &Bench, model: &Path, input: &str, flags: &[&str], messages: &[&str]) {
    let output = bench.name("out.parquet");
    let command = bench.job_command(model.to_str().unwrap(), input, &output, flags);
    let ran = within_bounds(command);
    is_refusal(&ran, messages);
}

/// Runs a refusal and checks its memory against the limit.
#[cfg(target_os = "linux")]
fn within_bounds(command: Command) -> Ran {
    use support::interpose::{library, measured};
    let run = |mut command: Command| Ran::of(command.output().unwrap());
    let Some(library) = library() else { return run(command) };
    // All that is read before the work starts, of a small valid model.
    static SOUND: OnceLock<u64> = OnceLock::new();
    let sound = *SOUND.get_or_init(|| {
        let bench = Bench::new();
        let input = bench.table("in.parquet", vec![("q", strings(&[Some("grain")]))]);
        let flags = ["--prompt-column", "q", "--max-tokens", "4000000000"];
        let (ran, usage) =
            measured(bench.job_command("qwen3", &input, &bench.name("out.parquet"), &flags), library, run);
        is_refusal(&ran, &["--max-tokens"]);
        usage.peak_kib
    });
    let begun = Instant::now();
    let (ran, usage) = measured(command, library, run);
    let extra = usage.peak_kib.saturating_sub(sound);
    println!("{extra} KiB extra, {} ms of processor time, {:?}", usage.cpu_ms, begun.elapsed());
    assert!(extra <= EXTRA_KIB, "{extra} KiB extra: {}", ran.stderr);
    assert!(usage.cpu_ms <= HUNG_MS, "{} ms: {}", usage.cpu_ms, ran.stderr);
    ran
}

#[cfg(not(target_os = "linux"))]
fn within_bounds(mut command: Command) -> Ran {
    Ran::of(command.output().unwrap())
}

fn is_refusal(ran: &Ran, messages: &[&str]) {
    assert!(matches!(ran.code, 1 | 2), "exit code {}: {}", ran.code, ran.stderr);
    let error = ran.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or(&ran.stderr);
    for message in messages {
        assert!(error.contains(message), "no {message:?} in {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(path, json.to_string()).unwrap();
}

/// A safetensors file with a given header and that many bytes of data.
fn safetensors(header: &[u8], length: u64, data: usize) -> Vec<u8> {
    [&length.to_le_bytes(), header, &vec![0; data]].concat()
}

#[test]
fn safetensors_that_lie_are_refused() {
    let shape = json!({ "model.norm.weight": {
        "dtype": "F32", "shape": [4194305u64, 4194305u64, 211106198978564u64], "data_offsets": [0, 16] } });
    let past = json!({ "model.norm.weight": { "dtype": "F32", "shape": [1000], "data_offsets": [0, 4000] } });
    let overlap = json!({
        "a": { "dtype": "F32", "shape": [2], "data_offsets": [0, 8] },
        "b": { "dtype": "F32", "shape": [2], "data_offsets": [4, 12] } });
    let entry = |i: usize| (format!("t{i}"), json!({ "dtype": "F32", "shape": [0], "data_offsets": [0, 0] }));
    let many: serde_json::Map<String, Value> = (0..100_001).map(entry).collect();
    // A header of the maximum length.
    let most: serde_json::Map<String, Value> = (0..49_999).map(entry).collect();
    let endless =
        format!(r#"{{"a":{{"dtype":"F32","shape":[{}0],"data_offsets":[0,0]}}}}"#, "0,".repeat(4_190_000));
    let values = format!(
        r#"{{"a":{{"dtype":"F32","shape":[],"data_offsets":[0,4],{}"x":0}}}}"#,
        r#""x":0,"#.repeat(1 << 20)
    );
    let nested = "[".repeat(1 << 20);
    let with = |header: &Value, data| {
        let header = header.to_string().into_bytes();
        safetensors(&header, header.len() as u64, data)
    };
    for (what, bytes) in [
        ("empty", Vec::new()),
        ("header longer than the file", safetensors(b"{}", 1 << 20, 0)),
        ("header longer than can be", safetensors(b"{}", u64::MAX, 0)),
        ("header longer than may be", safetensors(&[], 100 << 20, 100 << 20)),
        ("a shape that wraps to 4", with(&shape, 16)),
        ("data past the end", with(&past, 16)),
        ("overlapping data", with(&overlap, 12)),
        ("100k entries", with(&Value::Object(many), 0)),
        ("as many entries as may be, none of them the model's", with(&Value::Object(most), 0)),
        ("values without end", safetensors(values.as_bytes(), values.len() as u64, 0)),
        ("an endless shape", safetensors(endless.as_bytes(), endless.len() as u64, 0)),
        ("a million brackets", safetensors(nested.as_bytes(), 1 << 20, 0)),
        ("a pickle by another name", safetensors(b"", u64::from_le_bytes(*b"PK\x03\x04\x14\0\0\0"), 100)),
        ("no JSON", safetensors(b"\x80\x04pick", 8, 0)),
    ] {
        let bench = Bench::new();
        let model = bench.model("qwen3");
        std::fs::write(model.join("model.safetensors"), bytes).unwrap();
        println!("{what}");
        refused(&bench, &model, &[], &["model.safetensors"]);
    }
}

#[test]
fn pickles_are_refused_by_name() {
    for name in ["pytorch_model.bin", "model.pt", "consolidated.00.pth"] {
        let bench = Bench::new();
        let model = bench.model("qwen3");
        std::fs::rename(model.join("model.safetensors"), model.join(name)).unwrap();
        refused(&bench, &model, &[], &[name, "pickle", "save the model as safetensors"]);
    }
}

#[test]
fn weight_maps_stay_in_the_folder() {
    for name in ["../in.parquet", "/etc/hostname", "sub/model.safetensors", "model.bin", ".."] {
        let bench = Bench::new();
        let model = bench.model("llama3-sharded");
        for file in ["tokenizer.json", "tokenizer_config.json"] {
            std::fs::copy(support::golden("qwen3").join(file), model.join(file)).unwrap();
        }
        edit(&model.join("model.safetensors.index.json"), |index| {
            let first = index["weight_map"].as_object_mut().unwrap().values_mut().next().unwrap();
            *first = name.into();
        });
        refused(&bench, &model, &[], &["model.safetensors.index.json", name]);
    }
}

#[test]
fn an_index_of_a_million_files_is_refused() {
    let bench = Bench::new();
    let model = bench.model("qwen3");
    let map: Vec<String> = (0..700_000).map(|i| format!("\"{i}\":\"{i}.safetensors\"")).collect();
    let index = format!("{{\"weight_map\":{{{}}}}}", map[..400_000].join(","));
    std::fs::write(model.join("model.safetensors.index.json"), index).unwrap();
    refused(&bench, &model, &[], &["model.safetensors.index.json", "more than 10000 files"]);
    let index = format!("{{\"weight_map\":{{{}}}}}", map.join(","));
    std::fs::write(model.join("model.safetensors.index.json"), index).unwrap();
    refused(&bench, &model, &[], &["model.safetensors.index.json", "is longer than"]);
}

#[cfg(unix)]
#[test]
fn links_out_of_the_folder_are_refused() {
    let bench = Bench::new();
    let model = bench.model("qwen3");
    std::fs::rename(model.join("model.safetensors"), bench.path("elsewhere.safetensors")).unwrap();
    std::os::unix::fs::symlink("../elsewhere.safetensors", model.join("model.safetensors")).unwrap();
    refused(&bench, &model, &[], &["model.safetensors", "outside its folder"]);
}

#[test]
fn configs_that_cannot_be_are_refused() {
    for (key, value) in [
        ("hidden_size", json!(1u64 << 40)),
        ("num_hidden_layers", json!(1_000_000_000)),
        ("vocab_size", json!(1000)),
        ("num_attention_heads", json!(0)),
        ("head_dim", json!(15)),
        ("num_key_value_heads", json!(3)),
        ("hidden_size", json!(-1)),
        ("max_position_embeddings", json!(0)),
        ("intermediate_size", json!("many")),
        ("rms_norm_eps", json!("x")),
    ] {
        let bench = Bench::new();
        let model = bench.model("qwen3");
        edit(&model.join("config.json"), |config| config[key] = value.clone());
        println!("{key} = {value}");
        refused(&bench, &model, &[], &[]);
    }
    let bench = Bench::new();
    let model = bench.model("qwen3");
    edit(&model.join("config.json"), |config| {
        config["architectures"] = json!(["EvilForCausalLM"]);
        config["model_type"] = json!("evil");
        config["auto_map"] = json!({ "AutoModelForCausalLM": "evil.py--Evil" });
    });
    refused(&bench, &model, &[], &["EvilForCausalLM", "LlamaForCausalLM"]);
    let list = format!("{{\"a\":[{}0]}}", "0,".repeat(8 << 20));
    for config in ["{", r#"{"model_type":"\ud800"}"#, &"[".repeat(1 << 20), &list] {
        std::fs::write(model.join("config.json"), config).unwrap();
        refused(&bench, &model, &[], &["config.json"]);
    }
}

#[test]
fn other_formats_are_refused_by_name() {
    let bench = Bench::new();
    let model = bench.model("qwen3");
    let gguf = model.join("model.gguf");
    std::fs::rename(model.join("model.safetensors"), &gguf).unwrap();
    refused(&bench, &model, &[], &["model.gguf", "only safetensors are read"]);
    refused(&bench, &gguf, &[], &["model.gguf", "--model takes the folder"]);
}

#[test]
fn sampling_values_out_of_range_are_refused_by_flag() {
    let bench = Bench::new();
    let model = support::golden("qwen3");
    for (flag, value) in [
        ("--temperature", "nan"),
        ("--temperature", "-1"),
        ("--top-k", "-2"),
        ("--top-p", "0"),
        ("--top-p", "1.5"),
        ("--min-p", "inf"),
        ("--n", "0"),
        ("--n", "100000"),
        ("--max-tokens", "0"),
        ("--max-tokens", "4000000000"),
        ("--max-tokens", "-1"),
        ("--min-tokens", "17"),
        ("--stop-token-ids", "-1"),
        ("--repetition-penalty", "0"),
        ("--presence-penalty", "3"),
        ("--stop-token-ids", "384"),
        ("--allowed-token-ids", "3,400"),
        ("--logit-bias", "384:1"),
        ("--logit-bias", "3:inf"),
        ("--max-error-rate", "2"),
        ("--max-model-len", "0"),
    ] {
        println!("{flag} {value}");
        refused(&bench, &model, &[flag, value], &[flag]);
    }
}

#[test]
fn max_tokens_is_never_made_up() {
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("q", strings(&[Some("grain")]))]);
    let model = support::golden("qwen3");
    let ran = bench.run(&[
        "run",
        "--model",
        model.to_str().unwrap(),
        "-i",
        &input,
        "-o",
        "o",
        "--prompt-column",
        "q",
    ]);
    assert_eq!(ran.code, 2);
    is_refusal(&ran, &["--max-tokens is needed"]);
}

#[test]
fn templates_are_bounded() {
    let bench = Bench::new();
    let model = support::golden("qwen3");
    let nested = "{% if q %}".repeat(5500) + &"{% endif %}".repeat(5500);
    refused(&bench, &model, &["--chat-template", &nested], &["--chat-template"]);
    refused(&bench, &model, &["--chat-template", "{{ x"], &["--chat-template", "line 1"]);
    let input = bench.table("in.parquet", vec![("q", strings(&[Some("grain"), Some("the mill")]))]);
    for template in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 1000000000 }}",
        "{% include '/etc/passwd' %}",
        "{{ ''.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__ }}",
    ] {
        let flags = ["--prompt-column", "q", "--chat-template", template, "--fresh", "--max-error-rate", "1"];
        let ran = bench.job("qwen3", &input, &bench.name("out.parquet"), &flags);
        is_refusal(&ran, &["--chat-template: no row can be rendered (2 tried); row 0: "]);
    }
}

#[test]
fn damaged_parquet_is_refused_by_file_and_row_group() {
    let bench = Bench::new();
    let words: Vec<String> = (0..300).map(|i| format!("word {i}")).collect();
    let rows: Vec<Option<&str>> = words.iter().map(|word| Some(word.as_str())).collect();
    let column = [("q", strings(&rows), true)];
    let batch = arrow::array::RecordBatch::try_from_iter_with_nullable(column).unwrap();
    let input = bench.batch("in.parquet", &batch, 100);
    let good = std::fs::read(&input).unwrap();
    let flags = ["--prompt-column", "q", "--max-tokens", "1"];
    let run =
        |flags: &[&str]| within_bounds(bench.job_command("qwen3", &input, &bench.name("out.parquet"), flags));
    // Thrift's compact form: version 1, then a list of 2^31 - 1 schema elements, or a string as long.
    let elements = [0x15, 2, 0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 7];
    let string = [0x15, 2, 0x19, 0x1c, 0x48, 0xff, 0xff, 0xff, 0xff, 7];
    // Or the unknown field 15 with as many booleans, which have no bytes, but which some readers skip one by one.
    let booleans = [0xf9, 0xf1, 0xff, 0xff, 0xff, 0xff, 7];
    let footer = |thrift: &[u8]| {
        [b"PAR1", thrift, &[0; 32], &(thrift.len() as u32 + 32).to_le_bytes(), b"PAR1"].concat()
    };
    for (bytes, message) in [
        (footer(&elements), "footer"),
        (footer(&string), "footer"),
        (footer(&booleans), "a list of booleans"),
        (b"PAR1".to_vec(), "is not a Parquet file"),
        (good[..good.len() - 3].to_vec(), "its footer is missing"),
        ([&good[..good.len() - 8], &[0xff, 0xff, 0xff, 0x7f], b"PAR1"].concat(), "its footer claims"),
        ([&good[..good.len() - 8], &[9, 0, 0, 0], b"PAR1"].concat(), "footer"),
    ] {
        std::fs::write(&input, bytes).unwrap();
        is_refusal(&run(&flags), &["in.parquet", message]);
    }
    // The pages of the second row group are overwritten.
    let second = good.windows(8).position(|w| w == b"word 150").unwrap();
    let mut bad = good.clone();
    bad[second - 400..second].fill(0xee);
    std::fs::write(&input, &bad).unwrap();
    is_refusal(&run(&flags), &["in.parquet, row group 1", "--on-corrupt row-errors"]);
    let mut serve = flags.to_vec();
    serve.extend(["--on-corrupt", "row-errors"]);
    let ran = run(&serve);
    // A third of the rows is more than --max-error-rate allows.
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let out = support::job::read(&bench.path("out.parquet"));
    let errors = text(&out, "error");
    assert_eq!(out.num_rows(), 300);
    for (row, error) in errors.iter().enumerate() {
        match error {
            Some(error) => {
                assert!((100..200).contains(&row) && error.starts_with("row unreadable: "), "{row} {error}")
            }
            None => assert!(!(100..200).contains(&row), "{row}"),
        }
    }
    let retyped =
        bench.table("b.parquet", vec![("q", std::sync::Arc::new(arrow::array::Int32Array::from(vec![1])))]);
    std::fs::write(&input, &good).unwrap();
    let mut two = flags.to_vec();
    two.extend(["-i", &retyped]);
    is_refusal(&run(&two), &["b.parquet, column q", "is Int32, but it is Utf8 in"]);
    bench.table("b.parquet", vec![("question", strings(&[Some("grain")]))]);
    is_refusal(&run(&two), &["b.parquet, column q", "is missing, but it is in"]);
}

#[test]
fn names_that_are_nowhere_are_refused() {
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("q", strings(&[Some("grain")]))]);
    let output = bench.name("out.parquet");
    let qwen = support::golden("qwen3");
    let qwen = qwen.to_str().unwrap();
    for (flags, messages) in [
        (vec!["--model", "org/name"], &["org/name@main", "HF_HUB_OFFLINE"][..]),
        (vec!["--model", "./nowhere"], &["./nowhere: no such folder"]),
        (vec!["--model", qwen, "-i", "nowhere.parquet"], &["nowhere.parquet", "cannot open"]),
        (vec!["--model", qwen, "-i", "*.csv"], &["*.csv: no file matches"]),
        (vec!["--model", qwen, "-i", &input, "--prompt", "{{ x }}"], &["no column `x`", "`q`"]),
        (
            vec!["--model", qwen, "-i", &input, "--prompt-column", "q", "--keep", "x"],
            &["--keep", "no column `x`"],
        ),
        (vec!["--model", qwen, "-i", &input, "--prompt-column", "q", "--device", "cuda"], &["--device cuda"]),
    ] {
        let mut all = vec!["run", "-o", &output, "--max-tokens", "1"];
        all.extend(flags);
        if !all.contains(&"-i") {
            all.extend(["-i", &input]);
        }
        is_refusal(&bench.run(&all), messages);
    }
}

#[test]
fn a_parquet_bomb_is_refused_before_it_is_unpacked() {
    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    let bench = Bench::new();
    // One string of 257 MiB, which compresses to a few kilobytes.
    let bomb: ArrayRef = std::sync::Arc::new(StringArray::from_iter_values(["a".repeat(257 << 20)]));
    let batch = RecordBatch::try_from_iter([("q", bomb)]).unwrap();
    let file = std::fs::File::create(bench.path("bomb.parquet")).unwrap();
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_compression(parquet::basic::Compression::ZSTD(Default::default()))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(parquet::file::properties::EnabledStatistics::None);
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    assert!(std::fs::metadata(bench.path("bomb.parquet")).unwrap().len() < 1 << 20);
    let messages = ["bomb.parquet, row group 0, column \"q\"", "unpacks to more than 256 MiB"];
    let (model, input) = (support::golden("qwen3"), bench.name("bomb.parquet"));
    refused_on(&bench, &model, &input, &["--prompt-column", "q"], &messages);
}

/// Footers that would take much memory, much time or the stack of whoever believes them.
#[test]
fn footers_that_claim_too_much_are_refused() {
    use support::thrift::Thrift::{Bytes, List, Repeated, Struct};
    use support::thrift::{chunk, file, group, row_group, text};
    let bench = Bench::new();
    let (model, input) = (support::golden("qwen3"), bench.name("in.parquet"));
    let plain = || List(vec![group(1), text("q")]);
    let none = || List(Vec::new());
    let deep = |depth: usize| {
        let all = [vec![group(2), text("q")], vec![group(1); depth], vec![text("x")]];
        List(all.concat())
    };
    let pair = |value: usize| Struct(vec![(1, Bytes(b"k".to_vec())), (2, Bytes(vec![b'v'; value]))]);
    let times = |item, n| Repeated(Box::new(item), n);
    let groups = |rows| List(vec![row_group(vec![chunk(rows)], rows)]);
    for (what, bytes, message) in [
        ("10,000 groups in one another", file(deep(10_000), 0, none(), vec![]), "groups within one another"),
        (
            "a million columns",
            file(List([vec![group(1_000_000)], vec![text("q"); 1_000_000]].concat()), 0, none(), vec![]),
            "1000001 columns",
        ),
        (
            "columns that are not there",
            file(List(vec![group(i64::from(i32::MAX)), text("q")]), 0, none(), vec![]),
            "ends too early",
        ),
        ("fewer than none", file(List(vec![group(-1), text("q")]), 0, none(), vec![]), "outside of the tree"),
        ("2^62 rows", file(plain(), 1 << 62, groups(1 << 62), vec![]), "claims 4611686018427387904 rows"),
        (
            "2^41 rows",
            file(plain(), 1 << 41, times(row_group(vec![chunk(1 << 31)], 1 << 31), 1 << 10), vec![]),
            "claims 2199023255552 rows",
        ),
        ("rows below zero", file(plain(), -1, groups(-1), vec![]), "claims -1 rows"),
        (
            "200 MB of key-values",
            file(plain(), 0, none(), vec![(5, List(vec![pair(200 << 20)]))]),
            "longer than can be read",
        ),
        (
            "ten million key-values",
            file(plain(), 0, none(), vec![(5, times(pair(0), 10_000_000))]),
            "key-values",
        ),
        (
            "a writer's name of 200 MB",
            file(plain(), 0, none(), vec![(6, Bytes(vec![b'x'; 200 << 20]))]),
            "longer than can be read",
        ),
        (
            "five million row groups",
            file(plain(), 0, times(row_group(vec![], 0), 5_000_000), vec![]),
            "5000000 row groups",
        ),
        (
            "a row group without columns",
            file(plain(), 5, List(vec![row_group(vec![], 5)]), vec![]),
            "it has 0 columns",
        ),
        (
            "pages that are not there",
            file(plain(), 1 << 28, groups(1 << 28), vec![]),
            "row group 0, column q",
        ),
    ] {
        println!("{what}");
        std::fs::write(&input, bytes).unwrap();
        refused_on(&bench, &model, &input, &["--prompt-column", "q"], &["in.parquet", message]);
    }
}

/// The memory for a row does not grow with the number of its columns.
#[cfg(target_os = "linux")]
#[test]
fn columns_that_unpack_to_gigabytes_are_refused_together() {
    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use support::interpose::{library, measured};
    let Some(library) = library() else { return };
    let bench = Bench::new();
    let large: ArrayRef = std::sync::Arc::new(StringArray::from_iter_values(["a".repeat(140 << 20)]));
    let peak = |columns: usize| {
        let name = format!("{columns}.parquet");
        let output = bench.name(&format!("out-{name}"));
        let names: Vec<String> = (0..columns).map(|i| format!("c{i}")).collect();
        let columns = names.iter().map(|name| (name.as_str(), large.clone()));
        let prompt: ArrayRef = strings(&[Some("grain")]);
        let batch = RecordBatch::try_from_iter([("q", prompt)].into_iter().chain(columns)).unwrap();
        let properties = parquet::file::properties::WriterProperties::builder()
            .set_compression(parquet::basic::Compression::ZSTD(Default::default()))
            .set_dictionary_enabled(false)
            .set_statistics_enabled(parquet::file::properties::EnabledStatistics::None);
        let file = std::fs::File::create(bench.path(&name)).unwrap();
        let mut writer =
            parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let command = bench.job_command("qwen3", &bench.name(&name), &output, &["--prompt-column", "q"]);
        let (ran, usage) = measured(command, library, |mut command| Ran::of(command.output().unwrap()));
        is_refusal(&ran, &["column c1: row 0: the row unpacks to more than 256 MiB"]);
        usage.peak_kib
    };
    let (two, six) = (peak(2), peak(6));
    assert!(six <= two + EXTRA_KIB, "{six} KiB for six columns, {two} for two");
    // One by one they are read, and what does not fit is an error of the row.
    let flags = ["--prompt-column", "q", "--on-corrupt", "row-errors", "--max-error-rate", "1"];
    let ran = bench.job("qwen3", &bench.name("2.parquet"), &bench.name("out.parquet"), &flags);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let out = support::job::read(&bench.path("out.parquet"));
    assert_eq!(text(&out, "c0")[0].as_ref().map(String::len), Some(140 << 20));
    assert!(text(&out, "c1")[0].is_none() && text(&out, "generated_text")[0].is_some());
    assert!(text(&out, "error")[0].as_ref().unwrap().contains("column c1, row 0: the row unpacks"));
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    let fifo = |path: &Path| {
        let _ = std::fs::remove_file(path);
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    for name in [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
    ] {
        let bench = Bench::new();
        let model = bench.model("qwen3");
        fifo(&model.join(name));
        println!("{name}");
        refused(&bench, &model, &[], &[name, "no regular file"]);
    }
    let bench = Bench::new();
    let model = support::golden("qwen3");
    for path in ["job.toml", "prompt.txt", "in/a.parquet"] {
        std::fs::create_dir_all(bench.path("in")).unwrap();
        fifo(&bench.path(path));
    }
    let (prompt, template) = (bench.name("prompt.txt"), format!("@{}", bench.name("prompt.txt")));
    for flags in [["--prompt-file", &prompt], ["--prompt", &template], ["--chat-template", &prompt]] {
        refused(&bench, &model, &flags, &["prompt.txt", "no regular file"]);
    }
    for input in ["in/a.parquet", "in", "in/*.parquet", "/dev/zero"] {
        let input = if input.starts_with('/') { input.into() } else { bench.name(input) };
        refused_on(&bench, &model, &input, &["--prompt-column", "q"], &["no regular file"]);
    }
    is_refusal(&bench.run(&["run", "job.toml"]), &["job.toml", "no regular file"]);
}

/// A folder that was fetched from somewhere reads no file elsewhere, whatever its links say; a hub's cache, whose
/// snapshots are links to its blobs, is read.
#[cfg(unix)]
#[test]
fn every_link_out_of_a_model_folder_is_refused() {
    use std::os::unix::fs::symlink;
    for name in [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ] {
        let bench = Bench::new();
        let model = bench.model("qwen3");
        let (file, elsewhere) = (model.join(name), bench.path("elsewhere"));
        if std::fs::rename(&file, &elsewhere).is_err() {
            std::fs::write(&elsewhere, "{{ messages[0].content }}").unwrap();
        }
        symlink("../elsewhere", &file).unwrap();
        refused(&bench, &model, &[], &[name, "outside its folder"]);
    }
    let bench = Bench::new();
    let model = bench.model("qwen3");
    let (blobs, snapshot) = (bench.path("hub/blobs"), bench.path("hub/snapshots/abc"));
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::rename(&model, &blobs).unwrap();
    for entry in blobs.read_dir().unwrap() {
        let name = entry.unwrap().file_name();
        symlink(Path::new("../../blobs").join(&name), snapshot.join(&name)).unwrap();
    }
    let input = bench.table("in.parquet", vec![("q", strings(&[Some("grain")]))]);
    bench.answers(snapshot.to_str().unwrap(), &input, &["--prompt-column", "q"]);
}
