//! Ctrl-C and SIGTERM.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Whether the job was asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Signals(Arc<AtomicU8>);

/// How a job was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signals {
    /// Listens from now on. The first signal asks the job to stop; a second Ctrl-C ends the process.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen() -> std::io::Result<Signals> {
        let signals = Signals::default();
        let state = signals.0.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async {
                let asked = first().await;
                state.store(asked as u8 + 1, Ordering::Relaxed);
                eprintln!("gristmill: stopping; finished rows are being kept (Ctrl-C again to end at once)");
                if tokio::signal::ctrl_c().await.is_ok() {
                    std::process::exit(i32::from(crate::error::EXIT_INTERRUPTED));
                }
            });
        })?;
        Ok(signals)
    }

    /// How the job was asked to stop, if it was.
    pub fn asked(&self) -> Option<Asked> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Asked::Interrupt),
            _ => Some(Asked::Terminate),
        }
    }
}

#[cfg(unix)]
async fn first() -> Asked {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => Asked::Interrupt,
            _ = terminate.recv() => Asked::Terminate,
        },
        Err(_) => interrupted().await,
    }
}

#[cfg(not(unix))]
async fn first() -> Asked {
    interrupted().await
}

async fn interrupted() -> Asked {
    // Without a handler there is nothing to hear.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
    Asked::Interrupt
}
