//! Whether a plan with a pilot says what the run then takes, on a device that only pretends: counts, tokens, time.
//!
//! `cargo bench --bench plan -- --rows 100000 --pilot 64`. Steps of the device take a time, `--step-us 2000`, and more for
//! each token, `--token-us 10`.

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use engine::device::Device;
use engine::pretend::{PretendDevice, letter_or_end};
use jobs::cli::args::Command;
use jobs::cli::parse::parse;
use jobs::error::JobError;
use jobs::options::job::JobOptions;
use jobs::plan::{Plan, PlanOptions};
use jobs::run::run_on;
use jobs::store::location::state_dir_beside;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::Value;
use std::error::Error;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The model whose tokenizer and limits are used; its weights never are.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/qwen3");

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let number = |flag: &str, usual: u64| {
        let given = args.iter().position(|arg| arg == flag).and_then(|at| args.get(at + 1));
        given.map_or(Ok(usual), |number| number.parse())
    };
    let (rows, pilot) = (number("--rows", 100_000)?, number("--pilot", 64)?);
    let takes = [number("--step-us", 2000)?, number("--token-us", 10)?].map(Duration::from_micros);
    let folder = tempfile::tempdir()?;
    let (input, output) = (folder.path().join("in.parquet"), folder.path().join("out.parquet"));
    write_prompts(&input, rows)?;
    let open = |_: &_| -> Result<Box<dyn Device>, JobError> {
        Ok(Box::new(PretendDevice::new(letter_or_end).that_takes(takes[0], takes[1])))
    };
    let begun = Instant::now();
    let plan = Plan::of(
        options(&input, &output)?,
        PlanOptions { pilot: Some(pilot), ..PlanOptions::default() },
        &open,
    )?;
    let (planning, plan) = (begun.elapsed(), serde_json::to_value(&plan)?);
    let before = active_seconds(&output)?;
    run_on(options(&input, &output)?, open)?;
    let receipt = std::fs::read(state_dir_beside(&output).join("receipt.json"))?;
    let receipt: Value = serde_json::from_slice(&receipt)?;
    report(&plan, &receipt, planning, before)
}

/// Prompts of 20 to 300 letters; one row in 100 has none.
fn write_prompts(path: &Path, rows: u64) -> Result<(), Box<dyn Error>> {
    let prompt = |row: u64| {
        let asked = "What did the miller say of the wheel? ".repeat(1 + (row * 7919 % 8) as usize);
        (row % 100 != 7).then(|| format!("{row}: {asked}"))
    };
    let prompts: ArrayRef = Arc::new((0..rows).map(prompt).collect::<StringArray>());
    let batch = RecordBatch::try_from_iter_with_nullable([("question", prompts, true)])?;
    let groups = WriterProperties::builder().set_max_row_group_row_count(Some(10_000)).build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, batch.schema(), Some(groups))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

fn options(input: &Path, output: &Path) -> Result<JobOptions, Box<dyn Error>> {
    let (input, output) = (input.display().to_string(), output.display().to_string());
    let mut flags =
        vec!["gristmill", "run", "--device", "cpu", "--model", MODEL, "-i", &input, "-o", &output];
    flags.extend(["--prompt-column", "question", "--max-tokens", "48", "--temperature", "1"]);
    let Command::Run(args) = parse(flags.into_iter().map(Into::into))?.command else {
        return Err("not a run".into());
    };
    Ok(args.job_options()?)
}

/// The time that the pilot took, by the journal.
fn active_seconds(output: &Path) -> Result<f64, Box<dyn Error>> {
    let journal = rusqlite::Connection::open(state_dir_beside(output).join("journal.sqlite"))?;
    let sum = "SELECT coalesce(sum(elapsed_ms), 0) / 1e3 FROM starts";
    Ok(journal.query_row(sum, [], |row| row.get(0))?)
}

/// Prints both, and fails if a count differs or a range does not hold what came.
fn report(plan: &Value, receipt: &Value, planning: Duration, pilot: f64) -> Result<(), Box<dyn Error>> {
    let of = |value: &Value, key: &str| value[key].as_f64().unwrap_or(f64::NAN);
    let errors = |value: &Value| value["errors"]["null prompt"].clone();
    let tokens = &plan["pilot"]["generated_tokens"];
    let (value, error, generated) =
        (of(tokens, "value"), of(tokens, "error"), of(receipt, "generated_tokens"));
    let seconds = &plan["costs"]["seconds"];
    let (least, expected, most) = (of(seconds, "least"), of(seconds, "expected"), of(seconds, "most"));
    let took = of(receipt, "active_seconds") - pilot;
    println!("| | plan | run |\n|---|---:|---:|");
    println!("| rows | {} | {} |", plan["rows"], receipt["rows"]);
    println!("| errors | {} | {} |", errors(plan)["rows"], errors(receipt));
    println!("| tokens of prompts | {} | {} |", plan["prompt_tokens"]["sum"], receipt["input_tokens"]);
    println!("| tokens of answers | {value:.0} ± {error:.0} | {generated:.0} |");
    println!("| off by | {:.1} % | |", 100.0 * (value / generated - 1.0).abs());
    println!("| seconds after the pilot | {least:.1} to {most:.1}, about {expected:.1} | {took:.1} |");
    println!("| seconds of the pilot | | {pilot:.1} |");
    println!("| seconds of plan and pilot | {:.1} | |", planning.as_secs_f64());
    let exact = plan["rows"] == receipt["rows"]
        && errors(plan)["rows"] == errors(receipt)
        && plan["prompt_tokens"]["sum"] == receipt["input_tokens"];
    let within = (value - generated).abs() <= 0.15 * generated && (least..=most).contains(&took);
    if exact && within { Ok(()) } else { Err("the plan does not hold what came".into()) }
}
