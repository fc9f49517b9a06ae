//! The variants of every kernel that models use: tests compile all of them.

use crate::driver::card::CardLimits;
use crate::inputs;
use crate::kernel::Kernel;
use crate::ops::attention::{self, AttentionVariant};
use crate::ops::linear::{self, LinearVariant};
use crate::ops::{add, embed, gated_mul, gather_rows, rms_norm, rope, sample};
use engine::dtype::DType;
use engine::op::Activation;

/// The variants for a card with `shared` bytes of shared memory for a block.
pub fn variants(shared: u32) -> Vec<Kernel> {
    let mut all = vec![inputs::kernel(), sample::kernel()];
    for dtype in [DType::BF16, DType::F16, DType::F32] {
        for vec in [1, 8] {
            all.push(embed::kernel(dtype, dtype, vec));
            all.push(gather_rows::kernel(dtype, dtype, vec));
            all.push(add::kernel([dtype; 3], vec));
            all.push(rope::kernel(dtype, DType::F32, dtype, vec));
            all.push(gated_mul::kernel(dtype, dtype, Activation::Silu, vec));
            all.push(gated_mul::kernel(dtype, dtype, Activation::GeluTanh, vec));
            for threads in [32, 64, 256] {
                all.push(rms_norm::kernel([dtype, dtype, DType::F32, dtype], true, vec, threads));
                all.push(rms_norm::kernel([dtype, dtype, DType::F32, dtype], false, vec, threads));
            }
        }
        all.push(linear::plain_kernel(dtype, dtype, Some(DType::F32), dtype, false));
        all.push(linear::plain_kernel(dtype, dtype, None, dtype, true));
        all.push(linear::bias_kernel(DType::F32, dtype));
        all.push(attention::plain_kernel(dtype, dtype, 128));
        if dtype != DType::F32 {
            tensor_cores(dtype, shared, &mut all);
        }
    }
    all
}

fn tensor_cores(dtype: DType, shared: u32, all: &mut Vec<Kernel>) {
    let limits = CardLimits { sms: 132, shared };
    // f16 differs from bf16 in one instruction, so it need not go through every shape.
    let wide = dtype == DType::BF16;
    let variants = [
        (Some(DType::F32), dtype, false),
        (Some(DType::F32), dtype, true),
        (None, dtype, false),
        (None, dtype, true),
        (None, DType::F32, false),
    ];
    for (bias, out, add) in variants.into_iter().take(if wide { 5 } else { 1 }) {
        let variant = LinearVariant { x: dtype, bias, out, pair: true, add };
        all.extend(linear::variants_that_fit(variant, &limits).1);
    }
    let head_dims: &[usize] = if wide { &[64, 80, 128, 256] } else { &[128] };
    for &head_dim in head_dims {
        for (warps, parts) in [(1, false), (4, false), (4, true)] {
            all.extend(attention::kernel(AttentionVariant { dtype, head_dim, warps, parts }, shared));
        }
        all.push(attention::merge_kernel(dtype, head_dim));
    }
}
