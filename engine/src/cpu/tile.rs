//! The one matrix kernel of the CPU device: a few rows times a panel of [`NR`] columns.
//!
//! Every element of the result is one chain of fused multiply-adds over ascending `k` in its own
//! register lane, so its bits depend neither on how many rows share the tile nor on how wide the
//! machine's vectors are. That chain is the numeric contract of this device.

use super::pairs;
use super::sums::{MR, NR, Sums};
use super::vectors;
use pulp::{Simd, WithSimd};

/// The kind of words in a tile and in a panel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Words {
    /// A column of `k` in f32.
    #[default]
    Columns,
    /// Two columns in bf16; see [`pairs`].
    Pairs,
    /// The columns of pairs in f32, the odd one first: [`Words::Pairs`] for machines that do not
    /// multiply them.
    WidePairs,
}

impl Words {
    /// The words of a row of `k` columns. A missing odd column is zero.
    pub fn count(self, k: usize) -> usize {
        match self {
            Words::Columns => k,
            Words::Pairs => k.div_ceil(2),
            Words::WidePairs => k.next_multiple_of(2),
        }
    }

    /// Word `i` of a row.
    #[inline(always)]
    fn word(self, row: &[f32], i: usize) -> u32 {
        let column = |k: usize| row.get(k).copied().unwrap_or(0.0);
        match self {
            Words::Columns => row[i].to_bits(),
            Words::Pairs => pairs::word(row[2 * i], column(2 * i + 1)),
            Words::WidePairs => pairs::rounded(column(i ^ 1)).to_bits(),
        }
    }
}

/// Rows of the left matrix, cut into tiles and laid out `[tile][word][rows of the tile]`.
#[derive(Default)]
pub struct Tiles {
    data: Vec<u32>,
    bounds: Vec<(usize, usize)>,
    words: Words,
    /// Words of a row.
    k: usize,
}

/// The tile heights that have a kernel for vectors of that many floats, ascending. Vectors of 16 floats have
/// 32 registers.
const fn heights(lanes: usize) -> &'static [usize] {
    if lanes >= 16 { &[1, 2, 4, 6, 8, 12] } else { &[1, 2, 3] }
}

/// The smallest tile that holds that many rows, else the largest.
fn height_for(heights: &[usize], rows: usize) -> usize {
    heights.iter().copied().find(|&height| height >= rows).unwrap_or(heights[heights.len() - 1])
}

impl Tiles {
    /// Lays out `rows` rows of `k` columns as `words`, where `row(r)` gives a row.
    pub fn pack<'a>(&mut self, words: Words, rows: usize, k: usize, row: impl Fn(usize) -> &'a [f32]) {
        let heights = heights(vectors::lanes());
        let tallest = heights[heights.len() - 1];
        self.bounds.clear();
        self.data.clear();
        (self.words, self.k) = (words, words.count(k));
        let mut start = 0;
        while start < rows {
            let n = (rows - start).min(tallest);
            // A padding row is zeros: its sums are computed and not read.
            let height = height_for(heights, n);
            let at = self.data.len();
            self.data.resize(at + height * self.k, 0);
            for r in 0..n {
                let (to, from) = (self.data[at + r..].iter_mut().step_by(height), &row(start + r)[..k]);
                to.take(self.k).enumerate().for_each(|(i, to)| *to = words.word(from, i));
            }
            self.bounds.push((start, n));
            start += n;
        }
    }

    /// Multiplies every tile with `panel` (`[word][NR]`) and passes on its first row, its row count and
    /// its sums.
    pub fn multiply(&self, panel: &[u32], take: impl FnMut(usize, usize, &Sums)) {
        vectors::dispatch(Multiply { tiles: self, panel: &panel[..self.k * NR], take });
    }
}

struct Multiply<'a, F> {
    tiles: &'a Tiles,
    panel: &'a [u32],
    take: F,
}

impl<F: FnMut(usize, usize, &Sums)> WithSimd for Multiply<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Multiply { tiles, panel, mut take } = self;
        let mut sums = [[0.0; NR]; MR];
        let mut data = &tiles.data[..];
        for &(start, n) in &tiles.bounds {
            let height = height_for(heights(S::F32_LANES), n);
            let (tile, rest) = data.split_at(height * tiles.k);
            data = rest;
            let floats = |words| bytemuck::cast_slice::<u32, f32>(words);
            if tiles.words == Words::Pairs {
                pairs::multiply(height, tile, panel, &mut sums);
                take(start, n, &sums);
                continue;
            }
            let (tile, panel) = (floats(tile), floats(panel));
            match height {
                1 => lanes::<S, 1>(simd, tile, panel, &mut sums),
                2 => lanes::<S, 2>(simd, tile, panel, &mut sums),
                3 => lanes::<S, 3>(simd, tile, panel, &mut sums),
                4 => lanes::<S, 4>(simd, tile, panel, &mut sums),
                6 => lanes::<S, 6>(simd, tile, panel, &mut sums),
                8 => lanes::<S, 8>(simd, tile, panel, &mut sums),
                _ => lanes::<S, 12>(simd, tile, panel, &mut sums),
            }
            take(start, n, &sums);
        }
    }
}

/// Picks the number of vectors that make a panel's row.
#[inline(always)]
fn lanes<S: Simd, const R: usize>(simd: S, tile: &[f32], panel: &[f32], sums: &mut Sums) {
    match S::F32_LANES {
        16 => chain::<S, 2, R>(simd, tile, panel, sums),
        8 => chain::<S, 4, R>(simd, tile, panel, sums),
        4 => chain::<S, 8, R>(simd, tile, panel, sums),
        _ => chain::<S, NR, R>(simd, tile, panel, sums),
    }
}

#[inline(always)]
fn chain<S: Simd, const V: usize, const R: usize>(simd: S, tile: &[f32], panel: &[f32], sums: &mut Sums) {
    let mut acc = [[simd.splat_f32s(0.0); V]; R];
    let (panel, _) = S::as_simd_f32s(panel);
    for (weights, column) in panel.chunks_exact(V).zip(tile.chunks_exact(R)) {
        for r in 0..R {
            let a = simd.splat_f32s(column[r]);
            for v in 0..V {
                acc[r][v] = simd.mul_add_f32s(a, weights[v], acc[r][v]);
            }
        }
    }
    for r in 0..R {
        let (out, _) = S::as_mut_simd_f32s(&mut sums[r]);
        out[..V].copy_from_slice(&acc[r]);
    }
}
