//! What a job takes: the plan before it says what the run then does.

#![allow(clippy::unwrap_used)]

mod support;

use arrow::array::{Array, ArrayRef, Int32Array, ListArray, RecordBatch};
use arrow::datatypes::Int32Type;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use support::golden;
use support::job::{Bench, Ran, ints, read, strings, text, texts};

fn json_of(ran: &Ran) -> Value {
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// Plans a job with these flags.
fn plan(bench: &Bench, flags: &[&str]) -> Value {
    json_of(&bench.run(&[&["plan", "--json"], flags].concat()))
}

/// All names below a folder.
fn listing(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            names.push(path.display().to_string());
        }
    }
    names.sort();
    names
}

/// Errors by kind with their first rows, tokens of rows without an error, and rows, of an output.
fn of_output(out: &RecordBatch) -> (Value, u64, u64) {
    let mut kinds: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let (mut tokens, mut answered) = (0, 0);
    for (row, (error, count)) in text(out, "error").iter().zip(ints(out, "num_input_tokens")).enumerate() {
        match error {
            Some(error) => {
                let kind = error.split(':').next().unwrap().to_string();
                kinds.entry(kind).or_default().push(row as u64);
            }
            None => {
                tokens += count.unwrap() as u64;
                answered += 1;
            }
        }
    }
    let of = |(kind, rows): (String, Vec<u64>)| {
        let first: Vec<u64> = rows.iter().copied().take(5).collect();
        (kind, json!({"rows": rows.len(), "first": first}))
    };
    (Value::Object(kinds.into_iter().map(of).collect()), tokens, answered)
}

/// Prompts, of which some are null, empty, too long or there twice.
fn prompts(rows: usize) -> Vec<Option<String>> {
    let prompt = |row: usize| match row % 10 {
        3 => None,
        5 => Some("the mill grinds ".repeat(40)),
        7 => Some("the river".to_string()),
        _ => Some(format!("the mill by the river grinds the grain of {row}")),
    };
    (0..rows).map(prompt).collect()
}

fn table(bench: &Bench, rows: usize) -> String {
    let prompts = prompts(rows);
    let prompts: Vec<Option<&str>> = prompts.iter().map(Option::as_deref).collect();
    let columns = vec![("q", strings(&prompts), true), ("other", strings(&prompts), true)];
    bench.batch("in.parquet", &RecordBatch::try_from_iter_with_nullable(columns).unwrap(), 20)
}

#[test]
fn a_plan_says_what_the_run_does() {
    let bench = Bench::new();
    let input = table(&bench, 100);
    let model = golden("qwen3");
    let output = bench.name("out.parquet");
    let job = ["--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input, "-o", &output];
    let job = [&job[..], &["--prompt-column", "q", "--max-tokens", "4", "--temperature", "0"]].concat();
    let job = [&job[..], &["--max-model-len", "60", "--max-error-rate", "1", "--block-size", "4"]].concat();
    let before = listing(&bench.path(""));
    for more in [&[][..], &["--limit", "37"], &["--keep", "other", "--n", "2"], &["--min-tokens", "2"]] {
        let flags = [&job[..], more].concat();
        let planned = plan(&bench, &flags);
        assert_eq!(listing(&bench.path("")), before, "it has written something");
        let ran = bench.run(&[&["run", "--fresh"], &flags[..]].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let status = json_of(&bench.run(&["status", &output, "--json"]));
        let (errors, tokens, answered) = of_output(&read(Path::new(&output)));
        assert_eq!(planned["rows"], status["rows"], "{more:?}");
        assert_eq!(planned["errors"], errors, "{more:?}");
        assert_eq!(planned["prompts"], answered, "{more:?}");
        assert_eq!(planned["prompt_tokens"]["sum"], tokens, "{more:?}");
        assert_eq!(status["input_tokens"], tokens, "those of refused prompts do not count");
        assert_eq!(planned["shared_prompts"], status["shared"], "{more:?}");
        let distinct = answered - status["shared"].as_u64().unwrap();
        assert_eq!(planned["distinct_prompts"], distinct, "{more:?}");
        assert_eq!(planned["too_long"]["rows"], errors["prompt too long"]["rows"]);
        let generated = status["generated_tokens"].as_u64().unwrap();
        let span = &planned["generated_tokens"];
        assert!(span["least"].as_u64().unwrap() <= generated && generated <= span["most"].as_u64().unwrap());
        if more == ["--min-tokens", "2"] {
            assert_eq!(span, &json!({"least": 2 * answered, "most": 4 * answered}));
        }
        if !more.contains(&"--n") {
            let number = |key: &str| planned[key].as_u64().unwrap();
            let all = number("computed_tokens") + number("cached_tokens") + number("shared_input_tokens");
            assert_eq!(all, tokens, "{more:?}");
            assert!(number("cached_tokens") > 0);
        }
        // The job that is there is counted and left as it is.
        let there = listing(&bench.path(""));
        let journal = std::fs::read(bench.path("out.parquet.gristmill/journal.sqlite")).unwrap();
        let again = plan(&bench, &flags);
        assert_eq!(again["finished"], planned["rows"], "{more:?}");
        assert_eq!(listing(&bench.path("")), there);
        assert_eq!(std::fs::read(bench.path("out.parquet.gristmill/journal.sqlite")).unwrap(), journal);
        std::fs::remove_file(&output).unwrap();
        std::fs::remove_dir_all(bench.path("out.parquet.gristmill")).unwrap();
    }
    // Sampled answers are no function of the prompt.
    let sampled = plan(&bench, &[&job[..], &["--temperature", "1"]].concat());
    assert_eq!((sampled["shared_prompts"].as_u64(), sampled["prompts"].as_u64()), (Some(0), Some(80)));
    // By hand: KV of a token is that of 2 tensors of each layer; a row at its longest fills whole pages.
    let whole = plan(&bench, &[&job[..], &["--kv-cache-memory-bytes", "1m"]].concat());
    let device = &whole["devices"][0];
    let number = |key: &str| device[key].as_u64().unwrap();
    let of_page = 4 * number("kv_bytes_per_token");
    let longest = device["row_tokens"]["max"].as_u64().unwrap();
    assert_eq!(longest, whole["prompt_tokens"]["max"].as_u64().unwrap() + 4);
    assert_eq!(number("kv_pages"), (1_000_000 / of_page).min(256 * 15));
    assert_eq!(device["row_kv_bytes"]["max"], longest.div_ceil(4) * of_page);
    assert_eq!(device["rows_at_once"]["max"], (number("kv_pages") / longest.div_ceil(4)).min(256));
    assert!(number("weight_bytes") > 0 && device["chosen"] == json!(true));
    let text = bench.run(&[&["plan"], &job[..]].concat());
    assert!(text.stdout.starts_with("rows       100 of 100 in 1 file\nerrors     20\n"), "{}", text.stdout);
    assert!(
        text.stdout.contains("           10 null prompt: rows 3, 13, 23, 33, 43, ...\n"),
        "{}",
        text.stdout
    );
}

#[test]
fn a_plan_counts_asks_and_branches() {
    let bench = Bench::new();
    let input = table(&bench, 30);
    let model = golden("qwen3");
    let columns = json!({
        "a": {"ask": "Which of them?", "choices": ["mill", "the mill", "the", "river name"]},
        "b": {"ask": "Where is the river?", "choices": ["mill", "grain"], "calibrate": "content-free"},
    });
    let columns = columns.to_string();
    let output = bench.name("out.parquet");
    let job = ["--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input, "-o", &output];
    let job = [&job[..], &["--prompt", "{{ q }}", "--columns", &columns, "--max-error-rate", "1"]].concat();
    let job = [&job[..], &["--max-model-len", "70"]].concat();
    let planned = plan(&bench, &job);
    let ran = bench.run(&[&["run"], &job[..]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let out = read(Path::new(&output));
    let (errors, tokens, answered) = of_output(&out);
    assert_eq!((&planned["errors"], &planned["prompt_tokens"]["sum"]), (&errors, &json!(tokens)));
    assert_eq!(planned["choices"]["asks"], 2 * answered);
    let status = json_of(&bench.run(&["status", &output, "--json"]));
    assert_eq!(planned["shared_prompts"], status["shared"]);
    assert_eq!(planned["generated_tokens"], json!({"least": 0, "most": 0}));
    // One request walks both columns of a row, if most of their tokens are the same: not those of three short rows.
    let walked = planned["choices"]["walked_tokens"].as_u64().unwrap();
    assert_eq!(planned["choices"]["requests"], answered + 3);
    assert!(planned["choices"]["branches"].as_u64().unwrap() >= 2 * answered && walked > tokens);
}

#[test]
fn a_sample_says_how_far_off_it_may_be() {
    let bench = Bench::new();
    let input = table(&bench, 100);
    let model = golden("qwen3");
    let job = ["--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input, "-o", "out.parquet"];
    let job = [&job[..], &["--prompt-column", "q", "--max-tokens", "4"]].concat();
    let whole = plan(&bench, &job);
    let some = plan(&bench, &[&job[..], &["--sample", "3"]].concat());
    let sample = &some["sample"];
    assert_eq!(
        (&sample["row_groups"], &sample["of_row_groups"], &sample["rows"]),
        (&json!(3), &json!(5), &json!(60))
    );
    let (value, error) = (
        sample["prompt_tokens"]["value"].as_f64().unwrap(),
        sample["prompt_tokens"]["error"].as_f64().unwrap(),
    );
    let all = whole["prompt_tokens"]["sum"].as_f64().unwrap();
    assert!((value - all).abs() <= error.max(0.05 * all) && error > 0.0, "{value} ± {error}, {all}");
    assert_eq!(
        sample["error_rows"],
        json!({"value": whole["errors"]["null prompt"]["rows"].as_f64(), "error": 0.0})
    );
    let every = plan(&bench, &[&job[..], &["--sample", "9"]].concat());
    assert_eq!(every["sample"]["prompt_tokens"], json!({"value": all, "error": 0.0}));
    assert_eq!(every["prompt_tokens"], whole["prompt_tokens"]);
    // What its tokens would cost elsewhere is as far off.
    let elsewhere = |groups: &str| {
        let planned = plan(&bench, &[&job[..], &["--sample", groups, "--compare-price", "1,4"]].concat());
        let sample = &planned["sample"];
        let of = |key: &str| {
            [sample[key]["value"].as_f64().unwrap(), sample[key]["error"].as_f64().unwrap_or(-1.0)]
        };
        let [tokens, most] = [of("prompt_tokens"), of("most_generated_tokens")];
        let range = &planned["costs"]["elsewhere"];
        ([range["least"].as_f64().unwrap() * 1e6, range["most"].as_f64().unwrap() * 1e6], tokens, most)
    };
    let ([least, greatest], tokens, most) = elsewhere("3");
    let near = |a: f64, b: f64| (a - b).abs() < 1e-6 * b;
    assert!(near(least, tokens[0] - tokens[1]), "{least}, {tokens:?}");
    assert!(near(greatest, tokens[0] + tokens[1] + 4.0 * (most[0] + most[1])), "{greatest}, {most:?}");
    // One row group says nothing of the others: nothing, or the whole context of each row.
    let ([least, greatest], ..) = elsewhere("1");
    assert!(least == 0.0 && greatest > 100.0 * 100.0, "{least}, {greatest}");
    let one = bench.run(&[&["plan"], &job[..], &["--sample", "1"]].concat());
    assert!(one.stdout.contains("does not say how far off that is"), "{}", one.stdout);
}

#[test]
fn an_input_without_rows_has_a_plan() {
    let bench = Bench::new();
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(Vec::<Option<Vec<Option<i32>>>>::new());
    let empty: ArrayRef = Arc::new(lists);
    let numbers: ArrayRef = Arc::new(Int32Array::from(Vec::<i32>::new()));
    assert_eq!(empty.len() + numbers.len(), 0);
    let input = bench.table("in.parquet", vec![("ids", empty), ("other", numbers)]);
    let model = golden("qwen3");
    let job = ["--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input, "-o", "out.parquet"];
    let planned = plan(&bench, &[&job[..], &["--prompt-tokens-column", "ids", "--max-tokens", "4"]].concat());
    assert_eq!((planned["rows"].as_u64(), planned["prompt_tokens"]["max"].as_u64()), (Some(0), Some(0)));
    assert_eq!((planned["errors"].clone(), planned["finished"].clone()), (json!({}), Value::Null));
    assert_eq!(planned["costs"]["by"], "the plan: no row is left that would run");
    assert_eq!(planned["costs"]["seconds"]["most"], 0.0);
    // It writes no output, so that it needs none, but where rows are kept for the job.
    let alone = [&job[..job.len() - 2], &["--prompt-tokens-column", "ids", "--max-tokens", "4"]].concat();
    assert_eq!(plan(&bench, &alone), planned);
    let pilot = bench.run(&[&["plan"], &alone[..], &["--pilot", "2"]].concat());
    assert!(pilot.code == 2 && pilot.stderr.contains("name its output with --output"), "{}", pilot.stderr);
    // So has one of nothing but errors.
    let nulls = bench.table("nulls.parquet", vec![("q", strings(&[None, None]))]);
    let job =
        ["plan", "--device", "cpu", "--model", model.to_str().unwrap(), "-i", &nulls, "-o", "x.parquet"];
    let errors = bench.run(&[&job[..], &["--prompt-column", "q", "--max-tokens", "4"]].concat());
    assert!(errors.stdout.contains("no row is left that would run"), "{}", errors.stdout);
    assert!(errors.stdout.contains("money      no price was given (--price-per-hour)"), "{}", errors.stdout);
}

#[test]
fn a_plan_does_not_take_another_jobs_rows_for_its_own() {
    let bench = Bench::new();
    let first = bench.table("in.parquet", vec![("q", strings(&[Some("Yes"), Some("No")]))]);
    let other = bench.table("other.parquet", vec![("q", strings(&[Some("Yes"), Some("Or")]))]);
    let model = golden("qwen3");
    let job = |input: &str, prompt: &str| {
        let model = model.to_str().unwrap();
        [
            "--device",
            "cpu",
            "--model",
            model,
            "-i",
            input,
            "-o",
            "o.parquet",
            "--max-tokens",
            "4",
            "--prompt",
            prompt,
        ]
        .map(String::from)
    };
    let run = |command: &str, job: &[String]| {
        let mut all = vec![command];
        all.extend(job.iter().map(String::as_str));
        bench.run(&all)
    };
    let own = job(&first, "{{ q }}");
    assert_eq!(run("run", &own).code, 0);
    let planned = run("plan", &own);
    assert!(planned.code == 0 && planned.stdout.contains("2 are finished"), "{}", planned.stdout);
    for (another, what) in [(job(&other, "{{ q }}"), "  input 1: "), (job(&first, "{{ q }}?"), "  prompt: ")]
    {
        let planned = run("plan", &another);
        assert_eq!(planned.code, 2, "{}", planned.stderr);
        assert!(
            planned.stderr.contains("holds another job") && planned.stderr.contains(what),
            "{}",
            planned.stderr
        );
    }
}

#[test]
fn plans_of_the_examples_are_what_their_runs_do() {
    let bench = Bench::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for entry in std::fs::read_dir(folder).unwrap() {
        let job = entry.unwrap().path();
        if job.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let output = bench.name(&format!("{}.parquet", job.file_stem().unwrap().display()));
        let job = [job.to_str().unwrap(), "-o", &output, "--limit", "8", "--device", "cpu"];
        let planned = plan(&bench, &job);
        let ran = bench.run(&[&["run", "--fresh"], &job[..]].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let status = json_of(&bench.run(&["status", &output, "--json"]));
        let out = read(Path::new(&output));
        let (errors, tokens, _) = of_output(&out);
        let planned_tokens = planned["prompt_tokens"]["sum"].as_u64().unwrap();
        assert_eq!(planned["errors"], errors, "{job:?}");
        if let Some(chunks) = planned["documents"]["chunks"].as_u64() {
            // The notes that are merged are not known before.
            let cut: u64 = ints(&out, "num_chunks").into_iter().map(|n| n.unwrap() as u64).sum();
            assert_eq!(chunks, cut);
            assert!(cut > 8 && planned_tokens < tokens, "{planned_tokens} of {tokens}");
        } else {
            assert_eq!(planned_tokens, tokens, "{job:?}");
        }
        assert_eq!((&planned["rows"], &planned["shared_prompts"]), (&status["rows"], &status["shared"]));
    }
}

/// The receipt of an output, and the sums of its journal's starts: milliseconds, rows.
fn receipt(bench: &Bench, output: &str) -> (Value, [i64; 2]) {
    let state = bench.path(&format!("{output}.gristmill"));
    let receipt = serde_json::from_slice(&std::fs::read(state.join("receipt.json")).unwrap()).unwrap();
    let journal = rusqlite::Connection::open(state.join("journal.sqlite")).unwrap();
    let sums = "SELECT sum(elapsed_ms), sum(rows) FROM starts";
    (receipt, journal.query_row(sums, [], |row| Ok([row.get(0)?, row.get(1)?])).unwrap())
}

/// Rows that the journal of a running job has.
fn finished_rows(bench: &Bench, output: &str) -> Option<i64> {
    let path = bench.path(&format!("{output}.gristmill/journal.sqlite"));
    let journal =
        rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    journal.query_row("SELECT sum(rows) FROM starts", [], |row| row.get(0)).ok()?
}

#[test]
fn a_job_that_was_killed_has_one_receipt_of_all_its_starts() {
    let bench = Bench::new();
    let input = table(&bench, 1500);
    let model = golden("qwen3");
    let job = [
        "run",
        "--threads",
        "1",
        "--device",
        "cpu",
        "--model",
        model.to_str().unwrap(),
        "-i",
        &input,
        "-o",
        "out.parquet",
    ];
    let job = [&job[..], &["--prompt-column", "q", "--max-tokens", "16", "--temperature", "0"]].concat();
    let job = [&job[..], &["--max-num-seqs", "1", "--max-error-rate", "1", "--max-model-len", "60"]].concat();
    let planned = plan(&bench, &job[1..]);
    let prices = ["--price-per-hour", "2.5", "--compare-price", "1,4"];
    for kill in 1..=3 {
        let before = finished_rows(&bench, "out.parquet").unwrap_or(0);
        let mut command = bench.command(&[&job[..], &prices, &["--in-process"]].concat());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        while finished_rows(&bench, "out.parquet").is_none_or(|rows| rows <= before) {
            assert!(child.try_wait().unwrap().is_none(), "it ended before kill {kill}");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // What was not published is not as good as gone.
    let early = bench.run(&["verify", "out.parquet"]);
    let said = "out.parquet is not there to be verified: its job has finished ";
    assert!(early.code == 2 && early.stderr.contains(said), "{}", early.stderr);
    assert!(early.stderr.contains(" of the 1500 rows of its input and has not published them"));
    // A job keeps the prices that were given last, also if that start was killed.
    let ran = bench.run(&job);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let (first, [active_ms, rows]) = receipt(&bench, "out.parquet");
    let number = |key: &str| first[key].as_f64().unwrap();
    assert_eq!((number("starts"), number("rows"), rows), (4.0, 1500.0, 1500));
    assert_eq!((1000.0 * number("active_seconds")).round() as i64, active_ms);
    let status = json_of(&bench.run(&["status", "out.parquet", "--json"]));
    assert_eq!(status["starts"], first["starts"]);
    assert!(active_ms > 0 && first.get("notes").is_none(), "{first}");
    let (errors, tokens, answered) = of_output(&read(&bench.path("out.parquet")));
    for (kind, count) in first["errors"].as_object().unwrap() {
        assert_eq!(count, &errors[kind]["rows"]);
    }
    assert_eq!(first["errors"].as_object().unwrap().len(), errors.as_object().unwrap().len());
    assert_eq!(number("input_tokens") as u64, tokens, "those of refused prompts do not count");
    // Each start has computed the prompts of its rows; what was in flight at a death was computed again.
    let computed = number("prefill_tokens") + number("decode_tokens");
    assert!(computed > planned["computed_tokens"].as_f64().unwrap() / 2.0, "{first}");
    let money = |key: &str| first["money"][key].as_f64().unwrap();
    let hours = number("active_seconds") / 3600.0;
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b;
    assert!(
        near(money("job"), 2.5 * hours) && near(money("per_1000_rows"), 2500.0 * hours / answered as f64)
    );
    let elsewhere = (number("input_tokens") + 4.0 * number("generated_tokens")) / 1e6;
    assert!(near(money("elsewhere"), elsewhere), "{first}");
    // Measured for every start, or not at all, and then with a reason.
    let energy = &first["energy"];
    let reason = energy["source"].as_str().unwrap().strip_prefix("not measured: ");
    assert!(energy["joules"].is_number() != reason.is_some_and(|reason| !reason.is_empty()), "{energy}");
    // Publishing again writes the same text, also without the prices; other prices make another.
    let path = bench.path("out.parquet.gristmill/receipt.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(bench.path("out.parquet")).unwrap();
    std::fs::remove_file(&path).unwrap();
    let again = bench.run(&job);
    assert_eq!((again.code, std::fs::read_to_string(&path).unwrap()), (0, text.clone()), "{}", again.stderr);
    let cheaper = bench.run(&[&job[..], &["--price-per-hour", "0"]].concat());
    assert!(cheaper.stderr.contains("money: 0.00 at 0 an hour"), "{}", cheaper.stderr);
    assert_ne!(std::fs::read_to_string(&path).unwrap(), text);
    let shown: Vec<&str> = cheaper.stderr.lines().skip_while(|line| !line.starts_with("receipt: ")).collect();
    assert!(shown.len() <= 9 && shown.last().unwrap().starts_with("1500 rows in out.parquet"), "{shown:?}");
    // No manifest and no footer knows of it, and it is known if somebody edits it.
    let manifest = std::fs::read_to_string(bench.path("out.parquet.gristmill/manifest.json")).unwrap();
    assert!(!manifest.contains("active_seconds") && !manifest.contains("price"));
    assert_eq!(bench.run(&["verify", "out.parquet"]).code, 0);
    std::fs::write(&path, text.replace("\"rows\": 1500", "\"rows\": 1501")).unwrap();
    let verified = bench.run(&["verify", "out.parquet"]);
    assert_eq!(verified.code, 2);
    let said = verified.stderr;
    assert!(said.contains("out.parquet is as published, but its receipt is not as it was written"), "{said}");
    assert!(said.contains("receipt.json is not as it was written"), "{said}");
    // What it says to do mends it; where the output was changed, too, that comes first.
    assert_eq!(bench.run(&job).code, 0);
    assert_eq!(bench.run(&["verify", "out.parquet"]).code, 0);
    std::fs::write(&path, text.replace("\"rows\": 1500", "\"rows\": 1501")).unwrap();
    let mut output = std::fs::read(bench.path("out.parquet")).unwrap();
    output[100] ^= 1;
    std::fs::write(bench.path("out.parquet"), output).unwrap();
    let both = bench.run(&["verify", "out.parquet"]);
    assert!(both.code == 2 && both.stderr.contains("does not hold what was published"), "{}", both.stderr);
    assert!(both.stderr.contains("receipt.json is not as it was written"), "{}", both.stderr);
}

#[test]
fn a_receipt_says_if_the_output_has_fewer_rows_than_it_counts() {
    let bench = Bench::new();
    let input = table(&bench, 20);
    let model = golden("qwen3");
    let job =
        ["run", "--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input, "-o", "out.parquet"];
    let job = [&job[..], &["--prompt-column", "q", "--max-tokens", "2", "--max-error-rate", "1"]].concat();
    assert_eq!(bench.run(&job).code, 0);
    let whole = receipt(&bench, "out.parquet").0;
    assert_eq!((&whole["rows"], &whole["output_rows"], whole.get("notes")), (&json!(20), &json!(20), None));
    let fewer = bench.run(&[&job[..], &["--limit", "7"]].concat());
    let said =
        "note: all figures are of the 20 rows that the journal has; the output has the first 7 of them";
    assert!(fewer.code == 0 && fewer.stderr.contains(said), "{}", fewer.stderr);
    let less = receipt(&bench, "out.parquet").0;
    assert_eq!((&less["rows"], &less["output_rows"]), (&json!(20), &json!(7)));
    assert_eq!(less["input_tokens"], whole["input_tokens"]);
    assert_eq!(bench.run(&["verify", "out.parquet"]).code, 0);
}

#[test]
fn a_receipt_counts_what_the_plan_said() {
    let bench = Bench::new();
    let input = table(&bench, 60);
    let model = golden("qwen3");
    let columns = json!({"a": {"ask": "Which?", "choices": ["mill", "the mill", "river name"]}}).to_string();
    let job = ["--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input, "--max-model-len", "70"];
    let job = [&job[..], &["--prompt", "{{ q }}", "--columns", &columns, "--max-error-rate", "1"]].concat();
    for caching in ["--enable-prefix-caching=false", "--enable-prefix-caching"] {
        let output = format!("out{caching}.parquet");
        let flags = [&job[..], &["-o", &output, caching, "--block-size", "4"]].concat();
        let planned = plan(&bench, &flags);
        let ran = bench.run(&[&["run"], &flags[..]].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let (receipt, _) = receipt(&bench, &output);
        let of = |value: &Value, key: &str| value[key].as_u64().unwrap();
        let done = of(&receipt, "prefill_tokens") + of(&receipt, "decode_tokens");
        assert_eq!(of(&receipt, "shared_rows"), of(&planned, "shared_prompts"));
        // Tokens of prompts as the plan has them, and those of answers apart.
        assert_eq!(of(&receipt, "shared_input_tokens"), of(&planned, "shared_input_tokens"));
        assert!(of(&receipt, "shared_input_tokens") > 0 && of(&receipt, "shared_generated_tokens") == 0);
        let (computed, cached) = (of(&planned, "computed_tokens"), of(&planned, "cached_tokens"));
        // A step finds no page that it computes itself.
        assert!(done >= computed && of(&receipt, "cached_tokens") <= cached, "{planned} {receipt}");
        assert_eq!(done + of(&receipt, "cached_tokens"), computed + cached, "{planned} {receipt}");
        assert_eq!(of(&receipt, "preemptions"), 0);
    }
}

#[test]
fn a_receipt_of_nothing_says_so() {
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("q", strings(&[None, None]))]);
    let model = golden("qwen3");
    let job = ["run", "--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input];
    let job = [&job[..], &["--prompt-column", "q", "--max-tokens", "4", "--max-error-rate", "1"]].concat();
    let errors = bench.run(&[&job[..], &["-o", "errors.parquet", "--price-per-hour", "1"]].concat());
    assert!(errors.stderr.contains("note: every row is an error"), "{}", errors.stderr);
    assert!(errors.stderr.contains("no row has an answer, so that none has a price"), "{}", errors.stderr);
    let none = bench.run(&[&job[..], &["-o", "none.parquet", "--limit", "0"]].concat());
    assert!(none.stderr.contains("note: there are no rows, so that nothing was spent"), "{}", none.stderr);
    assert!(none.stderr.contains("money: no price was given (--price-per-hour)"), "{}", none.stderr);
    assert_eq!(receipt(&bench, "none.parquet").0["starts"], 0);
    let wrong = bench.run(&[&job[..], &["-o", "x.parquet", "--compare-price", "1"]].concat());
    assert!(
        wrong.code == 2 && wrong.stderr.contains("is not two prices such as 0.15,0.60"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn a_plan_counts_the_chunks_of_documents() {
    let bench = Bench::new();
    let long = "the mill by the river grinds grain. ".repeat(60);
    let texts = [None, Some("the mill"), Some(long.as_str())];
    let input = bench.table("in.parquet", vec![("t", strings(&texts))]);
    let model = golden("qwen3");
    for (method, key) in [("map-reduce", "reduce-prompt"), ("refine", "refine-prompt")] {
        let second = if method == "refine" { "{{ answer }} {{ chunk }}" } else { "{{ notes | join(' ') }}" };
        let documents =
            json!({"column": "t", "method": method, "map-prompt": "Note: {{ chunk }}", key: second});
        let (documents, output) = (documents.to_string(), format!("{method}.parquet"));
        let job = ["--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input, "-o", &output];
        let job =
            [&job[..], &["--documents", &documents, "--max-tokens", "12", "--temperature", "0"]].concat();
        let planned = plan(&bench, &job);
        let ran = bench.run(&[&["run", "--max-error-rate", "1"], &job[..]].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let out = read(&bench.path(&output));
        let (errors, tokens, answered) = of_output(&out);
        let chunks: i32 = ints(&out, "num_chunks")[1..].iter().flatten().sum();
        assert_eq!((&planned["errors"], answered), (&errors, 2));
        let cut = planned["documents"]["chunks"].as_i64().unwrap() as i32;
        // With refine, an answer whose text has more tokens than were generated leaves less room for its chunk.
        assert!(
            cut == chunks || method == "refine" && (3..chunks).contains(&cut),
            "{method}: {cut}, {chunks}"
        );
        assert_eq!(planned["documents"]["documents"], 2);
        let others = cut as u64 - 2;
        let least = if method == "refine" { others } else { 1 };
        assert_eq!(planned["documents"]["follow_ups"], json!({"least": least, "most": others}));
        assert_eq!(planned["prompts"], if method == "refine" { 2 } else { cut });
        assert!(planned["prompt_tokens"]["sum"].as_u64().unwrap() < tokens && others > 1);
        let (receipt, _) = receipt(&bench, &output);
        let generated = receipt["generated_tokens"].as_u64().unwrap();
        let most = planned["generated_tokens"]["most"].as_u64().unwrap() + 12 * (chunks - cut) as u64;
        assert!(generated <= most, "{planned} {receipt}");
    }
}

#[test]
fn a_plan_has_time_and_money_by_rates_that_are_measured_once() {
    let bench = Bench::new();
    let input = table(&bench, 40);
    let (model, cache) = (golden("qwen3"), bench.path("cache"));
    let run = |what: &[&str]| {
        let job = ["--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input, "-o", "out.parquet"];
        let job = [what, &job, &["--prompt-column", "q", "--max-tokens", "6", "--temperature", "0"]].concat();
        let prices = ["--price-per-hour", "3600", "--compare-price", "1,4", "--max-error-rate", "1"];
        Ran::of(bench.command(&[&job[..], &prices].concat()).env("GRISTMILL_CACHE", &cache).output().unwrap())
    };
    let planned = json_of(&run(&["plan", "--json"]));
    let kept = || std::fs::read_dir(cache.join("rates")).map_or(0, Iterator::count);
    assert_eq!(kept(), 1);
    let of = |value: &Value, key: &str| value[key].as_f64().unwrap();
    let costs = &planned["costs"];
    let (seconds, money) = (&costs["seconds"], &costs["money"]);
    assert!(0.0 < of(seconds, "least") && of(seconds, "least") <= of(seconds, "most"), "{costs}");
    // At 3,600 an hour a second costs 1.
    assert_eq!((&seconds["least"], &seconds["most"]), (&money["least"], &money["most"]));
    let (prompts, answers) = (of(&planned["prompt_tokens"], "sum"), of(&planned["generated_tokens"], "most"));
    assert!((of(&costs["elsewhere"], "most") - (prompts + 4.0 * answers) / 1e6).abs() < 1e-12, "{costs}");
    assert!(costs["by"].as_str().unwrap().starts_with("the device's ") && costs.get("joules").is_none());
    let text = run(&["plan"]);
    assert_eq!(kept(), 1, "they were measured again");
    for line in ["\ntime       ", "\nenergy     not known: power is measured as rows run", "\nmoney      "] {
        assert!(text.stdout.contains(line), "{}", text.stdout);
    }
    // With rates, the receipt says how much of them was reached; with rows that have run, the plan goes by these.
    assert_eq!(run(&["run", "--limit", "20"]).code, 0);
    let (receipt, _) = receipt(&bench, "out.parquet");
    assert!(of(&receipt, "prefill_roofline_share") > 0.0 && of(&receipt, "decode_roofline_share") > 0.0);
    let left = json_of(&run(&["plan", "--json"]));
    assert!(left["costs"]["by"].as_str().unwrap().contains("steps of the job have taken"), "{left}");
    let piloted = json_of(&run(&["plan", "--json", "--pilot", "8"]));
    assert_eq!((&piloted["pilot"]["rows"], &piloted["finished"]), (&json!(8), &json!(24)));
    // By then both what is left and all of it are said.
    let [left, whole] = [&piloted["costs"], &piloted["costs"]["whole"]];
    let spent = |key: &str| of(&whole["money"], key) - of(&left["money"], key);
    assert!(spent("least") > 0.0 && (spent("least") - spent("most")).abs() < 1e-9, "{piloted}");
    assert!((of(&whole["seconds"], "least") - of(&whole["money"], "least")).abs() < 1e-9, "{piloted}");
    let text = run(&["plan"]).stdout;
    for name in ["time  ", "money "] {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(
            line.contains(" for the rows that are left; ") && line.contains(" for the whole job"),
            "{line}"
        );
    }
    let refused = run(&["plan", "--pilot", "8", "--fresh"]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
}

/// As on a machine that was busy while they were measured.
#[test]
fn rates_that_a_run_has_passed_are_measured_again() {
    let bench = Bench::new();
    let input = table(&bench, 40);
    let (model, cache) = (golden("qwen3"), bench.path("cache"));
    let run = |what: &[&str]| {
        let job = ["--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input, "-o", "out.parquet"];
        let job =
            [what, &job, &["--prompt-column", "q", "--max-tokens", "6", "--max-error-rate", "1"]].concat();
        let ran = Ran::of(bench.command(&job).env("GRISTMILL_CACHE", &cache).output().unwrap());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran
    };
    let files = || -> Vec<_> {
        std::fs::read_dir(cache.join("rates")).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let rates = || -> Value { serde_json::from_slice(&std::fs::read(&files()[0]).unwrap()).unwrap() };
    let of = |value: &Value, key: &str| value[key].as_f64().unwrap();
    let change = |key: &str, value: Value| {
        let mut rates = rates();
        rates[key] = value;
        std::fs::write(&files()[0], rates.to_string()).unwrap();
    };
    run(&["plan"]);
    let sound = rates();
    assert!(of(&sound, "prefill_share") <= 1.0 && of(&sound, "decode_share") <= 1.0, "{sound}");
    // Long ago, and when they are asked for anew.
    change("measured", json!(1_000_000_000));
    run(&["plan"]);
    assert!(of(&rates(), "measured") >= of(&sound, "measured"), "{}", rates());
    let slow = json!(of(&sound, "bytes_per_second") / 1e6);
    change("bytes_per_second", slow.clone());
    run(&["plan"]);
    assert_eq!(rates()["bytes_per_second"], slow, "they were measured again");
    run(&["plan", "--measure-rates"]);
    assert!(rates()["bytes_per_second"].as_f64() > slow.as_f64(), "{}", rates());
    // A run that passes them says so, and they are gone.
    change("bytes_per_second", slow);
    let ran = run(&["run"]);
    assert!(ran.stderr.contains("note: the share of the roofline is not known"), "{}", ran.stderr);
    let receipt = receipt(&bench, "out.parquet").0;
    assert!(receipt["notes"].to_string().contains("--measure-rates") && files().is_empty(), "{receipt}");
    for key in ["prefill_roofline_share", "decode_roofline_share"] {
        assert!(receipt.get(key).is_none_or(|share| share.as_f64() <= Some(1.0)), "{receipt}");
    }
    run(&["plan", "--limit", "0", "--fresh"]);
    assert!(files().is_empty());
    run(&["plan", "--fresh"]);
    assert_eq!(files().len(), 1);
}

#[test]
fn a_right_label_has_its_price() {
    let bench = Bench::new();
    let input = table(&bench, 20);
    let model = golden("qwen3");
    let job =
        ["run", "--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input, "-o", "out.parquet"];
    let choices = ["--choices", "label=mill,river", "--prompt", "{{ q }}", "--max-error-rate", "1"];
    let ran = bench.run(&[&job[..], &choices].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let evaluate = |more: &[&str]| {
        bench.run(&[&["evaluate", "out.parquet", "--truth", "label=label", "--json"], more].concat())
    };
    let unpriced = json_of(&evaluate(&[]));
    assert!(unpriced[0].get("money_per_right_label").is_none(), "{unpriced}");
    let priced = json_of(&evaluate(&["--price-per-hour", "3600"]));
    // Each label is right by itself; rows with errors have none, and count as those that have one.
    let seconds = receipt(&bench, "out.parquet").0["active_seconds"].as_f64().unwrap();
    let money = priced[0]["money_per_right_label"].as_f64().unwrap();
    assert!((money - seconds / 20.0).abs() < 1e-9 * seconds, "{money}, {seconds}");
    // Two columns are charged with the whole job each, which is said with what both come to.
    let two = ["evaluate", "out.parquet", "--truth", "label=label", "--truth", "q=q"];
    let two = bench.run(&[&two[..], &["--price-per-hour", "3600"]].concat());
    let said = two.stdout.lines().last().unwrap();
    let together = said.split(" cost ").nth(1).unwrap().split(' ').next().unwrap().parse::<f64>().unwrap();
    assert!(said.contains("each column above is charged with the whole job"), "{said}");
    assert!((together - seconds / 38.0).abs() < 0.01 * seconds, "{together}, {seconds}");
    assert!(!evaluate(&[]).stdout.contains("charged"));
}

#[test]
fn a_sweep_is_one_table() {
    let bench = Bench::new();
    std::fs::copy(golden("llama3").join("config.json"), bench.path("config.json")).unwrap();
    let flags = ["bench", "throughput", "--device", "cpu", "--model", ".", "--load-format", "dummy"];
    let flags =
        [&flags[..], &["--input-len", "12", "--output-len", "5", "--sweep", "num-prompts=1,7"]].concat();
    let flags = [&flags[..], &["--output-csv", "runs.csv", "--output-json", "runs.json"]].concat();
    let ran = bench.run(&[&flags[..], &["--price-per-hour", "3600"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines.len() == 4 && lines[0].ends_with("| money/1M tokens |") && lines[3].starts_with("| 7 | "));
    assert!(lines[0].contains("| step p50 ms | step p99 ms |"), "{}", lines[0]);
    let runs: Value = serde_json::from_slice(&std::fs::read(bench.path("runs.json")).unwrap()).unwrap();
    // At 3,600 an hour a second costs 1.
    let money = runs[1]["money_per_million_tokens"].as_f64().unwrap();
    let wanted = runs[1]["elapsed_time"].as_f64().unwrap() * 1e6 / 119.0;
    assert!((money - wanted).abs() < 1e-6 * wanted, "{runs}");
    // What warmed up is apart: 7 prompts of 12 tokens in one step, then 4 steps with a token each.
    let run = &runs[1];
    assert!(run["warmup_time"].as_f64().unwrap() > 0.0);
    assert_eq!(
        (&run["steps"], &run["num_prompt_tokens"], &run["cached_tokens"]),
        (&json!(5), &json!(84), &json!(0))
    );
    for key in ["step_time_percentiles_ms", "request_latency_percentiles_ms"] {
        let of = |name: &str| run[key][name].as_f64().unwrap();
        assert!(0.0 < of("minimum") && of("minimum") <= of("p50") && of("p50") <= of("p99"), "{run}");
        assert!(of("p99") <= of("maximum") && of("maximum") <= 1e3 * run["elapsed_time"].as_f64().unwrap());
    }
    assert!(run["joules"].is_number() != run["energy"].as_str().unwrap().starts_with("not measured: "));
    let csv = std::fs::read_to_string(bench.path("runs.csv")).unwrap();
    let heads: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    assert!(heads.contains(&"step_time_percentiles_ms.p90"), "{heads:?}");
    // As a reader of CSV has it, with commas within cells.
    let input = jobs::input::Input::open(&[bench.name("runs.csv")]).unwrap();
    let names: Vec<String> = input.schema.fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, heads);
    let batches = input.read((0..names.len()).collect(), 0..input.rows);
    let batches: Vec<RecordBatch> =
        batches.map(|batch| batch.unwrap().refuse_lost().unwrap().columns).collect();
    let column = |name: &str| batches.iter().flat_map(|batch| texts(batch, name)).collect::<Vec<String>>();
    let of_runs = |name: &str| -> Vec<String> {
        let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), String::from);
        let value = |run: &Value| name.split('.').fold(run.clone(), |value, part| value[part].clone());
        runs.as_array().unwrap().iter().map(|run| shown(&value(run))).collect()
    };
    assert_eq!(column("total_num_tokens"), ["17", "119"]);
    for name in ["device", "energy", "num_prompt_tokens", "model"] {
        assert_eq!(column(name), of_runs(name), "{name}");
    }
    // A place that cannot be written to is refused before the work.
    for flag in ["--output-json", "--output-csv"] {
        let refused = bench.run(&[&flags[..], &[flag, "no/folder/x"]].concat());
        assert!(
            refused.code == 2 && refused.stderr.contains("cannot write no/folder/x"),
            "{}",
            refused.stderr
        );
        assert!(!refused.stderr.contains("engine: ") && refused.stdout.is_empty(), "{}", refused.stderr);
    }
    let wrong = bench.run(&[&flags[..10], &["--sweep", "seqs=1"]].concat());
    assert!(wrong.code == 2 && wrong.stderr.contains("is not num-prompts=N,..."), "{}", wrong.stderr);
}

/// A pilot begins the job, and so its price is the job's.
#[test]
fn a_price_given_to_a_pilot_is_kept() {
    let bench = Bench::new();
    let input = bench.table("in.parquet", vec![("q", strings(&[Some("one"), Some("two"), Some("three")]))]);
    let model = support::golden("qwen3");
    let job = ["--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input, "-o", "out.parquet"];
    let answers = ["--prompt", "{{ q }}", "--max-tokens", "4", "--temperature", "0"];
    let run = |command: &str, more: &[&str]| bench.run(&[&[command], &job[..], &answers, more].concat());
    let planned = run("plan", &["--pilot", "1", "--price-per-hour", "3600"]);
    assert_eq!(planned.code, 0, "{}", planned.stderr);
    let ran = run("run", &[]);
    assert!(ran.code == 0 && ran.stderr.contains("at 3600 an hour"), "{}", ran.stderr);
}
