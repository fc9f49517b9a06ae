//! Rows that run again (`--retry`): they end as if the job had been begun with the greater limits, and a kill leaves the
//! old or the new output.

#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod support;

use arrow::array::{ArrayRef, Int64Builder, ListBuilder, RecordBatch};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use support::dice::Dice;
use support::job::{Bench, Ran, int_list, ints, read, strings, text, texts};

/// Writes `in.parquet`: some prompts come twice, some are null, and some are long.
fn prompts(bench: &Bench, rows: usize) {
    let long = "the river and the mill ".repeat(6);
    let prompt = |i: usize| match i {
        _ if i % 40 == 9 => None,
        _ if i % 10 == 7 => Some(format!("{long}{}", i / 20)),
        _ if i % 4 == 3 => Some(format!("the mill {}", i - 2)),
        _ => Some(format!("the mill {i}")),
    };
    let prompts: Vec<Option<String>> = (0..rows).map(prompt).collect();
    let prompts: Vec<Option<&str>> = prompts.iter().map(Option::as_deref).collect();
    bench.table("in.parquet", vec![("q", strings(&prompts))]);
}

fn job<'a>(model: &'a str, output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut all =
        vec!["run", "--device", "cpu", "--threads", "1", "--model", model, "-i", "in.parquet", "-o", output];
    all.extend([
        "--temperature",
        "0",
        "--stop",
        "in",
        "--prompt-column",
        "q",
        "--return",
        "generated_tokens,token_logprobs",
    ]);
    all.extend(more);
    all
}

fn model() -> String {
    support::golden("qwen3").to_str().unwrap().to_string()
}

fn run(bench: &Bench, output: &str, more: &[&str]) -> Ran {
    bench.run(&job(&model(), output, more))
}

/// Runs a job that must end with a code.
fn ends(bench: &Bench, output: &str, more: &[&str], code: i32) -> Ran {
    let ran = run(bench, output, more);
    assert_eq!(ran.code, code, "{more:?}: {}", ran.stderr);
    ran
}

fn bytes(bench: &Bench, output: &str) -> Vec<u8> {
    std::fs::read(bench.path(output)).unwrap()
}

fn table(bench: &Bench, output: &str) -> RecordBatch {
    read(&bench.path(output))
}

fn verified(bench: &Bench, output: &str) {
    let ran = bench.run(&["verify", output]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

fn count(table: &RecordBatch, reason: &str) -> usize {
    texts(table, "finish_reason").iter().filter(|r| *r == reason).count()
}

#[test]
fn rows_that_were_cut_off_run_again_with_a_greater_limit() {
    let bench = Bench::new();
    prompts(&bench, 120);
    let first = ["--max-tokens", "6"];
    let more = ["--max-tokens", "24", "--retry", "length"];
    ends(&bench, "whole.parquet", &["--max-tokens", "24"], 0);
    ends(&bench, "out.parquet", &first, 0);
    let (cut, whole) = (table(&bench, "out.parquet"), table(&bench, "whole.parquet"));
    assert!(count(&cut, "length") > 90 && count(&cut, "stop") > 0, "{}", count(&cut, "length"));
    // Only greater limits, only of these two, and only with --retry.
    let begun = bytes(&bench, "out.parquet");
    for (flags, words) in [
        (&more[..2], "max_tokens: begun with 6, now 24"),
        (&["--max-tokens", "4", "--retry", "length"], "takes no smaller --max-tokens than 6"),
        (&[&first[..], &["--retry", "length"]].concat(), "needs a greater --max-tokens than 6"),
        (&[&more[..], &["--top-k", "3"]].concat(), "top_k: begun with 20, now 3"),
        (&[&more[..], &["--fresh"]].concat(), "--fresh discards it"),
        (&[&more[..], &["--resume", "never"]].concat(), "--resume never"),
    ] {
        let ran = ends(&bench, "out.parquet", flags, 2);
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    let ran = ends(&bench, "new.parquet", &more, 2);
    assert!(ran.stderr.contains("holds no job, so that --retry has no rows"), "{}", ran.stderr);
    assert!(bytes(&bench, "out.parquet") == begun);
    // Then the rows are those of a job with the greater limit.
    let ran = ends(&bench, "out.parquet", &more, 0);
    let again = format!("running {} rows again (--retry)", count(&cut, "length"));
    assert!(ran.stderr.contains(&again) && ran.stderr.contains("answered by another"), "{}", ran.stderr);
    verified(&bench, "out.parquet");
    let new = table(&bench, "out.parquet");
    assert_eq!(new.columns(), whole.columns());
    assert!(count(&new, "length") > 0, "some are cut off again");
    let status = bench.run(&["status", "out.parquet"]).stdout;
    assert!(status.contains("rows       120 of 120") && status.contains("own limits"), "{status}");
    // Nothing runs twice for the same limit, and the first command still resumes the job.
    let published = bytes(&bench, "out.parquet");
    for (flags, words) in [(&more[..], "running 0 rows again"), (&first, "120 of 120 rows already answered")]
    {
        let ran = ends(&bench, "out.parquet", flags, 0);
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
        assert!(bytes(&bench, "out.parquet") == published);
    }
    ends(&bench, "out.parquet", &["--fresh", "--max-tokens", "6"], 0);
    assert!(bytes(&bench, "out.parquet") == begun);
}

#[test]
fn rows_with_errors_run_again_and_longer_ones_fit() {
    let bench = Bench::new();
    prompts(&bench, 120);
    let first = ["--max-tokens", "6", "--max-model-len", "32"];
    let ran = ends(&bench, "out.parquet", &first, 3);
    assert!(
        ran.stderr.contains("prompt too long") && ran.stderr.contains("--retry errors"),
        "{}",
        ran.stderr
    );
    let more = ["--max-tokens", "6", "--max-model-len", "200"];
    ends(&bench, "whole.parquet", &more, 0);
    let ran = ends(&bench, "out.parquet", &[&more[..], &["--retry", "errors"]].concat(), 0);
    let errors = text(&table(&bench, "whole.parquet"), "error").iter().flatten().count();
    assert!(
        errors > 0 && ran.stderr.contains(&format!("{errors} errors ({errors} null prompt)")),
        "{}",
        ran.stderr
    );
    assert_eq!(table(&bench, "out.parquet").columns(), table(&bench, "whole.parquet").columns());
    verified(&bench, "out.parquet");
    // What fails again keeps its error.
    let published = bytes(&bench, "out.parquet");
    let ran = ends(&bench, "out.parquet", &[&first[..], &["--retry", "errors"]].concat(), 0);
    assert!(ran.stderr.contains(&format!("running {errors} rows again")), "{}", ran.stderr);
    assert!(bytes(&bench, "out.parquet") == published);
}

/// Of several completions, and beyond `--limit`, whose rows keep what they have.
#[test]
fn sampled_rows_run_again_to_the_same_random_numbers() {
    let bench = Bench::new();
    prompts(&bench, 80);
    let run = |output: &str, tokens: &str, more: &[&str]| {
        let flags = ["--n", "2", "--temperature", "0.7", "--seed", "3", "--max-tokens", tokens];
        let ran =
            Ran::of(bench.command(&job(&model(), output, &[&flags[..], more].concat())).output().unwrap());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        table(&bench, output)
    };
    let old = run("out.parquet", "4", &[]);
    let whole = run("whole.parquet", "12", &[]);
    let half = run("out.parquet", "12", &["--retry", "length", "--limit", "40"]);
    assert_eq!(half.columns(), whole.slice(0, 40).columns());
    let both = run("out.parquet", "4", &[]);
    assert_eq!(both.slice(0, 40).columns(), whole.slice(0, 40).columns());
    assert_eq!(both.slice(40, 40).columns(), old.slice(40, 40).columns());
    assert_eq!(run("out.parquet", "12", &["--retry", "length"]).columns(), whole.columns());
}

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Kills supervisor and worker of an output without warning.
fn kill(bench: &Bench, child: &mut Child, output: &str) {
    let lock = std::fs::read_to_string(bench.path(&format!("{output}.gristmill/lock"))).unwrap();
    child.kill().unwrap();
    // A worker that has just begun and whose number is not there yet ends by itself.
    if let Some(worker) = lock.split_whitespace().next() {
        Command::new("kill").args(["-KILL", worker]).stderr(Stdio::null()).status().unwrap();
    }
    child.wait().unwrap();
    // Both write to it: it ends when the last of them has.
    std::io::copy(&mut child.stderr.take().unwrap(), &mut std::io::sink()).unwrap();
}

/// `GRISTMILL_RETRY_KILLS` sets the number of kills.
#[test]
fn a_killed_retry_leaves_the_old_or_the_new_output() {
    let kills: u64 = std::env::var("GRISTMILL_RETRY_KILLS").map_or(10, |kills| kills.parse().unwrap());
    let bench = Bench::new();
    prompts(&bench, 400);
    let (first, flags) = (["--max-tokens", "4"], ["--max-tokens", "24", "--retry", "errors,length"]);
    for (output, parts) in [("out.parquet", &[][..]), ("parts", &["--rows-per-file", "150"])] {
        let names: Vec<String> = match parts {
            [] => vec![output.into()],
            _ => (0..3).map(|i| format!("{output}/part-{i:05}.parquet")).collect(),
        };
        let files = |bench: &Bench| names.iter().map(|name| bytes(bench, name)).collect::<Vec<_>>();
        let columns = |bench: &Bench| {
            names.iter().map(|name| table(bench, name).columns().to_vec()).collect::<Vec<_>>()
        };
        let [first, retry] = [&first[..], &flags].map(|flags| [flags, parts].concat());
        ends(&bench, output, &retry[..2].iter().chain(parts).copied().collect::<Vec<_>>(), 0);
        let (whole, answers) = (files(&bench), columns(&bench));
        ends(&bench, output, &[&first[..], &["--fresh"]].concat(), 0);
        let old = files(&bench);
        ends(&bench, output, &retry, 0);
        let new = files(&bench);
        assert!(new != old && new != whole, "the identity keeps the first values");
        assert_eq!(columns(&bench), answers);
        let mut dice = Dice(5);
        // A retry that has ended leaves nothing to kill: the next one begins with the old output.
        let (mut killed, mut done, mut begin) = (0, 0, true);
        while killed < kills / 2 || done < 1 {
            if begin {
                ends(&bench, output, &[&first[..], &["--fresh"]].concat(), 0);
                assert!(files(&bench) == old);
            }
            let mut child = spawn(bench.command(&job(&model(), output, &retry)));
            std::thread::sleep(Duration::from_millis(20 + dice.below(180 + 400 * (killed % 4))));
            let over = child.try_wait().unwrap().is_some();
            kill(&bench, &mut child, output);
            killed += u64::from(!over);
            verified(&bench, output);
            let now = files(&bench);
            assert!(now == old || now == new, "neither the old output nor the new one");
            begin = over || killed % 4 == 0;
            if dice.below(3) == 0 {
                ends(&bench, output, &retry, 0);
                assert!(files(&bench) == new);
                (done, begin) = (done + 1, true);
            }
        }
        ends(&bench, output, &retry, 0);
        assert!(files(&bench) == new);
        println!("{killed} kills while rows ran again, to {output}");
    }
}

/// Whoever gives up a retry gets a whole output: every row as it was, or as it came out anew.
#[test]
fn a_retry_that_is_given_up_loses_no_answer() {
    let bench = Bench::new();
    prompts(&bench, 200);
    let (first, more) =
        (["--max-tokens", "4"], ["--max-tokens", "24", "--retry", "length", "--max-num-seqs", "8"]);
    ends(&bench, "whole.parquet", &["--max-tokens", "24"], 0);
    ends(&bench, "out.parquet", &first, 0);
    let (old, new) = (table(&bench, "out.parquet"), table(&bench, "whole.parquet"));
    let model = model();
    let mut command = bench.command(&job(&model, "out.parquet", &more));
    command.env("GRISTMILL_FAULTS", "1:hang@60");
    let mut child = spawn(command);
    let waiting = || bench.run(&["status", "out.parquet"]).stdout;
    let some = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        let status = waiting();
        status.contains("wait to run again")
            && !status.contains("rows       0 of")
            && !status.contains("process    none")
    });
    assert!(some, "{}", waiting());
    std::thread::sleep(Duration::from_millis(1500));
    kill(&bench, &mut child, "out.parquet");
    verified(&bench, "out.parquet");
    ends(&bench, "out.parquet", &first, 0);
    verified(&bench, "out.parquet");
    assert!(!waiting().contains("wait to run again"), "{}", waiting());
    let mixed = table(&bench, "out.parquet");
    let is = |row: usize, of: &RecordBatch| mixed.slice(row, 1).columns() == of.slice(row, 1).columns();
    assert!((0..200).all(|row| is(row, &old) || is(row, &new)));
    let anew = (0..200).filter(|&row| !is(row, &old)).count();
    assert!(anew > 0 && (0..200).any(|row| !is(row, &new)), "{anew} rows have run again");
    ends(&bench, "out.parquet", &more, 0);
    assert_eq!(table(&bench, "out.parquet").columns(), new.columns());
}

/// A column of token lists.
fn token_lists(lists: &[Vec<i64>]) -> ArrayRef {
    let mut list = ListBuilder::new(Int64Builder::new());
    lists.iter().for_each(|ids| list.append_value(ids.iter().map(|&id| Some(id))));
    Arc::new(list.finish())
}

#[test]
fn rows_that_crash_the_device_run_again_alone() {
    const POISONED: [usize; 2] = [17, 40];
    let bench = Bench::new();
    let mut lists: Vec<Vec<i64>> = (0..60).map(|i| vec![10 + i, 20 + i % 7, 30]).collect();
    POISONED.into_iter().for_each(|row| lists[row].push(301));
    bench.table("in.parquet", vec![("ids", token_lists(&lists))]);
    let model = model();
    let run = |output, tokens, faults, retry: &[&str]| {
        let mut all = vec!["run", "--device", "cpu", "--model", &model, "-i", "in.parquet", "-o", output];
        all.extend(["--temperature", "0", "--max-tokens", tokens, "--prompt-tokens-column", "ids"]);
        all.extend(["--return", "generated_tokens", "--max-num-seqs", "4"]);
        all.extend(retry);
        let ran = Ran::of(bench.command(&all).env("GRISTMILL_FAULTS", faults).output().unwrap());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        verified(&bench, output);
        (table(&bench, output), ran.stderr)
    };
    let poison = "*:token@301";
    let calm = run("calm.parquet", "8", "", &[]).0;
    let before = run("out.parquet", "8", poison, &[]).0;
    let crashed = |table: &RecordBatch| text(table, "error").iter().flatten().count();
    assert_eq!((crashed(&calm), crashed(&before)), (0, 2));
    // Again with the same faulty device: each dies once, and the job ends all the same.
    let (again, told) = run("out.parquet", "8", poison, &["--retry", "errors"]);
    assert_eq!(again.columns(), before.columns());
    assert_eq!(told.matches("the worker died").count(), 2, "{told}");
    assert_eq!(run("out.parquet", "8", "", &["--retry", "errors"]).0.columns(), calm.columns());
    // An error does not replace an answer.
    let (longer, told) = run("out.parquet", "20", poison, &["--retry", "length"]);
    for row in POISONED {
        let kept =
            format!("row {row} ended with \"crashed the device\" when it ran again, and keeps the answer");
        assert!(told.contains(&kept), "{told}");
    }
    for row in 0..60 {
        let tokens = |table: &RecordBatch| int_list(table, "generated_tokens", row);
        assert_eq!(tokens(&longer)[..8], tokens(&calm)[..]);
        assert_eq!(
            ints(&longer, "num_generated_tokens")[row],
            Some(if POISONED.contains(&row) { 8 } else { 20 })
        );
    }
}
