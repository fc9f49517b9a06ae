#![allow(clippy::unwrap_used)]
mod formats;
mod retries;

use super::*;
use crate::journal::answer::{Completion, FinishReason};
use crate::journal::attempts::{CRASHED, Death, record_death};
use crate::journal::database::Database;
use crate::journal::format::Format;
use crate::journal::identity::{InputDigest, OldField};
use crate::row_error::{RowError, RowErrorKind};
use proptest::prelude::*;
use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

pub(crate) fn identity() -> Identity {
    let mut identity = Identity::default();
    identity.push("weights", "5e1f");
    identity.push("temperature", 0);
    identity
}

/// The identity as a journal of a format has it.
fn written(format: Format) -> Identity {
    let mut old = Identity::default();
    format1().iter().for_each(|field| old.push(field.name, &field.value));
    if format == Format::One { old } else { identity() }
}

/// The same as format 1 has it.
fn format1() -> Vec<OldField> {
    let old = |name, value: &str| OldField { name, value: Some(value.into()), absent: None };
    vec![old("weights", "5e1f"), old("temperature", "0")]
}

pub(crate) fn job_identity() -> JobIdentity {
    JobIdentity { identity: identity(), format1: format1() }
}

pub(crate) fn inputs(rows: u64) -> InputDigests {
    InputDigests(vec![InputDigest { path: "in.parquet".into(), size: 1, rows, digest: "d1".into() }])
}

fn open(state_dir: &Path, rows: u64) -> (Journal, FinishedRows) {
    Journal::open_or_create(state_dir, &job_identity(), &inputs(rows), ResumeMode::Auto).unwrap()
}

/// The answer to a row as any run of the job would give it.
pub(crate) fn answer(row: u64) -> Answer {
    if row % 13 == 5 {
        let too_long = RowError::new(RowErrorKind::PromptTooLong, format!("{row} tokens"));
        return Answer::failed(row, None, too_long.to_string());
    }
    let tokens: Vec<u32> = (0..row as u32 % 40).map(|i| i * 997 + row as u32).collect();
    Answer {
        row,
        num_input_tokens: Some(row as u32 + 1),
        completions: vec![Completion {
            text: format!("answer {row} {}", "é".repeat(tokens.len())),
            token_logprobs: tokens.iter().map(|&t| -(t as f32) / 7.0).collect(),
            logprobs: Vec::new(),
            field_probabilities: Vec::new(),
            tokens,
            finish_reason: FinishReason::Stop,
        }],
        prompt_logprobs: None,
        choices: Vec::new(),
        document: None,
        error: None,
    }
}

#[test]
fn what_is_appended_is_there_after_opening_again() {
    let state_dir = tempfile::tempdir().unwrap();
    let (mut journal, finished) = open(state_dir.path(), 100);
    assert_eq!((finished.count, finished.rows()), (0, 100));
    for row in [7, 3, 99, 18] {
        journal.append(answer(row)).unwrap();
    }
    journal.commit().unwrap();
    let read = journal.reader().unwrap().answers(0..100).unwrap();
    journal.close().unwrap();
    let (journal, finished) = open(state_dir.path(), 100);
    for row in 0..100 {
        let there = [7, 3, 99, 18].contains(&row);
        assert_eq!(finished.contains(row), there);
        assert_eq!(read[row as usize], there.then(|| answer(row)));
    }
    assert_eq!((finished.count, finished.errors, finished.input_tokens), (4, 1, 112));
    assert_eq!(*journal.reader().unwrap().identity(), identity());
    assert_eq!(*journal.reader().unwrap().inputs(), inputs(100));
}

#[test]
fn a_second_answer_to_a_row_is_an_error_and_the_first_stays() {
    let state_dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(state_dir.path(), 9);
    journal.append(answer(1)).unwrap();
    journal.append(answer(2)).unwrap();
    journal.append(Answer::failed(1, None, "other")).unwrap();
    assert!(matches!(journal.commit(), Err(JobError::DoubleAnswer { row: 1 })));
    drop(journal);
    let read = open(state_dir.path(), 9).0.reader().unwrap().answers(0..3).unwrap();
    assert_eq!(read, [None, Some(answer(1)), Some(answer(2))]);
}

/// With the lock removed, two processes can work on a job: each row has one answer, and both say what has happened.
#[test]
fn a_row_that_another_process_has_answered_is_told_from_a_bug() {
    let state_dir = tempfile::tempdir().unwrap();
    let (mut one, _) = open(state_dir.path(), 9);
    std::fs::remove_file(state_dir.path().join("lock")).unwrap();
    let (mut other, _) = open(state_dir.path(), 9);
    other.append(answer(1)).unwrap();
    other.commit().unwrap();
    one.append(answer(2)).unwrap();
    one.append(answer(1)).unwrap();
    assert!(matches!(one.commit(), Err(JobError::AnsweredElsewhere { row: 1 })));
    other.append(answer(2)).unwrap();
    assert!(matches!(other.commit(), Err(JobError::AnsweredElsewhere { row: 2 })));
    drop((one, other));
    let (journal, finished) = open(state_dir.path(), 9);
    assert_eq!(finished.count, 2);
    let read = journal.reader().unwrap().answers(1..3).unwrap();
    assert_eq!(read, [Some(answer(1)), Some(answer(2))]);
}

/// Nothing waits on a FIFO, and nothing is begun beside a folder.
#[cfg(unix)]
#[test]
fn what_is_no_file_where_a_job_has_its_files_is_named() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let state_dir = folder.path().join("job");
    let refused = |path: &Path, words: &str| {
        let refused = schema::refuse_other_kinds(&state_dir).unwrap_err();
        assert_eq!(refused.exit_code(), crate::error::EXIT_REFUSED);
        let said = refused.to_string();
        assert!(said.contains(&format!("{} is {words}", path.display())), "{said}");
        assert!(matches!(JournalReader::of_begun(&state_dir), Err(JobError::Usage(_))));
        if path.is_dir() { std::fs::remove_dir(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
    };
    let fifo = |path: &Path| mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    schema::refuse_other_kinds(&state_dir).unwrap();
    fifo(&state_dir);
    refused(&state_dir, "a device, a FIFO or a socket");
    std::fs::write(&state_dir, "text").unwrap();
    refused(&state_dir, "a file, where the job has a folder");
    drop(open(&state_dir, 9));
    for name in ["journal.sqlite", "journal.sqlite-wal", "lock", "in-flight", "manifest.next"] {
        let path = state_dir.join(name);
        let _ = std::fs::remove_file(&path);
        std::fs::create_dir(&path).unwrap();
        refused(&path, "a folder, where the job has a file");
        fifo(&path);
        refused(&path, "a device, a FIFO or a socket");
        symlink("/dev/zero", &path).unwrap();
        refused(&path, "a device, a FIFO or a socket");
        symlink(name, &path).unwrap();
        refused(&path, "a symbolic link that cannot be followed");
    }
    schema::refuse_other_kinds(&state_dir).unwrap();
}

#[test]
fn resume_modes_do_as_they_say() {
    let state_dir = tempfile::tempdir().unwrap();
    let open = |mode| Journal::open_or_create(state_dir.path(), &job_identity(), &inputs(5), mode);
    assert!(matches!(open(ResumeMode::Require), Err(JobError::NothingToResume { .. })));
    let (mut journal, _) = open(ResumeMode::Never).unwrap();
    journal.append(answer(1)).unwrap();
    assert!(matches!(open(ResumeMode::Auto), Err(JobError::Locked { .. })));
    journal.close().unwrap();
    assert!(matches!(open(ResumeMode::Never), Err(JobError::AlreadyBegun { rows: 1, .. })));
    assert_eq!(open(ResumeMode::Require).unwrap().1.count, 1);
    let (journal, finished) = open(ResumeMode::Fresh).unwrap();
    assert_eq!((journal.discarded(), finished.count), (Some(1), 0));
}

#[test]
fn another_identity_or_input_is_refused_with_what_differs() {
    let state_dir = tempfile::tempdir().unwrap();
    drop(open(state_dir.path(), 5));
    let mut other = job_identity();
    other.identity = Identity::default();
    other.identity.push("weights", "ffff");
    other.identity.push("temperature", 0);
    let mut changed = inputs(5);
    changed.0[0].digest = "d2".into();
    let refused = Journal::open_or_create(state_dir.path(), &other, &changed, ResumeMode::Auto);
    let message = refused.err().unwrap().to_string();
    for part in ["weights: begun with 5e1f, now ffff", "input 1: in.parquet", "--fresh"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains("temperature"), "{message}");
}

#[test]
fn only_a_row_that_ran_alone_can_have_lost_the_device() {
    let state_dir = tempfile::tempdir().unwrap();
    let lose = |rows: &[u64]| {
        let (mut journal, _) = open(state_dir.path(), 5);
        journal.admit(rows).unwrap();
        journal.close().unwrap();
        let blame = record_death(state_dir.path(), Death::DeviceLost).unwrap();
        (blame.given_up, blame.alone)
    };
    for _ in 0..5 {
        assert_eq!(lose(&[1, 2]), (0, None));
    }
    assert_eq!([lose(&[2]), lose(&[2]), lose(&[2])], [(0, Some(2)), (0, Some(2)), (1, Some(2))]);
    let (journal, finished) = open(state_dir.path(), 5);
    assert_eq!((journal.alone(), finished.contains(2), finished.errors), (&[1][..], true, 1));
}

#[test]
fn a_row_of_two_deaths_runs_alone_and_of_three_is_an_error() {
    let state_dir = tempfile::tempdir().unwrap();
    for (death, alone) in [(Death::Crash, &[][..]), (Death::Outside, &[2, 3]), (Death::Crash, &[2, 3])] {
        let (mut journal, _) = open(state_dir.path(), 5);
        journal.admit(&[1, 2]).unwrap();
        journal.admit(&[3]).unwrap();
        if !open_answers(&journal, 1) {
            journal.append(answer(1)).unwrap();
        }
        journal.close().unwrap();
        record_death(state_dir.path(), death).unwrap();
        assert_eq!(open(state_dir.path(), 5).0.alone(), alone);
    }
    // A start that ends without a death forgets who was in flight.
    let (mut journal, _) = open(state_dir.path(), 5);
    journal.admit(&[3]).unwrap();
    journal.close().unwrap();
    drop(open(state_dir.path(), 5));
    record_death(state_dir.path(), Death::Crash).unwrap();
    assert_eq!(open(state_dir.path(), 5).0.alone(), &[2, 3]);
    // The third death by itself.
    let (mut journal, _) = open(state_dir.path(), 5);
    journal.admit(&[2]).unwrap();
    journal.close().unwrap();
    record_death(state_dir.path(), Death::Crash).unwrap();
    let (journal, finished) = open(state_dir.path(), 5);
    assert_eq!((journal.alone(), finished.contains(2), finished.errors), (&[3][..], true, 1));
    let answers = journal.reader().unwrap().answers(2..3).unwrap();
    assert_eq!(answers, [Some(Answer::failed(2, None, CRASHED))]);
}

fn open_answers(journal: &Journal, row: u64) -> bool {
    journal.reader().unwrap().answers(row..row + 1).unwrap()[0].is_some()
}

/// A journal with answers to `rows`, as files; some of it in the write-ahead log if `log`.
fn journal_files(format: Format, rows: u64, log: bool) -> Vec<(String, Vec<u8>)> {
    let state_dir = tempfile::tempdir().unwrap();
    schema::fill(&schema::path(state_dir.path()), format, &written(format), &inputs(rows)).unwrap();
    let (mut journal, _) = open(state_dir.path(), rows);
    for row in 0..rows {
        journal.append(answer(row)).unwrap();
        if row % 50 == 49 {
            journal.commit().unwrap();
        }
    }
    journal.commit().unwrap();
    if !log {
        journal.close().unwrap();
        return files(state_dir.path());
    }
    files(state_dir.path())
}

/// Journals of every format, closed or killed.
const FORMATS_AND_LOGS: [(Format, bool); 4] =
    [(Format::One, false), (Format::One, true), (Format::Two, true), (Format::Three, false)];

fn files(state_dir: &Path) -> Vec<(String, Vec<u8>)> {
    let name = |entry: std::fs::DirEntry| entry.file_name().into_string().unwrap();
    let names =
        state_dir.read_dir().unwrap().map(|entry| name(entry.unwrap())).filter(|n| n.starts_with("journal"));
    names.map(|name| (name.clone(), std::fs::read(state_dir.join(name)).unwrap())).collect()
}

/// Opens damaged files: every answer that is there must be the right one. Returns how many, or the refusal.
fn recovered(files: &[(String, Vec<u8>)], rows: u64) -> Result<u64, JobError> {
    let state_dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(state_dir.path().join(name), bytes).unwrap();
    }
    let (mut journal, finished) =
        Journal::open_or_create(state_dir.path(), &job_identity(), &inputs(rows), ResumeMode::Auto)?;
    let read = journal.reader()?.answers(0..rows)?;
    for (row, read) in (0..rows).zip(read) {
        assert_eq!(read.is_some(), finished.contains(row));
        match read {
            Some(read) => assert_eq!(read, answer(row)),
            None => journal.append(answer(row)).unwrap(),
        }
    }
    journal.commit().unwrap();
    let all = journal.reader()?.answers(0..rows)?;
    assert!((0..rows).zip(all).all(|(row, read)| read == Some(answer(row))));
    Ok(finished.count)
}

#[test]
fn whole_files_are_recovered_whole() {
    for (format, log) in FORMATS_AND_LOGS {
        assert_eq!(recovered(&journal_files(format, 300, log), 300).unwrap(), 300);
    }
}

/// Which damage was met, so that the test proves that it has seen every kind.
#[derive(Debug, Default)]
struct Seen {
    refused: Cell<u32>,
    part: Cell<u32>,
    whole: Cell<u32>,
}

#[test]
fn damage_is_repaired_or_refused_and_never_believed() {
    const ROWS: u64 = 300;
    let seen = Seen::default();
    let count = |cell: &Cell<u32>| cell.set(cell.get() + 1);
    for (format, log) in FORMATS_AND_LOGS {
        let sound = journal_files(format, ROWS, log);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            cases: 100,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let place = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u32..9);
        let result = runner.run(&(place, any::<bool>()), |((file, byte, bit), early)| {
            let mut files = sound.clone();
            let number = files.len();
            let bytes = &mut files[file.index(number)].1;
            // Half of the time in the first page, where a file says what it is.
            let at = byte.index(if early { bytes.len().min(4096) } else { bytes.len() });
            match bit {
                8 => bytes.truncate(at),
                bit => bytes[at] ^= 1 << bit,
            }
            match recovered(&files, ROWS) {
                Ok(ROWS) => count(&seen.whole),
                Ok(_) => count(&seen.part),
                Err(
                    JobError::JournalDamaged { .. }
                    | JobError::OtherIdentity { .. }
                    | JobError::JournalFormat { .. },
                ) => count(&seen.refused),
                Err(other) => return Err(TestCaseError::fail(other.to_string())),
            }
            Ok(())
        });
        result.unwrap();
    }
    assert!([&seen.refused, &seen.part, &seen.whole].iter().all(|kind| kind.get() > 0), "{seen:?}");
}

/// Set for this test executable when it runs itself as a process to be killed.
const VICTIM: &str = "GRISTMILL_TEST_VICTIM";

/// Rows of its job.
const VICTIM_ROWS: u64 = 4000;

/// Not a test of its own: the process that the next test kills.
#[test]
fn victim() {
    let Some(state_dir) = std::env::var_os(VICTIM) else { return };
    let (mut journal, finished) = open(Path::new(&state_dir), VICTIM_ROWS);
    for row in (0..VICTIM_ROWS).filter(|&row| !finished.contains(row)) {
        journal.append(answer(row)).unwrap();
        if row % 17 == 0 {
            journal.commit().unwrap();
            println!("committed {row}");
        }
    }
    journal.close().unwrap();
    println!("committed {}", VICTIM_ROWS - 1);
}

/// Runs the victim until it has told of `commits` commits and `moment` has passed; returns the last row that it
/// told of as committed.
fn kill_after(state_dir: &Path, commits: usize, moment: Duration) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["journal::tests::victim", "--exact", "--nocapture"]).env(VICTIM, state_dir);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let told = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut rows = told.filter_map(|line| line.unwrap().split_once("committed ")?.1.parse::<u64>().ok());
    let first = rows.by_ref().take(commits).last();
    std::thread::sleep(moment);
    child.kill().unwrap();
    let last = rows.last().or(first);
    child.wait().unwrap();
    last
}

#[test]
fn a_killed_process_loses_nothing_that_it_committed() {
    let state_dir = tempfile::tempdir().unwrap();
    let mut kills = 0;
    loop {
        let committed =
            kill_after(state_dir.path(), kills % 23, Duration::from_micros(kills as u64 * 739 % 9000));
        kills += 1;
        let (journal, finished) = open(state_dir.path(), VICTIM_ROWS);
        assert!(committed.is_none_or(|last| (0..=last).all(|row| finished.contains(row))));
        let read = journal.reader().unwrap().answers(0..VICTIM_ROWS).unwrap();
        assert!((0..).zip(read).all(|(row, read)| read.is_none_or(|read| read == answer(row))));
        if finished.count == VICTIM_ROWS {
            break;
        }
        assert!(kills < 500, "{} rows after {kills} kills", finished.count);
    }
    assert!(kills > 3, "the process was done before it could be killed");
    println!("{kills} kills");
}

/// A job on a file system of a few hundred kilobytes stops with a clear error and goes on with more room.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_stops_the_job_and_loses_nothing() {
    let place = tempfile::tempdir().unwrap();
    let mount = |size: &str, how: &str| {
        let options = format!("{how}size={size}");
        Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(place.path()).status()
    };
    if !mount("512k", "").is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED a_full_disk_stops_the_job_and_loses_nothing: no right to mount a tmpfs");
        return;
    }
    let state_dir = place.path().join("job");
    let failed = (|| {
        let (mut journal, _) =
            Journal::open_or_create(&state_dir, &job_identity(), &inputs(9999), ResumeMode::Auto)?;
        for row in 0..9999 {
            journal.append(answer(row))?;
            if row % 100 == 0 {
                journal.commit()?;
            }
        }
        journal.close()
    })();
    let told = failed.map_err(|error| error.to_string());
    let more = mount("64m", "remount,").unwrap();
    let finished = Journal::open_or_create(&state_dir, &job_identity(), &inputs(9999), ResumeMode::Auto).map(
        |(journal, f)| {
            let read = journal.reader().unwrap().answers(0..9999).unwrap();
            assert!((0..).zip(read).all(|(row, read)| read.is_none_or(|read| read == answer(row))));
            f
        },
    );
    Command::new("umount").arg(place.path()).status().unwrap();
    assert!(more.success());
    let told = told.unwrap_err();
    assert!(told.contains("full") && told.contains("same command"), "{told}");
    assert!(finished.unwrap().count > 0);
}

/// Also those that come behind what the engine says last.
#[test]
fn all_tokens_that_equal_prompts_have_saved_are_committed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) =
        Journal::open_or_create(folder.path(), &job_identity(), &inputs(10), ResumeMode::Auto).unwrap();
    journal.note_costs(StartFigures { steps: 5, ..StartFigures::default() });
    journal.append_shared(answer(1)).unwrap();
    journal.commit().unwrap();
    journal.append_shared(Answer { row: 2, ..answer(1) }).unwrap();
    let committed = journal.committed();
    assert_eq!((committed.get().rows, committed.get().shared_rows), (1, 1));
    let ended = journal.end().unwrap();
    let starts = ended.reader.database.starts().unwrap();
    let tokens = u64::from(answer(1).num_input_tokens.unwrap());
    let figures = starts[0].figures.as_ref().unwrap();
    assert_eq!((figures.steps, figures.shared_input_tokens), (5, Some(2 * tokens)));
    assert_eq!(starts[0].shared_tokens, 2 * (tokens + answer(1).num_generated_tokens()));
    assert_eq!(committed.get().rows, 2);
}

/// As a process leaves it that is killed while it makes the journal one with a write-ahead log.
#[test]
fn a_change_that_a_kill_interrupted_is_taken_back_by_whoever_reads() {
    let [there, killed] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    schema::create(&schema::path(there.path()), &identity(), &inputs(3)).unwrap();
    let mut connection = rusqlite::Connection::open(schema::path(there.path())).unwrap();
    // So little memory that pages that are changed go to the file before the end.
    connection.pragma_update(None, "cache_size", 1).unwrap();
    let change = connection.transaction().unwrap();
    change.execute("CREATE TABLE more (text TEXT)", []).unwrap();
    for _ in 0..50 {
        change.execute("INSERT INTO more VALUES (hex(zeroblob(4000)))", []).unwrap();
    }
    for name in ["journal.sqlite", "journal.sqlite-journal"] {
        std::fs::copy(there.path().join(name), killed.path().join(name)).unwrap();
    }
    drop(change);
    let reader = JournalReader::open(killed.path()).unwrap();
    assert_eq!((reader.identity(), reader.answered().unwrap()), (&identity(), 0));
    open(killed.path(), 3);
}
