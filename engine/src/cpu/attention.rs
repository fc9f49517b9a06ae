//! PagedAttention: an online softmax over blocks of positions.
//!
//! Positions are processed in blocks of [`BLOCK`], starting at position 0 (or the window's first block),
//! whatever the page size, the chunk or the neighbours, so prefill and decode give the same bits. The
//! recurrence is that of Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018).
//! Scores and weighted sums use the matrix kernel: its rows are queries of a group of heads that
//! share their keys, which they read where they are, if a block does not lie across pages.

use super::blocks::{BLOCK, Block, Cache};
use super::disjoint::Disjoint;
use super::math;
use super::memory::Memory;
use super::pages::Element;
use super::sums::{MR, NR, Sums};
use super::team::Team;
use super::tile::{Tiles, Words};
use super::vectorized;
use super::weights::{HALF, Weights};
use crate::dtype::DType;
use crate::op::PagedAttention;
use crate::step::Step;
use std::cell::RefCell;

/// Rows of a task: a few tiles, which share the cost of bringing a block into the cache.
const ROWS: usize = 4 * MR;

/// A task: up to [`ROWS`] rows of one KV head of one sequence. Row `i` is query `i / group`, head
/// `i % group` of the group.
struct Task {
    seq: usize,
    kv_head: usize,
    rows: std::ops::Range<usize>,
}

/// Runs the op.
pub fn run(team: &mut Team, memory: &mut Memory, step: &Step, op: &PagedAttention) {
    match memory.dtype(op.k_pages) {
        DType::BF16 => attend::<u16>(team, memory, step, op),
        DType::E4M3 => attend::<u8>(team, memory, step, op),
        _ => attend::<f32>(team, memory, step, op),
    }
}

/// The same over pages of this type.
fn attend<T: Element>(team: &mut Team, memory: &mut Memory, step: &Step, op: &PagedAttention) {
    let PagedAttention { q, k_pages, v_pages, out, head_dim: d, .. } = *op;
    let mut result = memory.take(out.buffer);
    let (q_cols, out_cols) = (memory.cols(q.buffer), memory.cols(out.buffer));
    let (queries, cols) = (memory.float(q.buffer), memory.cols(k_pages));
    let group = q.cols / cols;

    let mut tasks = Vec::new();
    for seq in 0..step.seqs() {
        let rows = step.query_rows(seq).len() * group;
        for kv_head in 0..cols / d {
            let starts = (0..rows).step_by(ROWS);
            tasks.extend(starts.map(|r| Task { seq, kv_head, rows: r..(r + ROWS).min(rows) }));
        }
    }
    // The long ones first, so that the last tasks are short and the threads end together.
    tasks.sort_by_key(|t| std::cmp::Reverse(step.seq_len(t.seq)));

    let target = Disjoint::new(&mut result);
    let attend = |task: &Task, scratch: &mut Scratch| {
        let first = step.query_start[task.seq] as usize;
        let cache = Cache {
            keys: memory.pages::<T>(k_pages),
            values: memory.pages::<T>(v_pages),
            pages: &step.block_tables[task.seq * step.pages_per_seq..][..step.pages_per_seq],
            page_size: step.page_size,
            cols,
            start: task.kv_head * d,
            head_dim: d,
            len: step.seq_len(task.seq),
        };
        let token = |i: usize| first + i / group;
        let column = |i: usize| (task.kv_head * group + i % group) * d;
        let positions: Vec<usize> = task.rows.clone().map(|i| step.positions[token(i)] as usize).collect();
        let query = |r: usize| {
            let i = task.rows.start + r;
            &queries[token(i) * q_cols + q.start + column(i)..][..d]
        };
        scratch.attend(&cache, &positions, query, op);
        for (r, i) in task.rows.clone().enumerate() {
            let at = token(i) * out_cols + out.start + column(i);
            // SAFETY: this head of this token belongs to this task.
            scratch.finish(r, unsafe { target.part(at, d) });
        }
    };
    team.share(tasks.len(), |i| SCRATCH.with_borrow_mut(|scratch| attend(&tasks[i], scratch)));
    memory.give(out.buffer, result);
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The buffers and inputs of a task.
#[derive(Default)]
struct Scratch {
    queries: Tiles,
    weights: Tiles,
    /// Sums of products with a block, or with a panel of one.
    part: Vec<Sums>,
    keys: Vec<f32>,
    values: Vec<f32>,
    scores: Vec<[f32; BLOCK]>,
    /// `[panel of NR head columns][row][NR]`
    sums: Vec<[f32; NR]>,
    greatest: Vec<f32>,
    total: Vec<f32>,
    /// What the sums so far are multiplied by before those of the block are added.
    shrink: Vec<f32>,
}

impl Scratch {
    /// Processes the blocks that any of the rows sees.
    fn attend<'q, T: Element>(
        &mut self,
        cache: &Cache<T>,
        positions: &[usize],
        query: impl Fn(usize) -> &'q [f32] + Sync,
        op: &PagedAttention,
    ) {
        let n = positions.len();
        let panels = cache.head_dim.div_ceil(NR);
        let one_by_one = |n, pack: &(dyn Fn(usize) + Sync)| (0..n).for_each(pack);
        let d = cache.head_dim;
        self.queries.pack(Words::Columns, (n, d, d), query, one_by_one);
        self.part.resize(self.queries.height(0..self.queries.len()), [0.0; NR]);
        self.scores.resize(n, [0.0; BLOCK]);
        self.sums.clear();
        self.sums.resize(panels * n, [0.0; NR]);
        self.greatest.clear();
        self.greatest.resize(n, f32::NEG_INFINITY);
        self.total.clear();
        self.total.resize(n, 0.0);
        self.shrink.resize(n, 1.0);

        let seen = |p: usize| op.window.map_or(0, |w| (p + 1).saturating_sub(w))..p + 1;
        let from = positions.iter().map(|&p| seen(p).start).min().unwrap_or(0);
        let to = positions.iter().map(|&p| p + 1).max().unwrap_or(0);
        let in_place = self.queries.len() <= T::TILES;
        for start in (from / BLOCK * BLOCK..to).step_by(BLOCK) {
            let in_pages = if in_place { cache.block(start) } else { None };
            self.score(cache, start, in_pages);
            self.weigh(op, |r| {
                let seen = seen(positions[r]);
                let clip = |i: usize| i.clamp(start, start + BLOCK) - start;
                clip(seen.start)..clip(seen.end)
            });
            self.add(cache, start, in_pages);
        }
    }

    /// Multiplies the queries by the keys of a block.
    fn score<T: Element>(&mut self, cache: &Cache<T>, start: usize, in_pages: Option<Block>) {
        let keys = if let Some(block) = in_pages {
            T::weights(cache.keys_of(block))
        } else {
            cache.load_keys(start, &mut self.keys);
            Weights::Words(bytemuck::cast_slice(&self.keys))
        };
        let scores = &mut self.scores;
        self.queries.multiply(
            0..self.queries.len(),
            0..cache.head_dim,
            keys,
            &mut self.part,
            #[inline(always)]
            |row, sums| scores[row..row + sums.len()].copy_from_slice(sums),
        );
    }

    /// Adds the values of a block, by the weights that have taken the place of the scores.
    fn add<T: Element>(&mut self, cache: &Cache<T>, start: usize, in_pages: Option<Block>) {
        let Scratch { weights, part, values, scores, sums, shrink, .. } = self;
        let n = scores.len();
        // Half a block goes on with the sums of the other, so that they are those of a whole one.
        let words = if in_pages.is_some() { HALF } else { BLOCK };
        weights.pack(Words::Columns, (n, BLOCK, words), |r| &scores[r], |n, pack| (0..n).for_each(pack));
        if in_pages.is_none() {
            cache.load_values(start, values);
        }
        for panel in 0..cache.head_dim.div_ceil(NR) {
            for (i, positions) in weights.blocks().enumerate() {
                let values = match in_pages {
                    Some(block) => T::weights(cache.values_of(block, i, panel)),
                    None => Weights::Words(bytemuck::cast_slice(&values[panel * BLOCK * NR..][..BLOCK * NR])),
                };
                weights.multiply(
                    0..weights.len(),
                    positions,
                    values,
                    part,
                    #[inline(always)]
                    |row, part| add(&mut sums[panel * n + row..], &shrink[row..], part),
                );
            }
        }
    }

    /// Turns the rows' scores of a block into weights. Positions outside of what a row has `seen` of the block get a weight
    /// of exactly zero, so a block that the row does not see changes nothing.
    fn weigh(&mut self, op: &PagedAttention, seen: impl Fn(usize) -> std::ops::Range<usize>) {
        let (all, scale) = (0..BLOCK, op.scale);
        vectorized(
            #[inline(always)]
            || {
                for (r, scores) in self.scores.iter_mut().enumerate() {
                    let seen = seen(r);
                    if seen.is_empty() {
                        (*scores, self.shrink[r]) = ([0.0; BLOCK], 1.0);
                        continue;
                    }
                    scores.iter_mut().for_each(|score| *score *= scale);
                    if let Some(cap) = op.softcap {
                        scores.iter_mut().for_each(|score| *score = math::soft_cap(*score, cap));
                    }
                    if seen != all {
                        for (i, score) in scores.iter_mut().enumerate() {
                            *score = if seen.contains(&i) { *score } else { f32::NEG_INFINITY };
                        }
                    }
                    let (greatest, total) = (&mut self.greatest[r], &mut self.total[r]);
                    let new = math::max(scores).max(*greatest);
                    let shrink = math::exp(*greatest - new);
                    for score in scores.iter_mut() {
                        *score = math::exp(*score - new);
                    }
                    *total = total.mul_add(shrink, math::sum(BLOCK, |i| scores[i]));
                    (*greatest, self.shrink[r]) = (new, shrink);
                }
            },
        );
    }

    /// Divides a row's sums by its total.
    fn finish(&self, r: usize, out: &mut [f32]) {
        let rows = self.total.len();
        for (panel, out) in out.chunks_mut(NR).enumerate() {
            let sums = &self.sums[panel * rows + r];
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum / self.total[r]);
        }
    }
}

/// Adds the sums of a block to those before it, which shrink first. Both steps round.
#[inline(always)]
fn add(sums: &mut [[f32; NR]], shrink: &[f32], part: &[Sums]) {
    vectorized(
        #[inline(always)]
        || {
            for ((sum, part), shrink) in sums.iter_mut().zip(part).zip(shrink) {
                sum.iter_mut().zip(part).for_each(|(sum, part)| *sum = *sum * shrink + part);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{BufferId, View};

    /// Numbers between -1 and 1 that look random.
    fn number(i: usize) -> f32 {
        (i as u32).wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32 * 2.0 - 1.0
    }

    /// The sums and totals of some queries, the last positions of a sequence, over pages of a size.
    fn attended<T: Element>(page_size: usize, rows: usize, window: Option<usize>) -> Vec<u32> {
        let (head_dim, cols, start, len) = (64, 192, 64, 150_usize);
        // The pages of the sequence from the last to the first.
        let pages: Vec<u32> = (0..len.div_ceil(page_size) as u32).rev().collect();
        let mut keys = vec![T::nearest(f32::NAN); pages.len() * page_size * cols];
        let mut values = keys.clone();
        for position in 0..len {
            let (page, slot) = (pages[position / page_size] as usize, position % page_size);
            for col in 0..cols {
                let i = position * cols + col;
                keys[(page * cols + col) * page_size + slot] = T::nearest(number(i));
                values[(page * page_size + slot) * cols + col] = T::nearest(number(!i));
            }
        }
        let cache =
            Cache { keys: &keys, values: &values, pages: &pages, page_size, cols, start, head_dim, len };
        let queries: Vec<f32> = (0..rows * head_dim).map(|i| number(i * 7)).collect();
        let positions: Vec<usize> = (0..rows).map(|r| len - 1 - r / 3).collect();
        // Of no plan: what the scratch needs of the op are its numbers.
        let view = View { buffer: BufferId(0), start: 0, cols: head_dim };
        let op = PagedAttention {
            q: view,
            k_pages: view.buffer,
            v_pages: view.buffer,
            out: view,
            head_dim,
            scale: 0.3,
            window,
            softcap: None,
        };
        let mut scratch = Scratch::default();
        scratch.attend(&cache, &positions, |r| &queries[r * head_dim..][..head_dim], &op);
        let sums = scratch.sums.as_flattened().iter().chain(&scratch.total);
        sums.map(|value| value.to_bits()).collect()
    }

    /// Halves of blocks lie within pages of 16 and 48, but not within pages of 8, whose blocks are gathered.
    fn check<T: Element>() {
        // As many as one tile has, and as several have.
        for rows in (1..=9).chain([13, 30, ROWS]) {
            for window in [None, Some(40), Some(1)] {
                let gathered = attended::<T>(8, rows, window);
                assert!(gathered.iter().all(|&bits| f32::from_bits(bits).is_finite()));
                for page_size in [16, 32, 48] {
                    assert_eq!(attended::<T>(page_size, rows, window), gathered, "{rows} rows, {page_size}");
                }
            }
        }
    }

    #[test]
    fn blocks_in_their_pages_give_the_bits_of_gathered_ones() {
        check::<f32>();
        check::<u16>();
        check::<u8>();
    }
}
