//! A plan with a pilot, and then the run, on a device that only pretends.

#![allow(clippy::unwrap_used)]

mod support;

use arrow::array::RecordBatch;
use engine::device::{Device, Peaks};
use engine::models::{LoadFormat, Model};
use engine::pretend::{PretendDevice, Work, letter_or_end};
use engine::request::{Request, SamplingParams};
use engine::{Engine, EngineConfig, StepCosts, StepLoad};
use jobs::cli::args::Command;
use jobs::cli::parse::parse;
use jobs::error::JobError;
use jobs::options::job::JobOptions;
use jobs::plan::{Plan, PlanOptions};
use jobs::run::run_on;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use support::golden;
use support::job::{Bench, ints, read, strings};

const ROWS: usize = 3000;

fn options(bench: &Bench, output: &str, flags: &[&str]) -> JobOptions {
    let (input, output, model) = (bench.name("in.parquet"), bench.name(output), golden("qwen3"));
    let mut all =
        vec!["gristmill", "run", "--device", "cpu", "--model", model.to_str().unwrap(), "-i", &input];
    all.extend(["-o", &output, "--max-error-rate", "1"]);
    all.extend(flags);
    let Command::Run(args) = parse(all.into_iter().map(Into::into)).unwrap().command else { panic!() };
    args.job_options().unwrap()
}

fn device(work: &Arc<Work>) -> Result<Box<dyn Device>, JobError> {
    Ok(Box::new(PretendDevice::new(letter_or_end).counting(work.clone())))
}

/// Plans a job with a pilot of so many rows and runs it. Gives the plan, the receipt, and how many tokens were sampled in all.
fn plan_and_run(bench: &Bench, output: &str, flags: &[&str], pilot: u64) -> (Value, Value, u64) {
    let work = Arc::new(Work::default());
    let open = |_: &_| device(&work);
    let plan = Plan::of(
        options(bench, output, flags),
        PlanOptions { pilot: Some(pilot), ..PlanOptions::default() },
        &open,
    )
    .unwrap();
    run_on(options(bench, output, flags), open).unwrap();
    let receipt = std::fs::read(bench.path(&format!("{output}.gristmill/receipt.json"))).unwrap();
    let sampled = work.sampled.load(Ordering::Relaxed);
    (serde_json::to_value(&plan).unwrap(), serde_json::from_slice(&receipt).unwrap(), sampled)
}

/// One row in 50 has no prompt.
fn table(bench: &Bench, rows: usize, prompt: impl Fn(usize) -> String) {
    let prompts: Vec<Option<String>> = (0..rows).map(|row| (row % 50 != 7).then(|| prompt(row))).collect();
    let prompts: Vec<Option<&str>> = prompts.iter().map(Option::as_deref).collect();
    let batch = RecordBatch::try_from_iter_with_nullable([("q", strings(&prompts), true)]).unwrap();
    bench.batch("in.parquet", &batch, 500);
}

#[test]
fn a_pilot_says_how_long_answers_are_and_is_not_paid_twice() {
    let bench = Bench::new();
    table(&bench, ROWS, |row| format!("What did the miller of village {row} say?"));
    let flags = ["--prompt-column", "q", "--max-tokens", "48", "--temperature", "1"];
    let (plan, receipt, sampled) = plan_and_run(&bench, "out.parquet", &flags, 100);
    // Counts and tokens of prompts are those of the run, also where rows have run before it.
    let of = |value: &Value, key: &str| value[key].as_f64().unwrap();
    assert_eq!((&plan["rows"], &receipt["rows"]), (&ROWS.into(), &ROWS.into()));
    assert_eq!(plan["errors"]["null prompt"]["rows"], receipt["errors"]["null prompt"]);
    assert_eq!((&plan["finished"], &plan["pilot"]["rows"]), (&100.into(), &100.into()));
    assert_eq!(plan["prompt_tokens"]["sum"], receipt["input_tokens"]);
    // Tokens of answers are within 15 % of the run's, and within what the plan says of itself.
    let estimate = &plan["pilot"]["generated_tokens"];
    let (value, error, generated) =
        (of(estimate, "value"), of(estimate, "error"), of(&receipt, "generated_tokens"));
    assert!((value - generated).abs() < 0.15 * generated, "{value}, {generated}");
    assert!((value - generated).abs() <= error && error < 0.25 * value, "{value} ± {error}, {generated}");
    // What follows from the tokens does so by a range around what is expected.
    let seconds = &plan["costs"]["seconds"];
    let (least, expected, most) = (of(seconds, "least"), of(seconds, "expected"), of(seconds, "most"));
    assert!(0.0 < least && least <= expected && expected <= most, "{seconds}");
    // Both have sampled as much as a job without a pilot does, and written the same bytes.
    assert_eq!((&receipt["starts"], &receipt["output_rows"]), (&2.into(), &ROWS.into()));
    let work = Arc::new(Work::default());
    run_on(options(&bench, "other.parquet", &flags), |_| device(&work)).unwrap();
    // The step after a row's last token is sampled and not kept.
    let alone = work.sampled.load(Ordering::Relaxed);
    assert!(sampled.abs_diff(alone) <= 4 * ROWS as u64 / 100, "{sampled}, {alone}");
    let bytes = |name: &str| std::fs::read(bench.path(name)).unwrap();
    assert!(bytes("out.parquet") == bytes("other.parquet"), "the pilot's rows were answered otherwise");
    // A plan of a job that is done has nothing left to pay for.
    let open = |_: &_| device(&work);
    let pilot = PlanOptions { pilot: Some(100), ..PlanOptions::default() };
    let done = Plan::of(options(&bench, "out.parquet", &flags), pilot, &open).unwrap();
    let done = serde_json::to_value(&done).unwrap();
    assert_eq!(of(&done["costs"]["seconds"], "most"), 0.0, "{done}");
    assert_eq!(done["pilot"], plan["pilot"]);
}

/// Of a long job, too, every count is the run's.
#[test]
fn a_plan_of_a_hundred_thousand_rows_counts_what_the_run_does() {
    let bench = Bench::new();
    let rows = 100_000;
    // One in eight asks what another has asked, not so long ago that its answer is forgotten.
    table(&bench, rows, |row| format!("mill {}", if row % 8 == 3 { row - 3 } else { row }));
    let flags =
        ["--prompt-column", "q", "--raw", "--max-tokens", "3", "--temperature", "0", "--log-level", "off"];
    let work = Arc::new(Work::default());
    let open = |_: &_| device(&work);
    let plan = Plan::of(options(&bench, "out.parquet", &flags), PlanOptions::default(), &open).unwrap();
    let plan = serde_json::to_value(&plan).unwrap();
    run_on(options(&bench, "out.parquet", &flags), open).unwrap();
    let receipt = std::fs::read(bench.path("out.parquet.gristmill/receipt.json")).unwrap();
    let receipt: Value = serde_json::from_slice(&receipt).unwrap();
    assert_eq!((&plan["rows"], &receipt["rows"]), (&rows.into(), &rows.into()));
    assert_eq!(plan["errors"]["null prompt"]["rows"], receipt["errors"]["null prompt"]);
    assert_eq!(plan["prompt_tokens"]["sum"], receipt["input_tokens"]);
    assert_eq!(plan["shared_prompts"], receipt["shared_rows"]);
    assert_eq!(plan["shared_input_tokens"], receipt["shared_input_tokens"]);
    let of = |value: &Value, key: &str| value[key].as_u64().unwrap();
    assert!(of(&receipt, "shared_rows") > 10_000 && of(&plan, "distinct_prompts") < 88_000, "{plan}");
    let (least, most) = (of(&plan["generated_tokens"], "least"), of(&plan["generated_tokens"], "most"));
    assert!((least..=most).contains(&of(&receipt, "generated_tokens")), "{plan}");
    // The rows of the output say the same, one by one.
    let out = read(&bench.path("out.parquet"));
    let tokens: i64 = ints(&out, "num_input_tokens").iter().flatten().map(|&n| i64::from(n)).sum();
    assert_eq!(plan["prompt_tokens"]["sum"], tokens);
}

#[test]
fn a_plan_reckons_steps_as_the_engine_compares_them() {
    let model = Model::open(&golden("qwen3"), LoadFormat::Dummy).unwrap();
    let device = || Box::new(PretendDevice::new(letter_or_end));
    let config = EngineConfig::default();
    let rates = Peaks { bytes_per_second: 1e9, flops_per_second: 1e9, fp8_flops_per_second: 1e9 };
    let costs = StepCosts::of(&model, device().as_ref(), &config).unwrap();
    let mut engine = Engine::new(&model, device(), &config).unwrap();
    let params = SamplingParams { max_tokens: 2, ..SamplingParams::default() };
    let run = |engine: &mut Engine, id| {
        engine.add(Request::new(id, (100..110).collect(), params.clone())).unwrap();
        while !engine.is_idle() {
            engine.step().unwrap();
        }
        engine.stats()
    };
    let unknown = run(&mut engine, 1);
    assert!(unknown.prefill_bound.is_zero() && unknown.decode_bound.is_zero());
    engine.compare_with(rates);
    let known = run(&mut engine, 2);
    // A step of ten tokens, each of which attends to those before it, and one of the eleventh.
    let bound =
        |tokens, attended, contexts| costs.bound(StepLoad { tokens, seqs: 1.0, attended, contexts }, &rates);
    for (engine, plan) in
        [(known.prefill_bound, bound(10.0, 55.0, 10.0)), (known.decode_bound, bound(1.0, 11.0, 11.0))]
    {
        assert!((engine.as_secs_f64() - plan).abs() < 1e-6 * plan && plan > 0.0, "{engine:?}, {plan}");
    }
}

#[test]
fn a_pilot_of_documents_counts_their_merges() {
    let bench = Bench::new();
    let thread = |row: usize| "the mill by the river grinds the grain. ".repeat(1 + row % 40);
    table(&bench, 600, thread);
    let documents = r#"{"column": "q", "map-prompt": "Note: {{ chunk }}",
        "reduce-prompt": "{{ notes | join(' ') }}"}"#;
    let flags = ["--documents", documents, "--max-tokens", "24", "--temperature", "1"];
    let (plan, receipt, _) = plan_and_run(&bench, "out.parquet", &flags, 150);
    let of = |value: &Value, key: &str| value[key].as_f64().unwrap();
    for (key, whole) in [("input_tokens", "input_tokens"), ("generated_tokens", "generated_tokens")] {
        let estimate = &plan["pilot"][key];
        let (value, whole) = (of(estimate, "value"), of(&receipt, whole));
        assert!((value - whole).abs() < 0.15 * whole, "{key}: {value}, {whole}");
    }
    // Requests of chunks are those of the run, merges within a range.
    let chunks: i32 = ints(&read(&bench.path("out.parquet")), "num_chunks").iter().flatten().sum();
    assert_eq!(plan["documents"]["chunks"], chunks);
    assert!(of(&plan["prompt_tokens"], "sum") < of(&receipt, "input_tokens"));
}
