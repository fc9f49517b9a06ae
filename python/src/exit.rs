//! The end of the interpreter. CPython ends a thread where it stands if that comes back to it then, which would abort the
//! process in the middle of Rust; so runs are stopped before, and all calls have returned.

use crate::process::is_fork;
use jobs::rows::stream::Stop;
use pyo3::prelude::*;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the end waits for a reader that is at work.
const PATIENCE: Duration = Duration::from_secs(10);

static STATE: Mutex<State> = Mutex::new(State { ending: false, visits: 0, runs: Vec::new() });
static CHANGED: Condvar = Condvar::new();

struct State {
    ending: bool,
    visits: usize,
    runs: Vec<Stop>,
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call, or a run, that comes back to the interpreter.
pub struct Visit(());

impl Visit {
    pub fn begin() -> Visit {
        state().visits += 1;
        Visit(())
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        state().visits -= 1;
        CHANGED.notify_all();
    }
}

/// Has a run stopped at the end of the interpreter.
pub fn stop_at_end(run: Stop) {
    let mut state = state();
    state.runs.retain(Stop::is_of_use);
    state.runs.push(run);
}

/// Whether the interpreter ends.
pub fn is_ending() -> bool {
    state().ending
}

/// Called by `atexit`.
#[pyfunction]
pub fn end(py: Python<'_>) {
    if is_fork() {
        return;
    }
    py.detach(|| {
        let mut state = state();
        state.ending = true;
        let runs = std::mem::take(&mut state.runs);
        drop(state);
        runs.iter().for_each(Stop::stop);
        let _ = CHANGED.wait_timeout_while(self::state(), PATIENCE, |state| state.visits > 0);
    });
}
