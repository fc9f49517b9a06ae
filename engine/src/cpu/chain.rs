//! The chains of a tile: its rows times some words of a panel, in registers.

use super::sums::{MR, NR, Sums};
use super::vectors::dispatch;
use super::weights::{Kind, Narrow, Weights, Wide};
use pulp::{Simd, WithSimd};

/// The heights of tiles, ascending, for that many vector registers.
pub const fn heights(registers: usize) -> &'static [usize] {
    if registers >= 32 { &[1, 2, 4, 6, 8, MR] } else { &[1, 2, 3, 4, 6] }
}

const fn has_height(registers: usize, height: usize) -> bool {
    let (heights, mut i) = (heights(registers), 0);
    while i < heights.len() && heights[i] != height {
        i += 1;
    }
    i < heights.len()
}

/// The most sums of a row that a tile of `height` rows keeps in registers at once, as vectors.
const fn vectors(lanes: usize, registers: usize, height: usize) -> usize {
    let (most, mut vectors) = (if registers >= 32 { 24 } else { 12 }, 8);
    while vectors > 1 && (vectors * lanes > NR || vectors * height > most) {
        vectors /= 2;
    }
    vectors
}

/// Goes on with the chains of tiles `[tile][word][height]` in f32, of so many words each. `fresh` ones begin at zero,
/// whatever `sums` holds.
pub fn extend(height: usize, words: usize, tiles: &[f32], weights: Weights, sums: &mut [Sums], fresh: bool) {
    // Each kind of weights has loops of its own: the compiler keeps the sums of one in registers, of several it does not.
    match weights {
        Weights::Words(weights) => {
            dispatch(Extend { height, words, tiles, weights: Wide(weights), sums, fresh })
        }
        Weights::Bf16(pairs) => {
            dispatch(Extend { height, words, tiles, weights: Narrow(pairs), sums, fresh })
        }
        Weights::F32Pages(weights) => dispatch(Extend { height, words, tiles, weights, sums, fresh }),
        Weights::Bf16Pages(weights) => dispatch(Extend { height, words, tiles, weights, sums, fresh }),
        Weights::E4m3Pages(weights) => dispatch(Extend { height, words, tiles, weights, sums, fresh }),
    }
}

struct Extend<'a, W> {
    height: usize,
    words: usize,
    tiles: &'a [f32],
    weights: W,
    sums: &'a mut [Sums],
    fresh: bool,
}

impl<W: Kind> WithSimd for Extend<'_, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.height {
            1 => self.rows::<S, 1>(simd),
            2 => self.rows::<S, 2>(simd),
            3 => self.rows::<S, 3>(simd),
            4 => self.rows::<S, 4>(simd),
            6 => self.rows::<S, 6>(simd),
            8 => self.rows::<S, 8>(simd),
            _ => self.rows::<S, MR>(simd),
        }
    }
}

impl<W: Kind> Extend<'_, W> {
    /// Picks the number of vectors. What cannot be is not compiled.
    #[inline(always)]
    fn rows<S: Simd, const R: usize>(self, simd: S) {
        if const { !has_height(S::REGISTER_COUNT, R) } {
            unreachable!("no tile has {R} rows")
        } else if const { vectors(S::F32_LANES, S::REGISTER_COUNT, R) == 8 } {
            self.columns::<S, 8, R>(simd);
        } else if const { vectors(S::F32_LANES, S::REGISTER_COUNT, R) == 4 } {
            self.columns::<S, 4, R>(simd);
        } else if const { vectors(S::F32_LANES, S::REGISTER_COUNT, R) == 2 } {
            self.columns::<S, 2, R>(simd);
        } else {
            self.columns::<S, 1, R>(simd);
        }
    }

    /// Goes over the panel's columns, `V` vectors at a time.
    #[inline(always)]
    fn columns<S: Simd, const V: usize, const R: usize>(self, simd: S) {
        let Extend { words, tiles, weights, sums, fresh, .. } = self;
        let width = V * S::F32_LANES;
        for (tile, sums) in tiles.chunks_exact(words * R).zip(sums.as_chunks_mut::<R>().0) {
            for first in (0..NR).step_by(width) {
                // Loops over `r` have constant bounds, so that they are unrolled and the sums are kept in registers.
                let mut acc = [[simd.splat_f32s(0.0); V]; R];
                if !fresh {
                    for r in 0..R {
                        acc[r].copy_from_slice(S::as_simd_f32s(&sums[r][first..first + width]).0);
                    }
                }
                weights.add(simd, tile, first, &mut acc);
                for r in 0..R {
                    S::as_mut_simd_f32s(&mut sums[r][first..first + width]).0.copy_from_slice(&acc[r]);
                }
            }
        }
    }
}
