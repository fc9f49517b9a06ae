//! The terminal, which sends its signals to one process group: the supervisor's. The worker has a group of its own, so
//! that one Ctrl-C is one signal; what else the terminal does to groups is done for it here.

use std::process::{Child, Command};

/// Starts the worker in a process group of its own.
pub(super) fn set_apart(worker: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(worker, 0);
    #[cfg(not(unix))]
    let _ = worker;
}

/// Lets this process, which is of no group that the terminal knows, write to the terminal. Under `stty tostop` that
/// would suspend it for good.
#[cfg(unix)]
pub(crate) fn write_from_background() {
    // SAFETY: it installs no handler, and nothing here depends on what SIGTTOU does.
    unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
}

#[cfg(not(unix))]
pub(crate) fn write_from_background() {}

/// Suspends the worker and then this process, as Ctrl-Z does, and continues the worker when this process is continued.
#[cfg(unix)]
pub(super) fn suspend(worker: Option<&Child>) {
    let send = |signal| {
        if let Some(worker) = worker {
            // SAFETY: it only sends a signal. The child was not waited for, so the number is still its own.
            unsafe { libc::kill(worker.id() as libc::pid_t, signal) };
        }
    };
    send(libc::SIGSTOP);
    suspend_this();
    send(libc::SIGCONT);
}

#[cfg(not(unix))]
pub(super) fn suspend(_: Option<&Child>) {}

/// Does what SIGTSTP does without a handler, which is nothing where no shell could continue the process.
#[cfg(unix)]
fn suspend_this() {
    // SAFETY: the handler that is set aside is put back, and all-zero bytes are a valid `sigaction`: the default action,
    // no flags and an empty mask.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        let mut handler: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGTSTP, &default, &mut handler);
        libc::raise(libc::SIGTSTP);
        libc::sigaction(libc::SIGTSTP, &handler, std::ptr::null_mut());
    }
}
