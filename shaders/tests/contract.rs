//! The device's own promises, on whatever adapter is there: the oracle's numbers under every option,
//! the same bits from every tile, nothing written outside an output, and an end when the device ends.

#![allow(clippy::unwrap_used)]

use engine::cases::{self, Case, Formats, cases};
use engine::cpu::CpuDevice;
use engine::device::{Device, DeviceError};
use engine::dtype::DType;
use engine::plan::{BufferId, BufferKind};
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

/// A NaN that no arithmetic produces.
const POISON: u32 = 0x7fc0_dead;

/// Fills what the case does not write itself and what its outputs are with poison, except inputs.
fn poison(device: &mut WgpuDevice, case: &Case, id: engine::device::PlanId) {
    for (buffer, desc) in case.plan.iter() {
        let fresh = matches!(desc.kind, BufferKind::Activation | BufferKind::StepOutput);
        if fresh && !case.writes.iter().any(|(written, _)| *written == buffer) {
            fill(device, case, id, buffer);
        }
    }
    for &(view, _) in &case.outputs {
        let kind = case.plan.desc(view.buffer).kind;
        let read_too = reads(case, view.buffer);
        if kind == BufferKind::Activation && !read_too {
            fill(device, case, id, view.buffer);
        }
    }
}

/// Whether the case's op reads a buffer that it writes.
fn reads(case: &Case, buffer: BufferId) -> bool {
    use engine::op::Op;
    match case.plan.ops[0] {
        Op::RmsNorm { x, .. } | Op::Rope { x, .. } => x.buffer == buffer,
        Op::Add { a, b, .. } => a.buffer == buffer || b.buffer == buffer,
        _ => false,
    }
}

fn fill(device: &mut WgpuDevice, case: &Case, id: engine::device::PlanId, buffer: BufferId) {
    let words = case.plan.desc(buffer).bytes(&case.most) / 4;
    device.write(id, buffer, 0, bytemuck::cast_slice(&vec![POISON; words])).unwrap();
}

/// Runs all cases in `formats` and compares them with the oracle; also that no other buffer, and no row
/// or column outside the outputs, has changed.
fn compare(device: &mut WgpuDevice, formats: Formats, only: &str) {
    let mut oracle = CpuDevice::new(Some(2)).unwrap();
    for (case, mut wide) in cases(formats).into_iter().zip(cases(Formats::F32)) {
        // Cases of two ops write what one hands to the next; the op tests compare their results.
        if case.plan.ops.len() > 1 {
            continue;
        }
        if !case.name.contains(only) {
            continue;
        }
        let what = format!("{} in {formats:?}", case.name);
        for ((id, to), (_, from)) in wide.writes.iter_mut().zip(&case.writes) {
            let desc = case.plan.desc(*id);
            if desc.dtype.is_float() {
                *to = DType::F32.encode(&desc.dtype.decode(from));
            }
        }
        let id = device.compile(&case.plan, &case.most).unwrap_or_else(|e| panic!("{what}: {e}"));
        for (buffer, bytes) in &case.writes {
            device.write(id, *buffer, 0, bytes).unwrap();
        }
        poison(device, &case, id);
        let before = snapshot(device, &case, id);
        let ticket = device.submit(id, &case.step).unwrap_or_else(|e| panic!("{what}: {e}"));
        let output = device.wait(ticket).unwrap();
        let after = snapshot(device, &case, id);
        outside(&case, &before, &after, &what);

        let (wide_id, wide_output) = wide.run(&mut oracle).unwrap();
        let got = case.read(device, id).unwrap();
        let want = wide.read(&mut oracle, wide_id).unwrap();
        for (out, (got, want)) in got.iter().zip(&want).enumerate() {
            // What the oracle keeps in f32 the device rounds once, to nearest even.
            let dtype = case.plan.desc(case.outputs[out].0.buffer).dtype;
            let want = if dtype.is_float() { dtype.decode(&dtype.encode(want)) } else { want.clone() };
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                let close = (got - want).abs() <= 1e-4 * want.abs().max(1.0);
                assert!(close, "{what}: output {out}, element {i}: {got}, the oracle says {want}");
            }
        }
        for (r, (got, want)) in output.sampled.iter().zip(&wide_output.sampled).enumerate() {
            assert_eq!(got.token, want.token, "{what}: row {r}");
            assert!((got.logprob - want.logprob).abs() < 1e-4, "{what}: row {r}: {got:?} {want:?}");
            for i in 0..case.step.sampling[r].logprobs as usize {
                assert_eq!(got.top_tokens[i], want.top_tokens[i], "{what}: row {r}");
                assert!((got.top_logprobs[i] - want.top_logprobs[i]).abs() < 1e-4, "{what}: row {r}");
            }
        }
    }
}

/// The bytes of all buffers but the inputs of the step, which the device fills itself.
fn snapshot(device: &mut WgpuDevice, case: &Case, id: engine::device::PlanId) -> Vec<Vec<u8>> {
    let buffers = case.plan.iter().map(|(buffer, desc)| match desc.kind {
        BufferKind::StepInput(_) => Vec::new(),
        _ => device.read(id, buffer, 0..case.most.count(desc.rows)).unwrap(),
    });
    buffers.collect()
}

/// Fails if a byte outside the outputs differs, or a float of an output is still the poison.
fn outside(case: &Case, before: &[Vec<u8>], after: &[Vec<u8>], what: &str) {
    // What one op hands to the next: a device that runs both as one never writes it.
    let between = match case.plan.ops[..] {
        [engine::op::Op::Linear { out, .. }, _] => Some(out.buffer),
        _ => None,
    };
    for (buffer, desc) in case.plan.iter().filter(|(buffer, _)| Some(*buffer) != between) {
        let size = desc.dtype.size();
        let inside = |element: usize| {
            let (row, col) = (element / desc.cols, element % desc.cols);
            case.outputs.iter().any(|&(view, rows)| {
                let whole = desc.kind == BufferKind::StepOutput;
                let cols = if whole { 0..desc.cols } else { view.start..view.start + view.cols };
                view.buffer == buffer && row < rows && cols.contains(&col)
            })
        };
        let pairs = before[buffer.0].chunks(size).zip(after[buffer.0].chunks(size));
        for (element, (before, after)) in pairs.enumerate() {
            if inside(element) {
                assert_ne!(after, &POISON.to_le_bytes()[4 - size..], "{what}: {} at {element}", desc.name);
            } else {
                assert_eq!(before, after, "{what}: {} changed at element {element}", desc.name);
            }
        }
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
