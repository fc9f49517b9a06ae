//! How a job is asked to stop.

/// Stopped by Ctrl-C; the same command resumes the job.
pub const EXIT_INTERRUPTED: u8 = 130;
/// Stopped by SIGTERM; the same command resumes the job.
pub const EXIT_TERMINATED: u8 = 143;

/// How a job was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSignal {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM, as preemption and service managers send it.
    Terminate,
}

impl StopSignal {
    /// The exit code of a job that was stopped so and can be resumed.
    pub fn exit_code(self) -> u8 {
        match self {
            StopSignal::Interrupt => EXIT_INTERRUPTED,
            StopSignal::Terminate => EXIT_TERMINATED,
        }
    }

    /// How a supervisor passes it on to its worker: a line of this text.
    pub(crate) fn order(self) -> &'static str {
        match self {
            StopSignal::Interrupt => "interrupt",
            StopSignal::Terminate => "terminate",
        }
    }

    /// What a line from the supervisor asks for.
    pub(crate) fn of_order(line: &str) -> Option<StopSignal> {
        [StopSignal::Interrupt, StopSignal::Terminate]
            .into_iter()
            .find(|signal| signal.order() == line.trim())
    }
}

impl std::fmt::Display for StopSignal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            StopSignal::Interrupt => "Ctrl-C",
            StopSignal::Terminate => "SIGTERM",
        })
    }
}
