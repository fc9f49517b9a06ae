//! Ctrl-C and SIGTERM.

use crate::error::JobError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

/// How a job was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSignal {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM, as preemption and service managers send it.
    Terminate,
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
pub(crate) fn print_stopping() {
    eprintln!("gristmill: stopping; keeping finished rows (press Ctrl-C again to stop at once)");
}

/// Calls `each` for every signal from now on, on a thread of its own.
///
/// # Errors
/// [`JobError::Io`] if the system refuses.
pub fn on_signal(each: impl FnMut(StopSignal) + Send + 'static) -> Result<(), JobError> {
    let (installed, wait) = sync_channel(1);
    let thread = std::thread::Builder::new().name("signals".into()).spawn(move || listen(&installed, each));
    let lost = |_| Err(std::io::Error::other("the thread that waits for them has ended"));
    let result = thread.map(drop).and_then(|()| wait.recv().unwrap_or_else(lost));
    result.map_err(JobError::io("wait for", "signals"))
}

fn listen(installed: &SyncSender<std::io::Result<()>>, mut each: impl FnMut(StopSignal)) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(installed.send(Err(error))),
    };
    runtime.block_on(async {
        let mut heard = match Heard::install() {
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
}

#[cfg(unix)]
impl Heard {
    fn install() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Heard { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.interrupt.recv() => StopSignal::Interrupt,
            _ = self.terminate.recv() => StopSignal::Terminate,
        }
    }
}

#[cfg(windows)]
struct Heard(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Heard {
    fn install() -> std::io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Heard)
    }

    async fn next(&mut self) -> StopSignal {
        let _ = self.0.recv().await;
        StopSignal::Interrupt
    }
}
