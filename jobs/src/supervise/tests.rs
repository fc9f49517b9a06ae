#![allow(clippy::unwrap_used)]
use super::*;
use crate::journal::answer::Answer;
use crate::journal::attempts::CRASHED;
use crate::journal::tests::{answer, inputs, job_identity};
use crate::journal::{Journal, ResumeMode};
use crate::supervise::worker::Heartbeat;
use crate::supervise::worker::listen_to_signals;

/// What the worker shall do: `crash ROW,...`, `exit CODE`, `hang` or `slow`.
const PART: &str = "GRISTMILL_TEST_WORKER";

/// The state_dir.
const WORK: &str = "GRISTMILL_TEST_WORK";

const ROWS: u64 = 24;

fn open(state_dir: &Path) -> (Journal, crate::journal::finished::FinishedRows) {
    Journal::open_or_create(state_dir, &job_identity(), &inputs(ROWS), ResumeMode::Auto).unwrap()
}

/// Not a test of its own: the worker of the tests below, when this executable runs itself.
#[test]
fn worker() {
    let Ok(part) = std::env::var(PART) else { return };
    if !crate::supervise::worker::is_worker() {
        return;
    }
    let state_dir = std::env::var_os(WORK).unwrap();
    let (kind, rows) = part.split_once(' ').unwrap_or((&part, ""));
    let rows: Vec<u64> = rows.split(',').filter_map(|row| row.parse().ok()).collect();
    match kind {
        "crash" => answer_all(Path::new(&state_dir), &rows),
        "early" => answer_all_unless(Path::new(&state_dir), &rows),
        "exit" => std::process::exit(rows[0] as i32),
        "hang" => std::thread::sleep(Duration::from_secs(600)),
        "slow" => answer_slowly(Path::new(&state_dir)),
        other => panic!("{other}"),
    }
    std::process::exit(0);
}

/// Answers rows four at a time, those that must run alone first. A poisonous row takes the process down.
fn answer_all(state_dir: &Path, poison: &[u64]) {
    let (mut journal, finished) = open(state_dir);
    let alone: Vec<u64> = journal.alone().to_vec();
    let others: Vec<u64> = (0..ROWS).filter(|row| !finished.contains(*row) && !alone.contains(row)).collect();
    for rows in alone.chunks(1).chain(others.chunks(4)) {
        journal.admit(rows).unwrap();
        if rows.iter().any(|row| poison.contains(row)) {
            std::process::abort();
        }
        rows.iter().for_each(|&row| journal.append(answer(row)).unwrap());
        journal.commit().unwrap();
        Heartbeat::default().send();
    }
    journal.close().unwrap();
}

/// Dies of poisonous rows before an answer is committed: of each by itself, if it is seen for the first time.
fn answer_all_unless(state_dir: &Path, poison: &[u64]) {
    let (mut journal, finished) = open(state_dir);
    let left: Vec<u64> = poison.iter().copied().filter(|&row| !finished.contains(row)).collect();
    let new = left.iter().find(|row| !journal.alone().contains(row) && !journal.later().contains(row));
    let (alone, later) = (journal.alone().first().copied(), journal.later().to_vec());
    match (new, alone) {
        (Some(&row), _) | (None, Some(row)) => journal.admit(&[row]).unwrap(),
        _ => journal.admit(&later).unwrap(),
    }
    if !left.is_empty() {
        std::process::abort();
    }
    drop(journal);
    answer_all(state_dir, &[]);
}

/// Answers a row a second or so, until it is told to stop.
fn answer_slowly(state_dir: &Path) {
    let (mut journal, finished) = open(state_dir);
    let stop = listen_to_signals().unwrap();
    println!("listening");
    for row in (0..).filter(|&row| !finished.contains(row)) {
        while stop.stop_signal().is_none() && row > finished.count {
            std::thread::sleep(Duration::from_millis(10));
        }
        if stop.stop_signal().is_some() {
            journal.close().unwrap();
            std::process::exit(EXIT_TERMINATED.into());
        }
        journal.append(answer(row)).unwrap();
    }
}

fn supervise(state_dir: &Path, hang: Duration, part: &str) -> Result<u8, JobError> {
    let supervision = Supervision { hang, pause: Duration::from_millis(1), job_read: None, metrics: None };
    supervision.run(state_dir, || {
        let mut worker = Command::new(std::env::current_exe().unwrap());
        worker
            .args(["supervise::tests::worker", "--exact", "--nocapture"])
            .env(PART, part)
            .env(WORK, state_dir);
        worker.stderr(Stdio::null());
        worker
    })
}

const LONG: Duration = Duration::from_secs(300);

/// All rows have their answer, but for those that were given up.
fn check_answers(state_dir: &Path, given_up: &[u64]) {
    let answers = open(state_dir).0.reader().unwrap().answers(0..ROWS).unwrap();
    for (row, given) in (0..ROWS).zip(answers) {
        let crashes = given_up.contains(&row);
        let expected = if crashes { Answer::failed(row, None, CRASHED) } else { answer(row) };
        assert_eq!(given, Some(expected));
    }
}

#[test]
fn rows_that_crash_the_worker_become_errors_and_all_others_are_answered() {
    let state_dir = tempfile::tempdir().unwrap();
    assert_eq!(supervise(state_dir.path(), LONG, "crash 0,6,7,23").unwrap(), EXIT_DONE);
    check_answers(state_dir.path(), &[0, 6, 7, 23]);
}

/// A fast worker may die before its first answer is on disk, and yet each death tells more about the rows that cause them.
#[test]
fn deaths_that_narrow_down_rows_end_no_job() {
    let state_dir = tempfile::tempdir().unwrap();
    assert_eq!(supervise(state_dir.path(), LONG, "early 4,9").unwrap(), EXIT_DONE);
    check_answers(state_dir.path(), &[4, 9]);
}

/// Supervisor and worker were killed together, or another job's folder has taken the place of this one's.
#[test]
fn a_worker_that_has_not_opened_the_journal_blames_no_row() {
    let state_dir = tempfile::tempdir().unwrap();
    open(state_dir.path()).0.close().unwrap();
    let rows: Vec<u8> = [1u64, 2].iter().flat_map(|row| row.to_le_bytes()).collect();
    std::fs::write(state_dir.path().join("in-flight"), rows).unwrap();
    assert!(supervise(state_dir.path(), LONG, "exit 9").is_err());
    let (journal, finished) = open(state_dir.path());
    assert_eq!((finished.count, journal.alone()), (0, &[][..]));
}

#[test]
fn a_worker_that_answers_nothing_ends_the_job() {
    let state_dir = tempfile::tempdir().unwrap();
    let message = supervise(state_dir.path(), LONG, "exit 9").unwrap_err().to_string();
    assert!(message.contains("3 times") && message.contains("exit code 9"), "{message}");
    // Every row crashes it: the job ends after three rows, not after all of them.
    let all: Vec<String> = (0..ROWS).map(|row| row.to_string()).collect();
    let ended = supervise(state_dir.path(), LONG, &format!("crash {}", all.join(",")));
    let Err(JobError::NoProgress { how, .. }) = &ended else { panic!("{ended:?}") };
    assert!(how.ends_with(", while row 2 ran alone"), "{how}");
    assert!(open(state_dir.path()).1.errors <= 3);
}

#[test]
fn a_worker_that_hangs_is_killed() {
    let state_dir = tempfile::tempdir().unwrap();
    let message = supervise(state_dir.path(), Duration::from_millis(200), "hang").unwrap_err().to_string();
    assert!(message.contains("did nothing for 200ms"), "{message}");
}

#[test]
fn an_exit_code_that_a_restart_would_not_change_is_passed_on() {
    let state_dir = tempfile::tempdir().unwrap();
    for code in [EXIT_FAILED, EXIT_REFUSED, EXIT_TOO_MANY_ERRORS, EXIT_INTERRUPTED] {
        assert_eq!(supervise(state_dir.path(), LONG, &format!("exit {code}")).unwrap(), code);
    }
}

/// Not a test of its own: the supervisor of the next test.
#[test]
fn supervisor() {
    let (Ok(part), Some(state_dir)) = (std::env::var(PART), std::env::var_os(WORK)) else { return };
    if !crate::supervise::worker::is_worker() {
        std::process::exit(supervise(Path::new(&state_dir), LONG, &part).unwrap().into());
    }
}

#[cfg(unix)]
#[test]
fn sigterm_leaves_a_job_that_can_be_resumed() {
    let state_dir = tempfile::tempdir().unwrap();
    for count in 1..3 {
        let mut supervisor = Command::new(std::env::current_exe().unwrap());
        supervisor.args(["supervise::tests::supervisor", "--exact", "--nocapture"]);
        supervisor.env(PART, "slow").env(WORK, state_dir.path()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut supervisor = supervisor.spawn().unwrap();
        let mut lines = BufReader::new(supervisor.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("listening")));
        Command::new("kill").arg(supervisor.id().to_string()).status().unwrap();
        assert_eq!(supervisor.wait().unwrap().code(), Some(EXIT_TERMINATED.into()));
        // The worker answers one row a start, if it comes to it; a stop loses none.
        assert!(open(state_dir.path()).1.count <= count);
    }
}
