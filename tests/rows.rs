//! Rows in memory on a device that pretends: many of them, through a window of few.

#![allow(clippy::unwrap_used)]

mod support;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use engine::pretend::{PretendDevice, letter_or_end};
use jobs::cli::keywords::Keywords;
use jobs::error::JobError;
use jobs::rows::LoadedModel;
use jobs::rows::stream::{Next, RowStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Rows of a batch that is handed in.
const BATCH: i64 = 1000;

/// Prompts; one row in 100 has none.
fn batch(first: i64) -> RecordBatch {
    let ids = first..first + BATCH;
    let prompt = |i: i64| (i % 100 != 7).then(|| format!("What did the miller of village {i} say?"));
    let prompts: ArrayRef = Arc::new(ids.clone().map(prompt).collect::<StringArray>());
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
    RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("q", prompts, true)]).unwrap()
}

fn loaded(options: &str) -> (Keywords, LoadedModel) {
    let model = support::golden("qwen3");
    let options = format!("model = {:?}\nload_format = \"dummy\"\n{options}", model.to_str().unwrap());
    let keywords = Keywords::new(None, None, options.parse().unwrap()).unwrap();
    let open = |_: &_| Ok(Box::new(PretendDevice::new(letter_or_end)) as _);
    let model = LoadedModel::load(&keywords.run_args().unwrap(), open).unwrap();
    (keywords, model)
}

/// Resident memory in KiB.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
}

#[test]
fn a_long_stream_has_every_row_once_in_order_and_in_bounded_memory() {
    let rows = std::env::var("GRISTMILL_STREAM_ROWS").map_or(20_000, |rows| rows.parse().unwrap());
    let (keywords, mut model) = loaded("prompt_column = \"q\"\nmax_tokens = 16\ntemperature = 1");
    let schema = batch(0).schema();
    let job = model.job(keywords.run_args().unwrap().row_options().unwrap(), &schema).unwrap();
    let read = Arc::new(AtomicI64::new(0));
    let batches = {
        let read = read.clone();
        (0..rows / BATCH).map(move |at| {
            read.fetch_add(BATCH, Ordering::Relaxed);
            Ok(batch(at * BATCH))
        })
    };
    let (done, given_back) = channel();
    let stream = RowStream::begin(model, job, batches, 0, move |model| done.send(model).unwrap()).unwrap();
    let (mut next, mut errors, mut held, mut early, mut most) = (0, 0, 0, 0, 0);
    let begun = std::time::Instant::now();
    loop {
        let answers = match stream.next(Duration::from_secs(1)).unwrap() {
            Next::Batch(answers) => answers,
            Next::Waits => continue,
            Next::End => break,
        };
        for id in answers.column(0).as_primitive::<Int64Type>().values() {
            assert_eq!(*id, next);
            next += 1;
        }
        let error = answers.column_by_name("error").unwrap();
        errors += answers.num_rows() - error.null_count();
        held = held.max(read.load(Ordering::Relaxed) - next);
        let now = resident().unwrap_or(0);
        // The window is full by then.
        if next < rows / 4 { early = early.max(now) } else { most = most.max(now) }
    }
    assert_eq!((next, errors as i64), (rows, rows / 100));
    assert!(held <= 65_536 + 2 * BATCH, "{held} rows were held");
    assert!(given_back.recv().unwrap().is_some());
    let rate = rows as f64 / begun.elapsed().as_secs_f64();
    println!(
        "{rows} rows in a stream, {rate:.0} a second, memory {early} KiB in the first quarter and {most} KiB after it"
    );
    if rows >= 1_000_000 {
        assert!(most as f64 <= 1.1 * early as f64, "memory grew from {early} to {most} KiB");
    }
}

#[test]
fn a_run_that_ends_early_leaves_the_model_to_the_next() {
    let (keywords, mut model) = loaded("prompt_column = \"q\"\nmax_tokens = 200\ntemperature = 0");
    let options = || keywords.run_args().unwrap().row_options().unwrap();
    let schema = batch(0).schema();
    let run = |mut model: LoadedModel, stop: bool| {
        let job = model.job(options(), &schema).unwrap();
        let (done, given_back) = channel();
        let batches = [batch(0)].into_iter().map(Ok::<_, JobError>);
        let stream =
            RowStream::begin(model, job, batches, 0, move |model| done.send(model).unwrap()).unwrap();
        if stop {
            drop(stream);
            return (given_back.recv().unwrap().unwrap(), None);
        }
        loop {
            match stream.next(Duration::from_secs(1)).unwrap() {
                Next::Batch(answers) => return (given_back.recv().unwrap().unwrap(), Some(answers)),
                Next::Waits => {}
                Next::End => panic!("no answers"),
            }
        }
    };
    let (model_after, known) = run(model, false);
    model = model_after;
    for _ in 0..3 {
        (model, _) = run(model, true);
        let (after, answers) = run(model, false);
        model = after;
        assert_eq!(answers, known);
    }
}

#[test]
fn an_input_that_fails_ends_the_run_and_not_the_model() {
    let (keywords, mut model) = loaded("prompt_column = \"q\"\nmax_tokens = 4\ntemperature = 0");
    let options = keywords.run_args().unwrap().row_options().unwrap();
    let job = model.job(options, &batch(0).schema()).unwrap();
    let fails = || JobError::Usage("the reader broke".into());
    let (done, given_back) = channel();
    let stream = RowStream::begin(model, job, [Ok(batch(0)), Err(fails())].into_iter(), 0, move |model| {
        done.send(model).unwrap();
    });
    let stream = stream.unwrap();
    let error = loop {
        match stream.next(Duration::from_secs(1)) {
            Ok(Next::End) => panic!("an end without the error"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.to_string(), "the reader broke");
    assert!(given_back.recv().unwrap().is_some());
}
