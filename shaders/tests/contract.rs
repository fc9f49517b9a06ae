//! The device's own promises, on whatever adapter is there: the oracle's numbers under every option,
//! the same bits from every tile, nothing written outside an output, and an end when the device ends.

#![allow(clippy::unwrap_used)]

use engine::cases::{self, Formats, cases};
use engine::cpu::CpuDevice;
use engine::device::{Device, DeviceError};
use engine::dtype::DType;
use shaders::{Options, WgpuDevice};

/// Opens the device, or says loudly that there is none. `REQUIRE_DEVICE=wgpu` makes that a failure.
fn open(options: Options) -> Option<WgpuDevice> {
    match WgpuDevice::with_options(None, options) {
        Ok(device) => Some(device),
        Err(why) => {
            let required = std::env::var("REQUIRE_DEVICE").unwrap_or_default();
            assert!(!required.split(',').any(|r| r == "wgpu"), "REQUIRE_DEVICE={required}, but: {why}");
            eprintln!("SKIPPED: no wgpu device: {why}");
            None
        }
    }
}

/// Checks all cases in `formats` whose names contain `only`.
fn compare(device: &mut WgpuDevice, formats: Formats, only: &str) {
    let mut oracle = CpuDevice::new(Some(2)).unwrap();
    for case in cases(formats).into_iter().filter(|case| case.name.contains(only)) {
        let checked = case.check(device, &mut oracle, formats.epsilon());
        checked.unwrap_or_else(|why| panic!("{formats:?}: {why}"));
    }
}

#[test]
fn every_format_agrees_with_the_oracle_and_writes_nothing_else() {
    let Some(mut device) = open(Options::default()) else { return };
    let info = device.info().clone();
    for (i, &weights) in info.weights.iter().enumerate() {
        let formats = Formats { activations: info.activations, weights, kv: info.kv[i % info.kv.len()] };
        compare(&mut device, formats, "");
    }
}

const F16: Formats = Formats { activations: DType::F32, weights: DType::F16, kv: DType::F16 };

#[test]
fn shards_agree_with_the_oracle() {
    // 64 rows of 1536 f16 columns make a shard.
    let Some(mut device) = open(Options { max_binding: Some(192 << 10), ..Options::default() }) else {
        return;
    };
    compare(&mut device, F16, "Embed");
    compare(&mut device, F16, "Linear");
}

#[test]
fn split_dispatches_agree_with_the_oracle() {
    let Some(mut device) = open(Options { max_work: Some(1 << 16), ..Options::default() }) else { return };
    compare(&mut device, F16, "Linear");
    compare(&mut device, F16, "PagedAttention");
}

#[test]
fn adapters_without_subgroups_agree_with_the_oracle() {
    let Some(mut device) = open(Options { subgroups: false, ..Options::default() }) else { return };
    for weights in [DType::BF16, DType::F32] {
        compare(&mut device, Formats { weights, ..F16 }, "Linear");
    }
}

/// The bits of a Linear's first rows do not depend on the tile, nor on the rows that come with them.
#[test]
fn tiles_give_the_same_bits() {
    let mut seen: Option<Vec<u32>> = None;
    for tile_rows in [None, Some(1), Some(4), Some(8), Some(12), Some(17), Some(22), Some(24)] {
        let Some(mut device) = open(Options { tile_rows, ..Options::default() }) else { return };
        for rows in [5, 25] {
            let mut case = cases::linear(F16, 40, 200, 150, false);
            case.step.tokens.truncate(rows);
            case.step.positions.truncate(rows);
            case.step.slots.truncate(rows);
            case.step.query_start[1] = rows as u32;
            let (id, _) = case.run(&mut device).unwrap();
            let out = case.read(&mut device, id).unwrap();
            let bits: Vec<u32> = out[0][..5 * 150].iter().map(|v| v.to_bits()).collect();
            match &seen {
                None => seen = Some(bits),
                Some(seen) => assert_eq!(seen, &bits, "{tile_rows:?} with {rows} rows"),
            }
        }
    }
}

#[test]
fn a_lost_device_says_so() {
    let Some(mut device) = open(Options::default()) else { return };
    let case = cases::add(Formats::F32, 3, 64);
    let (id, _) = case.run(&mut device).unwrap();
    let ticket = device.submit(id, &case.step).unwrap();
    device.lose();
    assert!(matches!(device.wait(ticket), Err(DeviceError::Lost { .. })));
    assert!(matches!(device.submit(id, &case.step), Err(DeviceError::Lost { .. })));
    assert!(matches!(device.compile(&case.plan, &case.most), Err(DeviceError::Lost { .. })));
}

#[test]
fn a_plan_that_does_not_fit_is_refused_with_the_arithmetic() {
    let Some(mut device) = open(Options { max_binding: Some(1 << 10), ..Options::default() }) else { return };
    let case = cases::add(Formats::F32, 130, 64);
    let refused = device.compile(&case.plan, &case.most);
    let Err(DeviceError::OutOfMemory { needed, available, .. }) = refused else {
        panic!("130 x 64 floats are more than 1 KiB: {refused:?}")
    };
    assert_eq!((needed, available), (130 * 64 * 4, 1 << 10));
}
