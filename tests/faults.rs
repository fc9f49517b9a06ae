//! Failures of the system: every write may fail, and the clock may show any time.

#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

mod support;

use std::path::Path;
use std::process::Command;
use support::interpose::{Points, library, measured, preload};
use support::job::{Bench, Ran, strings};

const EIO: u64 = 5;
const ENOSPC: u64 = 28;

fn prompts(bench: &Bench, rows: usize) -> String {
    let prompts: Vec<String> = (0..rows).map(|i| format!("the mill and the river {i}")).collect();
    let prompts: Vec<Option<&str>> =
        prompts.iter().enumerate().map(|(i, p)| (i % 50 != 9).then_some(p.as_str())).collect();
    bench.table("in.parquet", vec![("q", strings(&prompts))])
}

fn run(mut command: Command) -> Ran {
    Ran::of(command.output().unwrap())
}

/// Some writes and syncs of the journal and the output fail. `GRISTMILL_FAILING_WRITES` sets how many, or "all" for
/// each of them.
#[test]
fn a_write_that_fails_loses_nothing() {
    let Some(library) = library() else { return };
    let bench = Bench::new();
    let input = prompts(&bench, 120);
    let job = |output: &str| {
        let flags = ["--prompt-column", "q", "--threads", "1", "--return", "generated_tokens"];
        let mut command = bench.job_command("qwen3", &input, &bench.name(output), &flags);
        command.env("INTERPOSE_FOLDER", bench.path(output));
        command
    };
    let (ran, usage) = measured(job("calm.parquet"), library, run);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let expected = std::fs::read(bench.path("calm.parquet")).unwrap();
    assert!(usage.writes > 100, "{usage:?}");
    let cases = match std::env::var("GRISTMILL_FAILING_WRITES").as_deref() {
        Ok("all") => usage.writes,
        Ok(cases) => cases.parse().unwrap(),
        // Journal, in-flight rows and output have several dozen each.
        Err(_) => 15,
    };
    let mut failures = 0;
    for case in 0..cases {
        let (n, error) = (1 + case * usage.writes / cases, [EIO, ENOSPC][case as usize % 2]);
        let on = if case % 3 == 0 { ":on" } else { "" };
        let output = format!("out{case}.parquet");
        let mut failing = job(&output);
        preload(&mut failing, library);
        failing.env("INTERPOSE_FAIL", format!("{n}:{error}{on}"));
        let ran = run(failing);
        let published = std::fs::read(bench.path(&output)).ok();
        assert!(published.is_none_or(|bytes| bytes == expected), "write {n}: an incomplete output");
        if ran.code != 0 {
            failures += 1;
            assert_eq!(ran.code, 1, "write {n}: {}", ran.stderr);
            // The folder of the output is synced too.
            let folder = format!("sync {}:", bench.path("").display().to_string().trim_end_matches('/'));
            assert!(
                (ran.stderr.contains(&output) || ran.stderr.contains(&folder))
                    && !ran.stderr.contains("panicked"),
                "write {n}: {}",
                ran.stderr
            );
        }
        let ran = run(job(&output));
        assert_eq!(ran.code, 0, "after write {n}: {}", ran.stderr);
        assert!(
            std::fs::read(bench.path(&output)).unwrap() == expected,
            "after write {n}: the output differs"
        );
        assert_eq!(bench.run(&["verify", &output]).code, 0);
    }
    println!("{failures} of {cases} failing writes ended a job; {} writes", usage.writes);
    assert!(failures > cases / 2, "{failures} of {cases} failing writes were noticed");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// The prompts contain the date; a job keeps the date on which it was started.
#[test]
fn a_clock_that_jumps_changes_nothing() {
    let Some(library) = library() else { return };
    let bench = Bench::new();
    let input = prompts(&bench, 120);
    let template = "{{ strftime_now('%d %B %Y') }}: {{ messages[0].content }}";
    let go = |output: &str, clock: &str, more: &[&str]| {
        let mut flags = vec!["--prompt-column", "q", "--chat-template", template];
        flags.extend(more);
        let mut command = bench.job_command("qwen3", &input, &bench.name(output), &flags);
        preload(&mut command, library);
        let ran = run({
            command.env("INTERPOSE_CLOCK", clock);
            command
        });
        assert_eq!(ran.code, 0, "{clock}: {}", ran.stderr);
        std::fs::read(bench.path(output)).unwrap()
    };
    go("calm.parquet", "0", &["--limit", "10"]);
    copy(&bench.path("calm.parquet.gristmill"), &bench.path("out.parquet.gristmill"));
    let expected = go("calm.parquet", "0", &[]);
    // A year ahead, forty years back, and then alternating at each call.
    for (clock, limit) in [("31536000", "40"), ("-1262304000", "80"), ("~1262304000", "120")] {
        let output = bench.path("out.parquet");
        let _ = std::fs::remove_file(output);
        let bytes = go("out.parquet", clock, &["--limit", limit]);
        let mut status = bench.command(&["status", "out.parquet"]);
        preload(&mut status, library);
        let shown = run({
            status.env("INTERPOSE_CLOCK", clock);
            status
        });
        assert!(shown.stdout.contains(&format!("{limit} of {limit} (100.0 %)")), "{}", shown.stdout);
        assert!(limit != "120" || bytes == expected, "the output differs");
    }
    let later = go("later.parquet", "31536000", &[]);
    assert!(later != expected, "the date is in no prompt");
}

const EMFILE: u64 = 24;
const ENOMEM: u64 = 12;
const ESTALE: u64 = 116;

/// A job in a folder of its own, with something to put in the place of each file.
struct Watched {
    bench: Bench,
    folder: std::path::PathBuf,
}

impl Watched {
    fn new() -> Watched {
        let bench = Bench::new();
        let folder = bench.path("watched");
        std::fs::create_dir(&folder).unwrap();
        // Several blocks of 64 KiB and several row groups.
        let table = |name: &str, word: &str| {
            let pads: Vec<String> = (0..240).map(|i| format!("{word}{i} ").repeat(90)).collect();
            let prompts: Vec<String> =
                (0..240).map(|i| format!("the {word} and the river {}", i % 40)).collect();
            let column =
                |texts: &[String]| strings(&texts.iter().map(|text| Some(text.as_str())).collect::<Vec<_>>());
            let columns = [("q", column(&prompts), true), ("pad", column(&pads), true)];
            let batch = arrow::array::RecordBatch::try_from_iter_with_nullable(columns).unwrap();
            let properties = parquet::file::properties::WriterProperties::builder()
                .set_max_row_group_row_count(Some(60))
                .set_dictionary_enabled(false);
            let file = std::fs::File::create(folder.join(name)).unwrap();
            let mut writer =
                parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
        };
        table("in.parquet", "mill");
        table("other-in.parquet", "reel");
        let model = folder.join("model");
        copy(&support::golden("qwen3"), &model);
        std::fs::remove_file(model.join("expected.safetensors")).unwrap();
        let weights = std::fs::read(model.join("model.safetensors")).unwrap();
        let mut other = weights.clone();
        let header = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
        // The low bytes of bf16: another model of the same shape.
        other[header..].iter_mut().step_by(2).for_each(|byte| *byte ^= 0x40);
        std::fs::write(folder.join("other-model.safetensors"), other).unwrap();
        let tokenizer = std::fs::read_to_string(model.join("tokenizer_config.json")).unwrap();
        std::fs::write(folder.join("template.jinja"), "{{ messages[0].content }}:").unwrap();
        std::fs::write(folder.join("other-template.jinja"), "{{ messages[0].content }}?").unwrap();
        std::fs::write(folder.join("other-tokenizer_config.json"), tokenizer.replacen('{', "{\"x\": 1,", 1))
            .unwrap();
        for (file, kept) in FILES {
            std::fs::copy(folder.join(file), folder.join(format!("good-{kept}"))).unwrap();
        }
        std::fs::write(folder.join("empty"), "").unwrap();
        Watched { bench, folder }
    }

    fn at(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_string()
    }

    fn job(&self, output: &str) -> Command {
        let template = self.at("template.jinja");
        let flags =
            ["--prompt-column", "q", "--threads", "1", "--max-tokens", "4", "--on-corrupt", "row-errors"];
        let flags = [&flags[..], &["--max-num-seqs", "8", "--chat-template", &template]].concat();
        self.bench.job_command(&self.at("model"), &self.at("in.parquet"), &self.bench.name(output), &flags)
    }

    fn output(&self, output: &str) -> Option<Vec<u8>> {
        std::fs::read(self.bench.path(output)).ok()
    }

    /// Puts all files back, or all but one.
    fn restore(&self, but: Option<usize>) {
        for (i, (file, name)) in FILES.iter().enumerate() {
            let from = if but == Some(i) { format!("other-{name}") } else { format!("good-{name}") };
            if std::fs::read(self.at(file)).unwrap() != std::fs::read(self.at(&from)).unwrap() {
                std::fs::copy(self.at(&from), self.at(file)).unwrap();
            }
        }
    }
}

/// Files that another can take the place of.
const FILES: [(&str, &str); 4] = [
    ("in.parquet", "in.parquet"),
    ("model/model.safetensors", "model.safetensors"),
    ("model/tokenizer_config.json", "tokenizer_config.json"),
    ("template.jinja", "template.jinja"),
];

/// Reads of input and model fail, are short or slow, or find other bytes, for good or for a while: the output is that of
/// the calm run, or the job ends with an error and is resumed to it. `GRISTMILL_CHANGING_READS` sets the number of
/// cases, or "all" for each act at each point.
#[test]
fn a_read_that_fails_or_a_file_that_changes_makes_no_answer() {
    let Some(library) = library() else { return };
    let watched = Watched::new();
    let calm = |output: &str| {
        let ran = run(watched.job(output));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        watched.output(output).unwrap()
    };
    let mut command = watched.job("counted.parquet");
    let points = Points::watch(&mut command, library, &watched.folder, "0", "short");
    assert_eq!(run(command).code, 0);
    let points = points.count();
    assert!(points > 50, "{points} points");
    let expected = watched.output("counted.parquet").unwrap();
    // What a job gives that has begun after the change.
    let others: Vec<Vec<u8>> = (0..FILES.len())
        .map(|file| {
            watched.restore(Some(file));
            let other = calm(&format!("other{file}.parquet"));
            watched.restore(None);
            assert!(other != expected, "{file}");
            other
        })
        .collect();
    let acts: Vec<(String, Option<usize>)> = [EIO, EMFILE, ENOMEM, ESTALE]
        .iter()
        .map(|error| (format!("fail{}:{error}", if error % 2 == 0 { "s" } else { "" }), None))
        .chain([("short".into(), None), ("wait:30".into(), None)])
        .chain((0..FILES.len()).flat_map(|file| {
            let (path, name) = FILES[file];
            let [at, other, good] = [watched.at(path), format!("other-{name}"), format!("good-{name}")];
            let [other, good, empty] = [watched.at(&other), watched.at(&good), watched.at("empty")];
            [
                (format!("exchange:{at}:{other}"), Some(file)),
                (format!("overwrite:{at}:{other}:{good}"), Some(file)),
                (format!("overwrite:{at}:{empty}:{good}"), Some(file)),
            ]
        }))
        .collect();
    let all = points * acts.len() as u64 * 2;
    let cases = match std::env::var("GRISTMILL_CHANGING_READS").as_deref() {
        Ok("all") => all,
        Ok(cases) => cases.parse().unwrap(),
        Err(_) => 36,
    };
    let (mut ended, mut begun_otherwise) = (0, 0);
    for case in 0..cases {
        // Each act at points that are spread over the job, for good and for a while.
        let number = if cases == all { case } else { case * (all / cases) + case % 7 };
        let (act, file) = &acts[(number % acts.len() as u64) as usize];
        let point = 1 + number / acts.len() as u64 % points;
        let point = match number / acts.len() as u64 / points {
            0 => point.to_string(),
            _ => format!("{point}:{}", point + 1 + number % 40),
        };
        let output = format!("out{case}.parquet");
        let what = format!("case {case}, {act} at {point} of {points}");
        let mut command = watched.job(&output);
        Points::watch(&mut command, library, &watched.folder, &point, act);
        let ran = run(command);
        let is_other = |bytes: &Vec<u8>| file.is_some_and(|file| *bytes == others[file]);
        let published = watched.output(&output);
        assert!(
            published.as_ref().is_none_or(|bytes| *bytes == expected || is_other(bytes)),
            "{what}: an output of two minds"
        );
        assert!(
            matches!(ran.code, 0..=2) && !ran.stderr.contains("panicked"),
            "{what}: {} {}",
            ran.code,
            ran.stderr
        );
        assert_eq!(ran.code == 0, published.is_some(), "{what}: {}", ran.stderr);
        // What is cut to nothing may be refused for that.
        assert!(ran.code != 2 || act.contains("empty"), "{what}: {}", ran.stderr);
        watched.restore(None);
        if published.is_some() {
            continue;
        }
        ended += 1;
        let mut ran = run(watched.job(&output));
        if ran.code == 2 && ran.stderr.contains("holds another job") && file.is_some() {
            // It has begun after the change.
            begun_otherwise += 1;
            watched.restore(*file);
            ran = run(watched.job(&output));
            watched.restore(None);
            assert_eq!(ran.code, 0, "{what}, with the other file: {}", ran.stderr);
            assert!(
                watched.output(&output).is_some_and(|bytes| is_other(&bytes)),
                "{what}: the output differs"
            );
            continue;
        }
        assert_eq!(ran.code, 0, "after {what}: {}", ran.stderr);
        assert!(watched.output(&output).unwrap() == expected, "after {what}: the output differs");
    }
    println!(
        "{ended} of {cases} changed, failing or slow reads ended a job ({begun_otherwise} of another file); {points} points"
    );
    assert!(ended > cases / 4, "{ended} of {cases} were noticed");
}
