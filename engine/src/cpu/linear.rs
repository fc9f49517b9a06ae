//! Linear: `out = x weight^T + bias`.

use super::memory::Memory;
use super::sums::NR;
use super::tile::Tiles;
use crate::op::Linear;
use rayon::prelude::*;
use std::cell::RefCell;

/// Rows that one task multiplies: enough to pay for widening a panel, few enough to stay in the cache.
const ROWS: usize = 384;

/// Runs the op over `rows` rows. `tiles` is scratch memory, reused from op to op.
pub fn run(memory: &mut Memory, tiles: &mut Vec<Tiles>, rows: usize, op: &Linear) {
    let Linear { x, weight, bias, out } = *op;
    let mut result = memory.take(out.buffer);
    let stride = memory.cols(out.buffer);
    let (x_cols, x_data) = (memory.cols(x.buffer), memory.float(x.buffer));
    let panels = memory.panels(weight);
    let bias = bias.map(|id| memory.float(id));

    let starts = (0..rows).step_by(ROWS);
    tiles.resize_with(starts.len().max(tiles.len()), Tiles::default);
    let tiles = &mut tiles[..starts.len()];
    tiles.par_iter_mut().enumerate().for_each(|(i, tiles)| {
        let row = |r: usize| &x_data[(i * ROWS + r) * x_cols + x.start..][..x.cols];
        tiles.pack(panels.words(), (rows - i * ROWS).min(ROWS), x.cols, row);
    });

    let target = Columns(result.as_mut_ptr());
    let multiply = |p: usize, scratch: &mut Vec<f32>| {
        let panel = panels.words_of(p, scratch);
        let first = p * NR;
        let width = NR.min(out.cols - first);
        let mut add = [0.0; NR];
        if let Some(bias) = bias {
            add[..width].copy_from_slice(&bias[first..first + width]);
        }
        for (i, tiles) in tiles.iter().enumerate() {
            tiles.multiply(
                panel,
                #[inline(always)]
                |row, n, sums| {
                    for (r, sums) in sums[..n].iter().enumerate() {
                        let at = (i * ROWS + row + r) * stride + out.start + first;
                        // SAFETY: `at .. at + width` lies in a row of `result`, which outlives the loop,
                        // and no other task writes these columns: a panel belongs to one task.
                        let to = unsafe { std::slice::from_raw_parts_mut(target.at(at), width) };
                        for ((to, sum), add) in to.iter_mut().zip(sums).zip(&add) {
                            *to = sum + add;
                        }
                    }
                },
            );
        }
    };
    (0..panels.len()).into_par_iter().for_each(|p| PANEL.with_borrow_mut(|scratch| multiply(p, scratch)));
    memory.give(out.buffer, result);
}

thread_local! {
    /// A widened panel. Reused, because allocating memory costs more than the widening.
    static PANEL: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// The output; each task writes its own columns.
struct Columns(*mut f32);

impl Columns {
    fn at(&self, i: usize) -> *mut f32 {
        self.0.wrapping_add(i)
    }
}

// SAFETY: tasks write disjoint columns, and nothing reads before they are done.
unsafe impl Sync for Columns {}
