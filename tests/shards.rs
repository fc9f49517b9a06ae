//! A job in shards: whatever order they run in and whoever is killed, the output is that of one machine.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use arrow::array::{ArrayRef, DictionaryArray, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use support::dice::Dice;
use support::golden;
use support::job::{Bench, Ran, read, strings, text};

/// Prompts of which some are null and some equal, in two files, with columns of several kinds to keep.
fn tables(bench: &Bench) {
    for (name, rows) in [("a.parquet", 0..61), ("b.parquet", 61..100)] {
        let prompts: Vec<Option<String>> =
            rows.clone().map(|i| (i % 17 != 5).then(|| format!("the {} wheel", i % 40))).collect();
        let prompts: Vec<Option<&str>> = prompts.iter().map(Option::as_deref).collect();
        let label = |i: i64| (i % 5 != 2).then_some(["a", "b", "c"][(i % 3) as usize]);
        let list = rows.clone().map(|i| (i % 4 != 1).then(|| vec![Some(i as i32); (i % 3) as usize]));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("q", strings(&prompts)),
            ("id", Arc::new(Int64Array::from_iter_values(rows.clone()))),
            ("label", Arc::new(rows.map(label).collect::<DictionaryArray<Int32Type>>())),
            ("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(list))),
        ];
        bench.table(name, columns);
    }
}

/// A job on the tables.
struct Job<'a> {
    bench: &'a Bench,
    inputs: &'a [&'a str],
    flags: Vec<&'a str>,
}

impl<'a> Job<'a> {
    fn new(bench: &'a Bench, flags: &[&'a str]) -> Job<'a> {
        Job { bench, inputs: &["-i", "a.parquet", "-i", "b.parquet"], flags: flags.to_vec() }
    }

    fn command(&self, command: &str, output: &str, more: &[&str]) -> Command {
        let model = golden("qwen3");
        let mut all = vec![command, "--device", "cpu", "--threads", "1", "--model", model.to_str().unwrap()];
        all.extend(self.inputs);
        all.extend(["-o", output, "--max-error-rate", "1"]);
        all.extend(&self.flags);
        all.extend(more);
        self.bench.command(&all)
    }

    fn run(&self, output: &str, more: &[&str]) -> Ran {
        Ran::of(self.command("run", output, more).output().unwrap())
    }

    fn shard(&self, output: &str, shard: usize, of: usize, more: &[&str]) -> Ran {
        self.run(output, &[&["--shard", &format!("{shard}/{of}"), "--in-process"], more].concat())
    }

    fn publish(&self, output: &str, of: usize, more: &[&str]) -> Ran {
        let of = of.to_string();
        Ran::of(self.command("publish", output, &[&["--shards", &of], more].concat()).output().unwrap())
    }

    /// Runs shards in an order of the dice, and publishes them.
    fn in_shards(&self, output: &str, of: usize) {
        for shard in shuffled(of) {
            done(&self.shard(output, shard, of, &[]));
        }
        done(&self.publish(output, of, &[]));
    }
}

fn shuffled(of: usize) -> Vec<usize> {
    let (mut dice, mut shards) = (Dice(of as u64), (1..=of).collect::<Vec<_>>());
    (1..of).for_each(|at| shards.swap(at, dice.below(at as u64 + 1) as usize));
    shards
}

fn done(ran: &Ran) {
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

fn refused(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, code, "{}", ran.stderr);
    for words in words {
        assert!(ran.stderr.contains(words), "{words:?}: {}", ran.stderr);
    }
}

/// The names of a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Two outputs have the same files with the same bytes, and the same manifest, and `verify` says that they are whole.
fn same(bench: &Bench, one: &str, other: &str) {
    assert_eq!(names(&bench.path(one)), names(&bench.path(other)));
    let bytes = |name: String| std::fs::read(bench.path(&name)).unwrap();
    for name in names(&bench.path(one)) {
        assert!(bytes(format!("{one}/{name}")) == bytes(format!("{other}/{name}")), "{name} differs");
    }
    let manifest =
        |output: &str| String::from_utf8(bytes(format!("{output}.gristmill/manifest.json"))).unwrap();
    assert_eq!(manifest(one), manifest(other));
    let verified = bench.run(&["verify", other]);
    assert!(verified.code == 0 && verified.stdout.contains("is as published: "), "{verified:?}");
}

const GREEDY: [&str; 6] = ["--prompt-column", "q", "--max-tokens", "4", "--temperature", "0"];
const RANDOM: [&str; 8] = ["--prompt-column", "q", "--max-tokens", "4", "--temperature", "1", "--n", "2"];

#[test]
fn shards_in_any_order_make_the_output_of_one_machine() {
    let bench = Bench::new();
    tables(&bench);
    // More shards than files, too, and rows that end within a file.
    for (at, (flags, per_file, shards)) in
        [(&GREEDY[..], "7", 4), (&RANDOM[..], "7", 20), (&GREEDY[..], "100", 3), (&GREEDY[..], "1000", 2)]
            .into_iter()
            .enumerate()
    {
        let job = Job::new(&bench, &[flags, &["--rows-per-file", per_file]].concat());
        let (one, many) = (format!("one-{at}"), format!("many-{at}"));
        done(&job.run(&one, &[]));
        job.in_shards(&many, shards);
        same(&bench, &one, &many);
        // Nothing of the parts is left twice, and publishing again changes nothing.
        let state = bench.path(&format!("{many}.gristmill/shards"));
        assert!(names(&state).iter().all(|name| !state.join(name).join("parts").exists()));
        done(&job.publish(&many, shards, &[]));
        same(&bench, &one, &many);
        let status = bench.run(&["status", &many]);
        let whole = format!("{shards} of {shards} shards finished");
        assert!(status.stdout.contains("100 of 100") && status.stdout.contains(&whole), "{status:?}");
        assert!(status.stdout.contains("published  yes"), "{status:?}");
    }
    let receipt = |name: &str| -> serde_json::Value {
        let text = std::fs::read(bench.path(&format!("{name}.gristmill/receipt.json"))).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    let (one, many) = (receipt("one-0"), receipt("many-0"));
    for key in
        ["rows", "output_rows", "errors", "cut_off", "input_tokens", "generated_tokens", "identity_blake3"]
    {
        assert_eq!(one[key], many[key], "{key}");
    }
    assert_eq!((&many["starts"], &many["machine"]), (&4.into(), &one["machine"]));
}

/// Twenty shards, two at a time, of which five are killed at a random moment and run again.
#[test]
fn killed_shards_go_on_to_the_same_bytes() {
    let bench = Bench::new();
    tables(&bench);
    let job = Job::new(&bench, &[&RANDOM[..], &["--rows-per-file", "4", "--max-num-seqs", "2"]].concat());
    done(&job.run("one", &[]));
    let mut dice = Dice(25);
    let killed: Vec<usize> = shuffled(20).into_iter().take(5).collect();
    let spawn = |shard: usize, faults: &str| -> Child {
        let mut command = job.command("run", "many", &["--shard", &format!("{shard}/20"), "--in-process"]);
        // The device hangs where the kill is to find it at the latest.
        command.env("GRISTMILL_FAULTS", faults);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for pair in shuffled(20).chunks(2) {
        let running: Vec<(usize, Child)> = pair
            .iter()
            .map(|&shard| {
                let hang = format!("1:hang@{}", 1 + dice.below(8));
                (shard, spawn(shard, if killed.contains(&shard) { &hang } else { "" }))
            })
            .collect();
        for (shard, mut child) in running {
            if killed.contains(&shard) {
                std::thread::sleep(Duration::from_millis(dice.below(3000)));
                child.kill().unwrap();
                child.wait().unwrap();
                continue;
            }
            done(&Ran::of(child.wait_with_output().unwrap()));
        }
    }
    let early = job.publish("many", 20, &[]);
    let named: Vec<String> = killed.iter().map(|shard| format!("shard {shard}/20 was not begun")).collect();
    let unfinished: Vec<String> =
        killed.iter().map(|shard| format!("shard {shard}/20 is not finished")).collect();
    assert_eq!(early.code, 1, "{}", early.stderr);
    for (begun, not_begun) in unfinished.iter().zip(&named) {
        assert!(
            early.stderr.contains(begun) || early.stderr.contains(not_begun),
            "{begun}: {}",
            early.stderr
        );
    }
    assert_eq!(early.stderr.matches("  shard ").count(), 5, "{}", early.stderr);
    assert!(!bench.path("many").exists());
    for &shard in &killed {
        done(&job.shard("many", shard, 20, &[]));
    }
    done(&job.publish("many", 20, &[]));
    same(&bench, "one", "many");
}

#[test]
fn what_is_no_shard_of_the_job_is_refused_by_name() {
    let bench = Bench::new();
    tables(&bench);
    let flags = [&GREEDY[..], &["--rows-per-file", "20"]].concat();
    let job = Job::new(&bench, &flags);
    refused(&job.publish("out", 2, &[]), 2, &["no shard of out was begun", "run --shard 1/2"]);
    let without = Job::new(&bench, &GREEDY);
    refused(&without.shard("out", 1, 2, &[]), 2, &["--shard runs whole files", "--rows-per-file"]);
    for shard in ["3/2", "0/2", "2"] {
        refused(&job.run("out", &["--shard", shard]), 2, &["--shard"]);
    }
    done(&job.shard("out", 1, 2, &[]));
    // Another job, another number of shards, another file size, other columns, other rows: none leaves a trace.
    let other = |more: &[&str], words: &[&str]| {
        let ran = job.run("out", &[&["--in-process"], more].concat());
        refused(&ran, 2, words);
        assert!(!bench.path("out.gristmill/shards/2-of-2").exists(), "{more:?}");
    };
    other(
        &["--shard", "2/2", "--max-tokens", "5"],
        &["is of another job in 2 shards", "max_tokens: begun with 4, now 5"],
    );
    other(&["--shard", "2/2", "--seed", "5"], &["seed: begun with 0, now 5"]);
    other(&["--shard", "2/3"], &["shards: begun with 2, now 3"]);
    other(&["--shard", "2/2", "--rows-per-file", "10"], &["rows-per-file: begun with 20, now 10"]);
    other(&["--shard", "2/2", "--keep", "id"], &["columns of the output: begun with q, id, label, list,"]);
    other(&["--shard", "2/2", "--limit", "80"], &["rows: begun with 100, now 80"]);
    other(&["--shard", "2/2", "--float32-matmul-precision", "medium"], &["these values differ"]);
    let fewer = Job { inputs: &["-i", "a.parquet"], ..Job::new(&bench, &flags) };
    refused(&fewer.shard("out", 2, 2, &[]), 2, &["rows: begun with 100, now 61", "inputs: begun with"]);
    // The same place without shards, and the other way round.
    refused(&job.run("out", &[]), 2, &["was begun as a job of 100 rows in 2 shards", "out.gristmill/shards"]);
    done(&job.run("whole", &["--limit", "10"]));
    refused(&job.shard("whole", 1, 2, &[]), 2, &["whole was begun without --shard"]);
    // Commands of the whole job.
    for command in ["plan", "show"] {
        let more: &[&str] = if command == "show" { &["--row", "1"] } else { &[] };
        let ran =
            Ran::of(job.command(command, "out", &[&["--shard", "1/2"], more].concat()).output().unwrap());
        refused(&ran, 2, &["--shard", "leave it out"]);
    }
    let report = bench.run(&["report", "out"]);
    refused(&report, 2, &["there is no output out"]);
    // Publishing.
    for (flags, words) in [
        (&["--shard", "1/2"][..], "--shard is for `gristmill run --shard`"),
        (&["--fresh"], "--fresh is for"),
        (&["--retry", "errors"], "--retry is for"),
        (&["--take-over"], "--take-over is for outputs in an object store"),
        (&["--rows-per-file", "10"], "--rows-per-file 20, and publish says 10"),
        (&["--limit", "50"], "rows: 100, and publish says 50"),
    ] {
        refused(&job.publish("out", 2, flags), 2, &[words]);
    }
    refused(&job.publish("out", 3, &[]), 2, &["--shards 2, and publish says 3"]);
    refused(&job.publish("out", 2, &[]), 1, &["shard 2/2 was not begun", "run --shard i/2"]);
    let status = bench.run(&["status", "out"]);
    assert!(
        status.stdout.contains("1 of 2 shards finished") && status.stdout.contains("2/2: 60 rows, not begun"),
        "{status:?}"
    );
    done(&job.shard("out", 2, 2, &[]));
    let said = bench.path("out.gristmill/shards/2-of-2/shard.json");
    let text = std::fs::read_to_string(&said).unwrap();
    // A shard of another kind of device, brought here from another folder.
    for (from, to, code, words) in [
        ("\"shard\": 2", "\"shard\": 1", 2, "shard 2/2 is not known"),
        ("cpu", "cuda sm_90a", 2, "shard 2/2 is not known"),
    ] {
        assert!(text.contains(from), "{text}");
        std::fs::write(&said, text.replacen(from, to, 1)).unwrap();
        refused(&job.publish("out", 2, &[]), code, &[words, "run it again"]);
    }
    let other = Job::new(&bench, &[&flags[..], &["--float32-matmul-precision", "medium"]].concat());
    done(&other.shard("other", 2, 2, &[]));
    std::fs::copy(bench.path("other.gristmill/shards/2-of-2/shard.json"), &said).unwrap();
    refused(&job.publish("out", 2, &[]), 2, &["shard 2/2 is of another job; these values differ"]);
    std::fs::copy(bench.path("out.gristmill/shards/1-of-2/shard.json"), &said).unwrap();
    refused(&job.publish("out", 2, &[]), 2, &["shard 2/2 has the journal of shard 1/2 in its place"]);
    std::fs::write(&said, &text).unwrap();
    // A part that is damaged, and one that is gone; running the shard again mends both without answering a row.
    let part = bench.path("out.gristmill/shards/2-of-2/parts/part-00003.parquet");
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&part, &bytes).unwrap();
    refused(&job.publish("out", 2, &[]), 2, &["shard 2/2: part-00003.parquet: its bytes are not those"]);
    std::fs::remove_file(&part).unwrap();
    refused(&job.publish("out", 2, &[]), 2, &["shard 2/2: part-00003.parquet: it is gone"]);
    assert!(!bench.path("out").exists());
    let again = job.shard("out", 2, 2, &[]);
    assert!(again.code == 0 && again.stderr.contains("60 of 60 rows already answered"), "{}", again.stderr);
    done(&job.publish("out", 2, &[]));
    done(&job.run("one", &[]));
    same(&bench, "one", "out");
    // The journal of the row's shard has its answer.
    for row in ["3", "99"] {
        let shown = Ran::of(job.command("show", "out", &["--row", row, "--answer"]).output().unwrap());
        assert!(shown.code == 0 && shown.stdout.contains("length"), "{shown:?}");
    }
    done(&bench.run(&["report", "out"]));
    let page = std::fs::read_to_string(bench.path("out.html")).unwrap();
    assert!(page.contains("a job of 100 rows in 2 shards, each of which has a journal of its own"));
}

/// Whether there are too many errors is a question of all shards.
#[test]
fn errors_are_judged_over_all_shards() {
    let bench = Bench::new();
    tables(&bench);
    // Six of 100 rows are null, all of them in three of the ten shards.
    let prompts: Vec<Option<&str>> = (0..100).map(|i| (i % 50 > 2).then_some("the wheel")).collect();
    bench.table("a.parquet", vec![("q", strings(&prompts))]);
    let flags = [&GREEDY[..], &["--rows-per-file", "5"]].concat();
    let job = Job { inputs: &["-i", "a.parquet"], ..Job::new(&bench, &flags) };
    let strict = ["--max-error-rate", "0.05"];
    for shard in 1..=10 {
        done(&job.shard("out", shard, 10, &strict));
    }
    let stopped = job.publish("out", 10, &[&strict[..], &["--stop-on-errors"]].concat());
    refused(&stopped, 3, &["6 of 100 rows have errors, more than --max-error-rate 0.05 allows", "row 0"]);
    assert!(!bench.path("out").exists());
    let published = ["All rows are published", "`run --shard` with --retry errors", "publish again;"];
    refused(&job.publish("out", 10, &["--max-error-rate", "0.059"]), 3, &published);
    assert_eq!(bench.run(&["verify", "out"]).code, 0);
    done(&job.publish("out", 10, &["--max-error-rate", "0.06"]));
    // One shard alone may have more than the whole job may.
    let alone = job.shard("alone", 1, 10, &["--max-error-rate", "0.02", "--stop-on-errors"]);
    refused(&alone, 3, &["--max-error-rate 0.02", "begin all shards anew, for another --output"]);
    // The first error is said as by one machine, without text of its row.
    let texts: Vec<Option<&str>> = (0..10).map(|i| Some(if i == 4 { "the wheel" } else { "mill" })).collect();
    bench.table("c.parquet", vec![("q", strings(&texts))]);
    let prompt = ["--prompt", "{{ 1 // (q | length - 9) }}", "--max-tokens", "4", "--temperature", "0"];
    let flags = [&prompt[..], &["--rows-per-file", "5"]].concat();
    let job = Job { inputs: &["-i", "c.parquet"], ..Job::new(&bench, &flags) };
    let said = ["The first: row 4, template error (its text may quote the row, "];
    refused(&job.run("whole", &["--max-errors", "0"]), 3, &said);
    (1..=2).for_each(|shard| done(&job.shard("halves", shard, 2, &[])));
    refused(&job.publish("halves", 2, &["--max-errors", "0"]), 3, &said);
}

/// Rows of one shard run again, and the output is that of one machine where they do.
#[test]
fn rows_of_a_shard_run_again() {
    let bench = Bench::new();
    tables(&bench);
    let job = Job::new(&bench, &[&GREEDY[..], &["--rows-per-file", "20"]].concat());
    let retry = ["--retry", "length", "--max-tokens", "9"];
    done(&job.run("one", &[]));
    job.in_shards("many", 3);
    same(&bench, "one", "many");
    done(&job.run("one", &retry));
    for shard in shuffled(3) {
        let ran = job.shard("many", shard, 3, &retry);
        assert!(ran.code == 0 && ran.stderr.contains(" again (--retry)"), "{}", ran.stderr);
        // What is published stays until all of it is new.
        assert_eq!(bench.run(&["verify", "many"]).code, 0);
    }
    let status = bench.run(&["status", "many"]).stdout;
    assert!(
        status.ends_with(
            "published  yes, but not what shards 1, 2, 3 answered again: publish when all are finished\n"
        ),
        "{status}"
    );
    done(&job.publish("many", 3, &[]));
    same(&bench, "one", "many");
    let status = bench.run(&["status", "many"]).stdout;
    assert!(status.ends_with("published  yes\n"), "{status}");
}

/// While rows of a shard run again, its old answers are not published as if all were well.
#[test]
fn a_shard_that_dies_while_rows_run_again_is_not_published() {
    let bench = Bench::new();
    tables(&bench);
    let job = Job::new(&bench, &[&GREEDY[..], &["--rows-per-file", "20"]].concat());
    job.in_shards("many", 3);
    let more = ["--shard", "2/3", "--in-process", "--retry", "length", "--max-tokens", "9"];
    let dies = job.command("run", "many", &more).env("GRISTMILL_FAULTS", "*:abort@2").output().unwrap();
    assert!(!dies.status.success());
    refused(&job.publish("many", 3, &[]), 1, &["shard 2/3 is not finished"]);
    assert_eq!(bench.run(&["verify", "many"]).code, 0);
    let status = bench.run(&["status", "many"]).stdout;
    assert!(status.contains("but not what shard 2 answered again"), "{status}");
    // A change of mind.
    done(&job.shard("many", 2, 3, &[]));
    done(&job.publish("many", 3, &[]));
    done(&job.run("one", &[]));
    same(&bench, "one", "many");
}

/// What is read or known of the whole input: ids of a batch, types of lines, the columns of choices and documents.
#[test]
fn other_kinds_of_jobs_go_in_shards() {
    let bench = Bench::new();
    let line = |i: usize| {
        let id = if i == 37 { 3 } else { i };
        format!(
            "{{\"custom_id\": \"{id}\", \"method\": \"POST\", \"url\": \"/v1/completions\", \"body\": {{\"prompt\": \"the {i}\", \"max_tokens\": 4}}}}\n"
        )
    };
    std::fs::write(bench.path("requests.jsonl"), (0..40).map(line).collect::<String>()).unwrap();
    let rows = |i: usize| match i {
        39 => "{\"q\": \"a\", \"n\": 0.5}\n".to_string(),
        _ => format!("{{\"q\": \"the {} wheel. It turns. It turns again and again.\", \"n\": {i}}}\n", i % 9),
    };
    std::fs::write(bench.path("rows.jsonl"), (0..40).map(rows).collect::<String>()).unwrap();
    let choices = "{\"tone\": {\"ask\": \"Is it good?\", \"choices\": [\"yes\", \"no\"], \"calibrate\": \"content-free\"}}";
    let documents = "{\"column\": \"q\", \"map-prompt\": \"Say: {{ chunk }}\", \"reduce-prompt\": \"{% for note in notes %}{{ note }}{% endfor %}\"}";
    let lines: &[&str] = &["-i", "rows.jsonl"];
    let jobs: [(&str, &[&str], &[&str]); 4] = [
        ("batch.jsonl", &["--batch", "requests.jsonl"], &["--temperature", "0"]),
        ("rows.csv", lines, &GREEDY),
        ("choices.parquet", lines, &["--prompt", "{{ q }}", "--columns", choices, "--raw"]),
        (
            "documents.jsonl",
            lines,
            &[
                "--documents",
                documents,
                "--max-tokens",
                "4",
                "--temperature",
                "0",
                "--raw",
                "--max-model-len",
                "64",
            ],
        ),
    ];
    for (output, inputs, flags) in jobs {
        let flags = [flags, &["--rows-per-file", "6"]].concat();
        let job = Job { inputs, ..Job::new(&bench, &flags) };
        let one = format!("one-{output}");
        done(&job.run(&one, &[]));
        job.in_shards(output, 3);
        same(&bench, &one, output);
    }
}

/// A damaged page costs the rows behind it in its row group, whichever shard has them and wherever it begins to read.
#[test]
fn a_damaged_page_costs_the_same_rows() {
    let bench = Bench::new();
    let texts = |what: &str| -> Vec<String> { (0..100).map(|i| format!("{what} number {i}")).collect() };
    let columns: [(&str, ArrayRef); 2] = [
        ("q", Arc::new(StringArray::from_iter_values(texts("wheel")))),
        ("note", Arc::new(StringArray::from_iter_values(texts("note")))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_data_page_row_count_limit(10)
        .set_write_batch_size(10)
        .set_max_row_group_row_count(Some(80))
        .build();
    let file = std::fs::File::create(bench.path("in.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let mut bytes = std::fs::read(bench.path("in.parquet")).unwrap();
    for (text, fill) in [("note number 35", 40), ("wheel number 52", 40)] {
        let at = bytes.windows(text.len()).position(|at| at == text.as_bytes()).unwrap();
        bytes[at - fill..at].fill(0xee);
    }
    std::fs::write(bench.path("in.parquet"), bytes).unwrap();
    let flags = [&GREEDY[..], &["--rows-per-file", "5", "--on-corrupt", "row-errors"]].concat();
    let job = Job { inputs: &["-i", "in.parquet"], ..Job::new(&bench, &flags) };
    let ran = job.run("one", &[]);
    assert!(ran.code == 0 && ran.stderr.contains("errors ("), "{}", ran.stderr);
    job.in_shards("many", 7);
    same(&bench, "one", "many");
    // The row behind the damage, in the same row group.
    let part = read(&bench.path("many/part-00014.parquet"));
    let error = &text(&part, "error")[0];
    assert!(error.as_ref().is_some_and(|error| error.contains("column q, row 70")), "{error:?}");
    let part = read(&bench.path("many/part-00016.parquet"));
    assert_eq!(text(&part, "error"), [None::<String>, None, None, None, None]);
}

/// The price of an hour that was given last is that of the job, whichever shard it was given to.
#[test]
fn the_price_given_last_is_that_of_all_shards() {
    let bench = Bench::new();
    tables(&bench);
    let job = Job::new(&bench, &[&GREEDY[..], &["--rows-per-file", "50"]].concat());
    done(&job.shard("priced", 2, 2, &["--price-per-hour", "3"]));
    done(&job.shard("priced", 1, 2, &["--price-per-hour", "6"]));
    assert!(job.publish("priced", 2, &[]).stderr.contains("at 6 an hour"));
    assert!(job.publish("priced", 2, &["--price-per-hour", "1"]).stderr.contains("at 1 an hour"));
}

/// One process that runs shards as they are named on its standard input.
struct Runner {
    process: Child,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Runner {
    fn start(job: &Job, output: &str, faults: &str) -> Runner {
        let mut command = job.command("run-shards", output, &[]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.env("GRISTMILL_FAULTS", faults).spawn().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        Runner { process, answers }
    }

    fn order(&mut self, order: &str) -> serde_json::Value {
        writeln!(self.process.stdin.as_ref().unwrap(), "{order}").unwrap();
        serde_json::from_str(&self.answers.next().unwrap().unwrap()).unwrap()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

/// Positions of all steps of a job, by its receipt.
fn positions(bench: &Bench, output: &str) -> u64 {
    let text = std::fs::read_to_string(bench.path(&format!("{output}.gristmill/receipt.json"))).unwrap();
    let receipt: serde_json::Value = serde_json::from_str(&text).unwrap();
    let of = |key: &str| receipt[key].as_u64().unwrap();
    of("prefill_tokens") + of("decode_tokens") + of("cached_tokens")
}

/// A process that runs shard after shard makes the files of one that runs each by itself, and keeps its model and its shards
/// when its worker dies.
#[test]
fn one_process_runs_shard_after_shard() {
    let bench = Bench::new();
    tables(&bench);
    let job = Job::new(&bench, &[&RANDOM[..], &["--rows-per-file", "7"]].concat());
    done(&job.run("one", &[]));
    job.in_shards("by-itself", 15);
    for (output, faults) in [("after", ""), ("dies", "1:abort@9,2:lost@30")] {
        let mut runner = Runner::start(&job, output, faults);
        let opened = runner.order("open");
        assert_eq!((&opened["shards"], &opened["rows"]), (&15.into(), &100.into()), "{opened}");
        assert_eq!(runner.order("16/15")["code"], 2);
        let (mut rows, mut errors) = (0, 0);
        for shard in shuffled(15) {
            let told = runner.order(&format!("{shard}/15"));
            assert_eq!(told["shard"], format!("{shard}/15"), "{told}");
            (rows, errors) =
                (rows + told["rows"].as_u64().unwrap(), errors + told["errors"].as_u64().unwrap());
        }
        assert_eq!((rows, errors), (100, 6));
        // Once more, as after an answer that was lost.
        assert_eq!(runner.order("3/15")["rows"], 7);
        drop(runner);
        done(&job.publish(output, 15, &[]));
        same(&bench, "one", output);
    }
    // The figures of each shard are its own.
    let [by_itself, after] = ["by-itself", "after"].map(|output| positions(&bench, output));
    assert!(after < 2 * by_itself, "{after} {by_itself}");
    // Others are refused, and what is of one run.
    let other = Job::new(&bench, &[&RANDOM[..], &["--rows-per-file", "8"]].concat());
    let told = Runner::start(&other, "after", "").order("open");
    assert!(
        told["code"] == 2 && told["error"].as_str().unwrap().contains("rows-per-file: begun with 7, now 8"),
        "{told}"
    );
    refused(
        &Ran::of(job.command("run-shards", "new", &["--fresh"]).output().unwrap()),
        2,
        &["--fresh is of one run"],
    );
    refused(
        &Ran::of(job.command("run-shards", "new", &["--take-over"]).output().unwrap()),
        2,
        &["a shard needs no --take-over"],
    );
    let many = Job::new(&bench, &GREEDY);
    refused(&Ran::of(many.command("run-shards", "new", &[]).output().unwrap()), 2, &["--rows-per-file"]);
}

/// A row that kills the worker again and again gets its error, in the shard that has it.
#[test]
fn a_killing_row_costs_itself() {
    let bench = Bench::new();
    let tokens = |i: i64| Some([5, 6, if i == 11 { 301 } else { 7 }].map(Some));
    let lists = ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>((0..20).map(tokens));
    bench.table("in.parquet", vec![("ids", Arc::new(lists) as ArrayRef)]);
    let flags =
        ["--prompt-tokens-column", "ids", "--max-tokens", "4", "--temperature", "0", "--rows-per-file", "5"];
    let job = Job { inputs: &["-i", "in.parquet"], ..Job::new(&bench, &flags) };
    let poison = "*:token@301";
    done(&Ran::of(job.command("run", "one", &[]).env("GRISTMILL_FAULTS", poison).output().unwrap()));
    let mut runner = Runner::start(&job, "many", poison);
    runner.order("open");
    let errors = [1, 3, 2, 4].map(|shard| runner.order(&format!("{shard}/4"))["errors"].as_u64().unwrap());
    assert_eq!(errors, [0, 1, 0, 0]);
    drop(runner);
    done(&job.publish("many", 4, &[]));
    same(&bench, "one", "many");
}
