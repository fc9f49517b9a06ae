//! The place of a loaded model, which one run has at a time.

use crate::process::is_fork;
use jobs::error::JobError;
use jobs::rows::LoadedModel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where a model is while no run has it.
#[derive(Default)]
pub struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
enum State {
    Here(Box<LoadedModel>),
    /// A run has it.
    Taken,
    /// The run that had it has lost its device.
    Lost,
    #[default]
    Closed,
}

impl Slot {
    pub fn new(model: LoadedModel) -> Slot {
        Slot { state: Mutex::new(State::Here(Box::new(model))), changed: Condvar::default() }
    }

    /// Takes the model; waits so long for a run that is about to give it back.
    pub fn take(&self, wait: Duration) -> Result<LoadedModel, JobError> {
        let taken = |state: &mut State| matches!(state, State::Taken);
        let waited = self.changed.wait_timeout_while(self.lock(), wait, taken);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Taken) {
            State::Here(model) => Ok(*model),
            other => {
                *state = other;
                let why = match *state {
                    State::Closed => "the engine is closed; make another gristmill.Engine",
                    State::Lost => "the engine failed in an earlier run; make another gristmill.Engine",
                    _ => {
                        "the engine is at work: take all that its stream has, or delete the stream; for two runs at a time \
                         make two of gristmill.Engine"
                    }
                };
                Err(JobError::Usage(why.into()))
            }
        }
    }

    /// Gives the model back, or says that it is of no use any more.
    pub fn give_back(&self, model: Option<LoadedModel>) {
        let mut state = self.lock();
        if matches!(*state, State::Taken) {
            *state = model.map_or(State::Lost, |model| State::Here(Box::new(model)));
        }
        self.changed.notify_all();
    }

    /// Frees the model, or lets the run that has it free it.
    pub fn close(&self) {
        if is_fork() {
            return;
        }
        let before = std::mem::take(&mut *self.lock());
        drop(before);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if is_fork() {
            // Its threads, which it would wait for, are in the other process.
            let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(std::mem::take(state));
        }
    }
}

/// A place that several hold.
pub type SharedSlot = Arc<Slot>;
