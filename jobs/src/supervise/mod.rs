//! Runs a job in a child process, and starts it again from the journal when it dies.
//!
//! A worker that was started for one job ends with it. One that runs shards stays: it opens the job, gets an order for each
//! shard and says when it is done, so that a model is loaded once. What a death means is the same for both.

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
use crate::supervise::worker::{DONE, FAILED, HEARTBEAT};
use crate::supervisor_link::SupervisorLink;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
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
pub struct Supervision {
    /// A worker without a heartbeat for this time hangs.
    pub hang: Duration,
    /// The pause before the first restart; it doubles for each start without progress, up to 64 times.
    pub pause: Duration,
    /// The digest of what was read of the job file, if there is one: what a worker reads must be the same.
    pub job_read: Option<String>,
    /// What the worker tells of its work, if anybody asks.
    pub metrics: Option<Metrics>,
}

/// Starts a worker, and starts it again when it dies.
pub struct Supervisor<W> {
    supervision: Supervision,
    /// The command that starts a worker.
    worker: W,
    sender: Sender<Event>,
    events: Receiver<Event>,
    /// Workers that were started.
    starts: u32,
    /// Whether one of them has opened the journal.
    begun: bool,
    running: Option<Running>,
    /// Orders that came while the worker was at another.
    waiting: VecDeque<String>,
}

/// A worker that has not ended.
struct Running {
    child: Child,
    orders: Box<dyn Write>,
    /// What it said once it had opened its job.
    opened: Option<String>,
}

/// What a worker is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task<'a> {
    /// A job, and then to end.
    Job,
    /// To open a job whose parts are ordered later.
    Open,
    /// A part of it, by this line.
    Order(&'a str),
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The worker is gone, with an exit code that a restart would not change.
    Exit(u8),
    /// It is done, and the worker waits; it says this.
    Done(String),
    /// It failed, and the worker, which says why, is gone.
    Failed(String),
}

/// What comes to the supervisor.
enum Event {
    Heartbeat,
    /// It says that it is done with what it was ordered, or why that failed.
    Told(Ended),
    /// The next thing to do, from whoever started this process.
    Order(String),
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

/// How a task of the worker ended.
enum End {
    /// In a way that a restart would not change.
    Final(Ended),
    /// By a death; the text says how.
    Died(Death, String),
}

impl Supervision {
    /// Runs a worker until it ends for good, and returns the exit code. The job's state is in `state_dir`.
    ///
    /// # Errors
    /// As [`Supervisor::run`].
    pub fn run(self, state_dir: &Path, worker: impl Fn() -> Command) -> Result<u8, JobError> {
        match self.begin(worker)?.run(state_dir, Task::Job)? {
            Ended::Exit(code) => Ok(code),
            told => Err(JobError::Internal(format!("a worker without orders said {told:?}"))),
        }
    }

    /// A supervisor that has started no worker yet. From now on signals of this process are its own.
    ///
    /// # Errors
    /// [`JobError::Io`] if the system refuses.
    pub fn begin<W: Fn() -> Command>(self, worker: W) -> Result<Supervisor<W>, JobError> {
        let (sender, events) = channel();
        let signals = sender.clone();
        on_signal(move |signal| drop(signals.send(Event::Signal(signal))))?;
        let (starts, begun, running) = (0, false, None);
        let waiting = VecDeque::new();
        Ok(Supervisor { supervision: self, worker, sender, events, starts, begun, running, waiting })
    }
}

impl<W: Fn() -> Command> Supervisor<W> {
    /// Runs a task to its end, whatever dies on the way. The state of what it works on is in `state_dir`.
    ///
    /// # Errors
    /// [`JobError::NoProgress`] if the worker dies three times in a row without answering a row (rows that are given
    /// up for crashing it count as answered, up to three in a row, and a death that one row alone may have caused brings that
    /// nearer); [`JobError::Io`].
    pub fn run(&mut self, state_dir: &Path, task: Task) -> Result<Ended, JobError> {
        let (mut fruitless, mut given_up) = (0, 0);
        let mut answered = answered_rows(state_dir);
        let mut works = false;
        loop {
            let (end, process) = self.attempt(task)?;
            let (death, how) = match end {
                End::Final(ended) => return Ok(ended),
                End::Died(death, how) => (death, how),
            };
            let before = std::mem::replace(&mut answered, answered_rows(state_dir));
            // A device that has answered no row may be unable to answer any.
            works = works || answered > before;
            let death = if death == Death::DeviceLost && !works { Death::Outside } else { death };
            // One that did not come so far as to open the journal has started no row: what is in flight is another's.
            let opened = begun_by(state_dir, process);
            let blame = match opened {
                true => attempts::record_death(state_dir, death),
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
            } else if blame.given_up > 0 {
                (fruitless, given_up) = (0, given_up + 1);
            } else if blame.alone.is_none() || death == Death::Outside {
                fruitless += 1;
            }
            if fruitless >= STARTS || given_up >= STARTS {
                return Err(JobError::NoProgress { starts: STARTS, how });
            }
            let pause = self.supervision.pause * (1 << fruitless.min(6));
            tracing::warn!(
                "the worker died ({how}); restarting it from the journal in {}",
                humantime::format_duration(pause)
            );
            if let Some(signal) = self.wait_for_signal(pause) {
                return Ok(Ended::Exit(signal.exit_code()));
            }
            self.begun = self.begun || opened;
            self.supervision.metrics.iter().for_each(Metrics::restart);
        }
    }

    /// Gives a task to the worker, which is started if there is none. Returns its process id too.
    fn attempt(&mut self, task: Task) -> Result<(End, u32), JobError> {
        if self.running.is_none() {
            self.start()?;
        }
        let lost = || JobError::Internal("there is no worker".into());
        let process = self.running.as_ref().ok_or_else(lost)?.child.id();
        if task == Task::Job {
            return Ok((self.watch()?, process));
        }
        let opened = match self.running.as_ref().and_then(|running| running.opened.clone()) {
            Some(opened) => opened,
            None => match self.watch()? {
                End::Final(Ended::Done(opened)) => opened,
                other => return Ok((other, process)),
            },
        };
        let running = self.running.as_mut().ok_or_else(lost)?;
        running.opened = Some(opened.clone());
        match task {
            Task::Order(order) => {
                // A worker that has ended already is noticed when it closes its output.
                let _ = writeln!(running.orders, "{order}").and_then(|()| running.orders.flush());
                Ok((self.watch()?, process))
            }
            _ => Ok((End::Final(Ended::Done(opened)), process)),
        }
    }

    fn start(&mut self) -> Result<(), JobError> {
        self.starts += 1;
        let Supervision { job_read, metrics, .. } = &self.supervision;
        let (supervisor, start, begun) = (std::process::id(), self.starts, self.begun);
        let link = SupervisorLink { supervisor, start, begun, job_read: job_read.clone() };
        let mut command = (self.worker)();
        let (input, orders) = link.open().map_err(JobError::io("talk to", "the worker"))?;
        command.stdin(input).stdout(Stdio::piped());
        terminal::set_apart(&mut command);
        let mut child = command.spawn().map_err(JobError::io("start", command.get_program()))?;
        // Its end of the socket is the worker's alone.
        drop(command);
        if let Some(output) = child.stdout.take() {
            let (sender, metrics) = (self.sender.clone(), metrics.clone());
            let relay = move || relay(output, &sender, metrics.as_ref());
            let relay = std::thread::Builder::new().name("relay".into()).spawn(relay);
            relay.map_err(JobError::io("listen to", "the worker"))?;
        }
        self.running = Some(Running { child, orders: Box::new(orders), opened: None });
        Ok(())
    }

    /// Waits until the worker has done what it was ordered, or has ended.
    fn watch(&mut self) -> Result<End, JobError> {
        let hang = self.supervision.hang;
        let Some(Running { child, orders, .. }) = &mut self.running else {
            return Err(JobError::Internal("there is no worker to watch".into()));
        };
        let (mut asked, mut hung, mut failed) = (None, None, None);
        let mut clock = HangClock::start(child.id(), hang);
        let kill = |child: &mut Child| child.kill().map_err(JobError::io("kill", "the worker"));
        loop {
            let event = self.events.recv_timeout(clock.pause());
            clock.look();
            match event {
                Ok(Event::Heartbeat) if asked.is_none() && hung.is_none() && failed.is_none() => {
                    clock.restart(hang);
                }
                Ok(Event::Heartbeat) => {}
                Ok(Event::Told(Ended::Failed(why))) => {
                    // It ends now.
                    failed = Some(why);
                    clock.restart(LEAVE);
                }
                Ok(Event::Told(done)) if asked.is_none() && hung.is_none() => return Ok(End::Final(done)),
                Ok(Event::Told(_)) => {}
                Ok(Event::Order(order)) => self.waiting.push_back(order),
                Ok(Event::Closed) => break,
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
                    hung = hung.or((asked.is_none() && failed.is_none()).then_some(kind));
                    kill(child)?;
                    clock.restart(LEAVE);
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = child.wait().map_err(JobError::io("wait for", "the worker"))?;
        self.running = None;
        Ok(match (failed, asked) {
            (Some(why), None) => End::Final(Ended::Failed(why)),
            _ => self.judge(status, asked, hung),
        })
    }

    /// Takes orders from a reader, one on a line. Its end is that of whoever gives them, and so this process ends at once, as a
    /// killed one does; the worker follows.
    ///
    /// # Errors
    /// [`JobError::Io`].
    pub fn obey(&self, input: impl Read + Send + 'static) -> Result<(), JobError> {
        let sender = self.sender.clone();
        let read = move || {
            for line in BufReader::new(input).lines().map_while(Result::ok) {
                let _ = sender.send(Event::Order(line));
            }
            std::process::exit(EXIT_FAILED.into());
        };
        let thread = std::thread::Builder::new().name("orders".into()).spawn(read);
        thread.map(drop).map_err(JobError::io("listen to", "standard input"))
    }

    /// Waits for the next order, or for a signal to stop, by which the worker ends, too.
    ///
    /// # Errors
    /// [`JobError::Io`].
    pub fn next_order(&mut self) -> Result<Result<String, StopSignal>, JobError> {
        if let Some(order) = self.waiting.pop_front() {
            return Ok(Ok(order));
        }
        loop {
            match self.events.recv() {
                Ok(Event::Order(order)) => return Ok(Ok(order)),
                Ok(Event::Closed) => {
                    if let Some(mut worker) = self.running.take() {
                        worker.child.wait().map_err(JobError::io("wait for", "the worker"))?;
                    }
                }
                Ok(Event::Signal(Signal::Suspend)) => {
                    terminal::suspend(self.running.as_ref().map(|running| &running.child));
                }
                Ok(Event::Signal(Signal::Stop(signal))) => {
                    // It has nothing that could be lost.
                    if let Some(mut worker) = self.running.take() {
                        let end = worker.child.kill().and_then(|()| worker.child.wait());
                        end.map_err(JobError::io("end", "the worker"))?;
                    }
                    return Ok(Err(signal));
                }
                Ok(Event::Heartbeat | Event::Told(_)) => {}
                Err(_) => return Err(JobError::Internal("nobody gives orders any more".into())),
            }
        }
    }

    fn judge(&self, status: ExitStatus, asked: Option<StopSignal>, hung: Option<Hang>) -> End {
        const FINAL: [u8; 6] =
            [EXIT_DONE, EXIT_FAILED, EXIT_REFUSED, EXIT_TOO_MANY_ERRORS, EXIT_INTERRUPTED, EXIT_TERMINATED];
        let nothing = format!("it did nothing for {}", humantime::format_duration(self.supervision.hang));
        match hung {
            Some(Hang::Computing) => return End::Died(Death::Crash, nothing),
            Some(Hang::Waiting) => {
                return End::Died(Death::Outside, nothing + ", and had no processor time");
            }
            None => {}
        }
        match (status.code(), asked) {
            (Some(0), _) => End::Final(Ended::Exit(EXIT_DONE)),
            (_, Some(signal)) => End::Final(Ended::Exit(signal.exit_code())),
            (Some(code), None) if FINAL.iter().any(|&last| i32::from(last) == code) => {
                End::Final(Ended::Exit(code as u8))
            }
            (Some(code), None) => End::Died(Death::DeviceLost, format!("exit code {code}")),
            (None, None) => by_signal(status),
        }
    }

    /// Sleeps, unless a signal comes.
    fn wait_for_signal(&mut self, pause: Duration) -> Option<StopSignal> {
        let until = Instant::now() + pause;
        loop {
            match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::Signal(Signal::Stop(signal))) => return Some(signal),
                Ok(Event::Signal(Signal::Suspend)) => terminal::suspend(None),
                Ok(Event::Order(order)) => self.waiting.push_back(order),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}

/// Whether a worker came so far as to open the journal.
fn begun_by(state_dir: &Path, process: u32) -> bool {
    let last = JournalReader::open(state_dir).and_then(|journal| journal.last_process());
    last.is_ok_and(|last| last == Some(process))
}

/// Answered rows so far; none if there is no journal yet.
fn answered_rows(state_dir: &Path) -> u64 {
    JournalReader::open(state_dir).and_then(|journal| journal.answered()).unwrap_or(0)
}

/// The signals of a program's own faults. All others come from outside: from whoever stops processes or suspends them,
/// a system without memory, a limit of time.
#[cfg(unix)]
fn by_signal(status: ExitStatus) -> End {
    use std::os::unix::process::ExitStatusExt;
    let signal = status.signal().unwrap_or(0);
    match signal {
        // Whoever stops the machine signals every process, also a worker that does not listen yet.
        libc::SIGINT => End::Final(Ended::Exit(EXIT_INTERRUPTED)),
        libc::SIGTERM => End::Final(Ended::Exit(EXIT_TERMINATED)),
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

/// Passes the worker's lines on: heartbeats and what it says of its orders to the supervisor, figures to the metrics, all else
/// to standard output.
fn relay(output: ChildStdout, events: &Sender<Event>, metrics: Option<&Metrics>) {
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        if line == HEARTBEAT.as_bytes() {
            let _ = events.send(Event::Heartbeat);
        } else if let Some(text) = line.strip_prefix(DONE.as_bytes()) {
            let _ = events.send(Event::Told(Ended::Done(String::from_utf8_lossy(text).into_owned())));
        } else if let Some(text) = line.strip_prefix(FAILED.as_bytes()) {
            let _ = events.send(Event::Told(Ended::Failed(String::from_utf8_lossy(text).into_owned())));
        } else if line.starts_with(HEARTBEAT.as_bytes()) {
            metrics.into_iter().for_each(|metrics| metrics.take_line(&line));
        } else {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(&line).and_then(|()| out.write_all(b"\n"));
        }
    }
    let _ = events.send(Event::Closed);
}

#[cfg(test)]
mod tests;
