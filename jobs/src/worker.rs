//! The worker's side of supervision: it beats while it gets on, and stops when it is told to.
//!
//! The supervisor holds the other ends of standard input and output. A line that is one SYN (0x16) is a beat;
//! any other line is the job's own output. `stop` on standard input asks for an orderly end; its closing says
//! that the supervisor is gone, and the worker leaves at once, as a killed process would.

use crate::error::{EXIT_FAILED, JobError};
use crate::lock::SUPERVISOR_PID;
use crate::signals::{Signal, on_signal};
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// A beat on standard output.
pub(crate) const BEAT: &str = "\u{16}";

/// What the supervisor writes to standard input.
pub(crate) const STOP: &str = "stop";

/// The least time between two beats.
const PACE: Duration = Duration::from_millis(250);

/// Whether this process has a supervisor.
pub fn is_worker() -> bool {
    std::env::var_os(SUPERVISOR_PID).is_some()
}

/// Tells whether the job shall stop, from signals and from the supervisor. Cheap to ask and to clone.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicU8>);

impl Stop {
    /// Begins to listen.
    ///
    /// # Errors
    /// [`JobError::Io`] if the system refuses.
    pub fn listen() -> Result<Self, JobError> {
        let stop = Stop::default();
        let asked = stop.clone();
        on_signal(move |signal| asked.ask(signal))?;
        if is_worker() {
            let asked = stop.clone();
            let thread = std::thread::Builder::new().name("supervisor".into());
            let thread = thread.spawn(move || asked.obey(std::io::stdin().lock()));
            thread.map_err(JobError::io("listen to", "the supervisor"))?;
        }
        Ok(stop)
    }

    /// Who has asked for a stop, if anybody.
    pub fn asked(&self) -> Option<Signal> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Signal::Interrupt),
            _ => Some(Signal::Terminate),
        }
    }

    /// Asks for a stop; the first to ask counts.
    pub fn ask(&self, signal: Signal) {
        let number = if signal == Signal::Interrupt { 1 } else { 2 };
        let _ = self.0.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn obey(&self, orders: impl BufRead) {
        for order in orders.lines().map_while(Result::ok) {
            if order.trim() == STOP {
                self.ask(Signal::Terminate);
            }
        }
        std::process::exit(EXIT_FAILED.into());
    }
}

/// Tells the supervisor that the job gets on: to be beaten after each step, and while weights are loaded.
#[derive(Debug, Default)]
pub struct Heart {
    last: Option<Instant>,
}

impl Heart {
    /// Beats, unless it just did. Does nothing without a supervisor.
    pub fn beat(&mut self) {
        if !is_worker() || self.last.is_some_and(|last| last.elapsed() < PACE) {
            return;
        }
        self.last = Some(Instant::now());
        let mut output = std::io::stdout().lock();
        // A supervisor that is gone is noticed on standard input.
        let _ = writeln!(output, "{BEAT}").and_then(|()| output.flush());
    }
}
