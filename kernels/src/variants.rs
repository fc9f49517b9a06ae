//! The variants of every kernel that models use: tests compile all of them.

use crate::driver::card::{CardLimits, TensorCores};
use crate::inputs;
use crate::kernel::Kernel;
use crate::ops::attention::{self, AttentionVariant};
use crate::ops::linear::{self, LinearVariant, Sm90Variant};
use crate::ops::{add, embed, gated_mul, gather_rows, rms_norm, rope, sample, soft_cap};
use crate::work::{DECODE_WARPS, PREFILL_WARPS};
use engine::dtype::DType;
use engine::format::Format;
use engine::op::Activation;

/// The variants for a card of this architecture with `shared` bytes of shared memory for a block.
pub fn variants(architecture: &str, shared: u32) -> Vec<Kernel> {
    let tensor_cores = TensorCores::of_architecture(architecture);
    let limits = CardLimits { sms: 132, shared, tensor_cores, prefill: tensor_cores };
    let mut all = vec![inputs::kernel(), sample::parts_kernel(), sample::kernel()];
    for dtype in [DType::BF16, DType::F16, DType::F32] {
        plain(dtype, &mut all);
        if dtype != DType::F32 {
            linears(dtype, &limits, &mut all);
            attentions(dtype, &limits, &mut all);
        }
    }
    all
}

/// Kernels for activations of any type.
fn plain(dtype: DType, all: &mut Vec<Kernel>) {
    let (x, f32) = (Format::Plain(dtype), Format::Plain(DType::F32));
    for vec in [1, 8] {
        all.push(embed::kernel(x, x, vec));
        all.extend(Format::SCALED.iter().map(|&blocks| embed::kernel(blocks, x, vec)));
        all.push(gather_rows::kernel(x, x, vec));
        all.push(add::kernel([x; 3], vec));
        all.push(soft_cap::kernel(x, vec));
        all.push(rope::kernel(x, f32, x, vec));
        all.push(rope::kernel(x, f32, DType::E4M3.into(), vec));
        all.push(gated_mul::kernel(x, x, Activation::Silu, vec));
        all.push(gated_mul::kernel(x, x, Activation::GeluTanh, vec));
        for (threads, packs) in [(32, 1), (64, 1), (256, 0), (256, 1), (256, 4)] {
            all.push(rms_norm::kernel([x, x, f32, x], true, vec, threads, packs));
            all.push(rms_norm::kernel([x, x, f32, x], false, vec, threads, packs));
        }
    }
    for weight in [&[x], Format::SCALED].concat() {
        all.push(linear::plain_kernel(x, weight, Some(f32), x, false));
        all.push(linear::plain_kernel(x, weight, None, x, true));
    }
    all.push(linear::bias_kernel(f32, x));
    for softcap in [false, true] {
        all.push(attention::plain_kernel(x, x, 128, softcap));
        all.push(attention::plain_kernel(x, DType::E4M3.into(), 128, softcap));
    }
}

/// Linear on tensor cores.
fn linears(dtype: DType, limits: &CardLimits, all: &mut Vec<Kernel>) {
    let (x, f32) = (Format::Plain(dtype), Format::Plain(DType::F32));
    // f16 differs from bf16 in one instruction, so it need not go through every shape.
    let wide = dtype == DType::BF16;
    let variants =
        [(Some(f32), x, false), (Some(f32), x, true), (None, x, false), (None, x, true), (None, f32, false)];
    for (bias, out, add) in variants.into_iter().take(if wide { 5 } else { 1 }) {
        if limits.tensor_cores != TensorCores::Wgmma {
            let variant = LinearVariant { x: dtype, weight: x, quantized: false, bias, out, pair: true, add };
            all.extend(linear::variants_that_fit(variant, limits).1);
        } else {
            // Rows that cannot be moved 16 bytes at a time occur with a residual or without.
            for vec in if bias.is_some() { &[true, false][..] } else { &[true] } {
                let variant = Sm90Variant { x: dtype, weight: x, bias, out, vec: *vec, add, gate: None };
                all.extend(linear::sm90_variants_that_fit(variant, limits).1);
            }
        }
    }
    let ends = if wide { 2 } else { 1 };
    if limits.tensor_cores.multiply_e4m3() {
        all.push(linear::quantize_kernel(dtype));
    }
    if limits.tensor_cores != TensorCores::Wgmma {
        for weight in [Format::Fp8, Format::Fp8Blocks] {
            for (bias, add) in [(Some(f32), true), (None, false)].into_iter().take(ends) {
                let quantized = linear::quantizes(weight, limits);
                let variant = LinearVariant { x: dtype, weight, quantized, bias, out: x, pair: true, add };
                all.extend(linear::variants_that_fit(variant, limits).1);
            }
        }
    } else {
        for (gate, bias) in [(Activation::Silu, None), (Activation::GeluTanh, Some(f32))] {
            for weight in [x, Format::Fp8, Format::Fp8Blocks] {
                let gate = Some(gate);
                let variant = Sm90Variant { x: dtype, weight, bias, out: x, vec: true, add: false, gate };
                all.extend(linear::sm90_variants_that_fit(variant, limits).1);
            }
        }
        for weight in [Format::Fp8, Format::Fp8Blocks] {
            for (bias, out, add) in [(Some(f32), x, true), (None, f32, false)].into_iter().take(ends) {
                let variant = Sm90Variant { x: dtype, weight, bias, out, vec: true, add, gate: None };
                all.extend(linear::sm90_variants_that_fit(variant, limits).1);
            }
        }
    }
}

/// Attention on tensor cores.
fn attentions(dtype: DType, limits: &CardLimits, all: &mut Vec<Kernel>) {
    // f16 differs from bf16 in one instruction, so it need not go through every shape.
    let wide = dtype == DType::BF16;
    let head_dims: &[usize] = if wide { &[64, 80, 128, 256] } else { &[128] };
    for &head_dim in head_dims {
        for (warps, parts) in [(DECODE_WARPS, false), (PREFILL_WARPS, false), (PREFILL_WARPS, true)] {
            // Soft caps come with heads of 128 and of 256 columns (Gemma 2).
            for softcap in if wide && head_dim >= 128 { &[false, true][..] } else { &[false] } {
                for pages in [dtype, DType::E4M3] {
                    let softcap = *softcap;
                    let variant = AttentionVariant { dtype, pages, head_dim, warps, parts, softcap };
                    all.extend(attention::kernel(variant, limits.shared));
                    if warps == PREFILL_WARPS {
                        all.extend(attention::sm90_kernel(variant, limits));
                    } else {
                        all.extend(attention::few_kernel(variant, limits.shared).map(|few| few.kernel));
                    }
                }
            }
        }
        all.push(attention::merge_kernel(dtype, head_dim));
    }
}
