//! Products of bf16 operands with f32 sums, two columns of `k` in a word.
//!
//! Every element of the result is one chain of fused multiply-adds over the pairs, the odd column of each
//! before the even one. That is the order of `VDPBF16PS` (Intel 64 and IA-32 Architectures Software
//! Developer's Manual, volume 2), which the f32 kernel repeats on machines without it; the instruction treats
//! subnormal numbers as zero.

/// Whether this machine has the instruction.
pub fn native() -> bool {
    #[cfg(target_arch = "x86_64")]
    return super::vectors::limit() == 512
        && is_x86_feature_detected!("avx512bf16")
        && is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Two columns as a word, each rounded to the nearest bf16.
#[inline(always)]
pub fn word(even: f32, odd: f32) -> u32 {
    round(even) >> 16 | round(odd)
}

/// The nearest bf16, as the f32 of the same value.
#[inline(always)]
pub fn rounded(value: f32) -> f32 {
    f32::from_bits(round(value))
}

/// The bits of the nearest bf16 in the upper half of a word; of two equally near the even one.
#[inline(always)]
fn round(value: f32) -> u32 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    // A NaN could round to an infinity; the quiet bit keeps it a NaN.
    let bits = if value.is_nan() { bits | 0x0040_0000 } else { nearest };
    bits & 0xffff_0000
}

/// Goes on with the chains of tiles `[tile][word][height]` of so many words each; `fresh` ones begin at zero, whatever `sums` holds.
///
/// # Panics
/// On a machine that is not [`native`].
#[cfg(target_arch = "x86_64")]
pub fn extend(
    height: usize,
    words: usize,
    tiles: &[u32],
    weights: &[u32],
    sums: &mut [super::sums::Sums],
    fresh: bool,
) {
    assert!(native());
    // SAFETY: the machine has the instructions.
    unsafe {
        match height {
            1 => x86::chain::<1>(words, tiles, weights, sums, fresh),
            2 => x86::chain::<2>(words, tiles, weights, sums, fresh),
            4 => x86::chain::<4>(words, tiles, weights, sums, fresh),
            6 => x86::chain::<6>(words, tiles, weights, sums, fresh),
            8 => x86::chain::<8>(words, tiles, weights, sums, fresh),
            _ => x86::chain::<12>(words, tiles, weights, sums, fresh),
        }
    }
}

/// No such machine is [`native`].
///
/// # Panics
/// Always.
#[cfg(not(target_arch = "x86_64"))]
pub fn extend(_: usize, _: usize, _: &[u32], _: &[u32], _: &mut [super::sums::Sums], _: bool) {
    panic!("this machine does not multiply pairs")
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use crate::cpu::sums::{NR, Sums};
    use std::arch::x86_64::{__m512, __m512bh, _mm512_dpbf16_ps, _mm512_setzero_ps};

    /// 16 pairs.
    #[inline(always)]
    fn pairs(words: [u32; 16]) -> __m512bh {
        // SAFETY: both are 64 bytes without invalid values.
        unsafe { std::mem::transmute(words) }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn chain<const R: usize>(
        words: usize,
        tiles: &[u32],
        weights: &[u32],
        sums: &mut [Sums],
        fresh: bool,
    ) {
        for (tile, sums) in tiles.chunks_exact(words * R).zip(sums.as_chunks_mut::<R>().0) {
            let mut acc = [[_mm512_setzero_ps(); 2]; R];
            if !fresh {
                for (acc, sums) in acc.iter_mut().zip(&*sums) {
                    // SAFETY: both are 128 bytes without invalid values.
                    *acc = unsafe { std::mem::transmute::<Sums, [__m512; 2]>(*sums) };
                }
            }
            for (weights, column) in weights.as_chunks::<NR>().0.iter().zip(tile.as_chunks::<R>().0) {
                let halves = weights.as_chunks::<16>().0;
                let (left, right) = (pairs(halves[0]), pairs(halves[1]));
                for r in 0..R {
                    let x = pairs([column[r]; 16]);
                    acc[r][0] = _mm512_dpbf16_ps(acc[r][0], x, left);
                    acc[r][1] = _mm512_dpbf16_ps(acc[r][1], x, right);
                }
            }
            for (sums, acc) in sums.iter_mut().zip(acc) {
                // SAFETY: both are 128 bytes without invalid values.
                *sums = unsafe { std::mem::transmute::<[__m512; 2], Sums>(acc) };
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cpu::sums::NR;
    use crate::cpu::tile::{Tiles, Words};
    use crate::cpu::weights::Weights;
    use half::bf16;

    /// Numbers of both signs and several magnitudes, in bf16.
    fn number(i: usize) -> bf16 {
        let noise = (i as u32).wrapping_mul(2_654_435_761) >> 8;
        bf16::from_f32((noise as f32 / (1 << 23) as f32 - 1.0) * f32::powi(2.0, (i % 9) as i32 - 4))
    }

    #[test]
    fn rounds_to_the_nearest_bf16() {
        let edges =
            [0.0, -0.0, 1.0, f32::MAX, f32::MIN_POSITIVE, 1e-40, f32::INFINITY, 1.003_906_2, 1.011_718_8];
        for value in edges.into_iter().chain((0..10_000).map(|i| f32::from_bits(i * 429_497))) {
            let want = bf16::from_f32(value);
            assert_eq!((rounded(value).is_nan(), word(value, 0.0) as u16), (want.is_nan(), want.to_bits()));
        }
    }

    /// The instruction and the f32 kernel compute the same chains.
    #[test]
    fn wide_pairs_give_the_same_bits() {
        if !native() {
            eprintln!("SKIPPED: this machine does not multiply pairs");
            return;
        }
        for (rows, k) in [(1, 64), (7, 33), (30, 576)] {
            let x: Vec<f32> = (0..rows * k).map(|i| number(i).to_f32() * 1.37).collect();
            let weight = |k: usize, n: usize| number(k * NR + n + 77);
            let odd = |i: usize, n: usize| if 2 * i + 1 < k { weight(2 * i + 1, n) } else { bf16::ZERO };
            let pair = |i: usize, n: usize| word(weight(2 * i, n).to_f32(), odd(i, n).to_f32());
            let pairs: Vec<u32> = (0..k.div_ceil(2) * NR).map(|at| pair(at / NR, at % NR)).collect();
            let wide = pairs.chunks(NR).flat_map(|row| {
                let odd = row.iter().map(|word| word & 0xffff_0000);
                odd.chain(row.iter().map(|word| word << 16)).collect::<Vec<u32>>()
            });
            let wide: Vec<u32> = wide.collect();
            let product = |words: Words, panel: &[u32]| {
                let (mut tiles, mut found) = (Tiles::default(), Vec::new());
                tiles.pack(words, (rows, k, 32), |r| &x[r * k..][..k], |n, pack| (0..n).for_each(pack));
                let mut sums = vec![[0.0; NR]; tiles.height(0..tiles.len())];
                for block in tiles.blocks() {
                    let weights = Weights::Words(&panel[block.start * NR..block.end * NR]);
                    tiles.multiply(0..tiles.len(), block, weights, &mut sums, |_, sums| {
                        found.extend(sums.as_flattened().iter().map(|s| s.to_bits()))
                    });
                }
                found
            };
            assert_eq!(product(Words::Pairs, &pairs), product(Words::WidePairs, &wide));
        }
    }
}
