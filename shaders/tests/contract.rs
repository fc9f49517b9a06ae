//! The device's own promises, on whatever adapter is there: the oracle's numbers under every option,
//! the same bits from every tile, nothing written outside an output, and an end when the device ends.

#![allow(clippy::unwrap_used)]

use engine::cases::{self, Formats, cases};
use engine::cpu::CpuDevice;
use engine::device::{Device, DeviceError, Ticket};
use engine::dtype::DType;
use engine::format::Format;
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
    let types = device.info().types[0].clone();
    for (i, &weights) in types.weights.iter().enumerate() {
        let formats = Formats { activations: types.activations, weights, kv: types.kv[i % types.kv.len()] };
        compare(&mut device, formats, "");
    }
}

const F16: Formats = Formats { activations: DType::F32, weights: Format::Plain(DType::F16), kv: DType::F16 };
const Q8_0: Formats = Formats { weights: Format::Q8_0, ..F16 };
const FP8: Formats = Formats { weights: Format::Fp8Blocks, ..F16 };

#[test]
fn shards_agree_with_the_oracle() {
    // 64 rows of 1536 f16 columns make a shard.
    let Some(mut device) = open(Options { max_binding: Some(192 << 10), ..Options::default() }) else {
        return;
    };
    for formats in [F16, Q8_0, FP8] {
        compare(&mut device, formats, "Embed");
        compare(&mut device, formats, "Linear");
    }
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
    for weights in [DType::BF16.into(), DType::F32.into(), Format::Q8_0, Format::Fp8] {
        compare(&mut device, Formats { weights, ..F16 }, "Linear");
    }
}

/// The bits of a Linear's first rows do not depend on the tile, nor on the rows that come with them.
#[test]
fn tiles_give_the_same_bits() {
    for formats in [F16, Q8_0, FP8] {
        let mut seen: Option<Vec<u32>> = None;
        for tile_rows in [None, Some(1), Some(4), Some(8), Some(12), Some(17), Some(22), Some(24)] {
            let Some(mut device) = open(Options { tile_rows, ..Options::default() }) else { return };
            for rows in [5, 25] {
                let bits = bits_of_5_rows(&mut device, formats, rows);
                let seen = seen.get_or_insert_with(|| bits.clone());
                assert_eq!(seen, &bits, "{formats:?}, {tile_rows:?} with {rows} rows");
            }
        }
    }
}

/// The bits that a Linear gives its first 5 rows in a step of `rows`.
fn bits_of_5_rows(device: &mut WgpuDevice, formats: Formats, rows: usize) -> Vec<u32> {
    let mut case = cases::linear(formats, 40, 224, 150, false);
    case.step.tokens.truncate(rows);
    case.step.positions.truncate(rows);
    case.step.kv_slots.truncate(rows);
    case.step.query_start[1] = rows as u32;
    let (id, _) = case.run(device).unwrap();
    let out = case.read(device, id).unwrap();
    out[0][..5 * 150].iter().map(|v| v.to_bits()).collect()
}

/// Masks that come late change no bit, whatever is done in between that may be.
#[test]
fn late_masks_give_the_same_bits() {
    let Some(mut device) = open(Options::default()) else { return };
    for drawn in [false, true] {
        let case = cases::sample(300, drawn);
        let (id, want) = case.run(&mut device).unwrap();
        let mut step = case.step.clone();
        step.late_masks = step.dims().masks;
        let masks = std::mem::take(&mut step.masks);

        let before = device.submit(id, &case.step).unwrap();
        let late = device.submit(id, &step).unwrap();
        assert_eq!(device.wait(before).unwrap(), want);
        let refused = |result| matches!(result, Err(DeviceError::BadStep(_)));
        assert!(refused(device.submit(id, &case.step).map(|_| ())));
        assert!(refused(device.read(id, case.outputs[0].0.buffer, 0..1).map(|_| ())));
        assert!(refused(device.provide(&Ticket(late.0 - 1), &masks)));
        assert!(refused(device.provide(&late, &masks[1..])));
        device.provide(&late, &masks).unwrap();
        assert!(refused(device.provide(&late, &masks)));
        assert_eq!(device.wait(late).unwrap(), want);
    }
}

/// A weight is read back as it was written, also where one row at a time is.
#[test]
fn rows_of_weights_come_back_as_they_went_in() {
    let Some(mut device) = open(Options::default()) else { return };
    for weights in device.info().types[0].weights.clone() {
        let case = cases::linear(Formats { weights, ..F16 }, 1, 96, 130, false);
        let (id, bytes) = case.writes.iter().find(|(id, _)| case.plan.desc(*id).name == "weight").unwrap();
        let plan = device.compile(&case.plan, &case.max_dims).unwrap();
        let stride = case.plan.desc(*id).row_bytes();
        for row in (0..130).rev() {
            device.write(plan, *id, row, &bytes[row * stride..][..stride]).unwrap();
        }
        assert_eq!(&device.read(plan, *id, 0..130).unwrap(), bytes, "{weights}");
        assert_eq!(device.read(plan, *id, 63..66).unwrap(), bytes[63 * stride..66 * stride], "{weights}");
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
    assert!(matches!(device.compile(&case.plan, &case.max_dims), Err(DeviceError::Lost { .. })));
}

#[test]
fn a_plan_that_does_not_fit_is_refused_with_the_arithmetic() {
    let Some(mut device) = open(Options { max_binding: Some(1 << 10), ..Options::default() }) else { return };
    let case = cases::add(Formats::F32, 130, 64);
    let refused = device.compile(&case.plan, &case.max_dims);
    let Err(DeviceError::OutOfMemory { needed, available, .. }) = refused else {
        panic!("130 x 64 floats are more than 1 KiB: {refused:?}")
    };
    assert_eq!((needed, available), (130 * 64 * 4, 1 << 10));
}
