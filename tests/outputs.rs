//! What stands at an output: a whole one, this job's and no other's, wherever a job can put it and whenever it is killed.

#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use support::interpose::{library, measured, preload};
use support::job::{Bench, Ran, strings};

const ROWS: usize = 60;

struct Job {
    bench: Bench,
    input: String,
}

impl Job {
    fn new() -> Job {
        let bench = Bench::new();
        let prompts: Vec<String> = (0..ROWS).map(|i| format!("the mill and the river {i}")).collect();
        let prompts: Vec<Option<&str>> = prompts.iter().map(|prompt| Some(&**prompt)).collect();
        let input = bench.table("in.parquet", vec![("q", strings(&prompts))]);
        Job { bench, input }
    }

    fn command(&self, output: &str, more: &[&str]) -> Command {
        let flags = ["--prompt-column", "q", "--threads", "1", "--max-tokens", "2"];
        self.bench.job_command("qwen3", &self.input, output, &[&flags, more].concat())
    }

    /// Runs a job in the bench's folder.
    fn run(&self, output: &str, more: &[&str]) -> Ran {
        Ran::of(self.command(output, more).output().unwrap())
    }

    fn done(&self, output: &str, more: &[&str]) {
        let ran = self.run(output, more);
        assert_eq!(ran.code, 0, "{output} {more:?}: {}", ran.stderr);
        let verified = self.bench.run(&["verify", output]);
        assert_eq!(verified.code, 0, "{output} {more:?}: {}", verified.stderr);
    }

    /// What is in a folder, or a file, as name and bytes.
    fn files(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        files(&self.bench.path(name))
    }

    fn published(&self, output: &str) -> bool {
        let shown = self.bench.run(&["status", output]).stdout;
        assert!(shown.contains("published  "), "{shown}");
        shown.contains("published  yes")
    }
}

fn files(path: &Path) -> Vec<(String, Vec<u8>)> {
    if !path.is_dir() {
        return std::fs::read(path).map_or_else(|_| vec![], |bytes| vec![(String::new(), bytes)]);
    }
    let mut found: Vec<PathBuf> = path.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_string();
    found.iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

const PARTS: [&str; 2] = ["--rows-per-file", "25"];

/// Nothing is answered, and nothing is left.
#[test]
fn a_place_where_no_output_can_be_is_refused_before_the_first_row() {
    let job = Job::new();
    let folder = job.bench.path("");
    std::fs::create_dir(folder.join("empty")).unwrap();
    std::fs::write(folder.join("file"), "somebody's").unwrap();
    std::os::unix::fs::symlink("in.parquet", folder.join("link")).unwrap();
    assert!(Command::new("mkfifo").arg(folder.join("fifo")).status().unwrap().success());
    let before = job.bench.path("").read_dir().unwrap().count();
    for (output, more, words) in [
        ("", &[][..], "--output is empty"),
        (".", &PARTS, "names no file or folder of its own"),
        ("..", &[], "names no file or folder of its own"),
        ("x/", &[], "leave its slash out for one file, or give --rows-per-file"),
        ("empty", &[], "is a folder; name a file in it, as empty/answers.parquet"),
        ("file", &[], "file exists and was not made by this job"),
        ("file", &PARTS, "file exists and was not made by this job"),
        ("link", &[], "is a symbolic link"),
        ("fifo", &[], "neither a file nor a folder"),
        ("/dev/null", &[], "neither a file nor a folder"),
        ("file/out.parquet", &[], "file/out.parquet"),
    ] {
        let ran = job.run(output, more);
        assert!(ran.code == 2 && ran.stderr.contains(words), "{output:?}: {}: {}", ran.code, ran.stderr);
        assert!(!ran.stderr.contains("engine: "), "{output:?}: {}", ran.stderr);
    }
    assert_eq!(job.bench.path("").read_dir().unwrap().count(), before);
    assert_eq!(std::fs::read_to_string(folder.join("file")).unwrap(), "somebody's");
    for input in ["fifo", "/dev/zero", "/dev/null"] {
        let ran = Ran::of(
            job.bench.job_command("qwen3", input, "out", &["--prompt-column", "q"]).output().unwrap(),
        );
        assert!(
            ran.code == 2 && ran.stderr.contains("no regular file but a device, a FIFO or a socket"),
            "{input}: {}",
            ran.stderr
        );
    }
    // A folder for parts may be there, and its name may end in a slash.
    job.done("empty", &PARTS);
    let inside = job.run("empty/more.parquet", &[]);
    assert!(inside.code == 2 && inside.stderr.contains("lies in the folder of parts"), "{}", inside.stderr);
    job.done("new/", &PARTS);
    assert_eq!(job.files("empty"), job.files("new"));
}

/// A file, parts, fewer parts, a file: at each step what is there is whole, and what was there before is not called
/// published.
#[test]
fn a_file_turns_to_parts_and_back() {
    let job = Job::new();
    job.done("out", &[]);
    let file = job.files("out");
    job.done("out", &PARTS);
    let parts = job.files("out");
    assert!(parts.len() == 3 && parts.iter().all(|(name, _)| name.ends_with(".parquet")));
    job.done("out", &["--limit", "30", "--rows-per-file", "25"]);
    assert_eq!(job.files("out").len(), 2);
    job.done("out", &[]);
    assert_eq!(job.files("out"), file);
    assert!(job.published("out"));
    // What a kill may have left, in a form that no build would leave.
    let state_dir = job.bench.path("out.gristmill");
    std::fs::write(state_dir.join("publishing"), "left").unwrap();
    std::fs::create_dir_all(state_dir.join("replaced/x")).unwrap();
    std::fs::write(state_dir.join("manifest.next"), "{").unwrap();
    job.done("out", &["--fresh", "--rows-per-file", "25"]);
    assert_eq!(job.files("out"), parts);
    // The output of a discarded job is not that of the one which was begun in its place.
    let mut stopped = job.command("out", &["--fresh", "--top-k", "3", "--in-process"]);
    preload_kill(&mut stopped, &state_dir.join("publishing"), 1);
    assert_eq!(Ran::of(stopped.output().unwrap()).code, -1);
    assert!(!job.published("out"));
    let verified = job.bench.run(&["verify", "out"]);
    assert!(
        verified.code == 2 && verified.stderr.contains("the output of another job"),
        "{}",
        verified.stderr
    );
    job.done("out", &["--top-k", "3"]);
    assert!(job.published("out"));
}

/// Kills a program before its first, second ... write, sync, rename or removal below a path.
fn preload_kill(command: &mut Command, folder: &Path, n: u64) {
    let library = library().expect("a C++ compiler");
    preload(command, library);
    command.env("INTERPOSE_FOLDER", folder).env("INTERPOSE_KILL", n.to_string());
}

#[test]
fn the_output_of_somebody_else_is_never_replaced() {
    let job = Job::new();
    for (more, part) in [(&[][..], "out"), (&PARTS, "out/part-00001.parquet")] {
        let _ = std::fs::remove_file(job.bench.path("out"));
        job.done("out", more);
        let path = job.bench.path(part);
        let mut other = std::fs::read(&path).unwrap();
        other[100] ^= 1;
        std::fs::write(&path, &other).unwrap();
        for fresh in [&[][..], &["--fresh"]] {
            let ran = job.run("out", &[more, fresh].concat());
            assert_eq!(ran.code, 2, "{}", ran.stderr);
            assert!(ran.stderr.contains("exists and was not made by this job"), "{}", ran.stderr);
            assert!(std::fs::read(&path).unwrap() == other);
        }
        std::fs::remove_file(&path).unwrap();
        job.done("out", more);
    }
}

/// A job is killed while it publishes into the folder of its input.
#[test]
fn what_is_written_aside_is_no_input() {
    for (input, output, more) in [
        ("in", "in/out.parquet", &[][..]),
        ("in", "in/out", &PARTS),
        ("in/**/*.parquet", "in/out.parquet", &[]),
        ("in/**/*.parquet", "in/out", &PARTS),
    ] {
        let job = Job::new();
        std::fs::create_dir(job.bench.path("in")).unwrap();
        std::fs::rename(job.bench.path("in.parquet"), job.bench.path("in/a.parquet")).unwrap();
        let job = Job { input: input.into(), ..job };
        let aside = job.bench.path(&format!("{output}.gristmill/publishing"));
        for n in [2, 3] {
            let mut killed = job.command(output, &[more, &["--in-process"]].concat());
            preload_kill(&mut killed, &aside, n);
            let ran = Ran::of(killed.output().unwrap());
            assert_eq!(ran.code, -1, "{input} {output}: {}", ran.stderr);
            assert!(aside.read_dir().unwrap().count() > 0);
        }
        job.done(output, more);
        let verified = job.bench.run(&["verify", output]);
        assert!(verified.stdout.contains(&format!("{ROWS} rows")), "{}", verified.stdout);
    }
}

/// A file system that is mounted at the output, as a container's volume, can neither be replaced nor renamed to.
#[test]
fn parts_are_put_into_a_mount() {
    let job = Job::new();
    let mount = job.bench.path("out");
    std::fs::create_dir(&mount).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&mount).output();
    if !mounted.is_ok_and(|ran| ran.status.success()) {
        eprintln!("SKIPPED parts_are_put_into_a_mount: no right to mount a tmpfs");
        return;
    }
    let ran = std::panic::catch_unwind(|| {
        let refused = job.run("out", &[]);
        assert!(refused.code == 2 && refused.stderr.contains("name a file in it"), "{}", refused.stderr);
        std::fs::create_dir(mount.join("lost+found")).unwrap();
        job.done("out", &[&PARTS[..], &["--limit", "30"]].concat());
        std::fs::remove_dir(mount.join("lost+found")).unwrap();
        job.done("out", &["--rows-per-file", "15"]);
        job.done("plain", &["--rows-per-file", "15"]);
        assert_eq!(job.files("out"), job.files("plain"));
        // Back to one file: there is no place for it. Parts still can be published.
        let refused = job.run("out", &[]);
        assert!(refused.code == 2 && refused.stderr.contains("name a file in it"), "{}", refused.stderr);
        kills(&job, "out", &PARTS, |found, old, new| {
            // Part by part: what is there is of the one or the other.
            found.iter().all(|file| old.contains(file) || new.contains(file))
        });
    });
    Command::new("umount").arg(&mount).status().unwrap();
    ran.unwrap();
}

#[test]
fn an_output_is_looked_at_on_a_read_only_file_system() {
    let job = Job::new();
    let folder = job.bench.path("disk #1?");
    std::fs::create_dir(&folder).unwrap();
    let mount = |options: &str| {
        let ran = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&folder).output();
        ran.is_ok_and(|ran| ran.status.success())
    };
    if !mount("size=4m") {
        eprintln!("SKIPPED an_output_is_looked_at_on_a_read_only_file_system: no right to mount a tmpfs");
        return;
    }
    let ran = std::panic::catch_unwind(|| {
        job.done("disk #1?/out", &PARTS);
        assert!(mount("remount,ro"));
        assert!(job.published("disk #1?/out"));
        let verified = job.bench.run(&["verify", "disk #1?/out"]);
        assert_eq!(verified.code, 0, "{}", verified.stderr);
        let ran = job.run("disk #1?/out", &PARTS);
        assert!(ran.code == 2 && ran.stderr.contains("Read-only file system"), "{}", ran.stderr);
    });
    Command::new("umount").arg(&folder).status().unwrap();
    ran.unwrap();
}

#[test]
fn a_kill_while_publishing_leaves_the_old_output_or_the_new() {
    let job = Job::new();
    let one_of_both = |found: &[File], old: &[File], new: &[File]| found == old || found == new;
    for (name, old, new) in
        [("a", &PARTS[..], &["--rows-per-file", "40"][..]), ("b", &[], &PARTS), ("c", &PARTS, &[])]
    {
        job.done(name, old);
        kills(&job, name, new, one_of_both);
    }
}

type File = (String, Vec<u8>);

/// Publishes an output anew and is killed on the way, each time at another point, and then not.
fn kills(job: &Job, output: &str, new: &[&str], allowed: impl Fn(&[File], &[File], &[File]) -> bool) {
    let Some(library) = library() else { return };
    let (path, state_dir) = (job.bench.path(output), job.bench.path(&format!("{output}.gristmill")));
    let old_flags = std::fs::read_to_string(state_dir.join("manifest.json")).unwrap();
    let old = files(&path);
    let other = format!("{output}-calm");
    job.done(&other, new);
    let expected = job.files(&other);
    let backup = job.bench.path("backup");
    let go = |more: &[&str]| {
        let mut command = job.command(path.to_str().unwrap(), &[new, &["--in-process"], more].concat());
        command.env("INTERPOSE_FOLDER", &path);
        command
    };
    copy(&path, &state_dir, &backup);
    let (ran, usage) = measured(go(&[]), library, |mut command| Ran::of(command.output().unwrap()));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let all = std::env::var("GRISTMILL_FAILING_WRITES").is_ok_and(|cases| cases == "all");
    // The last ones are those of publishing.
    let from = if all { 1 } else { usage.writes.saturating_sub(16).max(1) };
    let mut replaced = 0;
    for n in from..=usage.writes {
        restore(&path, &state_dir, &backup);
        let mut command = go(&[]);
        preload(&mut command, library);
        let ran = Ran::of(command.env("INTERPOSE_KILL", n.to_string()).output().unwrap());
        assert_eq!(ran.code, -1, "{n}: {}", ran.stderr);
        let found: Vec<File> = if path.exists() { files_but_hidden(&path) } else { vec![] };
        let names: Vec<&String> = found.iter().map(|(name, _)| name).collect();
        assert!(
            allowed(&found, &old, &expected),
            "{output} {n}: neither the old output nor the new: {names:?}"
        );
        if found == old || found == expected {
            let verified = job.bench.run(&["verify", output]);
            assert_eq!(verified.code, 0, "{n}: {}", verified.stderr);
        }
        replaced += u64::from(found == expected);
        job.done(output, new);
        assert!(job.files(output) == expected, "{n}: the output differs");
        for left in ["publishing", "replaced", "manifest.next"] {
            assert!(!state_dir.join(left).exists(), "{n}: {left}");
        }
    }
    assert!(replaced > 0 && replaced <= usage.writes - from, "{replaced} of {}", usage.writes - from);
    assert!(std::fs::read_to_string(state_dir.join("manifest.json")).unwrap() != old_flags);
}

/// As [`files`], without what is written aside in a mount.
fn files_but_hidden(path: &Path) -> Vec<File> {
    let hidden = path.join(".gristmill");
    if hidden.exists() {
        std::fs::remove_dir_all(&hidden).unwrap();
    }
    files(path)
}

/// Keeps an output and its state.
fn copy(path: &Path, state_dir: &Path, backup: &Path) {
    let _ = std::fs::remove_dir_all(backup);
    std::fs::create_dir(backup).unwrap();
    for (from, to) in [(path, "out"), (state_dir, "state")] {
        assert!(Command::new("cp").arg("-a").arg(from).arg(backup.join(to)).status().unwrap().success());
    }
}

/// Puts them back, into the folder where that is a mount.
fn restore(path: &Path, state_dir: &Path, backup: &Path) {
    for (from, to) in [("out", path), ("state", state_dir)] {
        let from = backup.join(from);
        if std::fs::remove_dir_all(to).is_err() {
            let _ = std::fs::remove_file(to);
        }
        if to.is_dir() {
            assert!(Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap().success());
        } else {
            assert!(Command::new("cp").arg("-a").arg(&from).arg(to).status().unwrap().success());
        }
    }
}
