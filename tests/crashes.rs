//! Jobs that are killed or stopped, that run out of disk space, or whose journal is damaged: no row is lost or
//! duplicated, and the bytes are the same.

#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod support;

use arrow::array::{ArrayRef, Int64Builder, ListBuilder};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use support::dice::Dice;
use support::job::{Bench, Ran, int_list, read, strings, text, texts};

const MODEL: &str = "qwen3";

/// One row in four has the prompt of two rows before, and some have one from much earlier.
fn prompts(bench: &Bench, rows: usize) -> String {
    let words = ["mill", "river", "grain", "stone", "name", "wheel", "flour"];
    let text = |i: usize| format!("the {} and the {} {i}", words[i % 7], words[i / 7 % 7]);
    let prompt = |i: usize| match i {
        _ if i % 50 == 9 => None,
        _ if i % 4 == 3 => Some(text(i - 2)),
        _ if i % 16 == 12 && i > 200 => Some(text(i - 200)),
        _ => Some(text(i)),
    };
    let prompts: Vec<Option<String>> = (0..rows).map(prompt).collect();
    let prompts: Vec<Option<&str>> = prompts.iter().map(Option::as_deref).collect();
    bench.table("in.parquet", vec![("q", strings(&prompts))])
}

/// The arguments of a job over `in.parquet`.
fn job<'a>(model: &'a str, output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut all =
        vec!["run", "--device", "cpu", "--threads", "1", "--model", model, "-i", "in.parquet", "-o", output];
    all.extend(["--temperature", "0", "--max-tokens", "16", "--return", "generated_tokens,token_logprobs"]);
    all.extend(["--prompt-column", "q"]);
    all.extend(more);
    all
}

fn model() -> String {
    support::golden(MODEL).to_str().unwrap().to_string()
}

/// Runs a job undisturbed and without prompt sharing, and returns its output.
fn undisturbed(bench: &Bench, more: &[&str]) -> Vec<u8> {
    let more = [&["--enable-prompt-sharing=false"], more].concat();
    let ran = bench.run(&job(&model(), "calm.parquet", &more));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    std::fs::read(bench.path("calm.parquet")).unwrap()
}

fn kill(process: &str, signal: &str) {
    // It may have ended already.
    Command::new("kill").args([signal, process]).stderr(Stdio::null()).status().unwrap();
}

/// The process that holds the lock of an output, or was the last to hold it.
fn worker_of(bench: &Bench, output: &str) -> Option<String> {
    let lock = std::fs::read_to_string(bench.path(&format!("{output}.gristmill/lock"))).ok()?;
    Some(lock.split_whitespace().next()?.to_string())
}

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(child: Child) -> Ran {
    Ran::of(child.wait_with_output().unwrap())
}

/// Reads the child's messages until one has these words.
fn wait_for(child: &mut Child, words: &str) -> impl Drop + use<> {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let found = lines.by_ref().any(|line| line.unwrap().contains(words));
    assert!(found, "it ended without printing {words:?}");
    // Keep reading, so that the child never blocks on a full pipe.
    struct Rest(Option<std::thread::JoinHandle<()>>);
    impl Drop for Rest {
        fn drop(&mut self) {
            let _ = self.0.take().map(std::thread::JoinHandle::join);
        }
    }
    Rest(Some(std::thread::spawn(move || lines.for_each(drop))))
}

/// `GRISTMILL_KILLS` sets the number of kills; a full run has 1,000.
#[test]
fn killed_jobs_publish_the_bytes_of_an_undisturbed_one() {
    let kills: u64 = std::env::var("GRISTMILL_KILLS").map_or(12, |kills| kills.parse().unwrap());
    let bench = Bench::new();
    prompts(&bench, 1000);
    let expected = undisturbed(&bench, &[]);
    let mut dice = Dice(7);
    let mut done = 0;
    let mut jobs = 0;
    while done < kills {
        let output = format!("out{jobs}.parquet");
        jobs += 1;
        for attempt in 0.. {
            let seqs = (1 + dice.below(40)).to_string();
            let block = ["4", "16", "64"][dice.below(3) as usize];
            let child = spawn(bench.command(&job(
                &model(),
                &output,
                &["--max-num-seqs", &seqs, "--block-size", block],
            )));
            // A job gets more time after each kill, so that it finishes eventually.
            std::thread::sleep(Duration::from_millis(dice.below(400 + 400 * attempt)));
            let supervisor = child.id().to_string();
            let worker = worker_of(&bench, &output);
            match (dice.below(3), worker) {
                (0, _) | (_, None) => kill(&supervisor, "-KILL"),
                (1, Some(worker)) => kill(&worker, "-KILL"),
                (_, Some(worker)) => {
                    [&supervisor, &worker].into_iter().for_each(|process| kill(process, "-KILL"))
                }
            }
            let ran = end(child);
            assert!(ran.code == 0 || ran.code == -1, "{}: {}", ran.code, ran.stderr);
            // A job may finish before the kill.
            done += u64::from(ran.code == -1 || ran.stderr.contains("the worker died"));
            if ran.code == 0 {
                break;
            }
        }
        assert!(std::fs::read(bench.path(&output)).unwrap() == expected, "{output} differs");
        let verified = bench.run(&["verify", &output]);
        assert_eq!(verified.code, 0, "{}", verified.stderr);
    }
    println!("{done} kills over {jobs} jobs");
}

#[test]
fn a_failing_device_changes_nothing() {
    let bench = Bench::new();
    prompts(&bench, 60);
    let expected = undisturbed(&bench, &[]);
    let mut dice = Dice(11);
    for kind in ["lost", "abort", "hang"] {
        for _ in 0..2 {
            let (first, second) = (1 + dice.below(40), 1 + dice.below(40));
            let faults = format!("1:{kind}@{first},2:{kind}@{second}");
            let flags = ["--fresh", "--hang-timeout", "5", "--max-num-seqs", "16"];
            let mut command = bench.command(&job(&model(), "out.parquet", &flags));
            let ran = end(spawn({
                command.env("GRISTMILL_FAULTS", &faults);
                command
            }));
            assert_eq!(ran.code, 0, "{faults}: {}", ran.stderr);
            assert!(ran.stderr.contains("restarting it from the journal"), "{faults}: {}", ran.stderr);
            assert!(
                std::fs::read(bench.path("out.parquet")).unwrap() == expected,
                "{faults}: the output differs"
            );
        }
    }
}

#[test]
fn a_device_that_always_fails_ends_the_job() {
    let bench = Bench::new();
    prompts(&bench, 20);
    let mut command = bench.command(&job(&model(), "out.parquet", &[]));
    command.env("GRISTMILL_FAULTS", "*:lost@3");
    let ran = end(spawn(command));
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("the worker died 3 times without"), "{}", ran.stderr);
    assert!(!bench.path("out.parquet").exists());
}

/// A column of token lists.
fn token_lists(lists: &[Vec<i64>]) -> ArrayRef {
    let mut list = ListBuilder::new(Int64Builder::new());
    lists.iter().for_each(|ids| list.append_value(ids.iter().map(|&id| Some(id))));
    Arc::new(list.finish())
}

#[test]
fn rows_that_crash_the_device_become_errors_and_their_neighbours_do_not_notice() {
    // So far apart that the second one kills the worker while the first waits to run alone.
    const POISONED: [usize; 2] = [17, 230];
    let bench = Bench::new();
    let mut lists: Vec<Vec<i64>> = (0..240).map(|i| vec![10 + i, 20 + i % 7, 30]).collect();
    POISONED.into_iter().for_each(|row| lists[row].push(301));
    bench.table("in.parquet", vec![("ids", token_lists(&lists))]);
    let model = model();
    let mut arguments =
        vec!["run", "--device", "cpu", "--model", &model, "-i", "in.parquet", "--temperature", "0"];
    arguments.extend(["--max-tokens", "8", "--prompt-tokens-column", "ids", "--return", "generated_tokens"]);
    let run = |output, faults| {
        let mut all = arguments.clone();
        all.extend(["-o", output, "--max-num-seqs", "8"]);
        let mut command = bench.command(&all);
        command.env("GRISTMILL_FAULTS", faults);
        let ran = end(spawn(command));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        read(&bench.path(output))
    };
    let calm = run("calm.parquet", "");
    let crashed = run("out.parquet", "*:token@301");
    for row in 0..240 {
        let error = text(&crashed, "error")[row].clone();
        if POISONED.contains(&row) {
            assert_eq!(error.as_deref(), Some("crashed the device"));
            assert_eq!(texts(&crashed, "finish_reason")[row], "error");
        } else {
            assert_eq!(error, None, "row {row}");
            let tokens = |table| int_list(table, "generated_tokens", row);
            assert_eq!(tokens(&crashed), tokens(&calm), "row {row}");
        }
    }
}

/// Rows that wait for a row with the same prompt count as in flight with it, and become error rows with it.
#[test]
fn rows_of_one_prompt_end_as_each_would_alone() {
    let bench = Bench::new();
    let mut lists: Vec<Vec<i64>> = (0..60).map(|i| vec![10 + i % 9, 20, 30]).collect();
    [17, 19].into_iter().for_each(|row| lists[row].push(301));
    bench.table("in.parquet", vec![("ids", token_lists(&lists))]);
    let model = model();
    let run = |output, sharing| {
        let mut all = vec!["run", "--device", "cpu", "--model", &model, "-i", "in.parquet", "-o", output];
        all.extend(["--temperature", "0", "--max-tokens", "8", "--prompt-tokens-column", "ids"]);
        all.extend(["--max-num-seqs", "4", "--return", "generated_tokens,token_logprobs", sharing]);
        let mut command = bench.command(&all);
        command.env("GRISTMILL_FAULTS", "*:token@301");
        let ran = end(spawn(command));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        (std::fs::read(bench.path(output)).unwrap(), ran.stderr)
    };
    let (apart, messages) = run("apart.parquet", "--enable-prompt-sharing=false");
    assert!(!messages.contains("of the same prompt"), "{messages}");
    let (shared, messages) = run("out.parquet", "--enable-prompt-sharing");
    assert!(messages.contains("rows answered by another of the same prompt"), "{messages}");
    assert!(shared == apart, "the output differs");
    let errors = text(&read(&bench.path("out.parquet")), "error");
    let crashed = |row: usize| errors[row].as_deref() == Some("crashed the device");
    assert!((0..60).all(|row| crashed(row) == (row == 17 || row == 19)), "{errors:?}");
}

#[test]
fn a_stopped_job_goes_on_to_the_same_bytes() {
    let bench = Bench::new();
    prompts(&bench, 1000);
    let expected = undisturbed(&bench, &[]);
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        let mut child =
            spawn(bench.command(&job(&model(), "out.parquet", &["--fresh", "--max-num-seqs", "4"])));
        let rest = wait_for(&mut child, "engine: ");
        kill(&child.id().to_string(), signal);
        let ran = end(child);
        drop(rest);
        assert_eq!(ran.code, code);
        let status = bench.run(&["status", "out.parquet"]);
        assert!(
            status.stdout.contains(" of 1000 (") && status.stdout.contains("process    none"),
            "{}",
            status.stdout
        );
        let ran = bench.run(&job(&model(), "out.parquet", &["--resume", "require"]));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(
            std::fs::read(bench.path("out.parquet")).unwrap() == expected,
            "{signal}: the output differs"
        );
    }
}

/// The device hangs, so that an orderly stop is impossible; the job stops nevertheless.
#[test]
fn a_hanging_job_is_watched_refused_to_others_and_stopped() {
    let bench = Bench::new();
    prompts(&bench, 50);
    let mut command = bench.command(&job(&model(), "out.parquet", &["--max-num-seqs", "4"]));
    command.env("GRISTMILL_FAULTS", "1:hang@60");
    let mut child = spawn(command);
    let rest = wait_for(&mut child, "engine: ");
    let worker = worker_of(&bench, "out.parquet").unwrap();
    let second = bench.run(&job(&model(), "out.parquet", &[]));
    assert_eq!(second.code, 1, "{}", second.stderr);
    assert!(second.stderr.contains(&format!("process {worker} is working on")), "{}", second.stderr);
    let status = bench.run(&["status", "out.parquet"]);
    assert!(status.stdout.contains(&format!("process    {worker}")), "{}", status.stdout);
    kill(&child.id().to_string(), "-TERM");
    let ran = end(child);
    drop(rest);
    assert_eq!(ran.code, 143);
    let ran = bench.run(&job(&model(), "out.parquet", &[]));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(std::fs::read(bench.path("out.parquet")).unwrap() == undisturbed(&bench, &[]));
}

#[test]
fn a_job_file_that_changes_under_its_job_ends_it() {
    let bench = Bench::new();
    prompts(&bench, 1000);
    let job_file = |output: &str| {
        let text = format!(
            "model = '{}'\ninput = 'in.parquet'\noutput = '{output}'\nprompt-column = 'q'\nmax-tokens = 16\n",
            model()
        );
        std::fs::write(bench.path("job.toml"), text).unwrap();
    };
    job_file("out.parquet");
    let mut child = spawn(bench.command(&["run", "--device", "cpu", "--threads", "1", "job.toml"]));
    let rest = wait_for(&mut child, "engine:");
    job_file("elsewhere.parquet");
    kill(&worker_of(&bench, "out.parquet").unwrap(), "-KILL");
    assert_eq!(end(child).code, 1);
    drop(rest);
    assert!(!bench.path("elsewhere.parquet").exists() && !bench.path("elsewhere.parquet.gristmill").exists());
    job_file("out.parquet");
    let ran = bench.run(&["run", "--device", "cpu", "--threads", "1", "job.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(read(&bench.path("out.parquet")).num_rows(), 1000);
}

#[test]
fn another_job_in_the_same_place_is_refused_by_what_differs() {
    let bench = Bench::new();
    prompts(&bench, 20);
    let go = |more: &[&str]| bench.run(&job(&model(), "out.parquet", more));
    assert_eq!(go(&["--limit", "5"]).code, 0);
    // These are not part of a job's identity.
    let ran =
        go(&["--limit", "7", "--max-num-seqs", "3", "--block-size", "32", "--max-num-batched-tokens", "64"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for (more, field) in [
        (["--top-k", "3"], "top_k"),
        (["--system-prompt", "be brief"], "system_prompt"),
        (["--float32-matmul-precision", "medium"], "float32_matmul_precision"),
    ] {
        let ran = go(&more);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        let lines: Vec<&str> = ran.stderr.lines().filter(|line| line.contains(": begun with ")).collect();
        assert!(lines.len() == 1 && lines[0].contains(field), "{}", ran.stderr);
    }
    let refused = go(&["--resume", "never"]);
    assert!(refused.code == 2 && refused.stderr.contains("with 7 finished rows"), "{}", refused.stderr);
    prompts(&bench, 21);
    let refused = go(&[]);
    assert!(refused.code == 2 && refused.stderr.contains("input 1: in.parquet"), "{}", refused.stderr);
    let fresh = go(&["--fresh"]);
    assert!(
        fresh.code == 0 && fresh.stderr.contains("discarded a job with 7 finished rows"),
        "{}",
        fresh.stderr
    );
}

/// A backup or a tidy-up moves the working folder away, and another job runs at the same output meanwhile.
#[test]
fn a_job_whose_folder_was_moved_publishes_nothing_and_goes_on_when_it_is_back() {
    let bench = Bench::new();
    prompts(&bench, 300);
    let expected = undisturbed(&bench, &[]);
    let folder = bench.path("out.parquet.gristmill");
    let mut child = spawn(bench.command(&job(&model(), "out.parquet", &["--max-num-seqs", "1"])));
    let rest = wait_for(&mut child, "engine: ");
    std::fs::rename(&folder, bench.path("moved")).unwrap();
    let other = bench.run(&job(&model(), "out.parquet", &["--seed", "7"]));
    assert_eq!(other.code, 0, "{}", other.stderr);
    let published = std::fs::read(bench.path("out.parquet")).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
    drop(rest);
    assert!(std::fs::read(bench.path("out.parquet")).unwrap() == published, "the other job's output is gone");
    assert_eq!(bench.run(&["verify", "out.parquet"]).code, 0);
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::remove_file(bench.path("out.parquet")).unwrap();
    std::fs::rename(bench.path("moved"), &folder).unwrap();
    let ran = bench.run(&job(&model(), "out.parquet", &["--resume", "require"]));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("resuming: 300 of 300 rows already answered"), "{}", ran.stderr);
    assert!(std::fs::read(bench.path("out.parquet")).unwrap() == expected);
}

#[test]
fn a_damaged_journal_is_mended_or_refused() {
    let bench = Bench::new();
    prompts(&bench, 200);
    let expected = undisturbed(&bench, &[]);
    let journal = bench.path("calm.parquet.gristmill/journal.sqlite");
    let sound = std::fs::read(&journal).unwrap();
    let mut dice = Dice(3);
    let (mut mended, mut refused) = (0, 0);
    for case in 0..8 {
        let mut damaged = sound.clone();
        let place = dice.below(damaged.len() as u64) as usize;
        // The first page says what the file is; a truncation keeps the start.
        match case {
            0 => damaged[30] ^= 64,
            1 => damaged[1200] ^= 1,
            2..5 => damaged.truncate(place),
            _ => damaged[place] ^= 1 << dice.below(8),
        }
        std::fs::write(&journal, damaged).unwrap();
        std::fs::remove_file(bench.path("calm.parquet")).unwrap_or_default();
        let ran = bench.run(&job(&model(), "calm.parquet", &[]));
        match ran.code {
            0 => {
                mended += 1;
                assert!(std::fs::read(bench.path("calm.parquet")).unwrap() == expected, "case {case}");
            }
            2 => {
                refused += 1;
                assert!(
                    ran.stderr.contains("is damaged") && ran.stderr.contains("--fresh"),
                    "{}",
                    ran.stderr
                );
                assert!(!bench.path("calm.parquet").exists());
            }
            code => panic!("case {case}: {code}: {}", ran.stderr),
        }
    }
    assert!(mended > 0 && refused > 0, "{mended} {refused}");
}

#[test]
fn a_changed_output_is_found() {
    let bench = Bench::new();
    prompts(&bench, 50);
    let ran = bench.run(&job(&model(), "parts", &["--rows-per-file", "20"]));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let verified = bench.run(&["verify", "parts"]);
    assert!(verified.code == 0 && verified.stdout.contains("50 rows in 3 files"), "{}", verified.stdout);
    let part = bench.path("parts/part-00002.parquet");
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    let verified = bench.run(&["verify", "parts"]);
    assert!(verified.code == 2 && verified.stderr.contains("part-00002.parquet"), "{}", verified.stderr);
}

/// A job on a full file system stops with a clear error, and resumes when there is space.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_loses_nothing() {
    let bench = Bench::new();
    prompts(&bench, 1000);
    let expected = undisturbed(&bench, &[]);
    let disk = bench.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = |options: &str| {
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&disk).status();
        status.is_ok_and(|status| status.success())
    };
    if !mount("size=64k") {
        eprintln!("SKIPPED a_full_disk_loses_nothing: no right to mount a tmpfs");
        return;
    }
    let ran = std::panic::catch_unwind(|| fill(&bench, &expected, &mount));
    Command::new("umount").arg(&disk).status().unwrap();
    ran.unwrap();
}

/// What publishing will need is known before the work, where it is much.
#[test]
fn too_little_space_for_kept_columns_is_said_before_the_work() {
    let bench = Bench::new();
    let dice = &mut Dice(7);
    let blob: Vec<String> =
        (0..20).map(|_| (0..80_000).map(|_| format!("{:08x}", dice.below(u64::MAX))).collect()).collect();
    let blob: Vec<Option<&str>> = blob.iter().map(|blob| Some(&**blob)).collect();
    bench.table("in.parquet", vec![("q", strings(&[Some("the mill"); 20])), ("blob", strings(&blob))]);
    let disk = bench.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = |options: &str| {
        Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(&disk)
            .status()
            .unwrap()
            .success()
    };
    if !mount("size=4m") {
        eprintln!(
            "SKIPPED too_little_space_for_kept_columns_is_said_before_the_work: no right to mount a tmpfs"
        );
        return;
    }
    let run = |more: &[&str]| bench.run(&[&job(&model(), "disk/out.parquet", &[])[..], more].concat());
    let words = "disk/out.parquet.gristmill has 3.";
    let full = run(&[]);
    // Nothing half written keeps the disk full.
    let half_written = Path::new(&bench.path("disk/out.parquet.gristmill/publishing")).exists();
    let few = run(&["--fresh", "--keep", "q"]);
    let roomy = mount("remount,size=40m").then(|| run(&["--fresh"]));
    Command::new("umount").arg(&disk).status().unwrap();
    assert!(full.code == 1 && !half_written && full.stderr.contains(words), "{}", full.stderr);
    for ran in [few, roomy.unwrap()] {
        assert!(ran.code == 0 && !ran.stderr.contains(words), "{}", ran.stderr);
    }
}

/// Gives a job more and more space, so that it runs out of it at another write each time.
fn fill(bench: &Bench, expected: &[u8], mount: &dyn Fn(&str) -> bool) {
    let output = "disk/out.parquet";
    let mut refusals = 0;
    for pages in 0.. {
        let ran = bench.run(&job(&model(), output, &["--hang-timeout", "60"]));
        if ran.code == 0 {
            break;
        }
        refusals += 1;
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        let clear = ran.stderr.contains("full") || ran.stderr.contains("No space left");
        assert!(clear && ran.stderr.contains("same command"), "{}", ran.stderr);
        assert!(!Path::new(&bench.path(output)).exists(), "an incomplete output");
        assert!(mount(&format!("remount,size={}k", 64 + 52 * (pages + 1))));
    }
    assert!(refusals > 2, "the disk was never full");
    assert!(std::fs::read(bench.path(output)).unwrap() == expected);
}

/// Every write beyond a limit fails, to the journal or to the output; the limit grows.
#[test]
fn failing_writes_lose_nothing() {
    let bench = Bench::new();
    prompts(&bench, 1000);
    let expected = undisturbed(&bench, &[]);
    let model = model();
    let arguments = job(&model, "out.parquet", &[]);
    let mut failures = 0;
    for blocks in (8..).step_by(60) {
        // With the signal ignored, a write beyond the limit fails with an error.
        let limit = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        let mut limited = Command::new("sh");
        limited.args(["-c", &limit, "sh", env!("CARGO_BIN_EXE_gristmill")]).args(&arguments);
        limited.current_dir(bench.path(""));
        let ran = end(spawn(limited));
        if ran.code == 0 {
            break;
        }
        failures += 1;
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains("out.parquet.gristmill"), "{}", ran.stderr);
        assert!(!bench.path("out.parquet").exists(), "an incomplete output");
    }
    assert!(failures > 2, "no write failed");
    assert!(std::fs::read(bench.path("out.parquet")).unwrap() == expected);
}
