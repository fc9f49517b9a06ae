//! Ctrl-C, SIGTERM and Ctrl-Z.

use crate::error::JobError;
use crate::log::note;
use crate::stop_signal::StopSignal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

/// What the system tells a process that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// To stop.
    Stop(StopSignal),
    /// Ctrl-Z: to pause until the shell continues the job.
    Suspend,
}

/// Whether the job was asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Signals(Arc<AtomicU8>);

impl Signals {
    /// How the job was asked to stop, if it was.
    pub fn stop_signal(&self) -> Option<StopSignal> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(StopSignal::Interrupt),
            _ => Some(StopSignal::Terminate),
        }
    }

    /// Asks the job to stop; the first to ask counts.
    pub fn request_stop(&self, asked: StopSignal) {
        let _ = self.0.compare_exchange(0, asked as u8 + 1, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Prints that a signal was heard.
pub(crate) fn print_stopping(signal: StopSignal) {
    let again = match signal {
        StopSignal::Interrupt => "press Ctrl-C again to stop at once",
        StopSignal::Terminate => "a second signal stops it at once",
    };
    note!("gristmill: stopping on {signal}; keeping finished rows ({again})");
}

/// Calls `each` for every signal to stop from now on, on a thread of its own.
///
/// # Errors
/// [`JobError::Io`] if the system refuses.
pub fn on_stop(mut each: impl FnMut(StopSignal) + Send + 'static) -> Result<(), JobError> {
    let each = move |signal| match signal {
        Signal::Stop(signal) => each(signal),
        Signal::Suspend => {}
    };
    on_thread(false, each)
}

/// Calls `each` for every signal from now on, on a thread of its own. Ctrl-Z does nothing else any more.
///
/// # Errors
/// [`JobError::Io`] if the system refuses.
pub fn on_signal(each: impl FnMut(Signal) + Send + 'static) -> Result<(), JobError> {
    on_thread(true, each)
}

fn on_thread(suspend: bool, each: impl FnMut(Signal) + Send + 'static) -> Result<(), JobError> {
    let (installed, wait) = sync_channel(1);
    let listen = move || listen(suspend, &installed, each);
    let thread = std::thread::Builder::new().name("signals".into()).spawn(listen);
    let lost = |_| Err(std::io::Error::other("the thread that waits for them has ended"));
    let result = thread.map(drop).and_then(|()| wait.recv().unwrap_or_else(lost));
    result.map_err(JobError::io("wait for", "signals"))
}

fn listen(suspend: bool, installed: &SyncSender<std::io::Result<()>>, mut each: impl FnMut(Signal)) {
    // The library panics where it finds too few descriptors for its own pair of sockets beside what else it opens.
    #[cfg(unix)]
    if let Err(error) =
        [(); 3].map(|()| std::os::unix::net::UnixStream::pair()).into_iter().collect::<Result<Vec<_>, _>>()
    {
        return drop(installed.send(Err(error)));
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(installed.send(Err(error))),
    };
    runtime.block_on(async {
        let mut heard = match Heard::install(suspend) {
            Ok(heard) => heard,
            Err(error) => return drop(installed.send(Err(error))),
        };
        let _ = installed.send(Ok(()));
        loop {
            each(heard.next().await);
        }
    });
}

#[cfg(unix)]
struct Heard {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    suspend: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Heard {
    fn install(suspend: bool) -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let suspend = suspend.then(|| signal(SignalKind::from_raw(libc::SIGTSTP))).transpose()?;
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Heard { interrupt, terminate, suspend })
    }

    async fn next(&mut self) -> Signal {
        let suspended = async {
            match &mut self.suspend {
                Some(suspend) => suspend.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Stop(StopSignal::Interrupt),
            _ = self.terminate.recv() => Signal::Stop(StopSignal::Terminate),
            _ = suspended => Signal::Suspend,
        }
    }
}

#[cfg(windows)]
struct Heard(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Heard {
    fn install(_: bool) -> std::io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Heard)
    }

    async fn next(&mut self) -> Signal {
        let _ = self.0.recv().await;
        Signal::Stop(StopSignal::Interrupt)
    }
}
