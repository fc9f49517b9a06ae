#![allow(clippy::unwrap_used)]
use super::*;
use crate::journal::answer::Answer;
use crate::journal::tests::{identity, inputs, job_identity};
use crate::journal::{Journal, ResumeMode};
use crate::publish::columns::Returns;
use arrow::array::RecordBatch;
use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int64Array, LargeStringArray, ListArray, StringArray,
    StringViewArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int32Type, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;

/// Rows `start..end` of a table with columns of several kinds.
fn input(start: i64, end: i64) -> RecordBatch {
    let name = |i: i64| (i % 7 != 3).then(|| format!("row {i}"));
    let label = |i: i64| (i % 5 != 2).then_some(["a", "b", "c"][(i % 3) as usize]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(start..end))),
        ("text", Arc::new((start..end).map(name).collect::<StringArray>())),
        ("large", Arc::new((start..end).map(name).collect::<LargeStringArray>())),
        ("view", Arc::new((start..end).map(name).collect::<StringViewArray>())),
        ("label", Arc::new((start..end).map(label).collect::<DictionaryArray<Int32Type>>())),
        (
            "list",
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
                (start..end).map(|i| (i % 4 != 1).then(|| vec![Some(i as i32); (i % 3) as usize])),
            )),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}

fn schema() -> Schema {
    input(0, 0).schema().as_ref().clone()
}

const ALL: Returns =
    Returns { generated_tokens: true, token_logprobs: true, logprobs: true, prompt_logprobs: true };

/// One way to come to the same output.
#[derive(Clone, Debug)]
struct Schedule {
    /// The order of answers.
    order: Vec<u64>,
    /// After which of them the journal is committed.
    commits: Vec<bool>,
    /// After which of them the job is killed and begun again.
    restarts: Vec<usize>,
    /// Rows of the input's batches.
    batch: i64,
}

fn schedule(rows: u64) -> impl Strategy<Value = Schedule> {
    let order = Just((0..rows).collect::<Vec<_>>()).prop_shuffle();
    let commits = vec(prop::bool::weighted(0.1), rows as usize);
    (order, commits, vec(0..rows.max(1) as usize, 0..3), 1..400i64)
        .prop_map(|(order, commits, restarts, batch)| Schedule { order, commits, restarts, batch })
}

fn open(state_dir: &Path, rows: u64) -> Journal {
    Journal::open_or_create(state_dir, &job_identity(), &inputs(rows), ResumeMode::Auto).unwrap().0
}

/// Runs a job by a schedule and publishes it. Returns the name and the bytes of each file.
fn publish(
    answers: &[Answer],
    n: usize,
    per_file: Option<u64>,
    schedule: &Schedule,
) -> Vec<(String, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    let (output, state_dir) = (folder.path().join("out"), folder.path().join("out.gristmill"));
    let rows = answers.len() as u64;
    let mut journal = open(&state_dir, rows);
    for (i, &row) in schedule.order.iter().enumerate() {
        journal.append(answers[row as usize].clone()).unwrap();
        if schedule.commits[i] {
            journal.commit().unwrap();
        }
        if schedule.restarts.contains(&i) {
            drop(journal);
            journal = open(&state_dir, rows);
        }
    }
    journal.commit().unwrap();
    let columns = OutputColumns::new(&schema(), None, ALL, n, None, "").unwrap();
    let publication = Publication {
        target: &Target::Local(output.clone()),
        state_dir: &state_dir,
        identity: &identity(),
        rows,
        rows_per_file: per_file,
        shard: None,
        columns: &columns,
        input_nulls: BTreeMap::new(),
        unanswered: Unanswered::Refuse,
        results: None,
        may_appear: &|| Ok(()),
    };
    let manifest = publication.publish(&journal.reader().unwrap(), batches(rows, schedule.batch)).unwrap();
    assert_eq!(manifest, Manifest::read(&state_dir.join(manifest::NAME)).unwrap());
    let mut files: Vec<(String, Vec<u8>)> = if per_file.is_some() {
        let names = output.read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.map(|name| (name.clone(), std::fs::read(output.join(name)).unwrap())).collect()
    } else {
        vec![
            ("out".into(), std::fs::read(&output).unwrap()),
            ("m".into(), std::fs::read(state_dir.join("manifest.json")).unwrap()),
        ]
    };
    files.sort();
    files
}

fn batches(rows: u64, size: i64) -> impl Iterator<Item = Result<Batch, JobError>> {
    let starts = (0..rows as i64).step_by(size as usize);
    starts.map(move |start| Ok(Batch::whole(start as u64, input(start, (start + size).min(rows as i64)))))
}

fn read(bytes: &[u8]) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::copy_from_slice(bytes)).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

fn answers(rows: u64, n: usize) -> impl Strategy<Value = Vec<Answer>> {
    (0..rows).map(|row| crate::journal::record::tests::answer(row, n)).collect::<Vec<_>>()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any order, batching and interruption publishes the same bytes.
    #[test]
    fn the_output_is_a_function_of_the_answers(
        (answers, one, two, per_file, n) in (0u64..700, 1usize..3).prop_flat_map(|(rows, n)| (
            answers(rows, n), schedule(rows), schedule(rows), prop::option::of(1u64..400), Just(n),
        ))
    ) {
        let [one, two] = [one, two].map(|schedule| publish(&answers, n, per_file, &schedule));
        prop_assert!(one == two);
        let parts = one.iter().filter(|(name, _)| name == "out" || name.ends_with(".parquet"));
        let tables: Vec<RecordBatch> = parts.map(|(_, bytes)| read(bytes)).collect();
        let table = concat_batches(&tables[0].schema(), &tables).unwrap();
        check(&table, &answers, n);
    }
}

/// Compares a published table with the input and the answers, cell by cell.
fn check(table: &RecordBatch, answers: &[Answer], n: usize) {
    assert_eq!(table.num_rows(), answers.len());
    let input = input(0, answers.len() as i64);
    for name in ["id", "text", "large", "view", "list"] {
        assert_eq!(
            table.column_by_name(name).unwrap().as_ref(),
            input.column_by_name(name).unwrap().as_ref()
        );
    }
    let text = |name: &str| table.column_by_name(name).unwrap().clone();
    let label =
        arrow::compute::cast(input.column_by_name("label").unwrap(), text("label").data_type()).unwrap();
    assert_eq!(&text("label"), &label);
    for (row, answer) in answers.iter().enumerate() {
        let error = text("error");
        let error = error.as_string::<i32>();
        assert_eq!(error.is_valid(row).then(|| error.value(row)), answer.error.as_deref());
        let completion = |name: &str, k: usize| -> ArrayRef {
            let column = text(name);
            if n == 1 { column.slice(row, 1) } else { column.as_list::<i32>().value(row).slice(k, 1) }
        };
        for k in 0..n {
            let expected = answer.completions.get(k);
            let generated = completion("generated_text", k);
            let generated = generated.as_string::<i32>();
            assert_eq!(generated.is_valid(0).then(|| generated.value(0)), expected.map(|c| c.text.as_str()));
            let reason = completion("finish_reason", k);
            assert_eq!(
                reason.as_string::<i32>().value(0),
                expected.map_or("error", |c| c.finish_reason.as_str())
            );
            let tokens = completion("generated_tokens", k);
            let tokens = tokens.as_list::<i32>();
            let tokens =
                tokens.is_valid(0).then(|| tokens.value(0).as_primitive::<Int32Type>().values().to_vec());
            assert_eq!(tokens, expected.map(|c| c.tokens.iter().map(|&t| t as i32).collect()));
            let alternatives = completion("logprobs", k);
            let alternatives = alternatives.as_list::<i32>();
            if let Some(expected) = expected {
                let lists = alternatives.value(0);
                let lengths: Vec<usize> = lists.as_list::<i32>().iter().map(|l| l.unwrap().len()).collect();
                assert_eq!(lengths, expected.logprobs.iter().map(Vec::len).collect::<Vec<_>>());
            }
        }
        let prompt = text("prompt_logprobs");
        let prompt = prompt.as_list::<i32>();
        assert_eq!(prompt.is_valid(row), answer.prompt_logprobs.is_some());
        if let Some(expected) = &answer.prompt_logprobs {
            let lengths: Vec<Option<usize>> =
                prompt.value(row).as_list::<i32>().iter().map(|l| l.map(|l| l.len())).collect();
            assert_eq!(
                lengths,
                expected.iter().map(|p| p.as_ref().map(|p| 1 + p.top.len())).collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn names_that_clash_or_are_not_there_are_refused() {
    let schema =
        Schema::new(vec![arrow::datatypes::Field::new("error", arrow::datatypes::DataType::Utf8, true)]);
    let plan = |keep: Option<&[String]>, prefix| {
        OutputColumns::new(&schema, keep, Returns::default(), 1, None, prefix)
    };
    let message = plan(None, "").unwrap_err().to_string();
    assert!(message.contains("\"error\"") && message.contains("--column-prefix"), "{message}");
    let message = plan(Some(&["none".into()]), "").unwrap_err().to_string();
    assert!(message.contains("\"none\"") && message.contains("only error"), "{message}");
    assert_eq!(plan(Some(&[]), "").unwrap().schema().fields().len(), 5);
    assert_eq!(plan(None, "g_").unwrap().schema().field(1).name(), "g_generated_text");
}

#[test]
fn an_unfinished_job_is_not_published_and_an_aborted_one_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (output, state_dir) = (folder.path().join("out"), folder.path().join("out.gristmill"));
    let mut journal = open(&state_dir, 10);
    journal.append(crate::journal::tests::answer(0)).unwrap();
    journal.append(crate::journal::tests::answer(2)).unwrap();
    journal.commit().unwrap();
    let columns = OutputColumns::new(&schema(), Some(&[]), Returns::default(), 1, None, "").unwrap();
    let publish = |rows, unanswered| {
        let identity = &identity();
        let (target, state_dir) = (&Target::Local(output.clone()), &*state_dir);
        let publication = Publication {
            target,
            state_dir,
            identity,
            rows,
            rows_per_file: None,
            shard: None,
            columns: &columns,
            input_nulls: BTreeMap::new(),
            unanswered,
            results: None,
            may_appear: &|| Ok(()),
        };
        publication.publish(&journal.reader().unwrap(), batches(10, 4))
    };
    let refused = publish(10, Unanswered::Refuse);
    assert!(matches!(refused, Err(JobError::Incomplete { missing: 8, rows: 10, first: 1 })), "{refused:?}");
    let check = || Target::Local(output.clone()).check(&state_dir, false);
    assert!(!output.exists() && check().is_ok());
    std::fs::write(&output, "somebody's").unwrap();
    assert!(matches!(check(), Err(JobError::OutputExists { .. })));
    std::fs::remove_file(&output).unwrap();
    assert_eq!(publish(3, Unanswered::Abort).unwrap().aborted, 1);
    let table = read(&std::fs::read(&output).unwrap());
    let reasons: Vec<_> =
        table.column_by_name("finish_reason").unwrap().as_string::<i32>().iter().flatten().collect();
    assert_eq!(reasons, ["stop", "abort", "stop"]);
    check().unwrap();
    // A second time with more parts, then fewer.
    publish(1, Unanswered::Refuse).unwrap();
    assert_eq!(read(&std::fs::read(&output).unwrap()).num_rows(), 1);
}

/// While a folder of parts is published anew, there is one at every moment.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_is_replaced_is_never_missing() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let folder = tempfile::tempdir().unwrap();
    let (output, state_dir) = (folder.path().join("out"), folder.path().join("out.gristmill"));
    let columns = OutputColumns::new(&schema(), None, Returns::default(), 1, None, "").unwrap();
    let mut journal = open(&state_dir, 3);
    (0..3).for_each(|row| journal.append(Answer::failed(row, None, "no")).unwrap());
    journal.commit().unwrap();
    let reader = journal.reader().unwrap();
    let identity = identity();
    let target = Target::Local(output.clone());
    let publish = |per_file| {
        let publication = Publication {
            target: &target,
            state_dir: &state_dir,
            identity: &identity,
            rows: 3,
            rows_per_file: Some(per_file),
            shard: None,
            columns: &columns,
            input_nulls: BTreeMap::new(),
            unanswered: Unanswered::Refuse,
            results: None,
            may_appear: &|| Ok(()),
        };
        publication.publish(&reader, batches(3, 3)).unwrap();
        let parts = output.read_dir().unwrap().count() as u64;
        assert_eq!(parts, 3u64.div_ceil(per_file));
    };
    publish(1);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = || {
            while !done.load(Ordering::Relaxed) {
                assert!(output.exists())
            }
        };
        let watcher = scope.spawn(watch);
        (0..100).for_each(|i| publish(1 + i % 3));
        done.store(true, Ordering::Relaxed);
        watcher.join().unwrap();
    });
    assert!(!state_dir.join("publishing").exists() && !state_dir.join("replaced").exists());
}
