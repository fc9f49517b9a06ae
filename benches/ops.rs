//! Every op in the shapes of a small model, on any device:
//! `cargo bench --bench ops -- --device wgpu`.
//!
//! A plan repeats the op, which spreads the cost of a submission. The fastest run counts. Each figure is printed with its
//! share of what the device reaches: of a copy for ops that move bytes, of multiply-adds for Linear over many rows.

use engine::cases::{self, Attention, Case, Formats};
use engine::cpu::CpuDevice;
use engine::device::{Device, DeviceError, Peaks};
use engine::op::Activation;
use std::time::Instant;

fn main() -> Result<(), DeviceError> {
    let args: Vec<String> = std::env::args().collect();
    let after = |flag: &str| args.iter().position(|a| a == flag).and_then(|i| args.get(i + 1)).cloned();
    let name = after("--device").unwrap_or_else(|| "cpu".into());
    let filter = after("--only").unwrap_or_default();
    let mut device = open(&name)?;
    println!("# ops on {}\n", device.info().name);
    let peaks = device.peaks(device.info().types[0].activations)?;
    let (bytes, flops) = (peaks.bytes_per_second / 1e9, peaks.flops_per_second / 1e9);
    println!("plain copy {bytes:.1} GB/s, plain multiply-adds {flops:.1} GFLOP/s\n");
    let types = &device.info().types[0];
    let formats = Formats { activations: types.activations, weights: types.weights[0], kv: types.kv[0] };
    println!("weights {}, activations {}, KV {}\n", formats.weights, formats.activations, formats.kv);
    println!("| op | time | GFLOP/s | GB/s | share of the plain shader |");
    println!("|---|---:|---:|---:|---:|");
    for case in shapes(formats).into_iter().filter(|c| c.name.contains(&filter)) {
        measure(device.as_mut(), case, &peaks)?;
    }
    Ok(())
}

/// The shapes of SmolLM2-135M: hidden size 576, 9 heads, 3 KV heads, intermediate size 1536, vocabulary 49,152.
fn shapes(f: Formats) -> Vec<Case> {
    let mut all = Vec::new();
    for rows in [1, 2, 4, 8, 9, 16, 17, 32, 64, 128, 256] {
        all.push(cases::linear(f, rows, 576, 3072, false));
    }
    for rows in [8, 256] {
        for (k, n) in [(576, 960), (576, 576), (1536, 576)] {
            all.push(cases::linear(f, rows, k, n, false));
        }
        all.push(cases::rms_norm(f, rows, 576, 576, true));
        all.push(cases::rope(f, rows, 12, 64, 64));
        all.push(cases::kv_write(f, rows, 192, 16));
        all.push(cases::gated_mul(f, rows, 1536, Activation::Silu));
        all.push(cases::embed(f, rows, 49_152, 576, 1.0));
    }
    all.push(cases::linear(f, 8, 576, 49_152, false));
    let attention = Attention::new(9, 3, 64, 16);
    for seqs in [&[(1, 36); 8][..], &[(1, 320); 8], &[(32, 32); 8], &[(256, 256)]] {
        all.push(cases::attention(f, attention, seqs));
    }
    all.push(cases::sample(49_152, false));
    all
}

fn measure(device: &mut dyn Device, mut case: Case, peaks: &Peaks) -> Result<(), DeviceError> {
    const TIMES: usize = 8;
    let op = case.plan.ops[0];
    case.plan.ops = vec![op; TIMES];
    let (id, _) = case.run(device)?;
    let mut seconds = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        let ticket = device.submit(id, &case.step)?;
        device.wait(ticket)?;
        seconds = seconds.min(start.elapsed().as_secs_f64() / TIMES as f64);
    }
    let mut dims = case.step.dims();
    dims.pages = case.max_dims.pages;
    let cost = op.cost(&case.plan.buffers, &dims);
    let (flops, bytes) = (cost.flops as f64 / seconds, cost.bytes as f64 / seconds);
    let (copy, multiply) = peaks.seconds(&cost);
    let (of_flops, of_bytes) = (multiply / seconds, copy / seconds);
    let of = if of_flops > of_bytes { "multiply-adds" } else { "copy" };
    let share = format!("{:.0} % of {of}", 100.0 * of_flops.max(of_bytes));
    let (name, time) = (&case.name, seconds * 1e6);
    println!("| {name} | {time:.0} us | {:.2} | {:.2} | {share} |", flops / 1e9, bytes / 1e9);
    Ok(())
}

fn open(name: &str) -> Result<Box<dyn Device>, DeviceError> {
    match name.split_once(':').map_or((name, None), |(kind, which)| (kind, Some(which))) {
        ("cpu", _) => Ok(Box::new(CpuDevice::new(None)?)),
        #[cfg(feature = "wgpu")]
        ("wgpu", which) => Ok(Box::new(shaders::WgpuDevice::open(which)?)),
        _ => Err(DeviceError::Absent(format!("this bench has no device {name}"))),
    }
}
