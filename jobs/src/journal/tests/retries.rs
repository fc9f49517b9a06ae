//! Rows that run again: whatever happens, each has its old answer or the new one.

use super::*;
use crate::journal::endings::Again;
use crate::journal::length_limits::LengthLimits;
use crate::journal::retry::Retry;

const ROWS: u64 = 40;
const FIRST: LengthLimits = LengthLimits { max_model_len: 100, max_tokens: 4 };
const GREATER: LengthLimits = LengthLimits { max_model_len: 100, max_tokens: 9 };
const BOTH: Retry = Retry { errors: true, length: true, rows: ROWS, chosen: false };

fn of_limits(limits: LengthLimits) -> JobIdentity {
    let mut identity = identity();
    identity.push("max_model_len", limits.max_model_len);
    identity.push("max_tokens", limits.max_tokens);
    JobIdentity { identity, format1: Vec::new() }
}

/// The answer to a row with limits: one in five is null, one in seven too long for 100 tokens.
fn answer(row: u64, limits: LengthLimits) -> Answer {
    let input = if row % 7 == 3 { 120 } else { 10 };
    if row % 5 == 1 {
        return Answer::failed(row, None, RowError::new(RowErrorKind::NullPrompt, "x").to_string());
    }
    if input >= limits.max_model_len {
        let too_long = RowError::new(RowErrorKind::PromptTooLong, limits.max_model_len.to_string());
        return Answer::failed(row, Some(120), too_long.to_string());
    }
    let (room, wanted) = (limits.room(input), 2 + row % 12);
    let finish_reason = if wanted > room { FinishReason::Length } else { FinishReason::Stop };
    let tokens: Vec<u32> = (0..wanted.min(room) as u32).map(|i| i + row as u32).collect();
    let completion = Completion {
        text: format!("{row} {tokens:?}"),
        tokens,
        finish_reason,
        token_logprobs: Vec::new(),
        logprobs: Vec::new(),
        field_probabilities: Vec::new(),
    };
    Answer {
        row,
        num_input_tokens: Some(input as u32),
        completions: vec![completion],
        prompt_logprobs: None,
        choices: Vec::new(),
        document: None,
        error: None,
    }
}

fn begin(
    state_dir: &Path,
    limits: LengthLimits,
    mode: ResumeMode,
) -> Result<(Journal, FinishedRows), JobError> {
    Journal::open_or_create(state_dir, &of_limits(limits), &inputs(ROWS), mode)
}

fn finish(state_dir: &Path) {
    let (mut journal, _) = begin(state_dir, FIRST, ResumeMode::Auto).unwrap();
    (0..ROWS).for_each(|row| journal.append(answer(row, FIRST)).unwrap());
    journal.close().unwrap();
}

fn again(journal: &Journal) -> Vec<u64> {
    (0..ROWS).filter(|&row| journal.again().contains(row)).collect()
}

fn read(state_dir: &Path) -> Vec<Option<Answer>> {
    JournalReader::open(state_dir).unwrap().answers(0..ROWS).unwrap()
}

#[test]
fn rows_that_may_end_otherwise_run_again() {
    let state_dir = tempfile::tempdir().unwrap();
    finish(state_dir.path());
    let longer = LengthLimits { max_model_len: 200, ..FIRST };
    let null = |row: &u64| row % 5 == 1;
    let too_long = |row: &u64| row % 7 == 3 && !null(row);
    let cut = |row: &u64| !null(row) && !too_long(row) && 2 + row % 12 > 4;
    let rows = |which: &dyn Fn(&u64) -> bool| (0..ROWS).filter(|row| which(row)).collect::<Vec<_>>();
    for (errors, length, limits, wanted) in [
        // The same prompt would be too long again.
        (true, false, FIRST, rows(&null)),
        (true, false, longer, rows(&|row| null(row) || too_long(row))),
        (false, true, GREATER, rows(&cut)),
        // A longer context gives answers of four tokens no room.
        (false, true, longer, Vec::new()),
        (true, true, GREATER, rows(&|row| null(row) || cut(row))),
    ] {
        let mode = ResumeMode::Retry(Retry { errors, length, ..BOTH });
        let (journal, finished) = begin(state_dir.path(), limits, mode).unwrap();
        assert_eq!(again(&journal), wanted, "{errors} {length} {limits:?}");
        assert_eq!(finished.count, ROWS - wanted.len() as u64);
        let limited = ResumeMode::Retry(Retry { errors, length, rows: 20, chosen: false });
        drop(journal);
        let (journal, _) = begin(state_dir.path(), limits, limited).unwrap();
        assert!(again(&journal).iter().eq(wanted.iter().filter(|&&row| row < 20)));
        // Whoever does not want it finds every answer in its place.
        drop(journal);
        let (journal, finished) = begin(state_dir.path(), FIRST, ResumeMode::Auto).unwrap();
        assert_eq!((journal.again().count(), finished.count), (0, ROWS));
        drop(journal);
        assert!((0..).zip(read(state_dir.path())).all(|(row, read)| read == Some(answer(row, FIRST))));
    }
}

#[test]
fn only_greater_limits_and_only_format_3() {
    let state_dir = tempfile::tempdir().unwrap();
    finish(state_dir.path());
    let retry = ResumeMode::Retry(BOTH);
    let refused = |limits, mode| begin(state_dir.path(), limits, mode).err().unwrap().to_string();
    assert!(refused(GREATER, ResumeMode::Auto).contains("max_tokens: begun with 4, now 9"));
    assert!(refused(FIRST, retry).contains("--retry length needs a greater --max-tokens than 4"));
    let shorter = LengthLimits { max_model_len: 99, max_tokens: 9 };
    let message = refused(shorter, retry);
    assert!(message.contains("no smaller --max-model-len than 100"), "{message}");
    assert!(!message.contains("--max-tokens"), "{message}");
    let none = tempfile::tempdir().unwrap();
    assert!(matches!(begin(none.path(), FIRST, retry), Err(JobError::NothingToRetry { .. })));
    for format in [Format::One, Format::Two] {
        let state_dir = tempfile::tempdir().unwrap();
        schema::fill(&schema::path(state_dir.path()), format, &written(format), &inputs(ROWS)).unwrap();
        let refused = begin(state_dir.path(), FIRST, retry).err().unwrap();
        assert!(matches!(refused, JobError::RetryFormat { .. }), "{refused}");
    }
}

/// What happens to a job, in any order.
#[derive(Clone, Debug)]
enum Deed {
    /// Rows run again, by errors, length, and as a worker that another has gone before; so many get their answers.
    Retry(bool, bool, bool, usize),
    /// The first command again.
    Resume,
    /// A row is damaged, whatever it is.
    Damage(u64),
}

fn deed() -> impl Strategy<Value = Deed> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), 0usize..30);
    prop_oneof![
        6 => flags.prop_map(|(errors, length, chosen, answers)| Deed::Retry(errors, length, chosen, answers)),
        2 => Just(Deed::Resume),
        1 => (0..ROWS).prop_map(Deed::Damage),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_row_is_lost_or_in_between(deeds in prop::collection::vec(deed(), 1..8)) {
        let state_dir = tempfile::tempdir().unwrap();
        let state_dir = state_dir.path();
        finish(state_dir);
        let mut damaged = RowSet::none_of(ROWS);
        for deed in deeds {
            match deed {
                Deed::Damage(row) => {
                    let connection = rusqlite::Connection::open(schema::path(state_dir)).unwrap();
                    connection.execute("UPDATE answers SET checksum = 0 WHERE row = ?", [row as i64]).unwrap();
                    damaged.insert(row);
                    continue;
                }
                Deed::Retry(errors, length, chosen, answers) => {
                    let mode = ResumeMode::Retry(Retry { errors, length, chosen, rows: ROWS });
                    let (mut journal, finished) = begin(state_dir, GREATER, mode).unwrap();
                    let missing: Vec<u64> = (0..ROWS).filter(|&row| !finished.contains(row)).collect();
                    prop_assert!(missing.iter().all(|&row| journal.again().contains(row) || damaged.contains(row)));
                    for row in missing.into_iter().take(answers) {
                        journal.append(answer(row, GREATER)).unwrap();
                    }
                    journal.close().unwrap();
                }
                Deed::Resume => {
                    let (mut journal, finished) = begin(state_dir, FIRST, ResumeMode::Auto).unwrap();
                    for row in (0..ROWS).filter(|&row| !finished.contains(row)) {
                        prop_assert!(damaged.contains(row));
                        journal.append(answer(row, FIRST)).unwrap();
                    }
                    journal.close().unwrap();
                }
            }
        }
        let (mut journal, finished) = begin(state_dir, FIRST, ResumeMode::Auto).unwrap();
        for row in (0..ROWS).filter(|&row| !finished.contains(row)) {
            prop_assert!(damaged.contains(row));
            journal.append(answer(row, FIRST)).unwrap();
        }
        journal.close().unwrap();
        for (row, read) in (0..).zip(read(state_dir)) {
            let read = read.unwrap();
            prop_assert!(read == answer(row, FIRST) || read == answer(row, GREATER), "{read:?}");
        }
        let (mut journal, finished) = begin(state_dir, GREATER, ResumeMode::Retry(BOTH)).unwrap();
        for row in (0..ROWS).filter(|&row| !finished.contains(row)) {
            journal.append(answer(row, GREATER)).unwrap();
        }
        journal.close().unwrap();
        prop_assert!((0..).zip(read(state_dir)).all(|(row, read)| read == Some(answer(row, GREATER))));
        let counted = Again::of(&JournalReader::open(state_dir).unwrap(), ROWS).unwrap();
        prop_assert_eq!(counted.waiting, 0);
        prop_assert!(counted.own_limits > 0);
    }
}

/// One more death gives a row up, which then keeps what it had.
#[test]
fn a_row_that_was_given_up_runs_alone() {
    let state_dir = tempfile::tempdir().unwrap();
    let state_dir = state_dir.path();
    let crash = |row: u64, limits, mode, deaths: i64| {
        for death in 0..deaths {
            let chosen = |mode| match mode {
                ResumeMode::Retry(retry) => ResumeMode::Retry(Retry { chosen: death > 0, ..retry }),
                mode => mode,
            };
            let (mut journal, _) = begin(state_dir, limits, chosen(mode)).unwrap();
            journal.admit(&[row]).unwrap();
            journal.close().unwrap();
            record_death(state_dir, Death::Crash).unwrap();
        }
    };
    crash(0, FIRST, ResumeMode::Auto, 3);
    let (mut journal, finished) = begin(state_dir, FIRST, ResumeMode::Auto).unwrap();
    assert!(finished.contains(0));
    (1..ROWS).for_each(|row| journal.append(answer(row, FIRST)).unwrap());
    journal.close().unwrap();
    // Row 0 has an error and three deaths; row 8 was cut off.
    let retry = Retry { errors: true, length: true, ..BOTH };
    let (journal, _) = begin(state_dir, GREATER, ResumeMode::Retry(retry)).unwrap();
    assert!(journal.alone() == [0] && journal.again().contains(8));
    drop(journal);
    crash(0, GREATER, ResumeMode::Retry(retry), 1);
    crash(8, GREATER, ResumeMode::Retry(Retry { chosen: true, ..retry }), 3);
    let (journal, finished) =
        begin(state_dir, GREATER, ResumeMode::Retry(Retry { chosen: true, ..retry })).unwrap();
    assert!(finished.contains(0) && finished.contains(8));
    journal.close().unwrap();
    let read = read(state_dir);
    assert_eq!(read[0], Some(Answer::failed(0, None, CRASHED)));
    assert_eq!(read[8], Some(answer(8, FIRST)), "an error does not replace an answer");
}
