//! The chains of a tile: its rows times some words of a panel, in registers.

use super::pages::Element;
use super::sums::{MR, NR, Sums};
use super::vectors::dispatch;
use pulp::{Simd, WithSimd};

/// Columns of half a panel.
pub const HALF: usize = NR / 2;

/// Some words of a panel.
#[derive(Clone, Copy)]
pub enum Weights<'a> {
    /// `[word][NR]`
    Words(&'a [u32]),
    /// Columns of `k` in bf16, `[k / 2][NR][2]`, which are widened in registers.
    Bf16(&'a [u32]),
    /// Words where they lie in KV pages.
    Pages(Halves<'a, f32>),
    /// The same in bf16, which are widened in registers.
    Bf16Pages(Halves<'a, u16>),
    /// The same in e4m3.
    E4m3Pages(Halves<'a, u8>),
}

/// Some words of a panel in two halves. [`HALF`] columns of a word lie side by side, and `step` elements after those of the
/// word before. `next` is where the next ones are, which are fetched from memory meanwhile.
#[derive(Clone, Copy)]
pub struct Halves<'a, T> {
    pub halves: [&'a [T]; 2],
    pub next: [&'a [T]; 2],
    pub step: usize,
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
    // Each kind of weights has loops of its own: the compiler keeps the sums of one in registers, of several it does not.
    match weights {
        Weights::Words(_) | Weights::Bf16(_) => dispatch(Extend { height, tile, weights, sums, fresh }),
        Weights::Pages(weights) => dispatch(Extend { height, tile, weights, sums, fresh }),
        Weights::Bf16Pages(weights) => dispatch(Extend { height, tile, weights, sums, fresh }),
        Weights::E4m3Pages(weights) => dispatch(Extend { height, tile, weights, sums, fresh }),
    }
}

/// What the chains of a tile are extended by.
trait Words: Copy {
    /// Adds all words to the sums of `V` vectors, from column `first` of the panel on.
    fn add<S: Simd, const V: usize, const R: usize>(
        self,
        simd: S,
        tile: &[f32],
        first: usize,
        acc: &mut [[S::f32s; V]; R],
    );
}

impl Words for Weights<'_> {
    #[inline(always)]
    fn add<S: Simd, const V: usize, const R: usize>(
        self,
        simd: S,
        tile: &[f32],
        first: usize,
        acc: &mut [[S::f32s; V]; R],
    ) {
        match self {
            Weights::Words(words) => wide(simd, tile, words, first, acc),
            Weights::Bf16(pairs) => narrow(simd, tile, pairs, first, acc),
            _ => unreachable!("pages have loops of their own"),
        }
    }
}

impl<T: Element> Words for Halves<'_, T> {
    #[inline(always)]
    fn add<S: Simd, const V: usize, const R: usize>(
        self,
        simd: S,
        tile: &[f32],
        first: usize,
        acc: &mut [[S::f32s; V]; R],
    ) {
        strided(simd, tile, self, first, acc);
    }
}

struct Extend<'a, W> {
    height: usize,
    tile: &'a [f32],
    weights: W,
    sums: &'a mut [Sums],
    fresh: bool,
}

impl<W: Words> WithSimd for Extend<'_, W> {
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

impl<W: Words> Extend<'_, W> {
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
        let Extend { tile, weights, sums, fresh, .. } = self;
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
            weights.add(simd, tile, first, &mut acc);
            for r in 0..R {
                S::as_mut_simd_f32s(&mut sums[r][first..first + width]).0.copy_from_slice(&acc[r]);
            }
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
fn strided<S: Simd, T: Element, const V: usize, const R: usize>(
    simd: S,
    tile: &[f32],
    Halves { halves: [left, right], next, step: apart }: Halves<T>,
    first: usize,
    acc: &mut [[S::f32s; V]; R],
) {
    for (i, column) in tile.as_chunks::<R>().0.iter().enumerate() {
        let at = i * apart;
        let row = [&left[at..at + HALF], &right[at..at + HALF]];
        // Once for each line of memory.
        if first == 0 {
            next.iter().for_each(|next| prefetch(next, at));
        }
        step(
            simd,
            column,
            #[inline(always)]
            |v| {
                let at = first + v * S::F32_LANES;
                widened(simd, &row[at / HALF][at % HALF..][..S::F32_LANES])
            },
            acc,
        );
    }
}

/// Asks for the memory of an element, if there is one.
#[inline(always)]
fn prefetch<T>(elements: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: any address may be asked for; nothing is read.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(elements.as_ptr().wrapping_add(at).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (elements, at);
}

/// A vector of elements.
#[inline(always)]
fn widened<S: Simd, T: Element>(_: S, elements: &[T]) -> S::f32s {
    let mut wide = [0.0; HALF];
    wide.iter_mut().zip(elements).for_each(|(wide, element)| *wide = element.widen());
    S::as_simd_f32s(&wide[..S::F32_LANES]).0[0]
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
