//! A device that fails on purpose, for tests of what happens then; only in builds with the feature `faults`.
//!
//! `GRISTMILL_FAULTS` is a list with commas of `START:KIND@N`: in the worker's start `START` (from 1; `*` for
//! every one), `lost@N` reports a lost device at the N-th step of the process, `hang@N` waits in it for ever,
//! `spin@N` computes in it for ever, `abort@N` ends the process in it, `memory@N`
//! asks in it for more memory than there is, and `token@N` ends the process at each step that holds token N, and with `other@N` it says that it is of another kind.

use crate::error::JobError;
use crate::supervisor_link::supervisor_link;
use engine::device::{Device, DeviceError, DeviceInfo, PlanId, Ticket};
use engine::op::Op;
use engine::plan::{BufferId, Dims, Plan};
use engine::step::{Step, StepOutput};
use std::ops::Range;
use std::time::Duration;

/// The environment variable.
pub const FAULTS: &str = "GRISTMILL_FAULTS";

/// For how many milliseconds a claim of an output in a store stands, and how many lie between two checkpoints at least: tests
/// do not wait for minutes.
const LEASE_MS: &str = "GRISTMILL_LEASE_MS";
const CHECKPOINT_MS: &str = "GRISTMILL_CHECKPOINT_MS";

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Lost(u64),
    Hang(u64),
    Spin(u64),
    Abort(u64),
    Memory(u64),
    Token(u32),
    Other,
}

/// The lease of claims, if it is another.
pub fn lease() -> Option<Duration> {
    milliseconds(LEASE_MS)
}

/// The time between two checkpoints, if it is another.
pub fn checkpoint_interval() -> Option<Duration> {
    milliseconds(CHECKPOINT_MS)
}

fn milliseconds(name: &str) -> Option<Duration> {
    std::env::var(name).ok()?.parse().ok().map(Duration::from_millis)
}

/// Wraps a device if faults are asked for.
///
/// # Errors
/// [`JobError::Usage`] if they cannot be understood.
pub fn wrap(device: Box<dyn Device>) -> Result<Box<dyn Device>, JobError> {
    let Ok(text) = std::env::var(FAULTS) else { return Ok(device) };
    let start = supervisor_link().map_or(1, |link| link.start).to_string();
    let faults =
        parse(&text, &start).ok_or_else(|| JobError::Usage(format!("{FAULTS}={text} is not understood")))?;
    tracing::warn!("the device fails on purpose: {faults:?}");
    let mut info = device.info().clone();
    if faults.contains(&Fault::Other) {
        info.family = "other";
    }
    Ok(Box::new(FaultyDevice { device, info, faults, steps: 0 }))
}

/// The faults of one start.
fn parse(text: &str, start: &str) -> Option<Vec<Fault>> {
    let mut faults = Vec::new();
    for item in text.split(',').filter(|item| !item.is_empty()) {
        let (when, fault) = item.split_once(':')?;
        let (kind, n) = fault.split_once('@')?;
        let fault = match kind {
            "lost" => Fault::Lost(n.parse().ok()?),
            "hang" => Fault::Hang(n.parse().ok()?),
            "spin" => Fault::Spin(n.parse().ok()?),
            "abort" => Fault::Abort(n.parse().ok()?),
            "memory" => Fault::Memory(n.parse().ok()?),
            "token" => Fault::Token(n.parse().ok()?),
            "other" => Fault::Other,
            _ => return None,
        };
        if when == "*" || when == start {
            faults.push(fault);
        }
    }
    Some(faults)
}

struct FaultyDevice {
    device: Box<dyn Device>,
    info: DeviceInfo,
    faults: Vec<Fault>,
    steps: u64,
}

impl Device for FaultyDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn pci_bus_id(&self) -> Option<String> {
        self.device.pci_bus_id()
    }

    fn supports(&self, plan: &Plan, op: &Op) -> Result<(), String> {
        self.device.supports(plan, op)
    }

    fn workspace(&self, plan: &Plan, max_dims: &Dims) -> usize {
        self.device.workspace(plan, max_dims)
    }

    fn spared(&self, plan: &Plan, max_dims: &Dims) -> usize {
        self.device.spared(plan, max_dims)
    }

    fn compile(&mut self, plan: &Plan, max_dims: &Dims) -> Result<PlanId, DeviceError> {
        self.device.compile(plan, max_dims)
    }

    fn write(&mut self, plan: PlanId, buffer: BufferId, row: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        self.device.write(plan, buffer, row, bytes)
    }

    fn read(&mut self, plan: PlanId, buffer: BufferId, rows: Range<usize>) -> Result<Vec<u8>, DeviceError> {
        self.device.read(plan, buffer, rows)
    }

    fn submit(&mut self, plan: PlanId, step: &Step) -> Result<Ticket, DeviceError> {
        self.steps += 1;
        for fault in &self.faults {
            match *fault {
                Fault::Lost(n) if n == self.steps => {
                    let device = self.info().kind;
                    return Err(DeviceError::Lost { device, why: "on purpose".into() });
                }
                Fault::Hang(n) if n == self.steps => loop {
                    std::thread::sleep(Duration::from_secs(60));
                },
                Fault::Spin(n) if n == self.steps => loop {
                    std::hint::spin_loop();
                },
                Fault::Abort(n) if n == self.steps => std::process::abort(),
                Fault::Memory(n) if n == self.steps => drop(std::hint::black_box(vec![0u8; 1 << 50])),
                Fault::Token(token) if step.tokens.contains(&token) => std::process::abort(),
                _ => {}
            }
        }
        self.device.submit(plan, step)
    }

    fn provide(&mut self, ticket: &Ticket, masks: &[u32]) -> Result<(), DeviceError> {
        self.device.provide(ticket, masks)
    }

    fn wait(&mut self, ticket: Ticket) -> Result<StepOutput, DeviceError> {
        self.device.wait(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_of_their_start() {
        let text = "1:lost@3,*:token@7,2:hang@1";
        assert_eq!(parse(text, "1"), Some(vec![Fault::Lost(3), Fault::Token(7)]));
        assert_eq!(parse(text, "2"), Some(vec![Fault::Token(7), Fault::Hang(1)]));
        assert_eq!(parse("", "1"), Some(vec![]));
        for wrong in ["lost@3", "1:lost", "1:lost@x", "1:burn@3"] {
            assert_eq!(parse(wrong, "1"), None);
        }
    }
}
