//! Metrics of a run while it goes on, and logs for machines.

#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod support;

use engine::models::{LoadFormat, Model};
use engine::request::{Request, SamplingParams};
use engine::{Engine, EngineConfig, Occupancy};
use serde_json::Value;
use std::collections::BTreeMap;
use support::golden;
use support::job::{Bench, Ran, strings};
use support::metrics::{Watched, value};

/// Rows of which every tenth has no prompt, and one in 25 a prompt that is too long for [`JOB`].
fn table(bench: &Bench) -> String {
    let text =
        |row: usize| format!("the mill of {row}{}", if row % 25 == 4 { " ".repeat(500) } else { "".into() });
    let texts: Vec<String> = (0..200).map(text).collect();
    let text = |(row, text): (usize, &String)| if row % 10 == 3 { None } else { Some(text.clone()) };
    let texts: Vec<Option<String>> = texts.iter().enumerate().map(text).collect();
    let texts: Vec<Option<&str>> = texts.iter().map(Option::as_deref).collect();
    bench.table("in.parquet", vec![("q", strings(&texts))])
}

const JOB: [&str; 10] = [
    "--prompt-column",
    "q",
    "--max-num-seqs",
    "4",
    "--max-error-rate",
    "1",
    "--threads",
    "1",
    "--max-model-len",
    "200",
];

/// Counters of a command that began a job, and what the job's journal has.
fn counters(text: &str) -> BTreeMap<String, u64> {
    let names = [
        "rows",
        "shared_rows",
        "input_tokens",
        "generated_tokens",
        "steps",
        "prefill_tokens",
        "decode_tokens",
    ];
    let of = |name: &str| (name.to_string(), value(text, &format!("gristmill_{name}_total")).unwrap() as u64);
    names.map(of).into()
}

fn journal(bench: &Bench) -> BTreeMap<String, u64> {
    let path = bench.path("out.parquet.gristmill/journal.sqlite");
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let journal = rusqlite::Connection::open_with_flags(path, flags).unwrap();
    let number =
        |query: &str| journal.query_row(query, [], |row| row.get::<_, Option<i64>>(0)).unwrap().unwrap_or(0);
    let answers = |what: &str| number(&format!("SELECT {what} FROM answers WHERE part = 0")) as u64;
    let not_too_long = "coalesce(error, '') NOT LIKE 'prompt too long%'";
    let mut all = BTreeMap::from([
        ("rows".to_string(), answers("count(*)")),
        ("shared_rows".to_string(), number("SELECT sum(shared) FROM starts") as u64),
        (
            "input_tokens".to_string(),
            answers(&format!("sum(num_input_tokens) FILTER (WHERE {not_too_long})")),
        ),
        ("generated_tokens".to_string(), answers("sum(num_generated_tokens)")),
    ]);
    for name in ["steps", "prefill_tokens", "decode_tokens"] {
        let sum = number(&format!("SELECT sum(json_extract(figures, '$.{name}')) FROM costs"));
        all.insert(name.into(), sum as u64);
    }
    all
}

/// What a worker has told and not committed is lost with it, and what it has committed and not told is not.
#[test]
fn counters_are_those_of_the_journal_whenever_a_worker_is_killed() {
    let bench = Bench::new();
    let (input, output) = (table(&bench), bench.name("out.parquet"));
    let mut command = bench.job_command("qwen3", &input, &output, &[&JOB[..], &["--metrics", "0"]].concat());
    command.env("GRISTMILL_FAULTS", "1:abort@60,2:abort@90,3:hang@60");
    let run = Watched::start(command);
    run.wait_for(|text| value(text, "gristmill_worker_restarts_total") == Some(2.0));
    let (text, _) = run.wait_for_rows(&bench, &output);
    let (told, kept) = (counters(&text), journal(&bench));
    assert_eq!(told, kept);
    // Steps are committed every second, which a fast machine does not need for all of this.
    assert!(["rows", "input_tokens", "generated_tokens"].iter().all(|name| kept[*name] > 0), "{kept:?}");
    let kinds = rusqlite::Connection::open(bench.path("out.parquet.gristmill/journal.sqlite")).unwrap();
    let of = |kind: &str| {
        let query = format!("SELECT count(*) FROM answers WHERE part = 0 AND error LIKE '{kind}%'");
        kinds.query_row(&query, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    for kind in ["null prompt", "prompt too long"] {
        let wanted = format!("gristmill_row_errors_total{{kind=\"{kind}\"}} {}\n", of(kind));
        assert!(of(kind) > 0 && text.contains(&wanted), "{wanted}: {text}");
    }
}

#[test]
fn metrics_are_right_over_a_death_and_a_resume_and_keep_their_port() {
    let bench = Bench::new();
    let (input, output) = (table(&bench), bench.name("out.parquet"));
    let start = |port: &str, faults: &str| {
        let flags = [&JOB[..], &["--metrics", port]].concat();
        let mut command = bench.job_command("qwen3", &input, &output, &flags);
        command.env("GRISTMILL_FAULTS", faults);
        Watched::start(command)
    };
    let first = start("0", "1:lost@150,2:hang@150");
    assert!(first.address.starts_with("127.0.0.1:"), "{}", first.address);
    first.wait_for(|text| value(text, "gristmill_worker_restarts_total") == Some(1.0));
    let (text, finished) = first.wait_for_rows(&bench, &output);
    let of =
        |name: &str| value(&text, &format!("gristmill_{name}")).unwrap_or_else(|| panic!("{name}: {text}"));
    // This run began the job.
    assert!(of("rows_total") as u64 == finished && finished >= 40, "{text}");
    // A step while the last tokens of some are under way has fewer.
    assert!(of("job_rows") == 200.0 && (1.0..=4.0).contains(&of("requests_running")), "{text}");
    assert!(of("kv_pages") > of("kv_pages_used") && of("kv_pages_used") > 0.0);
    assert!(of("generated_tokens_total") >= 16.0 * 20.0 && of("steps_total") >= 100.0, "{text}");
    assert!(text.contains("gristmill_row_errors_total{kind=\"null prompt\"} "), "{text}");
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("application/openmetrics-text"));
    assert!(text.ends_with("# EOF\n"));
    assert!(
        first.ask("GET /").starts_with("HTTP/1.1 404")
            && first.ask("POST /metrics").starts_with("HTTP/1.1 405")
    );

    // Another run cannot have the port: it is refused before it looks at anything.
    let other = ["--metrics", first.address.as_str()];
    let ran = bench.job("qwen3", &input, &bench.name("other.parquet"), &[&JOB[..], &other].concat());
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("cannot serve metrics at {}", first.address)), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("another process has this port")
            && !bench.path("other.parquet.gristmill").exists()
    );

    let port = first.address.clone();
    drop(first);
    let second = start(&port, "1:hang@100");
    assert_eq!(second.address, port);
    let (text, now) = second.wait_for_rows(&bench, &output);
    assert!(now > finished, "{text}");
    // Counters are of this run, gauges of the job.
    assert_eq!(value(&text, "gristmill_rows_total"), Some((now - finished) as f64), "{text}");
    assert_eq!(value(&text, "gristmill_worker_restarts_total"), Some(0.0));
    drop(second);

    let wide = bench.job("qwen3", &input, &output, &[&JOB[..], &["--metrics", "0.0.0.0:0"]].concat());
    assert!(wide.code == 0 && wide.stderr.contains("for all who reach this address"), "{}", wide.stderr);
    let without = bench.job("qwen3", &input, &bench.name("third.parquet"), &JOB);
    assert!(without.code == 0 && !without.stderr.contains("metrics"), "{}", without.stderr);
    let alone = [&JOB[..], &["--in-process", "--metrics", "0"]].concat();
    let alone = bench.job("qwen3", &input, &bench.name("alone.parquet"), &alone);
    assert!(alone.code == 0 && alone.stderr.contains("metrics: http://127.0.0.1:"), "{}", alone.stderr);
    let wrong = bench.job("qwen3", &input, &output, &[&JOB[..], &["--metrics", "somewhere:1"]].concat());
    assert!(wrong.code == 2 && wrong.stderr.contains("neither a port"), "{}", wrong.stderr);
}

/// Requests of one length end together: until the next are scheduled, none runs, while each step is full.
#[test]
fn steps_are_as_full_as_they_were_when_their_requests_have_ended() {
    let model = Model::open(&golden("qwen3"), LoadFormat::Dummy).unwrap();
    let config = EngineConfig { max_num_seqs: Some(4), ..EngineConfig::default() };
    let mut engine = Engine::new(&model, support::open("cpu").unwrap(), &config).unwrap();
    assert_eq!(engine.occupancy(), Occupancy::default());
    let params = SamplingParams { max_tokens: 3, ..SamplingParams::default() };
    (0..12).for_each(|id| engine.add(Request::new(id, (100..110).collect(), params.clone())).unwrap());
    let mut pauses = 0;
    while !engine.is_idle() {
        engine.step().unwrap();
        let Occupancy { seqs, pages } = engine.occupancy();
        assert!(engine.is_idle() || seqs == 4 && pages >= 4, "{seqs} in {pages}");
        pauses += usize::from(engine.running() == 0);
    }
    assert!(pauses >= 3);
    assert_eq!(engine.occupancy(), Occupancy::default());
}

/// The objects of standard error, one on each line.
fn events(ran: &Ran) -> Vec<Value> {
    let event = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        for key in ["timestamp", "level", "message"] {
            assert!(event[key].is_string(), "{line}");
        }
        event
    };
    ran.stderr.lines().map(event).collect()
}

#[test]
fn each_line_of_a_log_for_machines_is_an_object() {
    let bench = Bench::new();
    let (input, output) = (table(&bench), bench.name("out.parquet"));
    let json = ["--log-format", "json", "--log-level", "debug"];
    let mut command = bench.job_command("qwen3", &input, &output, &[&JOB[..], &json].concat());
    // The worker and its supervisor both.
    let ran = Ran::of(command.env("GRISTMILL_FAULTS", "1:lost@50").output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let all = events(&ran);
    let has = |level: &str, part: &str| {
        let found = all
            .iter()
            .any(|event| event["level"] == level && event["message"].as_str().unwrap().contains(part));
        assert!(found, "{level} {part}: {}", ran.stderr);
    };
    has("INFO", "200 rows in");
    has("INFO", "receipt: ");
    has("WARN", "the worker died");
    has("DEBUG", "a row has no answer");
    assert!(ran.stdout.is_empty());

    // What is wrong is said so, too: with a flag, with a file, with memory.
    let flag = bench.run(&["run", "--log-format", "json", "--temprature", "1"]);
    let file = bench.run(&["--log-format=json", "verify", "nowhere.parquet"]);
    let job = bench.run(&["run", "nowhere.toml", "--log-format", "json"]);
    for (ran, part) in [(flag, "--temprature"), (file, "nowhere.parquet"), (job, "nowhere.toml")] {
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        let last = events(&ran).pop().unwrap();
        assert!(last["level"] == "ERROR" && last["message"].as_str().unwrap().contains(part), "{last}");
    }
    let flags = [&JOB[..], &["--fresh", "--log-format", "json"]].concat();
    let mut command = bench.job_command("qwen3", &input, &output, &flags);
    let ran = Ran::of(command.env("GRISTMILL_FAULTS", "*:memory@4").output().unwrap());
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    // The runtime says the same before it, in its own words.
    assert!(ran.stderr.contains("{\"level\":\"ERROR\",\"message\":\"out of memory"), "{}", ran.stderr);
}
