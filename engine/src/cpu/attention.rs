//! PagedAttention: an online softmax over blocks of positions.
//!
//! Positions are processed in blocks of [`BLOCK`], starting at position 0 (or the window's first block),
//! whatever the page size, the chunk or the neighbours, so prefill and decode give the same bits. The
//! recurrence is that of Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018).
//! Scores and weighted sums use the matrix kernel: its rows are queries of a group of heads that
//! share their keys.

use super::chain::Weights;
use super::disjoint::Disjoint;
use super::math;
use super::memory::Memory;
use super::pages::Element;
use super::sums::{MR, NR, Sums};
use super::team::Team;
use super::tile::{Tiles, Words};
use super::vectorized;
use crate::dtype::DType;
use crate::op::PagedAttention;
use crate::step::Step;
use std::cell::RefCell;

/// Positions of a block: the columns of a panel.
const BLOCK: usize = NR;

/// Rows of a task: a few tiles, which share the cost of gathering a block from its pages.
const ROWS: usize = 4 * MR;

/// The keys and values of one KV head of one sequence.
struct Cache<'a, T> {
    keys: &'a [T],
    values: &'a [T],
    pages: &'a [u32],
    page_size: usize,
    /// Columns of a slot.
    cols: usize,
    /// The first of the head's columns.
    start: usize,
    head_dim: usize,
    /// Positions that have been written.
    len: usize,
}

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
    /// The sums of a tile.
    tile: [Sums; MR],
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
    fn attend<'q>(
        &mut self,
        cache: &Cache<impl Element>,
        positions: &[usize],
        query: impl Fn(usize) -> &'q [f32] + Sync,
        op: &PagedAttention,
    ) {
        let n = positions.len();
        let panels = cache.head_dim.div_ceil(NR);
        let one_by_one = |n, pack: &(dyn Fn(usize) + Sync)| (0..n).for_each(pack);
        let d = cache.head_dim;
        self.queries.pack(Words::Columns, (n, d, d), query, one_by_one);
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
        for start in (from / BLOCK * BLOCK..to).step_by(BLOCK) {
            cache.load_keys(start, &mut self.keys);
            cache.load_values(start, &mut self.values);
            let scores = &mut self.scores;
            self.queries.multiply(
                0..self.queries.len(),
                0..d,
                Weights::Words(bytemuck::cast_slice(&self.keys)),
                &mut self.tile,
                #[inline(always)]
                |row, sums| scores[row..row + sums.len()].copy_from_slice(sums),
            );
            self.weigh(op, |r| {
                let seen = seen(positions[r]);
                let clip = |i: usize| i.clamp(start, start + BLOCK) - start;
                clip(seen.start)..clip(seen.end)
            });
            let (scores, sums, shrink) = (&self.scores, &mut self.sums, &self.shrink);
            self.weights.pack(Words::Columns, (n, BLOCK, BLOCK), |r| &scores[r], one_by_one);
            for panel in 0..panels {
                let values = &self.values[panel * BLOCK * NR..][..BLOCK * NR];
                self.weights.multiply(
                    0..self.weights.len(),
                    0..BLOCK,
                    Weights::Words(bytemuck::cast_slice(values)),
                    &mut self.tile,
                    #[inline(always)]
                    |row, part| {
                        add(&mut sums[panel * n + row..], &shrink[row..], part);
                    },
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

impl<T: Element> Cache<'_, T> {
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
    fn load_keys(&self, start: usize, panel: &mut Vec<f32>) {
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
    fn load_values(&self, start: usize, panels: &mut Vec<f32>) {
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

/// Copies and widens, without a call of memcpy for the usual lengths.
#[inline(always)]
fn copy<T: Element>(to: &mut [f32], from: &[T]) {
    match (to.as_chunks_mut::<16>(), from.as_chunks::<16>()) {
        (([to], []), ([from], [])) => *to = from.map(T::widen),
        (([a, b], []), ([c, d], [])) => (*a, *b) = (c.map(T::widen), d.map(T::widen)),
        _ => to.iter_mut().zip(from).for_each(|(to, from)| *to = from.widen()),
    }
}
