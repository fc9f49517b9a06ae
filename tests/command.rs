//! The command line: flags and their ranges, job files, a row shown.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use support::job::{Bench, ints, read, strings, texts};

fn model() -> String {
    support::golden("qwen3").to_str().unwrap().to_string()
}

/// A folder with `data/in.parquet` of ten rows, and room for job files.
fn bench() -> Bench {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.path("data")).unwrap();
    let prompts: Vec<String> = (0..10).map(|row| format!("the mill grinds for the {row}. time")).collect();
    let q: Vec<Option<&str>> = prompts.iter().map(|prompt| Some(&**prompt)).collect();
    let mut other = q.clone();
    other.reverse();
    bench.table("data/in.parquet", vec![("q", strings(&q)), ("other", strings(&other))]);
    bench
}

/// No file of such a name is made or looked for.
#[test]
fn a_url_with_a_slash_too_few_is_refused() {
    let bench = bench();
    let model = model();
    let flags = ["run", "--device", "cpu", "--prompt-column", "q", "--max-tokens", "2"];
    let plain = ["--model", &model, "-i", "data/in.parquet", "-o", "out.parquet"];
    let before = bench.path("").read_dir().unwrap().count();
    for (flag, wrong) in [
        ("-o", "s3:"),
        ("-o", "s3:/bucket/out.parquet"),
        ("-o", "file:/tmp/out.parquet"),
        ("-o", "https://host/out.parquet"),
        ("-i", "gs:bucket/in.parquet"),
        ("-i", "file:data/in.parquet"),
        ("--model", "s3://bucket/model"),
        ("--tokenizer", "file:model"),
        ("--state-dir", "s3://bucket/state"),
    ] {
        let kept = plain.chunks(2).filter(|pair| pair[0] != flag).flatten().copied();
        let all: Vec<&str> = flags.iter().copied().chain(kept).chain([flag, wrong]).collect();
        let ran = bench.run(&all);
        assert!(ran.code == 2 && ran.stderr.contains(wrong), "{flag} {wrong}: {}", ran.stderr);
    }
    for command in ["status", "verify"] {
        let ran = bench.run(&[command, "s3:/bucket/x"]);
        assert!(ran.code == 2 && ran.stderr.contains("write s3://bucket/x"), "{}", ran.stderr);
    }
    assert_eq!(bench.path("").read_dir().unwrap().count(), before);
}

#[test]
fn a_number_out_of_range_is_refused_with_its_range() {
    let bench = bench();
    let model = model();
    let run = ["run", "--model", &model, "-i", "data/in.parquet", "-o", "out.parquet", "--max-tokens", "4"];
    let run = [&run[..], &["--prompt-column", "q"]].concat();
    let throughput = ["bench", "throughput", "--model", &model];
    for (command, flag, value, words) in [
        (&run[..], "--rows-per-file", "0", "must be at least 1"),
        (&run, "--hang-timeout", "0", "must be from 1 to 31536000"),
        (&run, "--hang-timeout", "99999999999999", "must be from 1 to 31536000"),
        (&run, "--threads", "1000000", "must be from 1 to 1024"),
        (&run, "--threads", "0", "must be from 1 to 1024"),
        (&run, "--gpu-memory-utilization", "50", "more than 0 and at most 1"),
        (&run, "--gpu-memory-utilization", "nan", "not a number such as 0.5"),
        (&run, "--max-num-seqs", "0", "must be from 1"),
        (&run, "--block-size", "99999999", "must be from 1 to 65536"),
        (&run, "--top-p", "much", "\"much\" is not a number such as 0.5"),
        (&run, "--temperature", "hot", "\"hot\" is not a number such as 0.5"),
        (&run, "--top-p", "3", "--top-p is 3; it must be more than 0 and at most 1"),
        (&run, "--temperature", "-1", "--temperature is -1; it must be at least 0"),
        (&run, "--n", "-1", "not a whole number from 0"),
        (&run, "--keep", "q,q", "names the column q twice"),
        (&run, "--max-error-rate", "half", "\"half\" is not a number"),
        (&run, "--log-level", "nonsense", "is not off, error, warn, info, debug or trace"),
        (&throughput, "--num-prompts", "0", "must be at least 1"),
        (&throughput, "--num-prompts", "99999999999", "tokens of prompts"),
        (&throughput, "--output-len", "0", "must be from 1"),
    ] {
        let ran = bench.run(&[command, &[flag, value]].concat());
        assert_eq!(ran.code, 2, "{flag} {value}: {}", ran.stderr);
        assert!(ran.stderr.contains(flag) && ran.stderr.contains(words), "{flag} {value}: {}", ran.stderr);
    }
    // A variable for all programs ends none.
    let mut command = bench.command(&run);
    let ran = support::job::Ran::of(command.env("RUST_LOG", "x=y=z").output().unwrap());
    assert!(ran.code == 0 && ran.stderr.contains("warning: RUST_LOG=x=y=z"), "{}", ran.stderr);
}

/// What a supervisor tells its worker cannot be told by a variable or by another's standard input.
#[test]
fn no_variable_makes_a_command_a_worker() {
    let bench = bench();
    let model = model();
    let run = |more: &[&str]| {
        let all = ["run", "--device", "cpu", "--model", &model, "-i", "data/in.parquet", "-o", "out.parquet"];
        let mut command =
            bench.command(&[&all[..], &["--prompt-column", "q", "--max-tokens", "4"], more].concat());
        for (name, value) in [("SUPERVISOR_PID", "1"), ("BEGUN", "1"), ("START", "7")] {
            command.env(format!("GRISTMILL_{name}"), value);
        }
        #[cfg(unix)]
        {
            let (mut mine, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            std::io::Write::write_all(&mut mine, b"terminate\ngristmill worker\n").unwrap();
            command.stdin(std::process::Stdio::from(std::os::fd::OwnedFd::from(theirs)));
        }
        support::job::Ran::of(command.output().unwrap())
    };
    let first = run(&[]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    let never = run(&["--resume", "never"]);
    assert!(never.code == 2 && never.stderr.contains("--resume is never"), "{}", never.stderr);
    assert!(run(&["--fresh"]).stderr.contains("discarded a job with 10 finished rows"));
}

#[test]
fn the_paths_of_a_job_file_are_relative_to_it() {
    let bench = bench();
    std::fs::create_dir_all(bench.path("jobs/elsewhere")).unwrap();
    std::fs::rename(bench.model("qwen3"), bench.path("jobs/tiny")).unwrap();
    std::fs::write(bench.path("jobs/prompt.txt"), "{{ q }}").unwrap();
    let job = "model = 'tiny'\ninput = '../data/*.parquet'\noutput = '../out/answers.parquet'\nprompt-file = 'prompt.txt'\n\
               max-tokens = 4\ntemperature = 0\nraw = true\n";
    std::fs::write(bench.path("jobs/job.toml"), job).unwrap();
    let ran = bench.run(&["run", "jobs/job.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("10 rows in out/answers.parquet"), "{}", ran.stderr);
    let expected = std::fs::read(bench.path("out/answers.parquet")).unwrap();
    // From another folder it is the same job.
    let mut command = bench.command(&["run", "../job.toml", "--resume", "require"]);
    let ran = support::job::Ran::of(command.current_dir(bench.path("jobs/elsewhere")).output().unwrap());
    assert!(ran.code == 0 && ran.stderr.contains("10 of 10 rows already answered"), "{}", ran.stderr);
    // Flags are from where the command stands; and what the prompt is, the command line says alone.
    let flags = ["--prompt-column", "other", "-o", "flags.parquet", "-i", "data/in.parquet"];
    let ran = bench.run(&[&["run", "jobs/job.toml"], &flags[..]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let flagged = read(&bench.path("flags.parquet"));
    std::fs::write(bench.path("calm.parquet"), expected).unwrap();
    let mut answers = texts(&read(&bench.path("calm.parquet")), "generated_text");
    answers.reverse();
    assert_eq!(texts(&flagged, "generated_text"), answers);
    // Chat templates are for what is not raw.
    let ran =
        bench.run(&["show", "jobs/job.toml", "--chat-template", "<{{ messages[0].content }}>", "--row", "1"]);
    assert!(ran.code == 0 && ran.stdout.contains("<the mill grinds for the 1. time>"), "{}", ran.stderr);
    for (job, words) in [
        ("max-tokens = 3\nmax_tokens = 4\n", "`max-tokens` and `max_tokens` are the same key"),
        ("max-tokens = 3\nmax-new-tokens = 4\n", "are the same key; keep one"),
        (
            "model = 'data'\n",
            "there is no folder jobs/data; the paths of a job file are relative to the file",
        ),
        ("rows-per-file = 0\n", "must be at least 1"),
    ] {
        std::fs::write(bench.path("jobs/wrong.toml"), job).unwrap();
        let ran = bench.run(&["run", "jobs/wrong.toml"]);
        assert!(ran.code == 2 && ran.stderr.contains(words), "{job}: {}", ran.stderr);
    }
}

/// KV pages in FP8, as a job file says it: twice as many as in 16 bits, four times as many as here; and another job.
#[test]
fn a_job_with_pages_in_fp8() {
    let bench = bench();
    let model = model();
    let job = format!(
        "model = '{model}'\ninput = 'data/in.parquet'\noutput = 'out.parquet'\nprompt-column = 'q'\ndevice = 'cpu'\n\
         max-tokens = 4\ntemperature = 0\nkv-cache-memory-bytes = '64K'\nmax-model-len = 64\n"
    );
    std::fs::write(bench.path("wide.toml"), &job).unwrap();
    std::fs::write(bench.path("job.toml"), job + "kv-cache-dtype = 'fp8'\n").unwrap();
    // Keys and values of two layers, with two heads of 16 columns.
    for (file, pages, bytes) in [("wide.toml", 8, 512), ("job.toml", 32, 128)] {
        let ran = bench.run(&["plan", file]);
        let said = format!("KV {bytes} bytes a token, {pages} pages of 16 tokens");
        assert!(ran.code == 0 && ran.stdout.contains(&said), "{}{}", ran.stdout, ran.stderr);
    }
    let ran = bench.run(&["run", "job.toml"]);
    assert!(ran.code == 0 && ran.stderr.contains("KV fp8_e4m3, 32 KV pages"), "{}", ran.stderr);
    let answers = texts(&read(&bench.path("out.parquet")), "generated_text");
    let again = bench.run(&["run", "job.toml", "--kv-cache-dtype", "fp8_e4m3", "--resume", "require"]);
    assert!(again.code == 0 && again.stderr.contains("10 of 10 rows already answered"), "{}", again.stderr);
    let ran = bench.run(&["run", "job.toml", "--fresh", "--max-num-seqs", "3", "--block-size", "8"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(texts(&read(&bench.path("out.parquet")), "generated_text"), answers);
    let other = bench.run(&["run", "wide.toml"]);
    let differs = r#"kv_cache: begun with fp8_e4m3, now f32"#;
    assert!(other.code == 2 && other.stderr.contains(differs), "{}", other.stderr);
    let step = ["bench", "step", "--model", &model, "--device", "cpu", "--kv-cache-dtype", "fp8"];
    let ran = bench.run(&[&step[..], &["--tokens", "1", "--seqs", "1", "--context", "32"]].concat());
    assert!(ran.code == 0 && ran.stdout.contains("PagedAttention"), "{}{}", ran.stdout, ran.stderr);
    if support::open("wgpu").is_some() {
        let ran = bench.run(&["run", "job.toml", "--device", "wgpu", "-o", "wgpu.parquet"]);
        let why = "--kv-cache-dtype: the wgpu device holds KV pages in f16, f32, bf16, not fp8_e4m3";
        assert!(ran.code == 2 && ran.stderr.contains(why), "{}", ran.stderr);
        assert!(!bench.path("wgpu.parquet").exists());
    }
}

/// A terminal obeys no text of a row.
#[test]
fn what_nobody_sees_in_a_row_is_shown_written_out() {
    let bench = bench();
    bench.table("odd.parquet", vec![("q", strings(&[Some("a\x1b[2J\u{202e}b\r\nc")]))]);
    let model = model();
    let flags = ["show", "--device", "cpu", "--model", &model, "-i", "odd.parquet", "-o", "out.parquet"];
    let flags = [&flags[..], &["--prompt-column", "q", "--max-tokens", "2", "--raw", "--row", "0"]].concat();
    let shown = bench.run(&flags).stdout;
    assert!(shown.contains("\nprompt:\na\\u{1b}[2J\\u{202e}b\\u{d}\nc\n"), "{shown}");
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
    let exact: Value = serde_json::from_str(&bench.run(&[&flags[..], &["--json"]].concat()).stdout).unwrap();
    assert_eq!(exact["prompt"], "a\x1b[2J\u{202e}b\r\nc");
}

/// What `show` prints is what runs.
#[test]
fn a_row_is_shown_with_its_prompt_and_its_answer() {
    let bench = bench();
    let model = model();
    let template = "{{ bos_token }}<|im_start|>{{ messages[0].content }}";
    let flags = ["--device", "cpu", "--model", &model, "-i", "data/in.parquet", "-o", "out.parquet"];
    let flags =
        [&flags[..], &["--prompt", "{{ q }} again", "--max-tokens", "4", "--temperature", "0"]].concat();
    let flags = [&flags[..], &["--chat-template", template]].concat();
    let show = |more: &[&str]| bench.run(&[&["show"], &flags[..], more].concat());
    let before = show(&["--row", "7"]);
    assert_eq!(before.code, 0, "{}", before.stderr);
    assert!(before.stdout.contains("\nprompt:\n") && before.stdout.contains("for the 7. time again\n"));
    assert!(!bench.path("out.parquet.gristmill").exists());
    // It writes none, so that it needs no output but for answers.
    let output = flags.iter().position(|&flag| flag == "-o").unwrap();
    let without = [&flags[..output], &flags[output + 2..]].concat();
    let alone = bench.run(&[&["show", "--row", "7"], &without[..]].concat());
    assert_eq!((alone.code, alone.stdout), (0, before.stdout), "{}", alone.stderr);
    let alone = bench.run(&[&["show", "--row", "7", "--answer"], &without[..]].concat());
    assert!(alone.code == 2 && alone.stderr.contains("--answer: name the output"), "{}", alone.stderr);
    for asked in [show(&["--row", "7", "--answer"]), bench.run(&["status", "out.parquet"])] {
        let words = "no job of this output was begun: `gristmill run` begins one";
        assert!(asked.code == 2 && asked.stderr.contains(words), "{}", asked.stderr);
    }
    let ran = bench.run(&[&["run"], &flags[..], &["--limit", "8"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let out = read(&bench.path("out.parquet"));
    for row in 0..8 {
        let shown = show(&["--row", &row.to_string(), "--answer", "--json"]);
        let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
        let tokens = shown["tokens"].as_array().unwrap().len();
        assert_eq!(Some(tokens as i32), ints(&out, "num_input_tokens")[row]);
        assert_eq!(shown["pieces"].as_array().unwrap().len(), tokens);
        assert_eq!(shown["answer"]["completions"][0]["text"], texts(&out, "generated_text")[row]);
    }
    let text = show(&["--row", "7", "--answer"]).stdout;
    assert!(text.contains(" tokens:\n") && text.contains("\nanswer (4 tokens, length):\n"), "{text}");
    assert!(show(&["--row", "9", "--answer"]).stdout.ends_with("\nno answer yet\n"));
    for (more, field) in [
        (&["--prompt", "{{ q }} agein"][..], "prompt: begun with {{ q }} again, now {{ q }} agein"),
        (&["--system-prompt", "Be brief."], "system_prompt: "),
        (&["--chat-template", "{{ messages[0].content }}"], "chat_template: "),
    ] {
        let other = show(&[&["--row", "7", "--answer"], more].concat());
        let words = "the prompts are not those of the answers";
        let said = other.stderr.contains(words) && other.stderr.contains(field);
        assert!(other.code == 2 && said, "{more:?}: {}{}", other.stdout, other.stderr);
    }
    // How answers are sampled does not show in a prompt.
    assert_eq!(show(&["--row", "7", "--answer", "--temperature", "1"]).code, 0);
    let refused = show(&["--row", "10"]);
    assert!(refused.code == 2 && refused.stderr.contains("the input has 10 rows"), "{}", refused.stderr);
    let long = show(&["--row", "0", "--max-model-len", "12"]);
    assert!(long.code == 0 && long.stdout.contains("no prompt: prompt too long: "), "{}", long.stdout);
    // Answers are not shown beside the prompts of another input.
    bench.table("data/in.parquet", vec![("q", strings(&[Some("something else"); 10]))]);
    let changed = show(&["--row", "7", "--answer"]);
    assert!(changed.code == 2 && changed.stderr.contains("in.parquet"), "{}", changed.stderr);
    assert_eq!(show(&["--row", "7"]).code, 0);
    let status = bench.run(&["status", "out.parquet", "--json"]);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!((&status["rows"], &status["finished"], &status["cut"]), (&8.into(), &8.into(), &8.into()));
    assert_eq!((&status["published"], &status["process"]), (&true.into(), &Value::Null));
}

/// As a shell runs it: what is typed so far becomes what it may become.
#[cfg(unix)]
#[test]
fn a_shell_completes_commands_and_flags() {
    let bench = Bench::new();
    for (shell, known) in
        [("bash", "complete -F"), ("zsh", "#compdef gristmill"), ("fish", "complete -c gristmill")]
    {
        let ran = bench.run(&["completions", shell]);
        assert!(ran.code == 0 && ran.stdout.contains(known) && ran.stderr.is_empty(), "{}", ran.stderr);
        std::fs::write(bench.path(shell), ran.stdout).unwrap();
    }
    let complete = |words: &[&str]| {
        let last = words.len() - 1;
        let script = format!(
            "source ./bash; COMP_WORDS=({}); COMP_CWORD={last}; _gristmill gristmill '{}' '{}'; echo ${{COMPREPLY[@]}}",
            words.join(" "),
            words[last],
            words[last - 1]
        );
        let ran =
            std::process::Command::new("bash").current_dir(bench.path("")).args(["-c", &script]).output();
        match ran {
            Ok(ran) => String::from_utf8(ran.stdout).unwrap().trim().to_string(),
            Err(error) => panic!("bash: {error}"),
        }
    };
    assert_eq!(complete(&["gristmill", "ev"]), "evaluate");
    assert_eq!(complete(&["gristmill", "run", "--price"]), "--price-per-hour");
    assert_eq!(complete(&["gristmill", "plan", "--measure"]), "--measure-rates");
    assert_eq!(complete(&["gristmill", "bench", "throughput", "--swe"]), "--sweep");
    assert!(bench.run(&["completions", "cmd"]).stderr.contains("possible values: bash"));
}

#[test]
fn every_flag_is_in_a_manual_page() {
    let bench = Bench::new();
    assert_eq!(bench.run(&["man", "--output", "pages"]).code, 0);
    let page = |name: &str| std::fs::read_to_string(bench.path("pages").join(name)).unwrap();
    for (names, file) in [
        (&[][..], "gristmill.1"),
        (&["run"], "gristmill-run.1"),
        (&["bench", "throughput"], "gristmill-bench-throughput.1"),
        (&["evaluate"], "gristmill-evaluate.1"),
    ] {
        let shown = bench.run(&[&["man"], names].concat());
        assert!(shown.code == 0 && shown.stdout.contains(".TH "), "{}", shown.stderr);
        assert!(page(file).contains(".SH OPTIONS"), "{file}");
        let text = shown.stdout.replace("\\-", "-");
        let help = bench.run(&[names, &["--help"]].concat()).stdout;
        let flags = help.split_whitespace().filter(|word| word.starts_with("--"));
        let flags: Vec<&str> =
            flags.map(|word| word.trim_matches(|c: char| !c.is_alphanumeric() && c != '-')).collect();
        assert!(flags.len() >= 4, "{flags:?}");
        for flag in flags {
            assert!(text.contains(flag.split(['=', '[']).next().unwrap()), "{file}: {flag}");
        }
    }
    assert!(page("gristmill-run.1").contains("Exit codes"));
    let wrong = bench.run(&["man", "bench", "speed"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("there are: throughput, step"), "{}", wrong.stderr);
}

/// Of the guides, every command is one, and every job file that they show is that of the examples.
#[test]
fn guides_show_commands_that_are_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut commands = 0;
    for guide in std::fs::read_dir(root.join("docs")).unwrap() {
        let guide = guide.unwrap().path();
        let text = std::fs::read_to_string(&guide).unwrap();
        for command in text.lines().filter_map(|line| line.strip_prefix("    gristmill ")) {
            let words = command.split_whitespace().take_while(|word| *word != "#");
            // `job.toml` is the reader's own.
            let words = words.map(|word| match word {
                "job.toml" => root.join("examples/label-messages.toml").into_os_string(),
                word if word.starts_with("examples/") => root.join(word).into_os_string(),
                word => word.into(),
            });
            let parsed = jobs::cli::parse::parse(std::iter::once("gristmill".into()).chain(words));
            assert!(parsed.is_ok(), "{}: {command}: {:?}", guide.display(), parsed.err());
            commands += 1;
        }
        for shown in text.split("```toml\n# examples/").skip(1) {
            let (name, rest) = shown.split_once('\n').unwrap();
            let job = std::fs::read_to_string(root.join("examples").join(name)).unwrap();
            let lines = rest.split("```").next().unwrap().lines();
            assert!(lines.clone().count() > 5, "{name}");
            lines.for_each(|line| assert!(job.contains(line), "{name}: {line}"));
        }
    }
    assert!(commands > 15, "{commands}");
}
