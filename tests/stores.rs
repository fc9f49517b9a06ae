//! Jobs with input and output in an object store, against a local S3 server.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(all(unix, feature = "object-store"))]

mod support;

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::dice::Dice;
use support::job::{Bench, Ran, strings};
use support::store::{Act, S3, Way, put};

/// A folder with two tables of prompts, which are also in the bucket, and the server.
struct Mill {
    bench: Bench,
    s3: S3,
}

impl Mill {
    fn new() -> Option<Mill> {
        let s3 = S3::start()?;
        let bench = Bench::new();
        for (name, rows) in [("a.parquet", 0..30), ("b.parquet", 30..100)] {
            let prompts: Vec<String> = rows.map(|i| format!("the {} wheel of {i}", i % 7)).collect();
            let prompts: Vec<Option<&str>> = prompts.iter().map(|text| Some(&**text)).collect();
            bench.table(name, vec![("q", strings(&prompts))]);
            s3.put(&format!("in/{name}"), &std::fs::read(bench.path(name)).unwrap());
        }
        Some(Mill { bench, s3 })
    }

    /// A command that reaches the server.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bench.command(arguments);
        self.s3.aim(&mut command, &self.s3.address);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    fn job(&self, inputs: &[&str], output: &str, more: &[&str]) -> Command {
        let model = support::golden("qwen3");
        let mut all = vec!["run", "--device", "cpu", "--threads", "1", "--model", model.to_str().unwrap()];
        inputs.iter().for_each(|input| all.extend(["-i", input]));
        all.extend(["-o", output, "--temperature", "0", "--max-tokens", "4", "--prompt-column", "q"]);
        all.extend(more);
        self.command(&all)
    }

    /// Runs a job that must succeed.
    fn answer(&self, inputs: &[&str], output: &str, more: &[&str]) -> Ran {
        let ran = Ran::of(self.job(inputs, output, more).output().unwrap());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran
    }

    /// Runs a job that must be refused with these words.
    fn refused(&self, mut command: Command, words: &[&str]) {
        let ran = Ran::of(command.output().unwrap());
        assert!(ran.code == 1 || ran.code == 2, "{}: {}", ran.code, ran.stderr);
        for words in words {
            assert!(ran.stderr.contains(words), "{words:?}: {}", ran.stderr);
        }
    }

    /// The folder `parts` of a local job, and as many objects below `out/`, have the same bytes.
    fn is_as_local(&self, out: &str) {
        let mut names: Vec<String> = std::fs::read_dir(self.bench.path("parts"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let keys: Vec<String> = names.iter().map(|name| format!("{out}/{name}")).collect();
        let manifest = format!("{out}.gristmill/manifest.json");
        assert_eq!(self.s3.keys(out), [&[manifest], &*keys].concat(), "and no claim");
        for (name, key) in names.iter().zip(&keys) {
            let local = std::fs::read(self.bench.path(&format!("parts/{name}"))).unwrap();
            assert!(self.s3.get(key).unwrap() == local, "{key} differs");
        }
        assert_eq!(self.s3.uploads(), [""; 0]);
    }
}

const PARTS: [&str; 2] = ["--rows-per-file", "40"];
const INPUTS: [&str; 2] = ["a.parquet", "b.parquet"];

/// Whether a request completes the upload of a part, by its first line.
fn completes_part(line: &str) -> bool {
    line.starts_with("POST") && line.contains("/part-") && line.contains("uploadId=")
}

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Kills a job's worker and supervisor without warning.
fn kill(mut child: Child, lock: std::path::PathBuf) {
    child.kill().unwrap();
    let lock = std::fs::read_to_string(lock).unwrap();
    let worker = lock.split_whitespace().next().unwrap();
    Command::new("kill").args(["-KILL", worker]).stderr(Stdio::null()).status().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_batch_in_a_store_has_the_bytes_of_a_local_one() {
    let Some(mill) = Mill::new() else { return };
    let line = |i: usize| match i % 9 {
        8 => "no request\n".to_string(),
        _ => format!(
            "{{\"custom_id\": \"{i}\", \"method\": \"POST\", \"url\": \"/v1/completions\", \"body\": {{\"prompt\": \"the {i}\"}}}}\n"
        ),
    };
    let lines: String = (0..60).map(line).collect();
    std::fs::write(mill.bench.path("requests.jsonl"), &lines).unwrap();
    mill.s3.put("in/requests.jsonl", lines.as_bytes());
    let model = support::golden("qwen3");
    for (input, output) in
        [("requests.jsonl", "local.jsonl"), ("s3://mill/in/requests.jsonl", "s3://mill/out/results.jsonl")]
    {
        let all =
            ["run", "--device", "cpu", "--model", model.to_str().unwrap(), "--batch", input, "-o", output];
        let ran = mill.run(&[all.as_slice(), &["--temperature", "0", "--max-error-rate", "1"]].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let verified = mill.run(&["verify", output]);
        assert!(verified.stdout.contains("is as published: 60 rows in 1 file"), "{verified:?}");
    }
    assert!(
        mill.s3.get("out/results.jsonl").unwrap() == std::fs::read(mill.bench.path("local.jsonl")).unwrap()
    );
}

#[test]
fn a_job_in_a_store_has_the_bytes_of_a_local_one() {
    let Some(mill) = Mill::new() else { return };
    mill.answer(&INPUTS, "parts", &PARTS);
    let ways: [(&[&str], &str); 3] = [
        (&["s3://mill/in/*.parquet"], "s3://mill/glob"),
        (&["s3://mill/in/"], "s3://mill/deep/er/folder"),
        (&["a.parquet", "s3://mill/in/b.parquet"], "s3://mill/mixed"),
    ];
    for (inputs, output) in ways {
        let ran = mill.answer(inputs, output, &PARTS);
        assert!(ran.stderr.contains("journal: s3-mill-"), "{}", ran.stderr);
        mill.is_as_local(output.strip_prefix("s3://mill/").unwrap());
    }
    let status = mill.run(&["status", "s3://mill/glob"]);
    assert!(status.stdout.contains("100 of 100") && status.stdout.contains("published  yes"), "{status:?}");
    // From a machine that does not have the journal.
    let status = mill.run(&["status", "s3://mill/glob", "--state-dir", "elsewhere"]);
    assert!(
        status.stdout.contains("100 rows published") && status.stdout.contains("published  yes"),
        "{status:?}"
    );
    let verified = mill.run(&["verify", "s3://mill/glob"]);
    assert!(verified.stdout.contains("is as published: 100 rows in 3 files"), "{verified:?}");
    // The same command finds everything in place, and repairs what is not.
    mill.answer(ways[0].0, "s3://mill/glob", &PARTS);
    assert_eq!(mill.s3.ask("DELETE", "/mill/glob/part-00001.parquet", b"").0, 204);
    mill.refused(
        mill.command(&["verify", "s3://mill/glob"]),
        &["part-00001.parquet: there is no such object"],
    );
    mill.answer(ways[0].0, "s3://mill/glob", &PARTS);
    mill.is_as_local("glob");
    let mut bytes = mill.s3.get("glob/part-00001.parquet").unwrap();
    bytes[100] ^= 1;
    mill.s3.put("glob/part-00001.parquet", &bytes);
    mill.s3.put("glob/stranger", b"");
    let words = ["glob/part-00001.parquet: its BLAKE3 is", "s3://mill/glob/stranger: not published"];
    mill.refused(mill.command(&["verify", "s3://mill/glob"]), &words);
    // Without its manifest, as somebody has copied it.
    assert_eq!(mill.s3.ask("DELETE", "/mill/mixed.gristmill/manifest.json", b"").0, 204);
    let verified = mill.run(&["verify", "s3://mill/mixed"]);
    let words = "by the footers of its files alone: 100 rows in 3 files";
    assert!(verified.code == 0 && verified.stdout.contains(words), "{verified:?}");
}

/// Folders of folders, which name columns, and lines; the job's own output lies among them.
#[test]
fn folders_in_a_store_are_searched_as_local_ones() {
    let Some(mill) = Mill::new() else { return };
    let folder = |root: &str| std::fs::create_dir_all(mill.bench.path(root)).unwrap();
    let lines = |name: &str| format!("{{\"q\": \"the wheel of {name}\"}}\n").repeat(3);
    for (folder_name, name) in
        [("year=2023/land=no", "a"), ("year=2024/land=se", "b"), ("_tmp", "c"), ("x.gristmill", "d")]
    {
        folder(&format!("lines/{folder_name}"));
        let path = format!("lines/{folder_name}/{name}.jsonl");
        std::fs::write(mill.bench.path(&path), lines(name)).unwrap();
        mill.s3.put(&path, lines(name).as_bytes());
    }
    mill.answer(&["lines"], "local.csv", &[]);
    let local = std::fs::read_to_string(mill.bench.path("local.csv")).unwrap();
    assert!(
        local.starts_with("q,year,land,generated_text,") && local.contains("the wheel of b,2024,se,"),
        "{local}"
    );
    assert_eq!(local.lines().count(), 7);
    let inputs = ["s3://mill/lines", "s3://mill/lines/*/*/*.jsonl"];
    for (input, output) in
        inputs.into_iter().zip(["s3://mill/lines/out.csv", "s3://mill/lines/year=2025/land=x/out.jsonl"])
    {
        for again in [false, true] {
            let ran = mill.answer(&[input], output, &[]);
            assert_eq!(ran.stderr.contains("left out"), again, "{}", ran.stderr);
        }
        assert_eq!(mill.run(&["verify", output]).code, 0);
    }
    assert_eq!(mill.s3.get("lines/out.csv").unwrap(), local.as_bytes());
    let words = ["s3://mill/lines/out.csv is what the job writes"];
    mill.refused(mill.job(&["s3://mill/lines/out.csv"], "s3://mill/lines/out.csv", &[]), &words);
}

/// Row groups larger than the reader's window, and an object of more than one part.
#[test]
fn large_objects_go_in_ranges_and_pieces() {
    let Some(mill) = Mill::new() else { return };
    let mut dice = Dice(7);
    let mut letters =
        |n: usize| -> String { (0..n).map(|_| char::from(b' ' + dice.below(64) as u8)).collect() };
    let ballast: Vec<String> = (0..24).map(|_| letters(1 << 20)).collect();
    let ballast: Vec<Option<&str>> = ballast.iter().map(|text| Some(&**text)).collect();
    let prompts = vec![Some("the mill"); ballast.len()];
    mill.bench.table("large.parquet", vec![("ballast", strings(&ballast)), ("q", strings(&prompts))]);
    let bytes = std::fs::read(mill.bench.path("large.parquet")).unwrap();
    assert!(bytes.len() > 16 << 20);
    mill.s3.put("large.parquet", &bytes);
    mill.answer(&["large.parquet"], "out.parquet", &[]);
    mill.answer(&["s3://mill/large.parquet"], "s3://mill/x/out.parquet", &["--state-dir", "state"]);
    let local = std::fs::read(mill.bench.path("out.parquet")).unwrap();
    assert!(local.len() > 16 << 20);
    assert!(mill.s3.get("x/out.parquet").unwrap() == local);
    assert_eq!(mill.s3.keys("x/"), ["x/out.parquet", "x/out.parquet.gristmill/manifest.json"]);
    let status = mill.run(&["status", "s3://mill/x/out.parquet", "--state-dir", "state"]);
    assert!(status.stdout.contains("published  yes"), "{status:?}");
    assert_eq!(mill.run(&["verify", "s3://mill/x/out.parquet"]).code, 0);
}

#[test]
fn a_killed_job_leaves_nothing_that_shows_and_goes_on() {
    let Some(mill) = Mill::new() else { return };
    mill.answer(&INPUTS, "parts", &PARTS);
    let job = || mill.job(&["s3://mill/in"], "s3://mill/out", &PARTS);
    let lock = || mill.bench.path("s3-mill-out.gristmill/lock");
    // In the middle of the rows: the device hangs after some of them are done.
    let mut first = job();
    first.env("GRISTMILL_FAULTS", "1:hang@12").args(["--max-num-seqs", "8"]);
    let mut first = spawn(first);
    wait_for(&mill, &mut first, "out.gristmill/claim.json");
    kill(first, lock());
    let shown = || {
        let mut keys = mill.s3.keys("out");
        keys.retain(|key| !key.ends_with("/journal-00001.sqlite"));
        keys
    };
    assert_eq!(shown(), ["out.gristmill/claim.json"]);
    // After all parts are uploaded, before the first upload is completed.
    let way = Way::to(&mill.s3, |_, line| if completes_part(line) { Act::Hold } else { Act::Pass });
    let mut second = job();
    mill.s3.aim(&mut second, &way.address);
    let second = spawn(second);
    let line = way.caught.recv().unwrap();
    assert!(line.contains("/mill/out/part-00000.parquet?uploadId="), "{line}");
    kill(second, lock());
    assert_eq!(shown(), ["out.gristmill/claim.json"], "no part shows");
    assert_eq!(mill.s3.uploads().len(), 3);
    let status = mill.run(&["status", "s3://mill/out"]);
    assert!(status.stdout.contains("100 of 100") && status.stdout.contains("published  no"), "{status:?}");
    let third = Ran::of(job().args(["--resume", "require"]).output().unwrap());
    assert_eq!(third.code, 0, "{}", third.stderr);
    mill.is_as_local("out");
}

/// The old output goes with its manifest before any part changes, and the new one has the bytes of a local job.
#[test]
fn rows_that_run_again_are_published_over_the_old_output() {
    let Some(mill) = Mill::new() else { return };
    let retry = ["--rows-per-file", "40", "--max-tokens", "9", "--retry", "length"];
    mill.answer(&INPUTS, "parts", &PARTS);
    mill.answer(&["s3://mill/in"], "s3://mill/out", &PARTS);
    mill.is_as_local("out");
    let ran = mill.answer(&INPUTS, "parts", &retry);
    assert!(
        ran.stderr.contains(" rows again (--retry)") && !ran.stderr.contains("running 0 rows"),
        "{}",
        ran.stderr
    );
    let way = Way::to(&mill.s3, |_, line| if completes_part(line) { Act::Hold } else { Act::Pass });
    let mut killed = mill.job(&["s3://mill/in"], "s3://mill/out", &retry);
    mill.s3.aim(&mut killed, &way.address);
    let killed = spawn(killed);
    way.caught.recv().unwrap();
    kill(killed, mill.bench.path("s3-mill-out.gristmill/lock"));
    // Its manifest is gone, and its parts are still the old ones.
    mill.refused(mill.command(&["verify", "s3://mill/out"]), &["s3://mill/out is not published: the job on"]);
    let place = mill.s3.get("out.gristmill/manifest.json").unwrap();
    assert!(String::from_utf8(place).unwrap().contains("this output is not published"));
    let ran = mill.answer(&["s3://mill/in"], "s3://mill/out", &retry);
    assert!(ran.stderr.contains("running 0 rows again"), "{}", ran.stderr);
    mill.is_as_local("out");
    assert_eq!(mill.run(&["verify", "s3://mill/out"]).code, 0);
}

/// Waits for an object that a job puts.
fn wait_for(mill: &Mill, job: &mut Child, key: &str) {
    while mill.s3.get(key).is_none() {
        assert!(job.try_wait().unwrap().is_none(), "the job ended without {key}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn one_of_two_jobs_publishes() {
    let Some(mill) = Mill::new() else { return };
    mill.answer(&INPUTS, "parts", &PARTS);
    let job = |state: &str| {
        mill.job(&["s3://mill/in"], "s3://mill/out", &["--rows-per-file", "40", "--state-dir", state])
    };
    let mut first = job("one");
    first.env("GRISTMILL_FAULTS", "1:hang@3");
    let mut first = spawn(first);
    wait_for(&mill, &mut first, "out.gristmill/claim.json");
    let folder = mill.bench.name("one");
    mill.refused(job("two"), &["another job writes to s3://mill/out", &folder, "out.gristmill/claim.json"]);
    kill(first, mill.bench.path("one/lock"));
    mill.refused(job("two"), &["another job writes to s3://mill/out"]);
    assert_eq!(Ran::of(job("one").output().unwrap()).code, 0);
    mill.is_as_local("out");
    mill.refused(job("two"), &["s3://mill/out.gristmill/manifest.json exists and was not made by this job"]);
    // A job whose claim was removed finds another job's manifest when it resumes.
    let held = Way::to(&mill.s3, |_, line| {
        if line.starts_with("PUT") && line.contains("partNumber=") && !line.contains(".gristmill/") {
            Act::Hold
        } else {
            Act::Pass
        }
    });
    let late = |address: &str| {
        let mut late = mill.job(&["s3://mill/in"], "s3://mill/late", &["--limit", "50"]);
        mill.s3.aim(&mut late, address);
        late
    };
    let child = spawn(late(&held.address));
    held.caught.recv().unwrap();
    kill(child, mill.bench.path("s3-mill-late.gristmill/lock"));
    assert_eq!(mill.s3.ask("DELETE", "/mill/late.gristmill/claim.json", b"").0, 204);
    mill.s3.put("late.gristmill/manifest.json", b"{}");
    mill.refused(
        late(&mill.s3.address),
        &["s3://mill/late.gristmill/manifest.json exists and was not made by this job"],
    );
    assert_eq!(mill.s3.get("late.gristmill/manifest.json").unwrap(), b"{}");
    assert_eq!(mill.s3.get("late"), None);
}

/// The first machine is gone with its folder; another one goes on from what is in the store, and the first is refused when it
/// comes back.
#[test]
fn a_job_goes_on_where_its_machine_is_gone() {
    let Some(mill) = Mill::new() else { return };
    mill.answer(&INPUTS, "parts", &PARTS);
    let job = |state: &str, more: &[&str]| {
        let more = [&PARTS[..], &["--state-dir", state], more].concat();
        let mut job = mill.job(&["s3://mill/in"], "s3://mill/out", &more);
        job.env("GRISTMILL_LEASE_MS", "3000").env("GRISTMILL_CHECKPOINT_MS", "50");
        job
    };
    let hangs = |mut job: Command, at: &str| {
        job.env("GRISTMILL_FAULTS", at).args(["--max-num-seqs", "8"]);
        spawn(job)
    };
    let first = hangs(job("one", &[]), "1:hang@12");
    let copied = |owner: u32| {
        let copy = mill.s3.get(&format!("out.gristmill/journal-{owner:05}.sqlite"))?;
        let path = mill.bench.path("copy.sqlite");
        std::fs::write(&path, copy).unwrap();
        let copy = rusqlite::Connection::open(&path).unwrap();
        copy.query_row("SELECT count(*) FROM answers", [], |row| row.get::<_, i64>(0)).ok()
    };
    let mut waited = 0;
    while copied(1).is_none_or(|rows| rows < 8) {
        waited += 1;
        assert!(waited < 1200, "no copy of the journal");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    mill.refused(job("two", &["--take-over"]), &["is still at work on", "(owner 1, in ", "was renewed"]);
    kill(first, mill.bench.path("one/lock"));
    std::fs::rename(mill.bench.path("one"), mill.bench.path("gone")).unwrap();
    let rows = copied(1).unwrap();
    // What another job is, or a copy that was damaged, changes nothing.
    let claim = mill.s3.get("out.gristmill/claim.json").unwrap();
    mill.refused(job("two", &["--take-over", "--seed", "9"]), &["seed: begun with 0, now 9"]);
    let key = "out.gristmill/journal-00001.sqlite";
    let copy = mill.s3.get(key).unwrap();
    let mut damaged = copy.clone();
    let text =
        damaged.windows(9).rposition(|bytes| bytes == b"the 0 whe" || bytes.starts_with(b"length")).unwrap();
    damaged[text] ^= 1;
    mill.s3.put(key, &damaged);
    mill.refused(
        job("two", &["--take-over"]),
        &["journal-00001.sqlite, the copy of the job's journal, is not as it was written"],
    );
    mill.s3.put(key, &copy);
    assert_eq!(mill.s3.get("out.gristmill/claim.json").unwrap(), claim);
    // The second machine is killed, too, and comes back; the first one does before it has published.
    let mut second = hangs(job("two", &["--take-over"]), "1:hang@5");
    wait_for(&mill, &mut second, "out.gristmill/journal-00002.sqlite");
    std::fs::rename(mill.bench.path("gone"), mill.bench.path("one")).unwrap();
    mill.refused(job("one", &[]), &["has taken over the job of s3://mill/out", "(owner 2, by "]);
    mill.refused(mill.command(&["verify", "s3://mill/out"]), &["s3://mill/out is not published: the job on"]);
    let status = mill.run(&["status", "s3://mill/out", "--state-dir", "two"]);
    assert!(status.stdout.contains("published  no"), "{status:?}");
    kill(second, mill.bench.path("two/lock"));
    let second = Ran::of(job("two", &["--take-over"]).output().unwrap());
    assert_eq!(second.code, 0, "{}", second.stderr);
    let resumed = second.stderr.lines().find_map(|line| line.strip_prefix("resuming: ")).unwrap();
    let resumed: i64 = resumed.split(' ').next().unwrap().parse().unwrap();
    assert!(resumed >= rows, "{rows}: {}", second.stderr);
    mill.is_as_local("out");
    mill.refused(job("one", &[]), &["is published: another machine has taken this job over and finished it"]);
    for state in ["two", "three", "one"] {
        let again = Ran::of(job(state, &["--take-over"]).output().unwrap());
        assert_eq!(again.code, 0, "{}", again.stderr);
        assert_eq!(again.stderr.contains("is published already"), state != "two", "{}", again.stderr);
        mill.is_as_local("out");
    }
    mill.refused(
        mill.job(&["s3://mill/in"], "parts", &["--take-over"]),
        &["--take-over is for outputs in an object store"],
    );
    mill.refused(job("two", &["--take-over", "--fresh"]), &["--take-over goes on with a job and --fresh"]);
}

#[test]
fn lost_answers_are_read_back() {
    let Some(mill) = Mill::new() else { return };
    mill.answer(&INPUTS, "parts", &PARTS);
    // Lose the answer once to each kind of request whose retry would collide with its own work.
    let way = Way::to(&mill.s3, |lost, line| {
        let wanted: [fn(&str) -> bool; 4] = [
            |line| line.starts_with("PUT") && line.contains("/claim.json"),
            // Begun again, and the first one has no name.
            |line| line.starts_with("POST") && line.contains("/part-") && line.contains("uploads"),
            |line| completes_part(line),
            |line| line.starts_with("PUT") && line.contains("/manifest.json"),
        ];
        if wanted.get(lost).is_some_and(|wanted| wanted(line)) { Act::DropAnswer } else { Act::Pass }
    });
    let mut job = mill.job(&["s3://mill/in"], "s3://mill/out", &PARTS);
    mill.s3.aim(&mut job, &way.address);
    let ran = Ran::of(job.output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lost: Vec<String> = way.caught.try_iter().collect();
    assert!(lost.len() == 4 && lost[3].contains("/mill/out.gristmill/manifest.json"), "{lost:?}");
    mill.is_as_local("out");
}

/// Another object in the place of the first one, before each of the reads, in a store that knows `If-Match` and in one that
/// does not: nothing is made of it, and the job goes on when the first one is back.
#[test]
fn an_object_that_changes_between_two_reads_never_becomes_an_answer() {
    let Some(mill) = Mill::new() else { return };
    mill.answer(&["a.parquet"], "calm.parquet", &[]);
    let calm = std::fs::read(mill.bench.path("calm.parquet")).unwrap();
    let first = std::fs::read(mill.bench.path("a.parquet")).unwrap();
    let other: Vec<String> = (0..30).map(|i| format!("the {} whale of {i}", i % 7)).collect();
    let other: Vec<Option<&str>> = other.iter().map(|text| Some(&**text)).collect();
    mill.bench.table("other.parquet", vec![("q", strings(&other))]);
    let other = std::fs::read(mill.bench.path("other.parquet")).unwrap();
    assert!(other.len() == first.len() && other != first);
    for act in [Act::Pass, Act::Unconditional] {
        for nth in 1.. {
            let (url, output) = (format!("s3://mill/out-{act:?}-{nth}"), format!("out-{act:?}-{nth}"));
            let reads = Arc::new(AtomicUsize::new(0));
            let (seen, server, bytes) = (reads.clone(), mill.s3.address.clone(), other.clone());
            let way = Way::to(&mill.s3, move |_, line| {
                if !line.starts_with("GET /mill/in/a.parquet") {
                    return Act::Pass;
                }
                if seen.fetch_add(1, Ordering::SeqCst) + 1 == nth {
                    put(&server, "in/a.parquet", &bytes);
                }
                act
            });
            let mut job = mill.job(&["s3://mill/in/a.parquet"], &url, &[]);
            mill.s3.aim(&mut job, &way.address);
            let ran = Ran::of(job.output().unwrap());
            if reads.load(Ordering::SeqCst) < nth {
                assert!(ran.code == 0 && nth > 3, "{nth}: {}", ran.stderr);
                break;
            }
            let said = ran.stderr.contains("changed") && ran.code == 1;
            assert!(said && mill.s3.get(&output).is_none(), "{act:?} {nth}: {}: {}", ran.code, ran.stderr);
            mill.s3.put("in/a.parquet", &first);
            // The store's ETag is the digest of the bytes, and so the object is what it was.
            mill.answer(&["s3://mill/in/a.parquet"], &url, &[]);
            assert!(mill.s3.get(&output).unwrap() == calm, "{act:?} {nth}");
        }
    }
}

/// Six shards, each on a machine of its own, which is a folder of state here. One is killed and goes on, one is run anew by
/// another machine, and one by two machines at once.
#[test]
fn shards_on_many_machines_make_one_output() {
    let Some(mill) = Mill::new() else { return };
    let files = ["--rows-per-file", "8"];
    mill.answer(&["s3://mill/in"], "s3://mill/one", &files);
    let shard = |shard: &str, machine: &str| {
        let more = [&files[..], &["--shard", shard, "--state-dir", machine, "--in-process"]].concat();
        mill.job(&["s3://mill/in"], "s3://mill/out", &more)
    };
    let publish = |shards: &str| {
        let more = [&files[..], &["--shards", shards, "--state-dir", "login"]].concat();
        let mut command = mill.job(&["s3://mill/in"], "s3://mill/out", &more);
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_owned()).collect();
        command = mill.command(&["publish"]);
        command.args(&arguments[1..]);
        command
    };
    mill.refused(publish("6"), &["no shard of s3://mill/out was begun"]);
    for (number, machine) in [("5/6", "e"), ("1/6", "a")] {
        let ran = Ran::of(shard(number, machine).output().unwrap());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    // Another job is refused at once, with shards or without, and so is a wrong number of them.
    let mut other = shard("2/6", "b");
    other.args(["--seed", "9"]);
    mill.refused(
        other,
        &["s3://mill/out.gristmill/claim.json is of another job", "seed: begun with 0, now 9"],
    );
    mill.refused(shard("2/7", "b"), &["shards: begun with 6, now 7"]);
    mill.refused(
        mill.job(&["s3://mill/in"], "s3://mill/out", &files),
        &["another job writes to s3://mill/out"],
    );
    mill.refused(publish("7"), &["--shards 6, and publish says 7"]);
    mill.refused(publish("6"), &["shard 2/6 is not finished", "shard 6/6 is not finished"]);
    // Killed in the middle of its rows, and before a part of it shows.
    for (number, machine, then) in [("2/6", "b", "b"), ("3/6", "c", "another")] {
        let mut killed = shard(number, machine);
        killed.env("GRISTMILL_FAULTS", "1:hang@3").args(["--max-num-seqs", "2"]);
        let mut killed = spawn(killed);
        std::thread::sleep(std::time::Duration::from_millis(1500));
        killed.kill().unwrap();
        killed.wait().unwrap();
        let way = Way::to(&mill.s3, |_, line| if completes_part(line) { Act::Hold } else { Act::Pass });
        let mut killed = shard(number, machine);
        mill.s3.aim(&mut killed, &way.address);
        let mut killed = spawn(killed);
        way.caught.recv().unwrap();
        killed.kill().unwrap();
        killed.wait().unwrap();
        let ran = Ran::of(shard(number, then).output().unwrap());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(ran.stderr.contains("resuming: "), then == machine, "{}", ran.stderr);
    }
    // Answers that are lost are read back.
    let way = Way::to(&mill.s3, |lost, line| {
        let wanted: [fn(&str) -> bool; 2] = [
            |line| completes_part(line),
            |line| line.starts_with("PUT") && line.contains("/shards/4-of-6.json"),
        ];
        if wanted.get(lost).is_some_and(|wanted| wanted(line)) { Act::DropAnswer } else { Act::Pass }
    });
    let mut lossy = shard("4/6", "d");
    mill.s3.aim(&mut lossy, &way.address);
    let ran = Ran::of(lossy.output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let twins = ["f", "g"].map(|machine| spawn(shard("6/6", machine)));
    let codes: Vec<i32> =
        twins.into_iter().map(|twin| Ran::of(twin.wait_with_output().unwrap()).code).collect();
    assert!(codes.contains(&0) && codes.iter().all(|code| [0, 1].contains(code)), "{codes:?}");
    assert!(mill.s3.get("out.gristmill/manifest.json").is_none());
    let status = mill.run(&["status", "s3://mill/out", "--state-dir", "login"]);
    assert!(
        status.stdout.contains("6 of 6 shards finished") && status.stdout.contains("published  no"),
        "{status:?}"
    );
    // Publishing loses an answer, too, and may be repeated.
    let way =
        Way::to(
            &mill.s3,
            |lost, line| {
                if lost == 0 && line.starts_with("PUT") { Act::DropAnswer } else { Act::Pass }
            },
        );
    let mut lossy = publish("6");
    mill.s3.aim(&mut lossy, &way.address);
    for command in [lossy, publish("6")] {
        let mut command = command;
        let ran = Ran::of(command.output().unwrap());
        assert!(
            ran.code == 0 && ran.stderr.contains("100 rows of 6 shards in s3://mill/out"),
            "{}",
            ran.stderr
        );
        let same = |name: &str| {
            mill.s3.get(&format!("out{name}")).unwrap() == mill.s3.get(&format!("one{name}")).unwrap()
        };
        assert!(same(".gristmill/manifest.json"));
        for at in 0..13 {
            assert!(same(&format!("/part-{at:05}.parquet")), "part {at} differs");
        }
        assert_eq!((mill.s3.keys("out/").len(), mill.s3.uploads().len()), (13, 0));
        let verified = mill.run(&["verify", "s3://mill/out"]);
        assert!(verified.stdout.contains("is as published: 100 rows in 13 files"), "{verified:?}");
    }
    // A part that somebody has overwritten is named with its shard, which mends it.
    mill.s3.put("out/part-00003.parquet", b"somebody's");
    mill.refused(publish("6"), &["shard 2/6: part-00003.parquet is not what the shard has put there"]);
    assert_eq!(Ran::of(shard("2/6", "b").output().unwrap()).code, 0);
    assert_eq!(Ran::of(publish("6").output().unwrap()).code, 0);
    assert_eq!(mill.run(&["verify", "s3://mill/out"]).code, 0);
}

#[test]
fn a_changed_input_is_refused() {
    let Some(mill) = Mill::new() else { return };
    let job = || mill.job(&["s3://mill/in"], "s3://mill/out", &["--limit", "20"]);
    assert_eq!(Ran::of(job().output().unwrap()).code, 0);
    mill.s3.put("in/a.parquet", &std::fs::read(mill.bench.path("b.parquet")).unwrap());
    mill.refused(job(), &["holds another job", "input 1: s3://mill/in/a.parquet", "etag"]);
}

#[test]
fn refusals_of_a_store_are_reported() {
    let Some(mill) = Mill::new() else { return };
    let input = |input: &str| mill.job(&[input], "out.parquet", &[]);
    mill.refused(input("s3://mill/in/c.parquet"), &["s3://mill/in/c.parquet: there is no such object"]);
    mill.refused(input("s3://mill/in/c*"), &["s3://mill/in/c*: no object matches"]);
    mill.refused(input("s3://weir/in/a.parquet"), &["s3://weir/in/a.parquet: there is no such bucket"]);
    mill.refused(input("s9://mill/in/a.parquet"), &["`s9` is no known store"]);
    mill.s3.put("in/c.parquet", b"no table");
    mill.refused(input("s3://mill/in/c.parquet"), &["s3://mill/in/c.parquet: is not a Parquet file"]);
    let output = |output: &str| mill.job(&["a.parquet"], output, &[]);
    mill.refused(output("s3://weir/out"), &["s3://weir/out", "there is no such bucket"]);
    mill.refused(output("s3://mill"), &["name an object or a folder"]);
    mill.s3.put("taken/by", b"somebody");
    mill.refused(output("s3://mill/taken"), &["s3://mill/taken/by exists and was not made by this job"]);
    mill.refused(mill.job(&["a.parquet"], "out", &["--state-dir", "x"]), &["--state-dir is for outputs in"]);
    mill.refused(mill.command(&["verify", "s3://mill/none"]), &["there is no such object"]);
    assert_eq!(mill.run(&["status", "s3://mill/none"]).code, 2);
    let mut without = input("s3://mill/in/a.parquet");
    without.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    // Where a machine in the cloud would find its own credentials.
    without.env("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1");
    mill.refused(without, &["no credentials were found", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"]);
    // From now on the server checks credentials.
    assert_eq!(mill.s3.ask("POST", "/moto-api/reset-auth", b"0").0, 200);
    mill.refused(input("s3://mill/in/a.parquet"), &["s3://mill/in/a.parquet: access is denied"]);
    mill.refused(output("s3://mill/out"), &["access is denied (InvalidAccessKeyId)"]);
}
