#![allow(clippy::unwrap_used)]
use super::*;

fn start(rows: u64, figures: Option<StartFigures>) -> Start {
    Start { began: 1_000_000_000, active_ms: 1500, rows, figures, ..Start::default() }
}

#[test]
fn a_receipt_that_was_edited_or_is_another_jobs_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = Manifest {
        version: String::new(),
        identity: Default::default(),
        identity_blake3: "one".into(),
        inputs_blake3: Some("two".into()),
        rows: 0,
        aborted: 0,
        unreadable: 0,
        nulls: vec![],
        parts: vec![],
    };
    assert!(problems(folder.path(), &manifest).is_empty());
    let receipt =
        Receipt { identity_blake3: "one".into(), inputs_blake3: "two".into(), ..Receipt::default() };
    let text = receipt.to_json();
    write(folder.path(), &text).unwrap();
    assert_eq!(problems(folder.path(), &manifest), Vec::<String>::new());
    assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap()[SEAL].is_string());
    let cheaper = text.replace("\"rows\": 0", "\"rows\": 1");
    assert_ne!(cheaper, text);
    write(folder.path(), &cheaper).unwrap();
    assert!(problems(folder.path(), &manifest)[0].contains("is not as it was written"));
    write(folder.path(), "{}").unwrap();
    assert!(problems(folder.path(), &manifest)[0].contains("is not as it was written"));
    write(folder.path(), &Receipt { inputs_blake3: "three".into(), ..receipt }.to_json()).unwrap();
    assert!(problems(folder.path(), &manifest)[0].contains("another job"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_the_journal_does_not_know_is_said() {
    let known = start(3, Some(StartFigures::default()));
    let endings = Endings::default();
    assert!(notes(std::slice::from_ref(&known), 3, &endings).is_empty());
    let lost = notes(std::slice::from_ref(&known), 5, &endings);
    assert!(
        lost.len() == 1 && lost[0].contains("lack those of 2 rows: the journal was repaired"),
        "{lost:?}"
    );
    let before = notes(&[start(2, None), known.clone()], 5, &endings);
    assert!(before.len() == 1 && before[0].contains("2 rows, which an earlier version"), "{before:?}");
    // A row that is given up is finished by no start.
    let crashed = [(RowErrorKind::CrashedDevice.text().to_string(), 2)];
    let endings = Endings { errors: crashed.into(), ..Endings::default() };
    assert!(notes(&[known], 5, &endings).is_empty());
    assert_eq!(notes(&[], 2, &endings), ["every row is an error"]);
    assert_eq!(notes(&[], 0, &Endings::default()), ["there are no rows, so that nothing was spent"]);
}

#[test]
fn a_receipt_has_at_most_eight_lines() {
    let notes = vec!["one".to_string(); 3];
    let receipt =
        Receipt { prefill_tokens: 1, peak_memory_bytes: Some(3 << 20), notes, ..Receipt::default() };
    let lines = receipt.lines();
    assert!(lines.lines().count() <= 8 && lines.contains("memory: 3 MiB at most"), "{lines}");
}

#[test]
fn times_are_shown_whatever_a_clock_has_said() {
    assert_eq!(utc(1_000_000_000, 1500), "2001-09-09T01:46:41Z");
    assert_eq!(utc(u64::MAX, u64::MAX), "9999-12-31T23:59:59Z");
}
