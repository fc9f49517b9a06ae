#![allow(clippy::unwrap_used)]
use super::*;
use crate::journal::tests::{answer, inputs, job_identity};
use crate::journal::{Journal, ResumeMode};
use std::cell::{Cell, RefCell};

const ROWS: u64 = 4_000;

fn open(state_dir: &Path, mode: ResumeMode) -> (Journal, u64) {
    let opened = Journal::open_or_create(state_dir, &job_identity(), &inputs(ROWS), mode);
    let (journal, finished) = opened.unwrap();
    (journal, finished.count)
}

/// Rows are committed between any two steps of a copy, which is of the moment when it began all the same.
#[test]
fn a_copy_is_of_one_moment_while_the_journal_grows() {
    let [state_dir, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let journal = RefCell::new(open(state_dir.path(), ResumeMode::Auto).0);
    let rows = Cell::new(0);
    let commit = |more: u64| {
        let mut journal = journal.borrow_mut();
        (rows.get()..rows.get() + more).for_each(|row| journal.append(answer(row)).unwrap());
        journal.commit().unwrap();
        rows.set(rows.get() + more);
    };
    let mut checkpoints = Checkpoints::of(state_dir.path()).unwrap();
    let copy = other.path().join("copy");
    let whole = || check(&copy, "copy", &job_identity(), &inputs(ROWS)).unwrap();
    for _ in 0..3 {
        commit(1_000);
        let (begun, steps) = (rows.get(), Cell::new(0));
        let grow = || {
            commit(1);
            steps.set(steps.get() + 1);
            assert!(steps.get() < 100, "the copy begins anew and anew");
            false
        };
        assert!(checkpoints.copy(&copy, &grow).unwrap());
        assert!(steps.get() > 3 && whole() == begun);
    }
    assert!(checkpoints.copy(&copy, &|| false).unwrap(), "what came meanwhile is copied the next time");
    assert_eq!(whole(), rows.get());
    assert!(!checkpoints.copy(&copy, &|| false).unwrap(), "nothing has changed");
    checkpoints.forget();
    assert!(!checkpoints.copy(&copy, &|| true).unwrap(), "it was stopped");
    assert!(checkpoints.copy(&copy, &|| false).unwrap());
    drop(checkpoints);
    journal.into_inner().close().unwrap();
    put_in_place(&copy, other.path()).unwrap();
    assert_eq!(open(other.path(), ResumeMode::Require).1, rows.get());
}
