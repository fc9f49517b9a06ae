//! Whole jobs on the CUDA device, on the stand-in driver: batches, cuBLASLt, little memory, a device that fails.

#![allow(clippy::unwrap_used)]
#![cfg(all(target_os = "linux", feature = "cuda"))]

mod support;

use arrow::array::{ArrayRef, Int64Builder, ListBuilder};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::job::{Bench, Ran, read, text};

/// Rows of three to five tokens, and one of twenty.
const LONG: usize = 7;

fn prompts(bench: &Bench, rows: usize) {
    let mut list = ListBuilder::new(Int64Builder::new());
    for row in 0..rows {
        let len = if row == LONG { 20 } else { 3 + row % 3 };
        list.append_value((0..len).map(|i| Some((11 * row + 5 * i) as i64 % 250)));
    }
    bench.table("in.parquet", vec![("ids", Arc::new(list.finish()) as ArrayRef)]);
}

/// The stand-in's folder.
fn standin() -> PathBuf {
    gristmill_standin::build().unwrap()
}

/// Runs a job over `in.parquet` with the driver in the folder `drivers`.
fn job(bench: &Bench, drivers: &Path, output: &str, more: &[&str], settings: &[(&str, &str)]) -> Ran {
    let model = support::golden("qwen3");
    let mut all = vec!["run", "--model", model.to_str().unwrap(), "-i", "in.parquet", "-o", output];
    all.extend(["--prompt-tokens-column", "ids", "--temperature", "0", "--max-tokens", "8"]);
    all.extend(["--return", "generated_tokens,token_logprobs", "--max-num-batched-tokens", "32"]);
    all.extend(more);
    for (flag, value) in [("--device", "cuda"), ("--max-num-seqs", "4")] {
        if !all.contains(&flag) {
            all.extend([flag, value]);
        }
    }
    run(bench, drivers, &all, settings)
}

fn run(bench: &Bench, drivers: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Ran {
    let mut command = bench.command(arguments);
    command.env("LD_LIBRARY_PATH", drivers).env("GRISTMILL_CACHE", standin().join("jobs"));
    // A library elsewhere must not replace one that is missing here.
    for name in ["CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"] {
        command.env_remove(name);
    }
    command.env("HOME", bench.path(""));
    command.envs(settings.iter().copied());
    Ran::of(command.output().unwrap())
}

/// A folder with `rows` prompts, the stand-in's folder, and the output of an undisturbed job over the prompts.
fn calm(rows: usize) -> (Bench, PathBuf, Vec<u8>) {
    let bench = Bench::new();
    prompts(&bench, rows);
    let drivers = standin();
    let ran = job(&bench, &drivers, "calm.parquet", &[], &[]);
    ends_with(&ran, 0, &["engine: gristmill stand-in", &format!("{rows} rows in")]);
    let calm = bytes(&bench, "calm.parquet");
    (bench, drivers, calm)
}

fn bytes(bench: &Bench, output: &str) -> Vec<u8> {
    std::fs::read(bench.path(output)).unwrap()
}

#[track_caller]
fn ends_with(ran: &Ran, code: i32, messages: &[&str]) {
    assert_eq!(ran.code, code, "{}", ran.stderr);
    for message in messages {
        assert!(ran.stderr.contains(message), "`{message}` is missing in:\n{}", ran.stderr);
    }
}

/// Small and large batches, and little memory: the same bytes, or a refusal that says what to change.
#[test]
fn batches_and_memory_do_not_change_the_answers() {
    let (bench, drivers, calm) = calm(20);
    for seqs in ["1", "13"] {
        let more = ["--max-num-seqs", seqs, "--block-size", "8"];
        ends_with(&job(&bench, &drivers, "out.parquet", &[&more[..], &["--fresh"]].concat(), &[]), 0, &[]);
        assert!(bytes(&bench, "out.parquet") == calm, "--max-num-seqs {seqs}");
    }
    let (mut refused, mut pages) = (0, Vec::new());
    for memory in ["64K", "1M", "3M", "4M", "4200K", "4400K", "4600K", "4800K", "5M", "16M"] {
        let settings = [("GRISTMILL_STANDIN_MEMORY", memory)];
        let ran = job(&bench, &drivers, "out.parquet", &["--fresh"], &settings);
        if ran.code == 0 {
            assert!(bytes(&bench, "out.parquet") == calm, "{memory}");
            let (before, _) = ran.stderr.split_once(" KV pages of").unwrap();
            pages.push(before.rsplit(' ').next().unwrap().parse::<usize>().unwrap());
        } else {
            refused += 1;
            assert!(pages.is_empty(), "{memory} is refused and less was not: {}", ran.stderr);
            let remedies =
                ["the weights alone do not fit", "lower --max-model-len", "lower --max-num-batched-tokens"];
            assert!(
                ran.code == 1 && remedies.iter().any(|remedy| ran.stderr.contains(remedy)),
                "{}",
                ran.stderr
            );
        }
    }
    println!("{refused} refusals, then {pages:?} KV pages");
    assert!(refused > 1 && pages.is_sorted() && pages.first() < pages.last(), "{refused} {pages:?}");
}

/// An allocation that fails although memory seemed to be free: fewer KV pages, and the same bytes.
#[test]
fn a_failed_allocation_costs_kv_pages_only() {
    let (bench, drivers, calm) = calm(12);
    let settings = [("GRISTMILL_STANDIN_FAIL", "cuMemAlloc_v2@9:2")];
    let ran = job(&bench, &drivers, "out.parquet", &[], &settings);
    ends_with(&ran, 0, &["fails on purpose", "KV pages in place of"]);
    assert!(bytes(&bench, "out.parquet") == calm);
    let fixed = ["--fresh", "--kv-cache-memory-bytes", "200K"];
    let ran = job(&bench, &drivers, "out.parquet", &fixed, &settings);
    ends_with(&ran, 1, &["bytes, ", " are there; lower --"]);
}

/// A kernel's error persists until the process ends, as on a GPU: the process ends, finished rows are kept, and the
/// same command resumes from there.
#[test]
fn a_sticky_error_ends_the_process_and_loses_nothing() {
    let (bench, drivers, calm) = calm(20);
    // The long row's keys are written far outside their pages.
    let patch = "const size_t slot = inside && a.k_pages ? a.kv_slots[t] : 0; => \
                 const size_t slot = !inside || !a.k_pages ? 0 : \
                 a.positions[t] == 19 ? size_t(1) << 24 : a.kv_slots[t];";
    let cache = bench.name("cache");
    let planted = [("GRISTMILL_STANDIN_PATCH", patch), ("GRISTMILL_CACHE", &cache)];
    // Long rows come first, so some rows are finished before.
    let flags = ["--in-process", "--max-num-seqs", "2"];
    let ran = job(&bench, &drivers, "out.parquet", &[&flags[..], &["--limit", "4"]].concat(), &[]);
    ends_with(&ran, 0, &["4 rows in"]);
    std::fs::remove_file(bench.path("out.parquet")).unwrap();
    let ran = job(&bench, &drivers, "out.parquet", &flags, &planted);
    ends_with(&ran, 1, &["error: the cuda device failed: ", "CUDA_ERROR_ILLEGAL_ADDRESS"]);
    assert!(!bench.path("out.parquet").exists());
    let status = bench.run(&["status", "out.parquet"]);
    assert!(
        status.stdout.contains("process    none") && status.stdout.contains("4 of 20"),
        "{}",
        status.stdout
    );
    ends_with(&job(&bench, &drivers, "out.parquet", &["--resume", "require"], &[]), 0, &["resuming: "]);
    assert!(bytes(&bench, "out.parquet") == calm, "the resumed job's output differs");

    // Under the supervisor the row itself is found, and its neighbours are not affected.
    let ran = job(&bench, &drivers, "found.parquet", &[], &planted);
    ends_with(&ran, 0, &["restarting it from the journal"]);
    let (calm, found) = (read(&bench.path("calm.parquet")), read(&bench.path("found.parquet")));
    for row in 0..20 {
        let error = text(&found, "error")[row].clone();
        if row == LONG {
            assert_eq!(error.as_deref(), Some("crashed the device"));
        } else {
            assert_eq!(error, None, "row {row}");
            assert_eq!(text(&found, "generated_text")[row], text(&calm, "generated_text")[row], "row {row}");
        }
    }
}

/// A driver that fails at some call after every start: each start resumes from the journal, with the same bytes.
#[test]
fn a_driver_that_fails_now_and_then_changes_nothing() {
    let (bench, drivers, calm) = calm(16);
    // A decode step launches two graphs. A start that fails before a row is done would blame the row.
    for fail in ["cuGraphLaunch@48:719", "cuEventSynchronize@30:700"] {
        let flags = ["--fresh", "--max-num-seqs", "2"];
        let settings = [("GRISTMILL_STANDIN_FAIL", fail)];
        let ran = job(&bench, &drivers, "out.parquet", &flags, &settings);
        ends_with(&ran, 0, &["fails on purpose", "restarting it from the journal"]);
        assert!(bytes(&bench, "out.parquet") == calm, "{fail}");
    }
}

/// Half the bytes for a token, and the same answers in small and large batches.
#[test]
fn pages_in_fp8() {
    let (bench, drivers, calm) = calm(12);
    let with = ["--kv-cache-dtype", "fp8", "--kv-cache-memory-bytes", "200K", "--max-model-len", "64"];
    let ran = job(&bench, &drivers, "fp8.parquet", &with, &[]);
    ends_with(&ran, 0, &["KV fp8_e4m3, 16 KV pages of 16 tokens"]);
    let answers = bytes(&bench, "fp8.parquet");
    assert!(answers != calm, "nothing was rounded");
    let more = ["--max-num-seqs", "13", "--block-size", "8", "--fresh"];
    ends_with(&job(&bench, &drivers, "fp8.parquet", &[&with[..], &more].concat(), &[]), 0, &[]);
    assert!(bytes(&bench, "fp8.parquet") == answers);
    let wide = ["--kv-cache-memory-bytes", "200K", "--max-model-len", "64"];
    let other = job(&bench, &drivers, "fp8.parquet", &wide, &[]);
    ends_with(&other, 2, &["kv_cache: begun with fp8_e4m3, now bf16"]);
}

#[test]
fn cublaslt_is_marked_wherever_a_job_says_what_it_is() {
    let bench = Bench::new();
    prompts(&bench, 12);
    let drivers = standin();
    let with = ["--gemm", "cublaslt"];
    let ran = job(&bench, &drivers, "out.parquet", &with, &[]);
    ends_with(&ran, 0, &["outside the numeric contract: cuBLASLt chooses"]);
    let out = read(&bench.path("out.parquet"));
    assert!(text(&out, "error").iter().all(Option::is_none) && out.num_rows() == 12);
    let other = job(&bench, &drivers, "out.parquet", &[], &[]);
    let marks =
        ["gemm: begun with cublaslt, now builtin", "outside_numeric_contract: begun with true, now (none)"];
    ends_with(&other, 2, &marks);
    let help = bench.run(&["run", "--help"]).stdout;
    assert!(help.contains("--gemm <GEMM>") && help.contains("outside the numeric contract"), "{help}");

    ends_with(
        &job(&bench, &drivers, "no.parquet", &["--gemm", "cublaslt", "--device", "cpu"], &[]),
        2,
        &["--gemm cublaslt is for CUDA cards, but the device is cpu"],
    );
    ends_with(
        &job(&bench, &drivers, "no.parquet", &["--float32-matmul-precision", "medium"], &[]),
        2,
        &["--float32-matmul-precision medium is for the processor, but the device is cuda"],
    );
    let model = support::golden("qwen3");
    let mut all = vec!["bench", "throughput", "--device", "cuda", "--model", model.to_str().unwrap()];
    all.extend(["--input-len", "5", "--output-len", "4", "--num-prompts", "6", "--gemm", "cublaslt"]);
    all.extend(["--max-num-batched-tokens", "32", "--output-json", "figures.json"]);
    ends_with(&run(&bench, &drivers, &all, &[]), 0, &["outside the numeric contract"]);
    let figures: Value = serde_json::from_slice(&bytes(&bench, "figures.json")).unwrap();
    assert_eq!(
        (&figures["gemm"], &figures["num_output_tokens"]),
        (&Value::from("cublaslt"), &Value::from(24))
    );
}

/// A machine with a driver and NVRTC only.
#[test]
fn cublaslt_is_refused_where_it_is_not() {
    let bench = Bench::new();
    prompts(&bench, 3);
    let drivers = bench.path("drivers");
    for entry in std::fs::read_dir(standin()).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        let to = drivers.join(&name);
        if entry.path().is_dir() && name == "include" {
            std::fs::create_dir_all(&to).unwrap();
            for header in std::fs::read_dir(entry.path()).unwrap().map(Result::unwrap) {
                std::fs::copy(header.path(), to.join(header.file_name())).unwrap();
            }
        } else if name.to_str().is_some_and(|n| n.contains(".so") && !n.contains("cublas")) {
            std::fs::create_dir_all(&drivers).unwrap();
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
    let ran = job(&bench, &drivers, "out.parquet", &["--gemm", "cublaslt"], &[]);
    ends_with(&ran, 2, &["--device cuda: libcublasLt ", "or use the built-in kernels"]);
}
