//! The card's memory: what a plan takes, and what happens where it is not there.
#![allow(clippy::unwrap_used)]

mod common;

use common::BF16;
use engine::cases::{Attention, attention, linear};
use engine::device::{Device, DeviceError, MemoryUse};
use engine::dtype::DType;
use engine::plan::{BufferKind, Input, Rows};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tests that measure free memory take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a plan takes is what the device says that it will: the engine gives all that is left to KV pages.
#[test]
fn memory_is_accounted_for() {
    let _alone = alone();
    let mut device = common::open(None);
    // A context of 128 parts, whose states take more than all else.
    let mut case = attention(BF16, Attention::new(32, 8, 128, 16), &[(1, 40); 24]);
    case.max_dims.pages_per_seq = 128 * 1024 / 16;
    let columns = case.max_dims.pages_per_seq;
    let tables = case.plan.buffers.iter_mut().find(|b| b.kind == BufferKind::StepInput(Input::BlockTables));
    tables.unwrap().cols = columns;
    // The first compilation opens what stays open.
    device.compile(&case.plan, &case.max_dims).unwrap();
    let before = device.info().memory_free;
    let said = case.plan.bytes(&case.max_dims, |_| true) + device.workspace(&case.plan, &case.max_dims);
    device.compile(&case.plan, &case.max_dims).unwrap();
    let taken = before - device.info().memory_free;
    assert!(said > 48 << 20, "the states are missing: {said}");
    assert!(taken <= said && said - taken < 8 << 20, "{taken} bytes were taken, {said} were said");
}

/// Memory that is not there is refused in words, takes nothing with it, and the device goes on.
#[test]
fn too_large_a_plan_is_refused() {
    let _alone = alone();
    let mut device = common::open(None);
    let before = device.info().memory_free;
    let mut large = linear(BF16, 2, 64, 96, false);
    let rows = Rows::Fixed(2 * device.info().memory_total / 2048);
    large.plan.buffer("too large", BufferKind::Weight, DType::BF16, rows, 1024);
    match device.compile(&large.plan, &large.max_dims) {
        Err(DeviceError::OutOfMemory { what, needed, available, memory_use: MemoryUse::Weights }) => {
            assert!(what == "too large" && needed > available, "{what}: {needed} of {available}");
        }
        other => panic!("{other:?}"),
    }
    let small = linear(BF16, 2, 64, 96, false);
    small.run(&mut device).unwrap();
    // What the refused plan had allocated before is free again: only the small one's memory is taken.
    assert!(before - device.info().memory_free < 64 << 20);
}
