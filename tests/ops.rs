//! Every op case on every device against the oracle.

#![allow(clippy::unwrap_used)]

mod support;

use engine::cases::{Formats, cases};
use engine::cpu::CpuDevice;
use engine::device::Device;
use engine::dtype::DType;

/// Runs all cases on `name` in every format that it takes.
fn compare(name: &str) {
    let Some(mut device) = support::open(name) else { return };
    let info = device.info().clone();
    for &weights in &info.weights {
        for &kv in &info.kv {
            let formats = Formats { activations: info.activations, weights, kv };
            // Rounded activations differ from the oracle's as if they were kept in that type.
            let products = if name == "cpu-medium" { DType::BF16 } else { info.activations };
            let epsilon = Formats { activations: products, ..formats }.epsilon();
            compare_in(device.as_mut(), formats, epsilon);
        }
    }
}

fn compare_in(device: &mut dyn Device, formats: Formats, epsilon: f32) {
    let mut oracle = CpuDevice::new(Some(2)).unwrap();
    // The same numbers in f32: what the device's formats hold, widened.
    for (case, mut wide) in cases(formats).into_iter().zip(cases(Formats::F32)) {
        let what = format!("{} in {formats:?} on {}", case.name, device.info().name);
        for ((id, to), (_, from)) in wide.writes.iter_mut().zip(&case.writes) {
            let desc = case.plan.desc(*id);
            if desc.dtype.is_float() {
                *to = DType::F32.encode(&desc.dtype.decode(from));
            }
        }
        let (id, output) = case.run(device).unwrap_or_else(|e| panic!("{what}: {e}"));
        let (wide_id, wide_output) = wide.run(&mut oracle).unwrap();
        let got = case.read(device, id).unwrap();
        let want = wide.read(&mut oracle, wide_id).unwrap();
        let tolerance = 1e-4 + 4.0 * epsilon;
        for (out, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_eq!(got.len(), want.len(), "{what}");
            // What the oracle keeps in f32 the device rounds once, to nearest even.
            let dtype = case.plan.desc(case.outputs[out].0.buffer).dtype;
            let want = if dtype.is_float() { dtype.decode(&dtype.encode(want)) } else { want.clone() };
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                let close = (got - want).abs() <= tolerance * want.abs().max(1.0);
                assert!(close, "{what}: output {out}, element {i}: {got}, the oracle says {want}");
            }
        }
        for (r, (got, want)) in output.sampled.iter().zip(&wide_output.sampled).enumerate() {
            assert_eq!(got.token, want.token, "{what}: row {r}");
            assert!((got.logprob - want.logprob).abs() < 1e-4, "{what}: row {r}: {got:?} {want:?}");
            let n = case.step.sampling[r].logprobs as usize;
            for i in 0..n.min(33) {
                let (got, want) =
                    ((got.top_tokens[i], got.top_logprobs[i]), (want.top_tokens[i], want.top_logprobs[i]));
                assert!(
                    got.0 == want.0 && (got.1 - want.1).abs() < 1e-4,
                    "{what}: row {r}: {got:?} {want:?}"
                );
            }
        }
    }
}

#[test]
fn cpu() {
    compare("cpu");
}

#[test]
fn cpu_medium() {
    compare("cpu-medium");
}

#[test]
fn cuda() {
    compare("cuda");
}

#[test]
fn cuda_f16() {
    compare("cuda-f16");
}

#[test]
fn cuda_f32() {
    compare("cuda-f32");
}

#[test]
fn wgpu() {
    compare("wgpu");
}
