//! That the check of a case finds what devices get wrong: a device that is the oracle but for one fault.

#![allow(clippy::unwrap_used)]

use engine::cases::{Formats, linear_residual};
use engine::cpu::CpuDevice;
use engine::device::{Device, DeviceError, DeviceInfo, PlanId, Ticket};
use engine::op::Op;
use engine::plan::{BufferId, Dims, Plan};
use engine::step::{Step, StepOutput};
use std::ops::Range;

/// What a faulty device does to a buffer: bytes before the step and after it, to the bytes that it leaves.
type Fault = fn(Vec<u8>, Vec<u8>) -> Vec<u8>;

struct Faulty {
    device: CpuDevice,
    buffer: BufferId,
    /// All rows of the buffer.
    rows: usize,
    fault: Fault,
    before: Option<(PlanId, Vec<u8>)>,
}

impl Faulty {
    fn bytes(&mut self, id: PlanId) -> Vec<u8> {
        self.device.read(id, self.buffer, 0..self.rows).unwrap()
    }
}

impl Device for Faulty {
    fn info(&self) -> &DeviceInfo {
        self.device.info()
    }

    fn supports(&self, plan: &Plan, op: &Op) -> Result<(), String> {
        self.device.supports(plan, op)
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
        self.before = Some((plan, self.bytes(plan)));
        self.device.submit(plan, step)
    }

    fn provide(&mut self, ticket: &Ticket, masks: &[u32]) -> Result<(), DeviceError> {
        self.device.provide(ticket, masks)
    }

    fn wait(&mut self, ticket: Ticket) -> Result<StepOutput, DeviceError> {
        let output = self.device.wait(ticket)?;
        let (id, before) = self.before.take().unwrap();
        let after = self.bytes(id);
        self.device.write(id, self.buffer, 0, &(self.fault)(before, after))?;
        Ok(output)
    }
}

/// What the check of a Linear that a norm adds to the residual says of a fault in one of its buffers.
fn check(buffer: &str, fault: Fault) -> Result<(), String> {
    let case = linear_residual(Formats::F32, 3, 64, 96, true);
    let (buffer, desc) = case.plan.iter().find(|(_, desc)| desc.name == buffer).unwrap();
    let (device, rows) = (CpuDevice::new(Some(1)).unwrap(), case.max_dims.count(desc.rows));
    let mut faulty = Faulty { device, buffer, rows, fault, before: None };
    case.check(&mut faulty, &mut CpuDevice::new(Some(1)).unwrap(), 0.0)
}

/// The bytes with the last float made 1.5.
fn last(mut bytes: Vec<u8>) -> Vec<u8> {
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&1.5_f32.to_le_bytes());
    bytes
}

#[test]
fn a_sound_device_passes() {
    check("hidden", |_, after| after).unwrap();
}

#[test]
fn what_one_op_hands_to_the_next_may_be_written_or_not() {
    check("out", |before, _| before).unwrap();
    check("out", |_, after| last(after)).unwrap();
}

#[test]
fn faults_are_found() {
    let said = |buffer, fault: Fault| check(buffer, fault).unwrap_err();
    assert!(said("normed", |before, _| before).ends_with("row 0, column 0 of normed was not written"));
    assert!(said("normed", |_, after| last(after)).contains("output 0, element 287: 1.5, the oracle says"));
    // The residual is an output that is read first: its old values are no poison, but wrong numbers.
    assert!(said("hidden", |before, _| before).contains("output 1, element 0: "));
    for input in ["x", "weight", "norm"] {
        assert!(said(input, |_, after| last(after)).contains(&format!(" of {input} was written")), "{input}");
    }
}
