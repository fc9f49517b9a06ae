//! Failures of the system: every write may fail, and the clock may show any time.

#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

mod support;

use std::path::Path;
use std::process::Command;
use support::interpose::{library, measured, preload};
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
