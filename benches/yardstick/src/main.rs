//! Compares the CPU device's Linear with the gemm crate's f32 product and a plain copy, in one run.
//!
//!     cargo run --release --manifest-path benches/yardstick/Cargo.toml
//!
//! Rounds alternate between them, so that a drift of the machine affects all alike. A round runs each twice and times the
//! second, which finds the threads of both awake, as an op within a step does. Ours is timed within its step: the way there
//! and back is taken once for hundreds of ops. Each rate is that of the fastest round. `medium` is that of bf16 products (`MatmulPrecision::Medium`). For few rows the share of a copy's bytes that the
//! reading of the bf16 weights comes to is what counts, for many the ratio to gemm. `GRISTMILL_MAX_VECTOR_BITS=256` makes a
//! machine with wider vectors one without; gemm uses 256 bits in any case. `benches/peers/transformers.py` compares whole
//! engines.

use engine::cases::{Case, Formats, linear};
use engine::cpu::{CpuDevice, MatmulPrecision};
use engine::device::{Device, PlanId};
use engine::dtype::DType;
use std::time::Instant;

/// Rounds for each shape.
const ROUNDS: usize = 31;

/// Rows, K and N: the products of a small model's layers, at decode, mixed and prefill sizes.
const SHAPES: [(usize, usize, usize); 10] = [
    (1, 576, 1536),
    (1, 576, 49152),
    (8, 576, 1536),
    (64, 576, 960),
    (64, 576, 3072),
    (64, 1536, 576),
    (64, 576, 49152),
    (512, 576, 960),
    (512, 576, 3072),
    (512, 1536, 576),
];

fn main() {
    let mut device = CpuDevice::new(None).expect("threads");
    let mut medium = CpuDevice::with_precision(None, MatmulPrecision::Medium).expect("threads");
    let peaks = device.peaks(DType::F32).expect("measures");
    let head = ["gemm GF/s", "f32 GF/s", "bf16 GF/s", "medium GF/s", "bf16/gemm", "copy GB/s", "of copy"];
    println!("{}; multiply-adds {:.1} GFLOP/s", device.info().name, peaks.flops_per_second / 1e9);
    println!("{:>16} {}", "rows x K x N", head.map(|h| format!("{h:>12}")).concat());
    for (m, k, n) in SHAPES {
        let wide = linear(Formats::F32, m, k, n, false);
        let narrow = linear(Formats { weights: DType::BF16.into(), ..Formats::F32 }, m, k, n, false);
        let (wide_id, _) = wide.run(&mut device).expect("runs");
        let (narrow_id, _) = narrow.run(&mut device).expect("runs");
        let (medium_id, _) = narrow.run(&mut medium).expect("runs");
        let mut product = Product::new(m, k, n);
        let mut times = [const { Vec::new() }; 4];
        let mut copy = peaks.bytes_per_second;
        for round in 0..ROUNDS {
            times[0].push(second(|| time(|| product.run())));
            times[1].push(second(|| op(&mut device, &wide, wide_id)));
            times[2].push(second(|| op(&mut device, &narrow, narrow_id)));
            times[3].push(second(|| op(&mut medium, &narrow, medium_id)));
            if m == 1 && round % 4 == 0 {
                copy = copy.max(device.peaks(DType::F32).expect("measures").bytes_per_second);
            }
        }
        let rate = times.map(|t| 2.0 * (m * k * n) as f64 / best(&t) / 1e9);
        let of_copy = rate[2] * 1e9 / m as f64 / copy;
        let columns = rate.into_iter().chain([rate[2] / rate[0], copy / 1e9, of_copy]).map(|v| format!("{v:>12.2}"));
        println!("{:>16} {}", format!("{m} x {k} x {n}"), columns.collect::<String>());
    }
}

/// Seconds of the case's op.
fn op(device: &mut CpuDevice, case: &Case, id: PlanId) -> f64 {
    device.time_ops(id, &case.step).expect("runs")[0].time.as_secs_f64()
}

fn second(mut f: impl FnMut() -> f64) -> f64 {
    f();
    f()
}

fn time(f: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    f();
    begun.elapsed().as_secs_f64()
}

fn best(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

/// `out[m, n] = x[m, k] w[n, k]^T` by the gemm crate.
struct Product {
    dims: (usize, usize, usize),
    x: Vec<f32>,
    w: Vec<f32>,
    out: Vec<f32>,
}

impl Product {
    fn new(m: usize, k: usize, n: usize) -> Product {
        Product { dims: (m, k, n), x: vec![0.5; m * k], w: vec![0.25; n * k], out: vec![0.0; m * n] }
    }

    fn run(&mut self) {
        let (m, k, n) = self.dims;
        // SAFETY: the three matrices have the dimensions and strides given.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                self.out.as_mut_ptr(),
                1,
                n as isize,
                false,
                self.x.as_ptr(),
                1,
                k as isize,
                self.w.as_ptr(),
                k as isize,
                1,
                0.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::Rayon(0),
            );
        }
    }
}
