//! How a job ends: by a key, by a signal, by an error, and what it says then.

#![allow(clippy::unwrap_used)]

mod support;

use arrow::array::{Array, AsArray};
use support::job::{Bench, Ran, read, strings};

/// Writes `in.parquet` with prompts that differ.
fn prompts(bench: &Bench, rows: usize) {
    let prompts: Vec<String> = (0..rows).map(|row| format!("the mill grinds for the {row}. time")).collect();
    let prompts: Vec<Option<&str>> = prompts.iter().map(|prompt| Some(&**prompt)).collect();
    bench.table("in.parquet", vec![("q", strings(&prompts))]);
}

/// A job over `in.parquet`.
fn job<'a>(model: &'a str, output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut all =
        vec!["run", "--device", "cpu", "--threads", "1", "--model", model, "-i", "in.parquet", "-o", output];
    all.extend(["--temperature", "0", "--prompt-column", "q"]);
    if !more.contains(&"--max-tokens") {
        all.extend(["--max-tokens", "8"]);
    }
    all.extend(more);
    all
}

fn model() -> String {
    support::golden("qwen3").to_str().unwrap().to_string()
}

#[test]
fn too_many_errors_say_where_to_read_them() {
    let bench = Bench::new();
    // A template that fails on every row would be refused before the start.
    let mut rows = vec![Some("the mill"); 301];
    rows[20] = Some("sound");
    bench.table("in.parquet", vec![("q", strings(&rows))]);
    let model = model();
    let thrown = &job(&model, "out.parquet", &[])[..];
    let prompt = "{% if q != 'sound' %}{{ raise_exception('oh ' ~ q) }}{% endif %}{{ q }}";
    let thrown = [&thrown[..thrown.len() - 4], &["--max-tokens", "8", "--prompt", prompt]];
    let run = |more: &[&str]| bench.run(&[&thrown.concat(), more].concat());
    let ran = run(&["--stop-on-errors"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let last = ran.stderr.lines().last().unwrap();
    assert!(last.contains("The first: row 0, template error (its text may quote the row"), "{last}");
    assert!(last.contains("--log-level debug") && !ran.stderr.contains("oh the mill"), "{last}");
    assert!(last.contains("No output was written.") && last.contains("without --stop-on-errors:"), "{last}");
    assert!(!bench.path("out.parquet").exists());
    // As soon as there are more than a tenth of all rows, and as often as it is asked.
    assert!(last.contains("error: 31 of 301 rows have errors"), "{last}");
    assert_eq!((run(&["--stop-on-errors"]).code, bench.path("out.parquet").exists()), (3, false));
    // As it says.
    let ran = run(&[]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("300 of 301 rows have errors, more than --max-error-rate 0.1"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("Read why in the column error of out.parquet"), "{}", ran.stderr);
    assert_eq!(run(&["--max-error-rate", "1"]).code, 0);
    let out = read(&bench.path("out.parquet"));
    let errors = out.column_by_name("error").unwrap().as_string::<i32>();
    assert_eq!(errors.iter().flatten().filter(|error| error.contains("oh the mill")).count(), 300);
    let ran = run(&["--fresh", "--stop-on-errors", "--log-level", "debug"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    let last = ran.stderr.lines().last().unwrap();
    assert!(last.contains("The first: row 0, template error: ") && last.contains("oh the mill"), "{last}");
    // Published, it says which column.
    let ran = run(&["--fresh", "--limit", "50", "--column-prefix", "my_"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("Read why in the column my_error of out.parquet"), "{}", ran.stderr);
}

#[test]
fn the_last_line_counts_errors_and_cut_answers() {
    let bench = Bench::new();
    let long = "mill ".repeat(400);
    let mut rows: Vec<Option<&str>> = vec![Some("the mill"); 200];
    (rows[3], rows[7], rows[9]) = (None, Some(&*long), None);
    bench.table("in.parquet", vec![("q", strings(&rows))]);
    let model = model();
    let flags = ["--max-tokens", "4", "--ignore-eos"];
    let counts = "3 errors (2 null prompt, 1 prompt too long), 197 cut off at length";
    let ran = bench.run(&job(&model, "out.parquet", &flags));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let line =
        |output: &str| format!("200 rows in {output}: {counts}; the column error of {output} says why");
    assert_eq!(ran.stderr.lines().last(), Some(&*line("out.parquet")));
    // A job that is done already says the same, and so does one of several completions.
    let again = bench.run(&job(&model, "out.parquet", &flags));
    assert_eq!(again.stderr.lines().last(), ran.stderr.lines().last());
    let ran = bench.run(&job(&model, "two.parquet", &[&flags[..], &["--n", "2", "--seed", "1"]].concat()));
    assert_eq!(ran.stderr.lines().last(), Some(&*line("two.parquet")));
    assert!(bench.run(&["status", "out.parquet"]).stdout.contains("\ncut off    197 "));
    // Less than one in a hundred, and none.
    let few = &[&flags[..], &["--limit", "7"]].concat();
    let ran = bench.run(&job(&model, "few.parquet", few));
    assert!(
        ran.stderr.contains("1 error (1 null prompt), 6 cut off at length; the column"),
        "{}",
        ran.stderr
    );
    let rows: Vec<Option<&str>> = (0..301).map(|row| Some("the mill").filter(|_| row % 150 != 149)).collect();
    bench.table("in.parquet", vec![("q", strings(&rows))]);
    let ran = bench.run(&job(&model, "more.parquet", &flags));
    let line = "301 rows in more.parquet: 2 errors (2 null prompt), 299 cut off at length";
    assert_eq!(ran.stderr.lines().last(), Some(line));
    let ran = bench.run(&job(&model, "one.parquet", &["--limit", "1", "--stop", "e,a,i,o,u,t,s,n"]));
    let last = ran.stderr.lines().last().unwrap();
    assert!(last.starts_with("1 row in one.parquet") && !last.contains("error"), "{last}");
}

/// A line of the README's table for each.
#[test]
fn exit_codes_are_by_cause() {
    let bench = Bench::new();
    prompts(&bench, 20);
    std::fs::write(bench.path("text.parquet"), "not a table at all").unwrap();
    std::fs::write(bench.path("mine.parquet"), "mine").unwrap();
    let model = model();
    let plain = job(&model, "out.parquet", &[]);
    assert_eq!(bench.run(&plain).code, 0);
    let columnless = &plain[..plain.len() - 4];
    for (what, arguments) in [
        ("a wrong flag", job(&model, "a.parquet", &["--temprature", "1"])),
        ("a value out of range", job(&model, "a.parquet", &["--max-error-rate", "7"])),
        ("an option of the engine", job(&model, "a.parquet", &["--block-size", "0"])),
        ("a missing file", job(&model, "a.parquet", &["-i", "none.parquet"])),
        ("a format that is not read", job(&model, "a.parquet", &["-i", "text.parquet"])),
        ("a missing model", job("no/such/model/here", "a.parquet", &[])),
        ("a bad template", [columnless, &["-o", "a.parquet", "--prompt", "{{ q"]].concat()),
        ("another job in the same place", job(&model, "out.parquet", &["--seed", "7", "--top-k", "3"])),
        ("a job that is not to be resumed", job(&model, "out.parquet", &["--resume", "never"])),
        ("a job that is not there", job(&model, "new.parquet", &["--resume", "require"])),
        ("an output of somebody else", job(&model, "mine.parquet", &[])),
        ("the status of nothing", vec!["status", "none.parquet"]),
    ] {
        let ran = bench.run(&arguments);
        assert_eq!(ran.code, 2, "{what}: {}", ran.stderr);
    }
    std::fs::write(bench.path("out.parquet"), "changed").unwrap();
    assert_eq!(bench.run(&["verify", "out.parquet"]).code, 2);
    bench.table("in.parquet", vec![("q", strings(&[None]))]);
    assert_eq!(bench.run(&job(&model, "b.parquet", &[])).code, 3);
}

/// What may pass: the same command does it later.
#[cfg(unix)]
#[test]
fn what_may_pass_has_an_exit_code_of_its_own() {
    let bench = Bench::new();
    prompts(&bench, 20);
    let model = model();
    // Rows that crash the device are errors.
    let arguments = job(&model, "out.parquet", &["--max-error-rate", "1"]);
    let limited = |limit: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("trap '' XFSZ; ulimit {limit}; exec \"$@\""), "sh"]);
        shell.arg(env!("CARGO_BIN_EXE_gristmill")).args(&arguments).current_dir(bench.path("."));
        Ran::of(shell.output().unwrap())
    };
    for limit in ["-n 13", "-f 1"] {
        let ran = limited(limit);
        assert_eq!(ran.code, 1, "ulimit {limit}: {}", ran.stderr);
    }
    // A device that fails ends a job that has no supervisor; 70 is between a worker and its supervisor only.
    for (faults, more) in [("*:lost@1", &["--in-process"][..]), ("*:lost@1", &[])] {
        let mut command = bench.command(&[&arguments, more].concat());
        let ran = Ran::of(command.env("GRISTMILL_FAULTS", faults).output().unwrap());
        assert_eq!(ran.code, 1, "{more:?}: {}", ran.stderr);
    }
    // Another process works on the job.
    let mut other = bench.command(&arguments);
    let mut other =
        other.env("GRISTMILL_FAULTS", "*:hang@1").stderr(std::process::Stdio::null()).spawn().unwrap();
    let locked = (0..600).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let status = bench.run(&["status", "out.parquet"]).stdout;
        status.contains("process    ") && !status.contains("process    none")
    });
    let ran = bench.run(&arguments);
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(locked && ran.code == 1 && ran.stderr.contains("is working on"), "{}: {}", ran.code, ran.stderr);
    let ran = bench.run(&arguments);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

/// A start that is refused memory ends the job by name, as often as it happens, and no row has an error by it.
#[cfg(unix)]
#[test]
fn memory_that_is_refused_costs_no_row_anything() {
    let bench = Bench::new();
    prompts(&bench, 20);
    let model = model();
    let arguments = job(&model, "out.parquet", &["--max-num-seqs", "2"]);
    for more in [&[][..], &[], &[], &[], &["--in-process"]] {
        let mut command = bench.command(&[&arguments, more].concat());
        let ran = Ran::of(command.env("GRISTMILL_FAULTS", "*:memory@4").output().unwrap());
        assert_eq!(ran.code, 1, "{more:?}: {}", ran.stderr);
        let said = "error: out of memory: the system refused 1125899906842624 bytes more";
        assert!(ran.stderr.contains(said) && !ran.stderr.contains("the worker died"), "{}", ran.stderr);
    }
    let ran = bench.run(&arguments);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let out = read(&bench.path("out.parquet"));
    assert_eq!(out.column_by_name("error").unwrap().null_count(), 20);
    // An abort of another kind is a crash, as before.
    let arguments = job(&model, "other.parquet", &[]);
    let mut command = bench.command(&arguments);
    let ran = Ran::of(command.env("GRISTMILL_FAULTS", "1:abort@2").output().unwrap());
    assert!(ran.code == 0 && ran.stderr.contains("it crashed by signal 6"), "{}", ran.stderr);
}

/// A program that reads a job's messages and goes away ends neither a job nor a command, and nothing panics.
#[cfg(unix)]
#[test]
fn a_broken_pipe_ends_quietly() {
    use std::process::Stdio;
    let bench = Bench::new();
    prompts(&bench, 20);
    let model = model();
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    let mut command = bench.command(&job(&model, "out.parquet", &["--log-level", "debug"]));
    // It warns of faults that it is to make.
    command.env("GRISTMILL_FAULTS", "9:lost@1");
    let status = command.stdout(closed()).stderr(closed()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    for arguments in
        [&["status", "out.parquet"][..], &["verify", "out.parquet"], &["devices"], &["run", "--help"]]
    {
        let ran = Ran::of(bench.command(arguments).stdout(closed()).output().unwrap());
        assert!(ran.code == 0 && ran.stderr.is_empty(), "{arguments:?}: {}: {}", ran.code, ran.stderr);
    }
    let status = bench.command(&["status", "none.parquet"]).stderr(closed()).status().unwrap();
    assert_eq!(status.code(), Some(2));
    // Results that were not written are an error.
    if let Ok(full) = std::fs::File::options().write(true).open("/dev/full") {
        let ran = Ran::of(bench.command(&["verify", "out.parquet"]).stdout(full).output().unwrap());
        assert!(ran.code == 1 && ran.stderr.contains("cannot write to standard output"), "{}", ran.stderr);
    }
}

/// Standard error may be full, gone or closed from the start, or at a limit of file sizes: the answers are the same.
#[cfg(target_os = "linux")]
#[test]
fn standard_error_never_matters() {
    let bench = Bench::new();
    prompts(&bench, 60);
    let model = model();
    let ran = bench.run(&job(&model, "calm.parquet", &[]));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let expected = std::fs::read(bench.path("calm.parquet")).unwrap();
    std::fs::write(bench.path("long.log"), vec![b'x'; 4 << 20]).unwrap();
    let (full, closed) = ("exec \"$@\" 2>/dev/full", "exec \"$@\" <&- >&- 2>&-");
    let limited = "ulimit -f 2048; exec \"$@\" 2>>long.log";
    for (i, how) in [full, closed, limited, "trap '' PIPE; { \"$@\"; echo $? >&3; } 2>&1 3>code | true"]
        .into_iter()
        .enumerate()
    {
        for (j, faults) in ["", "1:lost@3,2:abort@5"].into_iter().enumerate() {
            let output = format!("out{i}{j}.parquet");
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", how, "sh", env!("CARGO_BIN_EXE_gristmill")]);
            // Debug logs are many.
            shell.args(job(&model, &output, &["--log-level", "debug"])).current_dir(bench.path("."));
            let status = shell.env("GRISTMILL_FAULTS", faults).stdout(std::process::Stdio::null()).status();
            assert_eq!(status.unwrap().code(), Some(0), "{how}, {faults}");
            assert!(std::fs::read(bench.path(&output)).unwrap() == expected, "{how}, {faults}");
            let refused = shell.arg("--nonsense").status().unwrap().code();
            assert!(refused == Some(2) || how.ends_with("| true"), "{how}: {refused:?}");
        }
    }
    assert_eq!(std::fs::read_to_string(bench.path("code")).unwrap(), "2\n");
}

/// Who suspends, hangs up or kills a worker says nothing about its rows, nor does a device that works for none of them.
/// A crash does, and a hang in which it computed.
#[cfg(target_os = "linux")]
#[test]
fn only_crashes_and_computing_hangs_are_held_against_rows() {
    let bench = Bench::new();
    prompts(&bench, 20);
    let model = model();
    let ran = bench.run(&job(&model, "calm.parquet", &[]));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let expected = read(&bench.path("calm.parquet"));
    let fails = |output: &str, hang: &str, faults: &str, signals: &[&str]| {
        let mut command = bench.command(&job(&model, output, &["--hang-timeout", hang]));
        command.env("GRISTMILL_FAULTS", faults).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut before = String::new();
        for signal in signals {
            let state = bench.path(&format!("{output}.gristmill"));
            // A job may end before all signals are sent: when rows begin is a matter of chance.
            let worker = loop {
                std::thread::sleep(std::time::Duration::from_millis(50));
                let lock = std::fs::read_to_string(state.join("lock")).unwrap_or_default();
                let process = lock.split_whitespace().next().unwrap_or_default().to_string();
                let running = std::fs::metadata(state.join("in-flight")).is_ok_and(|file| file.len() > 0);
                if running && !process.is_empty() && process != before {
                    break Some(process);
                }
                if child.try_wait().unwrap().is_some() {
                    break None;
                }
            };
            let Some(worker) = worker else { break };
            before = worker;
            std::process::Command::new("kill").args([*signal, &before]).status().unwrap();
        }
        let ran = Ran::of(child.wait_with_output().unwrap());
        assert_eq!(ran.code, 1, "{faults} {signals:?}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("the worker died 3 times without"),
            "{faults} {signals:?}: {}",
            ran.stderr
        );
    };
    let errors = |output: &str| {
        let ran = bench.run(&job(&model, output, &["--resume", "require", "--max-error-rate", "1"]));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let out = read(&bench.path(output));
        let errors: Vec<&str> =
            out.column_by_name("error").unwrap().as_string::<i32>().iter().flatten().collect();
        assert!(errors.iter().all(|error| *error == "crashed the device"), "{errors:?}");
        assert!(!errors.is_empty() || out == expected, "{output}");
        errors.len()
    };
    // What they wait in does not end by itself.
    fails("hung-up.parquet", "30", "*:hang@3", &["-HUP", "-XCPU", "-HUP"]);
    assert_eq!(errors("hung-up.parquet"), 0);
    fails("killed.parquet", "30", "*:hang@3", &["-KILL", "-KILL", "-KILL"]);
    assert_eq!(errors("killed.parquet"), 0);
    fails("stopped.parquet", "4", "*:hang@3", &["-STOP", "-STOP", "-STOP"]);
    assert_eq!(errors("stopped.parquet"), 0);
    for _ in 0..3 {
        fails("lost.parquet", "600", "*:lost@3", &[]);
    }
    assert_eq!(errors("lost.parquet"), 0);
    // At the latest after the second command a row has had three deaths.
    for _ in 0..2 {
        fails("crash.parquet", "600", "*:hang@3", &["-FPE", "-ILL", "-ABRT", "-FPE", "-ILL", "-ABRT"]);
        fails("spin.parquet", "3", "*:spin@3", &[]);
    }
    assert!((1..=6).contains(&errors("crash.parquet")));
    assert!((1..=6).contains(&errors("spin.parquet")));
}

#[test]
fn pipes_have_no_colors_unless_asked_for() {
    let bench = Bench::new();
    prompts(&bench, 20);
    let model = model();
    let colored = |arguments: &[&str]| {
        let mut command = bench.command(arguments);
        // It warns of faults that it is to make.
        let ran = Ran::of(command.env("GRISTMILL_FAULTS", "9:lost@1").output().unwrap());
        assert!(!ran.stderr.is_empty());
        (ran.stderr + &ran.stdout).contains('\u{1b}')
    };
    let flags = ["--fresh", "--color", "always"];
    assert!(!colored(&job(&model, "out.parquet", &flags[..1])));
    assert!(colored(&job(&model, "out.parquet", &flags)));
    assert!(!colored(&["run", "--nonsense"]));
    assert!(colored(&["--color=always", "run", "--nonsense"]));
    assert!(!colored(&["run", "--nonsense", "--color", "sometimes"]));
}

#[cfg(target_os = "linux")]
mod keys {
    use super::*;
    use std::process::Command;
    use std::time::{Duration, Instant};
    use support::pty::Terminal;

    const ROWS: usize = 1000;

    fn worker_of(bench: &Bench, output: &str) -> String {
        let lock = std::fs::read_to_string(bench.path(&format!("{output}.gristmill/lock"))).unwrap();
        lock.split_whitespace().next().unwrap().to_string()
    }

    /// A field of /proc/PID/stat, counted from the state, which is 0.
    fn stat(process: &str, field: usize) -> String {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        let after_name = stat.rsplit_once(") ").unwrap().1;
        after_name.split(' ').nth(field).unwrap().to_string()
    }

    /// Takes seconds.
    const LONG: [&str; 5] = ["--max-tokens", "100", "--ignore-eos", "--max-num-seqs", "4"];

    /// Waits until a job has finished rows.
    fn wait_for_rows(terminal: &Terminal) {
        let rows =
            |before: &str| before.rsplit(' ').next().is_some_and(|n| n.parse().is_ok_and(|n: u32| n > 0));
        let bar = format!("/{ROWS} rows");
        terminal.wait_until(|shown| shown.match_indices(&bar).any(|(at, _)| rows(&shown[..at])));
    }

    /// The rows that a job says it has finished in its run.
    fn finished(shown: &str) -> u64 {
        let line =
            shown.lines().find(|line| line.contains(" tokens/s") && line.contains(" rows in ")).unwrap();
        let before = line.split(" rows in ").next().unwrap();
        before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    }

    fn rows_of_status(bench: &Bench, output: &str) -> u64 {
        let status = bench.run(&["status", output]).stdout;
        status
            .lines()
            .find_map(|line| line.strip_prefix("rows       ")?.split(' ').next()?.parse().ok())
            .unwrap()
    }

    /// `GRISTMILL_CTRL_C` sets the number of presses, each on a job of its own; a full run has 50.
    #[test]
    fn one_press_of_ctrl_c_keeps_what_is_finished() {
        let presses: u64 = std::env::var("GRISTMILL_CTRL_C").map_or(3, |presses| presses.parse().unwrap());
        let bench = Bench::new();
        prompts(&bench, ROWS);
        let ran = bench.run(&job(&model(), "calm.parquet", &LONG));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let expected = std::fs::read(bench.path("calm.parquet")).unwrap();
        for press in 0..presses {
            let output = format!("out{press}.parquet");
            let mut terminal = Terminal::start(bench.command(&job(&model(), &output, &LONG)));
            wait_for_rows(&terminal);
            // The terminal's signals go to one group.
            let (supervisor, worker) = (terminal.id().to_string(), worker_of(&bench, &output));
            assert_eq!((stat(&supervisor, 2), stat(&worker, 2)), (supervisor, worker));
            std::thread::sleep(Duration::from_millis(7 * (press % 20)));
            terminal.press_ctrl('c');
            let (code, shown) = terminal.end();
            assert_eq!(code, Some(130), "{shown}");
            assert!(shown.contains("stopping on Ctrl-C; keeping finished rows"), "{shown}");
            assert!(shown.contains("stopped by Ctrl-C; finished rows are kept"), "{shown}");
            assert!(!shown.contains("SIGTERM"), "{shown}");
            assert_eq!(rows_of_status(&bench, &output), finished(&shown), "{shown}");
            let ran = bench.run(&job(&model(), &output, &[&LONG[..], &["--resume", "require"]].concat()));
            assert_eq!(ran.code, 0, "{}", ran.stderr);
            assert!(std::fs::read(bench.path(&output)).unwrap() == expected, "{output} differs");
        }
        println!("{presses} presses of Ctrl-C, each kept what was finished");
    }

    #[test]
    fn a_terminal_has_colors_unless_refused() {
        let bench = Bench::new();
        prompts(&bench, 20);
        let shown = |more: &[&str], no_color: &str| {
            let mut command = bench.command(&job(&model(), "out.parquet", &[&["--fresh"], more].concat()));
            command.env("GRISTMILL_FAULTS", "9:lost@1").env("NO_COLOR", no_color).env("TERM", "xterm");
            let (code, shown) = Terminal::start(command).end();
            assert!(code == Some(0) && shown.contains("on purpose"), "{shown}");
            shown
        };
        const YELLOW: &str = "\u{1b}[33m";
        assert!(shown(&[], "").contains(YELLOW));
        assert!(!shown(&[], "1").contains(YELLOW));
        assert!(!shown(&["--color", "never"], "").contains(YELLOW));
        assert!(shown(&["--color", "always"], "1").contains(YELLOW));
    }

    /// The lines that a terminal has shown, without what moves its cursor.
    fn lines(shown: &str) -> Vec<String> {
        let mut text = String::new();
        let mut rest = shown;
        while let Some((before, escape)) = rest.split_once("\u{1b}[") {
            text += before;
            let end = escape.find(|c: char| c.is_ascii_alphabetic()).unwrap();
            // A line that is cleared ends there.
            text += if escape[end..].starts_with('K') { "\n" } else { "" };
            rest = &escape[end + 1..];
        }
        (text + rest).split(['\n', '\r']).map(String::from).collect()
    }

    #[test]
    fn eighty_columns_are_enough() {
        let bench = Bench::new();
        prompts(&bench, ROWS);
        let model = model();
        let shown = |columns: u16, arguments: &[&str]| {
            let (ended, shown) = Terminal::of_columns(columns, bench.command(arguments)).end();
            assert_eq!(ended, Some(0), "{shown}");
            let lines = lines(&shown);
            // A name is never broken.
            let is_broken =
                |line: &&String| line.chars().count() > usize::from(columns) && line.trim().contains(' ');
            assert_eq!(lines.iter().find(is_broken), None, "{arguments:?}: {shown}");
            lines.join("\n")
        };
        let narrow = |arguments: &[&str]| shown(80, arguments);
        let run = narrow(&job(&model, "out.parquet", &LONG));
        assert!(run.contains("/1000 rows, ") && run.contains(" left") && run.contains("█"), "{run}");
        assert!(run.contains("\n1000 rows in out.parquet: "), "{run}");
        narrow(&["run", "--help"]);
        narrow(&["show", "--help"]);
        let throughput = ["bench", "throughput", "--help"];
        narrow(&throughput);
        let sizes =
            ["--num-prompts", "600", "--input-len", "16", "--output-len", "60", "--max-num-seqs", "4"];
        let sizes = [&sizes[..], &["--device", "cpu", "--threads", "1", "--model", &model]].concat();
        let figures = narrow(&[&throughput[..2], &sizes].concat());
        assert!(figures.contains("/600 requests, ") && figures.contains("Throughput: "), "{figures}");
        // However slow the machine is, these figures take more than this.
        shown(64, &[&throughput[..2], &sizes].concat());
        // Elsewhere lines are whole.
        let ran = bench.run(&job(&model, "out.parquet", &LONG));
        assert!(ran.stderr.lines().any(|line| line.starts_with("prompts: ") && line.len() > 120));
    }

    /// As service managers and batch schedulers do it, which signal every process of a job.
    #[test]
    fn a_worker_that_is_signalled_too_keeps_what_is_finished() {
        let bench = Bench::new();
        prompts(&bench, ROWS);
        let terminal = Terminal::start(bench.command(&job(&model(), "out.parquet", &LONG)));
        wait_for_rows(&terminal);
        let worker = worker_of(&bench, "out.parquet");
        for signal in ["-INT", "-TERM"] {
            Command::new("kill").args([signal, &worker]).status().unwrap();
        }
        Command::new("kill").args(["-TERM", &terminal.id().to_string()]).status().unwrap();
        let (code, shown) = terminal.end();
        assert!(matches!(code, Some(130 | 143)), "{code:?}: {shown}");
        assert!(shown.contains("finished rows are kept"), "{shown}");
        assert_eq!(rows_of_status(&bench, "out.parquet"), finished(&shown), "{shown}");
    }

    /// Ctrl-Z suspends both processes for longer than a worker may hang, and `fg` continues both. The terminal suspends
    /// who writes to it from the background, which the worker always does.
    #[test]
    fn ctrl_z_suspends_a_job_and_fg_continues_it() {
        let bench = Bench::new();
        prompts(&bench, ROWS);
        let model = model();
        let flags = [&LONG[..], &["--hang-timeout", "2"]].concat();
        let script = "set -m; stty tostop; \"$0\" \"$@\"; echo SUSPENDED; sleep 4; fg; echo ENDED $?";
        let gristmill = bench.command(&job(&model, "out.parquet", &flags));
        let mut shell = Command::new("bash");
        shell.args(["-c", script]).arg(gristmill.get_program()).args(gristmill.get_args());
        shell.current_dir(bench.path("."));
        let mut terminal = Terminal::start(shell);
        wait_for_rows(&terminal);
        let worker = worker_of(&bench, "out.parquet");
        terminal.press_ctrl('z');
        terminal.wait_until(|shown| shown.contains("SUSPENDED"));
        let begun = Instant::now();
        assert_eq!(stat(&worker, 0), "T");
        let before = terminal.shown();
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(terminal.shown(), before, "after {:?}", begun.elapsed());
        let (_, shown) = terminal.end();
        assert!(shown.contains("ENDED 0") && !shown.contains("the worker died"), "{shown}");
        assert_eq!(rows_of_status(&bench, "out.parquet"), ROWS as u64);
    }

    /// As batch schedulers do it; the worker could do nothing meanwhile, and does not hang.
    #[test]
    fn a_job_that_was_suspended_from_outside_goes_on() {
        let bench = Bench::new();
        prompts(&bench, ROWS);
        let flags = [&LONG[..], &["--hang-timeout", "2"]].concat();
        let terminal = Terminal::start(bench.command(&job(&model(), "out.parquet", &flags)));
        wait_for_rows(&terminal);
        let both = [terminal.id().to_string(), worker_of(&bench, "out.parquet")];
        Command::new("kill").arg("-STOP").args(&both).status().unwrap();
        std::thread::sleep(Duration::from_secs(4));
        Command::new("kill").arg("-CONT").args(&both).status().unwrap();
        let (code, shown) = terminal.end();
        assert!(code == Some(0) && !shown.contains("the worker died"), "{shown}");
    }
}
