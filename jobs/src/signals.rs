//! Ctrl-C and SIGTERM as values.

use crate::error::JobError;
use std::sync::mpsc::{SyncSender, sync_channel};

/// Who asks the job to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM, as preemption and service managers send it.
    Terminate,
}

/// Calls `each` for every signal from now on, on a thread of its own.
///
/// # Errors
/// [`JobError::Io`] if the system refuses.
pub fn on_signal(each: impl FnMut(Signal) + Send + 'static) -> Result<(), JobError> {
    let (installed, wait) = sync_channel(1);
    let thread = std::thread::Builder::new().name("signals".into()).spawn(move || listen(&installed, each));
    let lost = |_| Err(std::io::Error::other("the thread that waits for signals has ended"));
    let result = thread.map(drop).and_then(|()| wait.recv().unwrap_or_else(lost));
    result.map_err(JobError::io("wait for", "signals"))
}

fn listen(installed: &SyncSender<std::io::Result<()>>, mut each: impl FnMut(Signal)) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(installed.send(Err(error))),
    };
    runtime.block_on(async {
        let mut signals = match Signals::install() {
            Ok(signals) => signals,
            Err(error) => return drop(installed.send(Err(error))),
        };
        let _ = installed.send(Ok(()));
        loop {
            each(signals.next().await);
        }
    });
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn install() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn install() -> std::io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Signals)
    }

    async fn next(&mut self) -> Signal {
        let _ = self.0.recv().await;
        Signal::Interrupt
    }
}
