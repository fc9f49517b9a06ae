//! The keys and values of a sequence, in blocks of positions: gathered from their pages as panels of f32, or read where they
//! are.

use super::pages::Element;
use super::sums::NR;
use super::vectorized;
use super::weights::{HALF, Halves};

/// Positions of a block: the columns of a panel.
pub const BLOCK: usize = NR;

/// The keys and values of one KV head of one sequence.
pub struct Cache<'a, T> {
    pub keys: &'a [T],
    pub values: &'a [T],
    pub pages: &'a [u32],
    pub page_size: usize,
    /// Columns of a slot.
    pub cols: usize,
    /// The first of the head's columns.
    pub start: usize,
    pub head_dim: usize,
    /// Positions that have been written.
    pub len: usize,
}

/// A page, and a place in it.
type Place = (usize, usize);

/// Where the halves of a block begin, and those of the next one, or of the same once more.
#[derive(Clone, Copy)]
pub struct Block {
    halves: [Place; 2],
    next: [Place; 2],
}

impl<T: Element> Cache<'_, T> {
    /// Where a block is, if the kernel can take it from there: none of its halves is of two pages, and nothing is beyond the
    /// sequence or the head.
    pub fn block(&self, start: usize) -> Option<Block> {
        if !self.page_size.is_multiple_of(HALF) || !self.head_dim.is_multiple_of(NR) {
            return None;
        }
        let place = |at: usize| (self.pages[at / self.page_size] as usize, at % self.page_size);
        let whole = |start| (start + BLOCK <= self.len).then(|| [place(start), place(start + HALF)]);
        let halves = whole(start)?;
        Some(Block { halves, next: whole(start + BLOCK).unwrap_or(halves) })
    }

    /// The keys of a block, a word for each of the head's columns.
    pub fn keys_of(&self, block: Block) -> Halves<'_, T> {
        let half =
            |(page, from): Place| &self.keys[(page * self.cols + self.start) * self.page_size + from..];
        Halves { halves: block.halves.map(half), next: block.next.map(half), step: self.page_size }
    }

    /// The values of half a block, a word for each position, of a panel of the head's columns.
    pub fn values_of(&self, block: Block, half: usize, panel: usize) -> Halves<'_, T> {
        let halves = |(page, from): Place| {
            let first = (page * self.page_size + from) * self.cols + self.start + panel * NR;
            [&self.values[first..], &self.values[first + HALF..]]
        };
        Halves { halves: halves(block.halves[half]), next: halves(block.next[half]), step: self.cols }
    }

    /// Calls `f(page, first place in the page, first place in the block, count)` for the runs of a block
    /// that lie within one page.
    #[inline(always)]
    fn runs(&self, start: usize, mut f: impl FnMut(usize, usize, usize, usize)) {
        let end = (start + BLOCK).min(self.len);
        let mut at = start;
        while at < end {
            let n = (self.page_size - at % self.page_size).min(end - at);
            f(self.pages[at / self.page_size] as usize, at % self.page_size, at - start, n);
            at += n;
        }
    }

    /// The block's keys as a panel `[head_dim][BLOCK]`, zero beyond the sequence.
    pub fn load_keys(&self, start: usize, panel: &mut Vec<f32>) {
        panel.resize(self.head_dim * BLOCK, 0.0);
        if start + BLOCK > self.len {
            panel.fill(0.0);
        }
        vectorized(
            #[inline(always)]
            || {
                self.runs(
                    start,
                    #[inline(always)]
                    |page, from, to, n| {
                        let rows = &self.keys[(page * self.cols + self.start) * self.page_size..];
                        let rows = rows.chunks_exact(self.page_size).zip(panel.chunks_exact_mut(BLOCK));
                        for (row, out) in rows.take(self.head_dim) {
                            copy(&mut out[to..to + n], &row[from..from + n]);
                        }
                    },
                );
            },
        );
    }

    /// The block's values as panels `[panel][BLOCK][NR]`, zero beyond the sequence.
    pub fn load_values(&self, start: usize, panels: &mut Vec<f32>) {
        panels.resize(self.head_dim.div_ceil(NR) * BLOCK * NR, 0.0);
        if start + BLOCK > self.len {
            panels.fill(0.0);
        }
        vectorized(
            #[inline(always)]
            || {
                self.runs(
                    start,
                    #[inline(always)]
                    |page, from, to, n| {
                        for i in 0..n {
                            let slot = page * self.page_size + from + i;
                            let value = &self.values[slot * self.cols + self.start..][..self.head_dim];
                            for (panel, value) in value.chunks(NR).enumerate() {
                                copy(&mut panels[(panel * BLOCK + to + i) * NR..][..value.len()], value);
                            }
                        }
                    },
                );
            },
        );
    }
}

/// Copies and widens, without a call of memcpy for the usual lengths.
#[inline(always)]
fn copy<T: Element>(to: &mut [f32], from: &[T]) {
    match (to.as_chunks_mut::<16>(), from.as_chunks::<16>()) {
        (([to], []), ([from], [])) => *to = from.map(T::widen),
        (([a, b], []), ([c, d], [])) => (*a, *b) = (c.map(T::widen), d.map(T::widen)),
        _ => to.iter_mut().zip(from).for_each(|(to, from)| *to = from.widen()),
    }
}
