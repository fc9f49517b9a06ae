//! The cost of the host in a long job, with a fake device: rows and tokens per second, memory over time, and how long
//! it takes to read the journal of a finished job.
//!
//! `cargo bench --bench long_run -- --rows 1000000`. Linux only: memory and time are read from `/proc`.

use engine::pretend::{PretendDevice, Work, letter_or_end};
use jobs::cli::args::Command;
use jobs::cli::parse::parse;
use jobs::journal::identity::JobIdentity;
use jobs::journal::{Journal, JournalReader, ResumeMode};
use jobs::run::run_on;
use jobs::store::location::state_dir_beside;
use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The model whose tokenizer and limits are used; its weights never are.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/qwen3");

/// Progress and memory of the process at a moment.
struct Sample {
    at: Duration,
    sampled: u64,
    resident_kib: u64,
}

/// Resident memory of this process in KiB, and its processor time so far.
fn process() -> Option<(u64, Duration)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident = resident.trim().trim_end_matches(" kB").parse().ok()?;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the name; user and system time are fields 14 and 15, in hundredths of a second.
    let mut fields = stat.rsplit(") ").next()?.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((resident, Duration::from_millis(10 * (ticks()? + ticks()?))))
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let after = |flag: &str| args.iter().position(|a| a == flag).and_then(|i| args.get(i + 1));
    let rows: u64 = after("--rows").map_or(Ok(20_000), |rows| rows.parse())?;
    let home = tempfile::tempdir_in(after("--folder").map_or(std::env::temp_dir(), Into::into))?;
    let (input, output) = (home.path().join("in.parquet"), home.path().join("out.parquet"));
    write_prompts(&input, rows)?;

    let work = Arc::new(Work::default());
    let done = AtomicBool::new(false);
    let begun = Instant::now();
    let (_, before) = process().ok_or("/proc is needed")?;
    let (ran, samples) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(begun, &work.sampled, &done));
        let ran = answer(&input, &output, &work);
        done.store(true, Ordering::Relaxed);
        (ran, watcher.join())
    });
    ran?;
    let samples = samples.map_err(|_| "the watcher ended")?;
    let (_, after) = process().ok_or("/proc is needed")?;
    report(rows, &samples, begun.elapsed(), after - before);
    resume(&input, &output)?;
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
    let journal = state_dir_beside(&output).join("journal.sqlite");
    println!("journal: {} MB, output: {} MB", bytes(&journal) / 1_000_000, bytes(&output) / 1_000_000);
    Ok(())
}

/// Prompts of about 60 letters; one row in 100 has none.
fn write_prompts(path: &Path, rows: u64) -> Result<(), Box<dyn Error>> {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    let batch = |rows: Range<u64>| {
        let prompt = |i: u64| {
            (i % 100 != 7).then(|| format!("What did the miller of village {i} say of his {i}th wheel?"))
        };
        let prompts: ArrayRef = Arc::new(rows.clone().map(prompt).collect::<StringArray>());
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.map(|i| i as i64)));
        RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("question", prompts, true)])
    };
    // Several row groups in the first 10 %, with which the rest is compared: memory rises from one to the next.
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(20_000))
        .build();
    let schema = batch(0..0)?.schema();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(std::fs::File::create(path)?, schema, Some(properties))?;
    for start in (0..rows).step_by(10_000) {
        writer.write(&batch(start..(start + 10_000).min(rows))?)?;
    }
    writer.close()?;
    Ok(())
}

fn answer(input: &Path, output: &Path, work: &Arc<Work>) -> Result<(), Box<dyn Error>> {
    let (input, output) = (input.display().to_string(), output.display().to_string());
    let mut flags = vec!["gristmill", "run", "--model", MODEL, "-i", &input, "-o", &output];
    flags.extend(["--prompt-column", "question", "--max-tokens", "48", "--temperature", "1"]);
    let Command::Run(args) = parse(flags.into_iter().map(Into::into))?.command else {
        return Err("not a run".into());
    };
    let device = PretendDevice::new(letter_or_end).counting(work.clone());
    run_on(args.job_options()?, |_| Ok(Box::new(device)))?;
    Ok(())
}

/// Samples until the job is done, and prints memory to standard error every 20 seconds.
fn watch(begun: Instant, sampled: &AtomicU64, done: &AtomicBool) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut printed = Duration::ZERO;
    while !done.load(Ordering::Relaxed) {
        if let Some((resident_kib, cpu)) = process() {
            let (at, sampled) = (begun.elapsed(), sampled.load(Ordering::Relaxed));
            samples.push(Sample { at, sampled, resident_kib });
            if at - printed > Duration::from_secs(20) {
                printed = at;
                eprintln!("{at:.0?}, {cpu:.0?} of processor time: {sampled} tokens, {resident_kib} KiB");
            }
        }
        // The samples themselves take memory, so they are few.
        std::thread::sleep(Duration::from_millis(250));
    }
    samples
}

fn report(rows: u64, samples: &[Sample], whole: Duration, processor: Duration) {
    let tokens = samples.last().map_or(0, |s| s.sampled);
    let end = samples.iter().find(|s| s.sampled == tokens).map_or(whole, |s| s.at);
    let most = |range: Range<u64>| {
        samples.iter().filter(|s| range.contains(&s.sampled)).map(|s| s.resident_kib).max().unwrap_or(0)
    };
    let (early, late) = (most(1..tokens / 10), most(tokens / 10..tokens));
    let all = samples.iter().map(|s| s.resident_kib).max().unwrap_or(0);
    let (seconds, cpu) = (end.as_secs_f64(), processor.as_secs_f64());
    println!("| | |\n|---|---:|");
    println!("| rows | {rows} |\n| tokens generated | {tokens} |");
    println!("| time until all are answered | {seconds:.1} s |");
    println!("| rows a second | {:.0} |", rows as f64 / seconds);
    println!("| generated tokens a second | {:.0} |", tokens as f64 / seconds);
    println!("| time with publishing | {:.1} s |", whole.as_secs_f64());
    println!("| processor time in all | {cpu:.1} s |");
    println!("| generated tokens a second of processor time | {:.0} |", tokens as f64 / cpu);
    println!("| resident memory, most in the first 10 % | {:.1} MiB |", early as f64 / 1024.0);
    println!("| most after it | {:.1} MiB |", late as f64 / 1024.0);
    for tenth in 2..=10 {
        let mib = most(tokens / 10 * (tenth - 1)..tokens / 10 * tenth) as f64 / 1024.0;
        println!("| most in tenth {tenth} | {mib:.1} MiB |");
    }
    let growth = 100.0 * (late as f64 / early.max(1) as f64 - 1.0);
    println!("| growth (limit: 1 %) | {growth:.2} % |");
    println!("| most with publishing | {:.1} MiB |", all as f64 / 1024.0);
}

/// Reads the journal as a resumed job does, and then runs the finished job again.
fn resume(input: &Path, output: &Path) -> Result<(), Box<dyn Error>> {
    let work = state_dir_beside(output);
    let reader = JournalReader::open(&work)?;
    let identity = JobIdentity { identity: reader.identity().clone(), format1: Vec::new() };
    let inputs = reader.inputs().clone();
    drop(reader);
    let begun = Instant::now();
    let (journal, finished) = Journal::open_or_create(&work, &identity, &inputs, ResumeMode::Require)?;
    println!(
        "| resume scan of {} rows (limit: 5 s) | {:.2} s |",
        finished.count,
        begun.elapsed().as_secs_f64()
    );
    journal.close()?;
    let begun = Instant::now();
    answer(input, output, &Arc::default())?;
    println!("| the finished job once more | {:.1} s |\n", begun.elapsed().as_secs_f64());
    Ok(())
}
