//! Linear: `out = x weight^T + bias`.

use super::disjoint::Disjoint;
use super::memory::Memory;
use super::sums::{NR, Sums};
use super::team::Team;
use super::tile::Tiles;
use super::{vectorized, vectors};
use crate::format::Q8_0_BLOCK;
use crate::op::Linear;
use std::cell::RefCell;
use std::ops::Range;

/// Words of a panel that all rows are multiplied with before the next: few enough that they stay in a first-level cache of
/// 32 KiB, beside a tile of rows. The tall tiles of 32 registers need each word less often, and go well with words of the
/// second level. Blocks are about equally long, so that none is short for what its sums cost, and whole blocks of Q8_0.
fn block(words: usize) -> usize {
    let most = if vectors::registers() >= 32 { 1024 } else { 160 };
    words.div_ceil(words.div_ceil(most).max(1)).next_multiple_of(Q8_0_BLOCK)
}

/// Tiles of a task, at least, where there are many rows: enough to pay for widening.
const TILES: usize = 8;

/// Multiply-adds of a task, at least: enough to pay for taking it.
const WORK: usize = 1 << 17;

/// Runs the op over `rows` rows. `tiles` is scratch memory, reused from op to op.
pub fn run(team: &mut Team, memory: &mut Memory, tiles: &mut Tiles, rows: usize, op: &Linear) {
    let Linear { x, weight, bias, out } = *op;
    if rows == 0 {
        return;
    }
    let mut result = memory.take(out.buffer);
    let stride = memory.cols(out.buffer);
    let (x_cols, x_data) = (memory.cols(x.buffer), memory.float(x.buffer));
    let panels = memory.panels(weight);
    let bias = bias.map(|id| memory.float(id));

    let row = |r: usize| &x_data[r * x_cols + x.start..][..x.cols];
    let block = block(panels.words().count(x.cols));
    tiles.pack(panels.words(), (rows, x.cols, block), row, |n, pack| {
        team.share_ranges(n, TILES, |tiles| tiles.for_each(pack));
    });
    let (tiles, few) = (&*tiles, tiles.len() <= 2);

    let target = Disjoint::new(&mut result);
    let multiply = |p: usize, group: Range<usize>, scratch: &mut Scratch| {
        let first = p * NR;
        let width = NR.min(out.cols - first);
        let mut add = [0.0; NR];
        if let Some(bias) = bias {
            add[..width].copy_from_slice(&bias[first..first + width]);
        }
        scratch.sums.resize(tiles.height(group.clone()), [0.0; NR]);
        for block in tiles.blocks() {
            let weights = panels.weights(p, block.clone(), few, &mut scratch.words);
            tiles.multiply(group.clone(), block, weights, &mut scratch.sums, |row, sums| {
                vectorized(
                    #[inline(always)]
                    || {
                        for (r, sums) in sums.iter().enumerate() {
                            let at = (row + r) * stride + out.start + first;
                            // SAFETY: these columns of these rows belong to this task.
                            store(unsafe { target.part(at, width) }, sums, &add);
                        }
                    },
                );
            });
        }
    };
    // Where there are fewer panels than threads, rows are shared out too.
    let groups = (4 * team.threads()).div_ceil(panels.len()).clamp(1, tiles.len().div_ceil(TILES).max(1));
    let tasks = panels.len() * groups;
    let group = |g: usize| g * tiles.len() / groups..(g + 1) * tiles.len() / groups;
    team.share_ranges(tasks, WORK / (x.cols * NR * rows).max(1), |range| {
        SCRATCH.with_borrow_mut(|scratch| {
            range.for_each(|task| multiply(task / groups, group(task % groups), scratch));
        });
    });
    memory.give(out.buffer, result);
}

#[inline(always)]
fn store(to: &mut [f32], sums: &Sums, add: &Sums) {
    match to.as_chunks_mut::<NR>() {
        ([to], []) => {
            for i in 0..NR {
                to[i] = sums[i] + add[i];
            }
        }
        _ => {
            for (to, (sum, add)) in to.iter_mut().zip(sums.iter().zip(add)) {
                *to = sum + add;
            }
        }
    }
}

/// Reused, because allocating memory costs more than what it is for.
#[derive(Default)]
struct Scratch {
    /// Widened words of a panel.
    words: Vec<f32>,
    /// Sums that wait for the next block.
    sums: Vec<Sums>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}
