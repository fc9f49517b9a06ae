//! The words of a panel that chains go on with: where they lie, and the innermost loops over them.

use super::pages::Element;
use super::sums::NR;
use pulp::Simd;

/// Words by which few rows ask for their weights ahead.
const AHEAD: usize = 32 * NR;

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
    F32Pages(Halves<'a, f32>),
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

/// Weights of one kind.
pub trait Kind: Copy {
    /// Goes on with the chains of a tile `[word][R]` over all words, in `V` vectors of columns from `first` on.
    fn add<S: Simd, const V: usize, const R: usize>(
        self,
        simd: S,
        tile: &[f32],
        first: usize,
        acc: &mut [[S::f32s; V]; R],
    );
}

/// [`Weights::Words`].
#[derive(Clone, Copy)]
pub struct Wide<'a>(pub &'a [u32]);

impl Kind for Wide<'_> {
    #[inline(always)]
    fn add<S: Simd, const V: usize, const R: usize>(
        self,
        simd: S,
        tile: &[f32],
        first: usize,
        acc: &mut [[S::f32s; V]; R],
    ) {
        let rows = self.0.as_chunks::<NR>().0;
        for (weights, column) in rows.iter().zip(tile.as_chunks::<R>().0) {
            let weights = &weights[first..first + V * S::F32_LANES];
            let (weights, _) = S::as_simd_f32s(bytemuck::cast_slice(weights));
            step(simd, column, |v| weights[v], acc);
        }
    }
}

/// [`Weights::Bf16`].
#[derive(Clone, Copy)]
pub struct Narrow<'a>(pub &'a [u32]);

impl Kind for Narrow<'_> {
    #[inline(always)]
    fn add<S: Simd, const V: usize, const R: usize>(
        self,
        simd: S,
        tile: &[f32],
        first: usize,
        acc: &mut [[S::f32s; V]; R],
    ) {
        let (shift, mask) = (simd.splat_u32s(16), simd.splat_u32s(0xffff_0000));
        let (columns, _) = tile.as_chunks::<R>();
        let (both, last) = columns.as_chunks::<2>();
        let rows = self.0.as_chunks::<NR>().0;
        let words = |row: &[u32; NR], v: usize| {
            let at = first + v * S::F32_LANES;
            S::as_simd_u32s(&row[at..at + S::F32_LANES]).0[0]
        };
        let even = |word| simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(word, shift));
        let odd = |word| simd.transmute_f32s_u32s(simd.and_u32s(word, mask));
        for (row, columns) in rows.iter().zip(both) {
            if R <= 2 && first == 0 {
                prefetch(row, AHEAD);
                prefetch(row, AHEAD + HALF);
            }
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
}

impl<T: Element> Kind for Halves<'_, T> {
    #[inline(always)]
    fn add<S: Simd, const V: usize, const R: usize>(
        self,
        simd: S,
        tile: &[f32],
        first: usize,
        acc: &mut [[S::f32s; V]; R],
    ) {
        let Halves { halves: [left, right], next, step: apart } = self;
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
                    T::vector(simd, &row[at / HALF][at % HALF..][..S::F32_LANES])
                },
                acc,
            );
        }
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
