//! How a worker knows that it is one: its standard input is a socket, and the first line on it is its supervisor's
//! greeting. Nothing that a user sets can stand for that by chance, and a worker that starts looks without taking
//! anything from an input that is not a supervisor's.

use serde::{Deserialize, Serialize};
use std::io::Write;
use std::process::Stdio;
use std::sync::OnceLock;

/// What a greeting begins with; JSON follows, and the end of the line.
const GREETING: &str = "gristmill worker ";

/// What a supervisor tells its worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupervisorLink {
    /// The supervisor's process id.
    pub supervisor: u32,
    /// The number of this start, from 1.
    pub start: u32,
    /// A worker before this one has opened the journal: `--fresh` and `--resume never` are done with.
    pub begun: bool,
    /// The digest of what the supervisor has read of the job file.
    pub job_read: Option<String>,
}

/// The supervisor of this process, if it has one.
pub fn supervisor_link() -> Option<&'static SupervisorLink> {
    static LINK: OnceLock<Option<SupervisorLink>> = OnceLock::new();
    LINK.get_or_init(|| SupervisorLink::of_greeting(&peek())).as_ref()
}

impl SupervisorLink {
    /// Makes the standard input of a worker, greets it there, and returns the end on which orders go to it.
    ///
    /// # Errors
    /// What the system says.
    #[cfg(unix)]
    pub fn open(&self) -> std::io::Result<(Stdio, impl Write + use<>)> {
        let (mut orders, input) = std::os::unix::net::UnixStream::pair()?;
        orders.write_all(self.greeting().as_bytes())?;
        Ok((Stdio::from(std::os::fd::OwnedFd::from(input)), orders))
    }

    /// Other systems have no such sockets, and so no supervisors.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(unix))]
    pub fn open(&self) -> std::io::Result<(Stdio, impl Write + use<>)> {
        Err::<(Stdio, std::io::Sink), _>(std::io::ErrorKind::Unsupported.into())
    }

    fn greeting(&self) -> String {
        format!("{GREETING}{}\n", serde_json::json!(self))
    }

    fn of_greeting(text: &[u8]) -> Option<SupervisorLink> {
        let line = text.split(|&byte| byte == b'\n').next()?;
        serde_json::from_slice(line.strip_prefix(GREETING.as_bytes())?).ok()
    }
}

/// What waits on standard input, if that is a socket. It stays there.
#[cfg(unix)]
fn peek() -> Vec<u8> {
    use rustix::net::{RecvFlags, recv};
    let mut bytes = [0; 256];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let waiting = recv(std::io::stdin(), &mut bytes, flags).map_or(0, |(_, length)| length);
    bytes[..waiting.min(bytes.len())].to_vec()
}

#[cfg(not(unix))]
fn peek() -> Vec<u8> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_read_as_it_is_said() {
        let job_read = Some("0123456789abcdef".repeat(4));
        let link = SupervisorLink { supervisor: 4_194_304, start: 3, begun: false, job_read };
        assert!(link.greeting().len() < 256);
        assert_eq!(SupervisorLink::of_greeting(link.greeting().as_bytes()), Some(link));
        for other in ["", "\n", "interrupt\n", "gristmill worker\n", "gristmill worker {}\n"] {
            assert_eq!(SupervisorLink::of_greeting(other.as_bytes()), None, "{other}");
        }
    }
}
