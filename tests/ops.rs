//! Compares every op case on every device with the oracle.

#![allow(clippy::unwrap_used)]

mod support;

use engine::cases::{Formats, cases};
use engine::cpu::CpuDevice;
use engine::dtype::DType;

/// Runs all cases on `name` with activations of one type, in every weight format and KV type that go with it.
fn compare(name: &str, activations: DType) {
    let Some(mut device) = support::open(name) else { return };
    let mut oracle = CpuDevice::new(Some(2)).unwrap();
    let types = device.info().types_for(activations).clone();
    assert_eq!(types.activations, activations);
    for &weights in &types.weights {
        for &kv in &types.kv {
            let formats = Formats { activations, weights, kv };
            // Activations that are rounded for a product differ as much as activations that are kept in that type.
            let products = if name == "cpu-medium" { DType::BF16 } else { activations };
            let epsilon = Formats { activations: products, ..formats }.epsilon();
            for case in cases(formats) {
                let checked = case.check(device.as_mut(), &mut oracle, epsilon);
                checked.unwrap_or_else(|why| panic!("{formats:?}: {why}"));
            }
        }
    }
}

#[test]
fn cpu() {
    compare("cpu", DType::F32);
}

#[test]
fn cpu_medium() {
    compare("cpu-medium", DType::F32);
}

#[test]
fn cuda() {
    compare("cuda", DType::BF16);
}

#[test]
fn cuda_f16() {
    compare("cuda", DType::F16);
}

/// A card with wgmma: in a process of its own, whose stand-in driver is one.
#[test]
fn cuda_sm_90a() {
    support::on_sm90("cuda");
}

#[test]
fn cuda_sm_90a_f16() {
    support::on_sm90("cuda_f16");
}

#[test]
fn cuda_f32() {
    compare("cuda", DType::F32);
}

#[test]
fn wgpu() {
    compare("wgpu", DType::F32);
}
