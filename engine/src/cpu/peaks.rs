//! What the processor reaches in plain loops, for figures of ops to be compared with.

use super::disjoint::Disjoint;
use super::team::Team;
use super::vectors;
use crate::device::Peaks;
use pulp::{Simd, WithSimd};
use std::hint::black_box;
use std::time::Instant;

/// Bytes that each thread copies: more than its share of any cache.
const BYTES: usize = 64 << 20;
/// Chains of multiply-adds that a thread runs side by side: enough to hide the latency of two units.
const CHAINS: usize = 12;
/// Multiply-adds of each chain.
const LENGTH: usize = 1 << 20;
/// Runs, of which the fastest counts.
const RUNS: usize = 5;

/// Measures all threads of the team.
pub fn measure(team: &mut Team) -> Peaks {
    let threads = team.threads();
    let mut buffers: Vec<(Vec<u64>, Vec<u64>)> =
        (0..threads).map(|_| (vec![1; BYTES / 8], vec![0; BYTES / 8])).collect();
    let copy = best(|| {
        let buffers = Disjoint::new(&mut buffers);
        team.share(threads, |i| {
            // SAFETY: each task has a pair of its own.
            let (from, to) = unsafe { &mut buffers.part(i, 1)[0] };
            black_box(to).copy_from_slice(black_box(from));
        });
    });
    let lanes = vectors::lanes();
    let chains = best(|| {
        team.share(threads, |_| {
            black_box(vectors::dispatch(Chains { by: black_box(0.999) }));
        });
    });
    let flops_per_second = (2 * CHAINS * LENGTH * lanes * threads) as f64 / chains;
    Peaks {
        bytes_per_second: (2 * BYTES * threads) as f64 / copy,
        flops_per_second,
        fp8_flops_per_second: flops_per_second,
    }
}

/// Seconds of the fastest run.
fn best(mut run: impl FnMut()) -> f64 {
    let seconds = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..RUNS).map(seconds).fold(f64::INFINITY, f64::min)
}

/// Chains of fused multiply-adds in registers.
struct Chains {
    by: f32,
}

impl WithSimd for Chains {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let by = simd.splat_f32s(self.by);
        let mut sums = [by; CHAINS];
        for _ in 0..LENGTH {
            for sum in &mut sums {
                *sum = simd.mul_add_f32s(*sum, by, by);
            }
        }
        let sum = sums.into_iter().fold(by, |a, b| simd.add_f32s(a, b));
        simd.reduce_sum_f32s(sum)
    }
}
