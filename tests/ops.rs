//! Every op case on every device against the oracle.

#![allow(clippy::unwrap_used)]

mod support;

use engine::cases::{Formats, cases};
use engine::cpu::CpuDevice;
use engine::dtype::DType;

/// Runs all cases on `name` in every format that it takes.
fn compare(name: &str) {
    let Some(mut device) = support::open(name) else { return };
    let mut oracle = CpuDevice::new(Some(2)).unwrap();
    let info = device.info().clone();
    for &weights in &info.weights {
        for &kv in &info.kv {
            let formats = Formats { activations: info.activations, weights, kv };
            // Rounded activations differ from the oracle's as if they were kept in that type.
            let products = if name == "cpu-medium" { DType::BF16 } else { info.activations };
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
