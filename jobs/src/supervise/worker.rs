//! The worker's side of supervision: it sends heartbeats while it makes progress, and stops when it is asked to.
//!
//! The supervisor holds the other ends of standard input and output. A line that is one SYN (0x16) is a heartbeat, one that
//! goes on behind it has figures for `--metrics`; one behind ACK (0x06) says that an order was carried out, one behind NAK
//! (0x15) why it was not, and that the worker ends;
//! any other line is the job's own output. Standard input begins with the supervisor's greeting. `interrupt` and
//! `terminate` behind it ask for an orderly end, other lines are orders; when it closes, the supervisor has ended, and the
//! worker ends at once, as a killed process would.

use crate::error::{EXIT_FAILED, EXIT_INTERRUPTED, JobError};
use crate::stop_signal::StopSignal;
use crate::supervise::signals::{Signals, on_stop, print_stopping};
use crate::supervisor_link::supervisor_link;
use std::fmt::Display;
use std::io::{BufRead, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

/// A heartbeat on standard output.
pub(crate) const HEARTBEAT: &str = "\u{16}";

/// What stands before what a worker says of an order that it has carried out, and of one that it could not.
pub(crate) const DONE: &str = "\u{6}";
pub(crate) const FAILED: &str = "\u{15}";

/// How often a worker without an order looks for signals.
const LOOK: Duration = Duration::from_millis(200);

/// Time between two heartbeats, at least.
const PACE: Duration = Duration::from_millis(250);

/// Whether this process has a supervisor.
pub fn is_worker() -> bool {
    supervisor_link().is_some()
}

/// Whether this worker resumes what another worker of the same command has begun.
pub fn resumes() -> bool {
    supervisor_link().is_some_and(|link| link.begun)
}

/// Listens from now on, to the system and to the supervisor. The first signal asks the job to stop; a second one ends
/// the process if there is no supervisor. With one, whoever stops a job may signal both processes, and only the
/// supervisor knows how often.
///
/// # Errors
/// [`JobError::Io`] if the system refuses.
pub fn listen_to_signals() -> Result<Signals, JobError> {
    listen().map(|orders| orders.signals)
}

/// The same of a worker that carries out orders.
///
/// # Errors
/// [`JobError::Io`] if the system refuses.
pub fn listen_to_orders() -> Result<Orders, JobError> {
    listen()
}

/// What the supervisor wants done, and whether to stop.
pub struct Orders {
    pub signals: Signals,
    lines: Receiver<String>,
}

impl Orders {
    /// Waits for the next order.
    ///
    /// # Errors
    /// [`JobError::Interrupted`].
    pub fn next(&self) -> Result<String, JobError> {
        loop {
            if let Some(asked) = self.signals.stop_signal() {
                return Err(JobError::Interrupted(asked));
            }
            if let Ok(line) = self.lines.recv_timeout(LOOK) {
                return Ok(line);
            }
        }
    }
}

/// Says that an order was carried out.
pub fn tell_done(what: &impl Display) {
    tell(DONE, what);
}

/// Says why an order was not carried out. The worker must end then.
pub fn tell_failed(why: &impl Display) {
    tell(FAILED, why);
}

fn tell(mark: &str, what: &impl Display) {
    let mut output = std::io::stdout().lock();
    // The end of the supervisor is noticed on standard input.
    let _ = writeln!(output, "{mark}{what}").and_then(|()| output.flush());
}

fn listen() -> Result<Orders, JobError> {
    let signals = Signals::default();
    let state = signals.clone();
    on_stop(move |asked| {
        if state.stop_signal().is_some() && !is_worker() {
            std::process::exit(i32::from(EXIT_INTERRUPTED));
        }
        state.request_stop(asked);
        if !is_worker() {
            print_stopping(asked);
        }
    })?;
    let lines = obey(signals.clone())?;
    Ok(Orders { signals, lines })
}

/// Listens to the supervisor, if there is one. Gives what it orders but to stop.
fn obey(signals: Signals) -> Result<Receiver<String>, JobError> {
    let (orders, lines) = channel();
    if !is_worker() {
        return Ok(lines);
    }
    let listen = move || {
        // The greeting was read already.
        for line in std::io::stdin().lock().lines().map_while(Result::ok).skip(1) {
            match StopSignal::of_order(&line) {
                Some(asked) => signals.request_stop(asked),
                None => drop(orders.send(line)),
            }
        }
        std::process::exit(EXIT_FAILED.into());
    };
    let thread = std::thread::Builder::new().name("supervisor".into()).spawn(listen);
    thread.map(|_| lines).map_err(JobError::io("listen to", "the supervisor"))
}

/// Heartbeats to the supervisor: one after each step.
#[derive(Debug, Default)]
pub struct Heartbeat {
    last: Option<Instant>,
}

impl Heartbeat {
    /// Sends a heartbeat, unless it just did. Does nothing without a supervisor.
    pub fn send(&mut self) {
        if self.last.is_none_or(|last| last.elapsed() >= PACE) && is_worker() {
            self.last = Some(Instant::now());
            let mut output = std::io::stdout().lock();
            // The end of the supervisor is noticed on standard input.
            let _ = writeln!(output, "{HEARTBEAT}").and_then(|()| output.flush());
        }
    }
}

/// Sends heartbeats during work that has no steps (digests, loading, publishing), until dropped.
#[derive(Debug)]
pub struct HeartbeatThread(
    #[expect(dead_code, reason = "dropping it ends the thread")] Option<SyncSender<()>>,
);

impl HeartbeatThread {
    /// Starts the thread. Without a supervisor, or a thread, nothing is sent.
    pub fn start() -> Self {
        let (alive, gone) = sync_channel(0);
        let send = move || {
            let mut heartbeat = Heartbeat::default();
            while gone.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                heartbeat.send();
            }
        };
        let thread = is_worker().then(|| std::thread::Builder::new().name("heartbeats".into()).spawn(send));
        HeartbeatThread(thread.is_some_and(|thread| thread.is_ok()).then_some(alive))
    }
}
