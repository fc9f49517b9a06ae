#![allow(clippy::unwrap_used)]
use super::*;
use crate::journal::answer::Answer;
use crate::journal::tests::{answer, inputs, job_identity};
use crate::journal::{Journal, ResumeMode};
use crate::store::location::state_dir_beside;

fn status_of(output: &Path) -> Result<Status, JobError> {
    Status::of(&Location::Local(output.to_path_buf()), &state_dir_beside(output))
}

#[test]
fn status_counts_what_is_committed_also_while_the_job_runs() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.parquet");
    assert!(matches!(status_of(&output), Err(JobError::Usage(_))));
    let state_dir = state_dir_beside(&output);
    let (mut journal, _) =
        Journal::open_or_create(&state_dir, &job_identity(), &inputs(200), ResumeMode::Auto).unwrap();
    for row in 0..100 {
        journal.append(answer(row)).unwrap();
    }
    journal.append(Answer::failed(100, None, "null prompt: x")).unwrap();
    journal.append(Answer::failed(101, None, "null prompt: x")).unwrap();
    journal.append_shared(Answer { row: 102, ..answer(0) }).unwrap();
    journal.commit().unwrap();
    let status = status_of(&output).unwrap();
    assert_eq!(status.process, Some(std::process::id().to_string()));
    let expected: Vec<Answer> = (0..100).map(answer).collect();
    let tokens: u64 = expected.iter().map(Answer::num_generated_tokens).sum();
    let errors = expected.iter().filter(|answer| answer.error.is_some()).count() as u64;
    assert_eq!((status.rows, status.finished, status.generated_tokens), (200, 103, tokens));
    assert_eq!(status.errors, [("null prompt".into(), 2), ("prompt too long".into(), errors)].into());
    journal.close().unwrap();
    let after = status_of(&output).unwrap();
    assert_eq!((after.process, after.seconds_left, after.finished), (None, None, 103));
    assert!(status.to_string().contains("103 of 200 (51.5 %)"), "{status}");
    assert!(status.to_string().contains("shared     1 took"), "{status}");
}

#[test]
fn a_limited_job_is_as_long_as_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.parquet");
    let state_dir = state_dir_beside(&output);
    let run = |rows: u64, answers: std::ops::Range<u64>| {
        let (mut journal, _) =
            Journal::open_or_create(&state_dir, &job_identity(), &inputs(200), ResumeMode::Auto).unwrap();
        journal.note_rows(rows).unwrap();
        answers.for_each(|row| journal.append(Answer::failed(row, None, "null prompt: x")).unwrap());
        journal.close().unwrap();
        let status = status_of(&output).unwrap();
        (status.rows, status.finished, status.errors["null prompt"], status.starts)
    };
    assert_eq!(run(20, 0..10), (20, 10, 10, 1));
    assert_eq!(run(200, 10..30), (200, 30, 30, 2));
    // A start that has done nothing is none, as in the receipt.
    assert_eq!(run(5, 30..30), (5, 5, 5, 2));
}
