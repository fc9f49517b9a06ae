//! The chains of a tile: its rows times some words of a panel, in registers.

use super::sums::{MR, NR, Sums};
use super::vectors::dispatch;
use pulp::{Simd, WithSimd};

/// Some words of a panel.
#[derive(Clone, Copy)]
pub enum Weights<'a> {
    /// `[word][NR]`
    Words(&'a [u32]),
    /// Columns of `k` in bf16, `[k / 2][NR][2]`, which are widened in registers.
    Bf16(&'a [u32]),
}

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

/// Goes on with the chains of a tile `[word][height]` in f32. `fresh` ones begin at zero, whatever `sums` holds.
pub fn extend(height: usize, tile: &[f32], weights: Weights, sums: &mut [Sums], fresh: bool) {
    dispatch(Extend { height, tile, weights, sums, fresh });
}

struct Extend<'a> {
    height: usize,
    tile: &'a [f32],
    weights: Weights<'a>,
    sums: &'a mut [Sums],
    fresh: bool,
}

impl WithSimd for Extend<'_> {
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

impl Extend<'_> {
    /// Picks the number of vectors. What cannot be is not compiled.
    #[inline(always)]
    fn rows<S: Simd, const R: usize>(self, simd: S) {
        let Extend { tile, weights, sums, fresh, .. } = self;
        if const { !has_height(S::REGISTER_COUNT, R) } {
            unreachable!("no tile has {R} rows")
        } else if const { vectors(S::F32_LANES, S::REGISTER_COUNT, R) == 8 } {
            columns::<S, 8, R>(simd, tile, weights, sums, fresh);
        } else if const { vectors(S::F32_LANES, S::REGISTER_COUNT, R) == 4 } {
            columns::<S, 4, R>(simd, tile, weights, sums, fresh);
        } else if const { vectors(S::F32_LANES, S::REGISTER_COUNT, R) == 2 } {
            columns::<S, 2, R>(simd, tile, weights, sums, fresh);
        } else {
            columns::<S, 1, R>(simd, tile, weights, sums, fresh);
        }
    }
}

/// Goes over the panel's columns, `V` vectors at a time.
#[inline(always)]
fn columns<S: Simd, const V: usize, const R: usize>(
    simd: S,
    tile: &[f32],
    weights: Weights,
    sums: &mut [Sums],
    fresh: bool,
) {
    let width = V * S::F32_LANES;
    // Loops over `r` have constant bounds, so that they are unrolled and the sums are kept in registers.
    let sums = &mut sums[..R];
    for first in (0..NR).step_by(width) {
        let mut acc = [[simd.splat_f32s(0.0); V]; R];
        if !fresh {
            for r in 0..R {
                acc[r].copy_from_slice(S::as_simd_f32s(&sums[r][first..first + width]).0);
            }
        }
        match weights {
            Weights::Words(words) => wide(simd, tile, words, first, &mut acc),
            Weights::Bf16(pairs) => narrow(simd, tile, pairs, first, &mut acc),
        }
        for r in 0..R {
            S::as_mut_simd_f32s(&mut sums[r][first..first + width]).0.copy_from_slice(&acc[r]);
        }
    }
}

#[inline(always)]
fn wide<S: Simd, const V: usize, const R: usize>(
    simd: S,
    tile: &[f32],
    words: &[u32],
    first: usize,
    acc: &mut [[S::f32s; V]; R],
) {
    let rows = words.as_chunks::<NR>().0;
    for (weights, column) in rows.iter().zip(tile.as_chunks::<R>().0) {
        let weights = &weights[first..first + V * S::F32_LANES];
        let (weights, _) = S::as_simd_f32s(bytemuck::cast_slice(weights));
        step(simd, column, |v| weights[v], acc);
    }
}

#[inline(always)]
fn narrow<S: Simd, const V: usize, const R: usize>(
    simd: S,
    tile: &[f32],
    pairs: &[u32],
    first: usize,
    acc: &mut [[S::f32s; V]; R],
) {
    let (shift, mask) = (simd.splat_u32s(16), simd.splat_u32s(0xffff_0000));
    let (columns, _) = tile.as_chunks::<R>();
    let (both, last) = columns.as_chunks::<2>();
    let rows = pairs.as_chunks::<NR>().0;
    let words = |row: &[u32; NR], v: usize| {
        let at = first + v * S::F32_LANES;
        S::as_simd_u32s(&row[at..at + S::F32_LANES]).0[0]
    };
    let even = |word| simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(word, shift));
    let odd = |word| simd.transmute_f32s_u32s(simd.and_u32s(word, mask));
    for (row, columns) in rows.iter().zip(both) {
        step(
            simd,
            &columns[0],
            #[inline(always)]
            |v| even(words(row, v)),
            acc,
        );
        step(
            simd,
            &columns[1],
            #[inline(always)]
            |v| odd(words(row, v)),
            acc,
        );
    }
    if let ([column], Some(row)) = (last, rows.last()) {
        step(
            simd,
            column,
            #[inline(always)]
            |v| even(words(row, v)),
            acc,
        );
    }
}

/// Adds one word to every chain.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
fn step<S: Simd, const V: usize, const R: usize>(
    simd: S,
    column: &[f32; R],
    weights: impl Fn(usize) -> S::f32s,
    acc: &mut [[S::f32s; V]; R],
) {
    // What is used most often takes registers beside the sums, and the rest comes from memory.
    if R < V {
        let mut x = [simd.splat_f32s(0.0); R];
        for r in 0..R {
            x[r] = simd.splat_f32s(column[r]);
        }
        for v in 0..V {
            let weights = weights(v);
            for r in 0..R {
                acc[r][v] = simd.mul_add_f32s(x[r], weights, acc[r][v]);
            }
        }
        return;
    }
    let mut row = [simd.splat_f32s(0.0); V];
    for v in 0..V {
        row[v] = weights(v);
    }
    for r in 0..R {
        let x = simd.splat_f32s(column[r]);
        for v in 0..V {
            acc[r][v] = simd.mul_add_f32s(x, row[v], acc[r][v]);
        }
    }
}
