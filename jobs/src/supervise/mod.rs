//! Runs a job in a child process, and starts it again from the journal when it dies.

pub mod faults;
pub mod signals;
pub(crate) mod terminal;
pub mod worker;

use crate::error::JobError;
use crate::error::{
    EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_REFUSED, EXIT_TERMINATED, EXIT_TOO_MANY_ERRORS,
};
use crate::journal::JournalReader;
use crate::journal::attempts::{self, Death};
use crate::journal::lock::SUPERVISOR_PID;
use crate::stop_signal::StopSignal;
use crate::supervise::signals::{Signal, on_signal, print_stopping};
use crate::supervise::worker::{BEGUN, HEARTBEAT, START};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// The job ends after this number of starts in a row without an answered row.
const STARTS: u32 = 3;

/// Time for a worker to commit and end when it is asked to stop.
const LEAVE: Duration = Duration::from_secs(8);

/// The supervisor looks at the clock so often, at least.
const LOOK: Duration = Duration::from_secs(1);

/// How to supervise.
#[derive(Clone, Copy, Debug)]
pub struct Supervision<'a> {
    /// The job's state_dir.
    pub state_dir: &'a Path,
    /// A worker without a heartbeat for this time hangs.
    pub hang: Duration,
    /// The pause before the first restart; it doubles for each start without progress, up to 64 times.
    pub pause: Duration,
}

/// What comes to the supervisor.
enum Event {
    Heartbeat,
    /// The worker has closed its output: it has ended, or is about to.
    Closed,
    Signal(Signal),
}

/// How a start of the worker ended.
enum End {
    /// With an exit code that a restart would not change.
    Final(u8),
    /// By a death; the text says how.
    Died(Death, String),
}

impl Supervision<'_> {
    /// Runs the worker until it ends for good, and returns the exit code.
    ///
    /// # Errors
    /// [`JobError::NoProgress`] if it dies three times in a row without answering a row (rows that are given
    /// up for crashing it count as answered, up to three in a row); [`JobError::Io`].
    pub fn run(&self, worker: impl Fn() -> Command) -> Result<u8, JobError> {
        let (sender, events) = channel();
        let signals = sender.clone();
        on_signal(move |signal| drop(signals.send(Event::Signal(signal))))?;
        let (mut fruitless, mut given_up) = (0, 0);
        let mut answered = self.answered();
        let mut begun = false;
        for number in 1.. {
            let mut command = worker();
            command.env(START, number.to_string());
            if begun {
                command.env(BEGUN, "1");
            }
            let (end, process) = self.start(command, &sender, &events)?;
            let (death, how) = match end {
                End::Final(code) => return Ok(code),
                End::Died(death, how) => (death, how),
            };
            let lost = attempts::record_death(self.state_dir, death).unwrap_or_else(|error| {
                tracing::warn!("{error}");
                0
            });
            let before = std::mem::replace(&mut answered, self.answered());
            if answered > before {
                (fruitless, given_up) = (0, 0);
            } else {
                fruitless = if lost > 0 { 0 } else { fruitless + 1 };
                given_up += u32::from(lost > 0);
            }
            if fruitless >= STARTS || given_up >= STARTS {
                return Err(JobError::NoProgress { starts: STARTS, how });
            }
            let pause = self.pause * (1 << fruitless.min(6));
            tracing::warn!("the worker died ({how}); restarting it from the journal in {pause:?}");
            if let Some(signal) = wait_for_signal(&events, pause) {
                return Ok(signal.exit_code());
            }
            begun = begun || self.begun_by(process);
        }
        Ok(EXIT_FAILED)
    }

    /// Starts the worker and watches it to its end. Returns its process id too.
    fn start(
        &self,
        mut command: Command,
        sender: &Sender<Event>,
        events: &Receiver<Event>,
    ) -> Result<(End, u32), JobError> {
        command.env(SUPERVISOR_PID, std::process::id().to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        terminal::set_apart(&mut command);
        let mut child = command.spawn().map_err(JobError::io("start", command.get_program()))?;
        if let Some(output) = child.stdout.take() {
            let sender = sender.clone();
            let relay =
                std::thread::Builder::new().name("relay".into()).spawn(move || relay(output, &sender));
            relay.map_err(JobError::io("listen to", "the worker"))?;
        }
        let (asked, hung) = self.watch(&mut child, events)?;
        let status = child.wait().map_err(JobError::io("wait for", "the worker"))?;
        Ok((self.judge(status, asked, hung), child.id()))
    }

    /// Waits until the worker has ended. Returns how it was asked to stop, and whether it hung.
    fn watch(
        &self,
        child: &mut Child,
        events: &Receiver<Event>,
    ) -> Result<(Option<StopSignal>, bool), JobError> {
        let mut asked = None;
        let mut hung = false;
        let mut deadline = Instant::now() + self.hang;
        let kill = |child: &mut Child| child.kill().map_err(JobError::io("kill", "the worker"));
        loop {
            let (now, look) = (Instant::now(), deadline.saturating_duration_since(Instant::now()).min(LOOK));
            let event = events.recv_timeout(look);
            // Who suspends a job suspends the supervisor too, and the worker could do nothing meanwhile.
            let suspended = now.elapsed().saturating_sub(look);
            if suspended > LOOK {
                deadline += suspended;
            }
            match event {
                Ok(Event::Heartbeat) if asked.is_none() => deadline = Instant::now() + self.hang,
                Ok(Event::Heartbeat) => {}
                Ok(Event::Closed) => return Ok((asked, hung)),
                Ok(Event::Signal(Signal::Suspend)) => {
                    let before = Instant::now();
                    terminal::suspend(Some(child));
                    deadline += before.elapsed();
                }
                Ok(Event::Signal(Signal::Stop(signal))) if asked.is_none() => {
                    asked = Some(signal);
                    deadline = Instant::now() + LEAVE;
                    print_stopping(signal);
                    if let Some(input) = &mut child.stdin {
                        // A worker that has ended already is noticed when it closes its output.
                        let _ = writeln!(input, "{}", signal.order()).and_then(|()| input.flush());
                    }
                }
                // A second signal is impatience.
                Ok(Event::Signal(Signal::Stop(_))) => kill(child)?,
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(RecvTimeoutError::Timeout) => {
                    hung = asked.is_none();
                    kill(child)?;
                    deadline = Instant::now() + LEAVE;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok((asked, hung)),
            }
        }
    }

    fn judge(&self, status: ExitStatus, asked: Option<StopSignal>, hung: bool) -> End {
        const FINAL: [u8; 6] =
            [EXIT_DONE, EXIT_FAILED, EXIT_REFUSED, EXIT_TOO_MANY_ERRORS, EXIT_INTERRUPTED, EXIT_TERMINATED];
        if hung {
            return End::Died(Death::Own, format!("it did nothing for {:?}", self.hang));
        }
        match (status.code(), asked) {
            (Some(0), _) => End::Final(EXIT_DONE),
            (_, Some(signal)) => End::Final(signal.exit_code()),
            (Some(code), None) if FINAL.iter().any(|&last| i32::from(last) == code) => End::Final(code as u8),
            (Some(code), None) => End::Died(Death::Own, format!("exit code {code}")),
            (None, None) => by_signal(status),
        }
    }

    /// Whether a worker came so far as to open the journal.
    fn begun_by(&self, process: u32) -> bool {
        let last = JournalReader::open(self.state_dir).and_then(|journal| journal.last_process());
        last.is_ok_and(|last| last == Some(process))
    }

    /// Answered rows so far; none if there is no journal yet.
    fn answered(&self) -> u64 {
        JournalReader::open(self.state_dir).and_then(|journal| journal.answered()).unwrap_or(0)
    }
}

#[cfg(unix)]
fn by_signal(status: ExitStatus) -> End {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        // Whoever stops the machine signals every process, also a worker that does not listen yet.
        Some(2) => End::Final(EXIT_INTERRUPTED),
        Some(15) => End::Final(EXIT_TERMINATED),
        Some(9) => End::Died(Death::Killed, "killed; perhaps the machine was out of memory".into()),
        signal => End::Died(Death::Own, format!("signal {}", signal.unwrap_or(0))),
    }
}

#[cfg(not(unix))]
fn by_signal(status: ExitStatus) -> End {
    End::Died(Death::Own, status.to_string())
}

/// Passes the worker's lines on: heartbeats to the supervisor, all else to standard output.
fn relay(output: ChildStdout, events: &Sender<Event>) {
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        if line == HEARTBEAT.as_bytes() {
            let _ = events.send(Event::Heartbeat);
        } else {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(&line).and_then(|()| out.write_all(b"\n"));
        }
    }
    let _ = events.send(Event::Closed);
}

/// Sleeps, unless a signal comes.
fn wait_for_signal(events: &Receiver<Event>, pause: Duration) -> Option<StopSignal> {
    let until = Instant::now() + pause;
    loop {
        match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Event::Signal(Signal::Stop(signal))) => return Some(signal),
            Ok(Event::Signal(Signal::Suspend)) => terminal::suspend(None),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests;
