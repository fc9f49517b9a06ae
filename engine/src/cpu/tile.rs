//! Rows of the left matrix of a product, cut into tiles, and the tiles' products with panels.
//!
//! Every element of the result is one chain of fused multiply-adds over ascending `k`, so its bits depend neither on how
//! many rows share the tile, nor on how wide the machine's vectors are, nor on the blocks into which `k` is cut: a sum
//! that waits in memory for the next block is the same sum. That chain is the numeric contract of this device.

use super::chain;
use super::disjoint::Disjoint;
use super::pairs;
use super::sums::{MR, Sums};
use super::weights::Weights;
use super::{vectorized, vectors};
use std::ops::Range;

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

/// Tiles that the kernel is called for at once, at most: enough to pay for the call.
const RUN: usize = 8;

/// A few rows.
#[derive(Clone, Copy)]
struct Tile {
    /// The first row.
    start: usize,
    rows: usize,
    /// As many rows as the kernel has sums for. Those beyond `rows` are zeros, whose sums nobody reads.
    height: usize,
    /// The heights of the tiles before, together.
    above: usize,
}

/// Rows of the left matrix, cut into tiles and laid out `[block of words][tile][word][rows of the tile]`.
#[derive(Default)]
pub struct Tiles {
    data: Vec<u32>,
    tiles: Vec<Tile>,
    words: Words,
    /// Words of a row.
    k: usize,
    /// Words of a block.
    block: usize,
}

impl Tiles {
    /// Lays out `rows` rows of `k` columns as `words`, in blocks of `block` words, where `row(r)` gives a row and
    /// `share(n, f)` calls `f` for each of `0..n`.
    pub fn pack<'a>(
        &mut self,
        words: Words,
        (rows, k, block): (usize, usize, usize),
        row: impl Fn(usize) -> &'a [f32] + Sync,
        share: impl FnOnce(usize, &(dyn Fn(usize) + Sync)),
    ) {
        self.cut(words, rows, k, block);
        let height = self.height(0..self.len());
        let Tiles { data, tiles, k: count, .. } = self;
        let data = Disjoint::new(data);
        share(tiles.len(), &|t| {
            let tile = tiles[t];
            for start in (0..*count).step_by(block) {
                let n = (*count - start).min(block);
                // SAFETY: every block of every tile has a place of its own.
                let to = unsafe { data.part(start * height + tile.above * n, tile.height * n) };
                tile.pack(to, words, start, |r| &row(r)[..k]);
            }
        });
    }

    fn cut(&mut self, words: Words, rows: usize, k: usize, block: usize) {
        let heights = chain::heights(vectors::registers());
        let tallest = heights[heights.len() - 1];
        (self.words, self.k, self.block) = (words, words.count(k), block);
        self.tiles.clear();
        let mut above = 0;
        for start in (0..rows).step_by(tallest) {
            let rows = (rows - start).min(tallest);
            let height = heights.iter().copied().find(|&height| height >= rows).unwrap_or(tallest);
            self.tiles.push(Tile { start, rows, height, above });
            above += height;
        }
        if self.data.len() < above * self.k {
            self.data.resize(above * self.k, 0);
        }
    }

    /// How many tiles there are.
    pub fn len(&self) -> usize {
        self.tiles.len()
    }

    /// The rows of some tiles, with those that fill them up.
    pub fn height(&self, tiles: Range<usize>) -> usize {
        self.tiles[tiles].iter().map(|tile| tile.height).sum()
    }

    /// The words of each block.
    pub fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (k, block) = (self.k, self.block);
        (0..k).step_by(block).map(move |start| start..(start + block).min(k))
    }

    /// Goes on with the chains of some tiles over a block of words, whose weights are given. At the last block it passes
    /// on the first row of some tiles and the sums of their rows. Until then `sums`, a row for each of [`Tiles::height`],
    /// keeps them.
    pub fn multiply(
        &self,
        tiles: Range<usize>,
        block: Range<usize>,
        weights: Weights,
        sums: &mut [Sums],
        mut take: impl FnMut(usize, &[Sums]),
    ) {
        let (fresh, last) = (block.start == 0, block.end == self.k);
        let height = self.tiles.last().map_or(0, |tile| tile.above + tile.height);
        let data = &self.data[block.start * height..];
        let above = self.tiles[tiles.start].above;
        // Sums that need not wait are passed on at once, while they are in the cache.
        let most = if fresh && last { 1 } else { RUN };
        let runs = self.tiles[tiles].chunk_by(|a, b| a.height == b.height).flat_map(|run| run.chunks(most));
        for run in runs {
            let Tile { start, height: rows, above: before, .. } = run[0];
            let words = &data[before * block.len()..][..run.len() * rows * block.len()];
            let at = if fresh && last { 0 } else { before - above };
            let sums = &mut sums[at..at + run.len() * rows];
            match (self.words, weights) {
                (Words::Pairs, Weights::Words(weights)) => {
                    pairs::extend(rows, block.len(), words, weights, sums, fresh);
                }
                _ => chain::extend(rows, block.len(), bytemuck::cast_slice(words), weights, sums, fresh),
            }
            if last {
                let rows = run.iter().map(|tile| tile.rows).sum();
                take(start, &sums[..rows]);
            }
        }
    }
}

impl Tile {
    /// Writes the words from `first` on, `[word][rows of the tile]`.
    fn pack<'a>(&self, to: &mut [u32], words: Words, first: usize, row: impl Fn(usize) -> &'a [f32]) {
        match self.height {
            _ if words != Words::Columns || self.rows < self.height => {
                to.fill(0);
                for r in 0..self.rows {
                    let (to, row) = (to[r..].iter_mut().step_by(self.height), row(self.start + r));
                    to.enumerate().for_each(|(i, to)| *to = words.word(row, first + i));
                }
            }
            1 => interleave::<1>(to, |r| &row(self.start + r)[first..]),
            2 => interleave::<2>(to, |r| &row(self.start + r)[first..]),
            3 => interleave::<3>(to, |r| &row(self.start + r)[first..]),
            4 => interleave::<4>(to, |r| &row(self.start + r)[first..]),
            6 => interleave::<6>(to, |r| &row(self.start + r)[first..]),
            8 => interleave::<8>(to, |r| &row(self.start + r)[first..]),
            _ => interleave::<MR>(to, |r| &row(self.start + r)[first..]),
        }
    }
}

fn interleave<'a, const R: usize>(to: &mut [u32], row: impl Fn(usize) -> &'a [f32]) {
    let to = to.as_chunks_mut::<R>().0;
    let rows: [&[f32]; R] = std::array::from_fn(|r| &row(r)[..to.len()]);
    vectorized(
        #[inline(always)]
        || {
            // In blocks, which the compiler turns over in registers.
            let (blocks, rest) = to.as_chunks_mut::<4>();
            let whole = blocks.len();
            for (b, to) in blocks.iter_mut().enumerate() {
                let columns: [&[f32; 4]; R] = std::array::from_fn(
                    #[inline(always)]
                    |r| &rows[r].as_chunks::<4>().0[b],
                );
                for i in 0..4 {
                    for r in 0..R {
                        to[i][r] = columns[r][i].to_bits();
                    }
                }
            }
            for (i, to) in rest.iter_mut().enumerate() {
                for r in 0..R {
                    to[r] = rows[r][4 * whole + i].to_bits();
                }
            }
        },
    );
}
