//! Runs a job in a child process, and starts it again from the journal when it dies.

#[cfg(any(test, feature = "faults"))]
pub mod faults;
mod hang_clock;
#[cfg(feature = "faults")]
pub mod pretend;
pub mod signals;
pub(crate) mod terminal;
pub mod worker;

use crate::error::JobError;
use crate::error::{
    EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_REFUSED, EXIT_TERMINATED, EXIT_TOO_MANY_ERRORS,
};
use crate::journal::JournalReader;
use crate::journal::attempts::{self, Blame, Death};
use crate::metrics::Metrics;
use crate::stop_signal::StopSignal;
use crate::supervise::hang_clock::HangClock;
use crate::supervise::signals::{Signal, on_signal, print_stopping};
use crate::supervise::worker::HEARTBEAT;
use crate::supervisor_link::SupervisorLink;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// The job ends after this number of starts in a row without an answered row.
const STARTS: u32 = 3;

/// Time for a worker to commit and end when it is asked to stop.
const LEAVE: Duration = Duration::from_secs(8);

/// How to supervise.
#[derive(Clone, Debug)]
pub struct Supervision<'a> {
    /// The job's state_dir.
    pub state_dir: &'a Path,
    /// A worker without a heartbeat for this time hangs.
    pub hang: Duration,
    /// The pause before the first restart; it doubles for each start without progress, up to 64 times.
    pub pause: Duration,
    /// The digest of what was read of the job file, if there is one: what a worker reads must be the same.
    pub job_read: Option<String>,
    /// What the worker tells of its work, if anybody asks.
    pub metrics: Option<Metrics>,
}

/// What comes to the supervisor.
enum Event {
    Heartbeat,
    /// The worker has closed its output: it has ended, or is about to.
    Closed,
    Signal(Signal),
}

/// What a worker did while it gave no heartbeat.
#[derive(Clone, Copy)]
enum Hang {
    /// It computed, and its rows may be why it did not come to an end.
    Computing,
    /// It waited, or nobody let it run.
    Waiting,
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
        let (mut begun, mut works) = (false, false);
        for number in 1.. {
            let job_read = self.job_read.clone();
            let link = SupervisorLink { supervisor: std::process::id(), start: number, begun, job_read };
            let (end, process) = self.start(worker(), &link, &sender, &events)?;
            let (death, how) = match end {
                End::Final(code) => return Ok(code),
                End::Died(death, how) => (death, how),
            };
            let before = std::mem::replace(&mut answered, self.answered());
            // A device that has answered no row may be unable to answer any.
            works = works || answered > before;
            let death = if death == Death::DeviceLost && !works { Death::Outside } else { death };
            // One that did not come so far as to open the journal has started no row: what is in flight is another's.
            let opened = self.begun_by(process);
            let blame = match opened {
                true => attempts::record_death(self.state_dir, death),
                false => Ok(Blame::default()),
            };
            let blame = blame.unwrap_or_else(|error| {
                tracing::warn!("{error}");
                Blame::default()
            });
            let how = match blame.alone {
                Some(row) => format!("{how}, while row {row} ran alone"),
                None => how,
            };
            if answered > before {
                (fruitless, given_up) = (0, 0);
            } else {
                fruitless = if blame.given_up > 0 { 0 } else { fruitless + 1 };
                given_up += u32::from(blame.given_up > 0);
            }
            if fruitless >= STARTS || given_up >= STARTS {
                return Err(JobError::NoProgress { starts: STARTS, how });
            }
            let pause = self.pause * (1 << fruitless.min(6));
            tracing::warn!(
                "the worker died ({how}); restarting it from the journal in {}",
                humantime::format_duration(pause)
            );
            if let Some(signal) = wait_for_signal(&events, pause) {
                return Ok(signal.exit_code());
            }
            begun = begun || opened;
            self.metrics.iter().for_each(Metrics::restart);
        }
        Ok(EXIT_FAILED)
    }

    /// Starts the worker and watches it to its end. Returns its process id too.
    fn start(
        &self,
        mut command: Command,
        link: &SupervisorLink,
        sender: &Sender<Event>,
        events: &Receiver<Event>,
    ) -> Result<(End, u32), JobError> {
        let (input, mut orders) = link.open().map_err(JobError::io("talk to", "the worker"))?;
        command.stdin(input).stdout(Stdio::piped());
        terminal::set_apart(&mut command);
        let mut child = command.spawn().map_err(JobError::io("start", command.get_program()))?;
        // Its end of the socket is the worker's alone.
        drop(command);
        if let Some(output) = child.stdout.take() {
            let (sender, metrics) = (sender.clone(), self.metrics.clone());
            let relay = move || relay(output, &sender, metrics.as_ref());
            let relay = std::thread::Builder::new().name("relay".into()).spawn(relay);
            relay.map_err(JobError::io("listen to", "the worker"))?;
        }
        let (asked, hung) = self.watch(&mut child, &mut orders, events)?;
        let status = child.wait().map_err(JobError::io("wait for", "the worker"))?;
        Ok((self.judge(status, asked, hung), child.id()))
    }

    /// Waits until the worker has ended. Returns how it was asked to stop, and how it hung.
    fn watch(
        &self,
        child: &mut Child,
        orders: &mut impl Write,
        events: &Receiver<Event>,
    ) -> Result<(Option<StopSignal>, Option<Hang>), JobError> {
        let mut asked = None;
        let mut hung = None;
        let mut clock = HangClock::start(child.id(), self.hang);
        let kill = |child: &mut Child| child.kill().map_err(JobError::io("kill", "the worker"));
        loop {
            let event = events.recv_timeout(clock.pause());
            clock.look();
            match event {
                Ok(Event::Heartbeat) if asked.is_none() && hung.is_none() => clock.restart(self.hang),
                Ok(Event::Heartbeat) => {}
                Ok(Event::Closed) => return Ok((asked, hung)),
                Ok(Event::Signal(Signal::Suspend)) => terminal::suspend(Some(child)),
                Ok(Event::Signal(Signal::Stop(signal))) if asked.is_none() => {
                    asked = Some(signal);
                    clock.restart(LEAVE);
                    print_stopping(signal);
                    // A worker that has ended already is noticed when it closes its output.
                    let _ = writeln!(orders, "{}", signal.order()).and_then(|()| orders.flush());
                }
                // A second signal is impatience.
                Ok(Event::Signal(Signal::Stop(_))) => kill(child)?,
                Err(RecvTimeoutError::Timeout) if !clock.is_over() => {}
                Err(RecvTimeoutError::Timeout) => {
                    let kind = if clock.has_computed() { Hang::Computing } else { Hang::Waiting };
                    hung = hung.or((asked.is_none()).then_some(kind));
                    kill(child)?;
                    clock.restart(LEAVE);
                }
                Err(RecvTimeoutError::Disconnected) => return Ok((asked, hung)),
            }
        }
    }

    fn judge(&self, status: ExitStatus, asked: Option<StopSignal>, hung: Option<Hang>) -> End {
        const FINAL: [u8; 6] =
            [EXIT_DONE, EXIT_FAILED, EXIT_REFUSED, EXIT_TOO_MANY_ERRORS, EXIT_INTERRUPTED, EXIT_TERMINATED];
        let nothing = format!("it did nothing for {}", humantime::format_duration(self.hang));
        match hung {
            Some(Hang::Computing) => return End::Died(Death::Crash, nothing),
            Some(Hang::Waiting) => {
                return End::Died(Death::Outside, nothing + ", and had no processor time");
            }
            None => {}
        }
        match (status.code(), asked) {
            (Some(0), _) => End::Final(EXIT_DONE),
            (_, Some(signal)) => End::Final(signal.exit_code()),
            (Some(code), None) if FINAL.iter().any(|&last| i32::from(last) == code) => End::Final(code as u8),
            (Some(code), None) => End::Died(Death::DeviceLost, format!("exit code {code}")),
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

/// The signals of a program's own faults. All others come from outside: from whoever stops processes or suspends them,
/// a system without memory, a limit of time.
#[cfg(unix)]
fn by_signal(status: ExitStatus) -> End {
    use std::os::unix::process::ExitStatusExt;
    let signal = status.signal().unwrap_or(0);
    match signal {
        // Whoever stops the machine signals every process, also a worker that does not listen yet.
        libc::SIGINT => End::Final(EXIT_INTERRUPTED),
        libc::SIGTERM => End::Final(EXIT_TERMINATED),
        libc::SIGKILL => End::Died(Death::Outside, "killed; perhaps the machine was out of memory".into()),
        libc::SIGSEGV | libc::SIGABRT | libc::SIGBUS | libc::SIGILL | libc::SIGFPE => {
            End::Died(Death::Crash, format!("it crashed by signal {signal}"))
        }
        _ => End::Died(Death::Outside, format!("ended from outside by signal {signal}")),
    }
}

#[cfg(not(unix))]
fn by_signal(status: ExitStatus) -> End {
    End::Died(Death::Crash, status.to_string())
}

/// Passes the worker's lines on: heartbeats to the supervisor, figures to the metrics, all else to standard output.
fn relay(output: ChildStdout, events: &Sender<Event>, metrics: Option<&Metrics>) {
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        if line == HEARTBEAT.as_bytes() {
            let _ = events.send(Event::Heartbeat);
        } else if line.starts_with(HEARTBEAT.as_bytes()) {
            metrics.into_iter().for_each(|metrics| metrics.take_line(&line));
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
