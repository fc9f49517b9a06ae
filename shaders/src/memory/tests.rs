//! What a plan takes, as wgpu's allocator counts it, against what is announced before.
#![allow(clippy::unwrap_used)]

use crate::device::WgpuDevice;
use crate::driver::gpu::STAGED;
use engine::cases::{Case, Formats, cases, linear, sample};
use engine::device::Device;
use engine::dtype::DType;
use engine::format::Format;

/// Opens the device; one that does not count its memory is skipped too.
fn open() -> Option<WgpuDevice> {
    match WgpuDevice::open(None) {
        Ok(mut device) => device.gpu_mut().device.generate_allocator_report().is_some().then_some(device),
        Err(why) => {
            let required = std::env::var("REQUIRE_DEVICE").unwrap_or_default();
            assert!(!required.split(',').any(|r| r == "wgpu"), "REQUIRE_DEVICE={required}, but: {why}");
            eprintln!("SKIPPED: no wgpu device: {why}");
            None
        }
    }
}

fn allocated(device: &mut WgpuDevice) -> usize {
    let report = device.gpu_mut().device.generate_allocator_report().unwrap();
    report.total_allocated_bytes as usize
}

fn announced(device: &WgpuDevice, case: &Case) -> usize {
    case.plan.bytes(&case.max_dims, |_| true) + device.workspace(&case.plan, &case.max_dims)
}

/// What the device takes for a case, with two of its steps in flight.
fn taken(device: &mut WgpuDevice, case: &Case) -> usize {
    let before = allocated(device);
    let (plan, _) = case.run(device).unwrap();
    let tickets = [(); 2].map(|()| device.submit(plan, &case.step).unwrap());
    let taken = allocated(device) - before;
    for ticket in tickets {
        device.wait(ticket).unwrap();
    }
    taken
}

#[test]
fn plans_take_no_more_than_is_announced() {
    let Some(mut device) = open() else { return };
    for weights in [Format::Q8_0, Format::Fp8, Format::Plain(DType::F16)] {
        for case in cases(Formats { weights, ..Formats::F32 }) {
            let (announced, taken) = (announced(&device, &case), taken(&mut device, &case));
            assert!(taken <= announced, "{}: {taken} bytes are taken, {announced} were announced", case.name);
        }
    }
}

/// The keys of sampling and the results of two steps are as much as all other buffers together.
#[test]
fn sampling_is_accounted_for() {
    let Some(mut device) = open() else { return };
    let mut case = sample(5000, true);
    case.max_dims.outputs = 1000;
    let (announced, taken) = (announced(&device, &case), taken(&mut device, &case));
    let logits = 1000 * 5000 * 4;
    assert!(taken > 2 * logits, "the keys are missing: {taken}");
    assert!(
        taken <= announced && announced - taken <= STAGED + (1 << 20),
        "{taken} bytes are taken, {announced} were announced"
    );
}

/// However much is loaded, no more is staged at a time than is announced.
#[test]
fn loading_stages_no_more_than_is_announced() {
    let Some(mut device) = open() else { return };
    let case = linear(Formats::F32, 1, 4096, 6144, false);
    let before = allocated(&mut device);
    let plan = device.compile(&case.plan, &case.max_dims).unwrap();
    for (buffer, bytes) in &case.writes {
        let rows = bytes.chunks(case.plan.desc(*buffer).row_bytes() * 100);
        for (i, rows) in rows.enumerate() {
            device.write(plan, *buffer, i * 100, rows).unwrap();
            let taken = allocated(&mut device) - before;
            let announced = announced(&device, &case);
            assert!(taken <= announced, "{taken} bytes are taken, {announced} were announced");
        }
    }
}
