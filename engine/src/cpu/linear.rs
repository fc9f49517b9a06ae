//! Linear: `out = x weight^T + bias`.

use super::memory::Memory;
use super::tile::{NR, Tiles};
use crate::plan::{BufferId, View};
use rayon::prelude::*;

/// Rows that one task multiplies: enough to be worth widening a panel for, few enough to stay cached.
const ROWS: usize = 384;

/// Runs the op over `rows` rows.
pub fn run(memory: &mut Memory, rows: usize, x: View, weight: BufferId, bias: Option<BufferId>, out: View) {
    let mut result = memory.take(out.buffer);
    let stride = memory.cols(out.buffer);
    let (x_cols, x_data) = (memory.cols(x.buffer), memory.float(x.buffer));
    let panels = memory.panels(weight);
    let bias = bias.map(|id| memory.float(id));

    let starts: Vec<usize> = (0..rows).step_by(ROWS).collect();
    let tiles: Vec<(usize, Tiles)> = starts
        .par_iter()
        .map(|&start| {
            let mut tiles = Tiles::default();
            let row = |r: usize| &x_data[(start + r) * x_cols + x.start..][..x.cols];
            tiles.pack((rows - start).min(ROWS), x.cols, row);
            (start, tiles)
        })
        .collect();

    let target = Columns(result.as_mut_ptr());
    (0..panels.len()).into_par_iter().for_each_init(Vec::new, |scratch, p| {
        let panel = panels.widen(p, scratch);
        let first = p * NR;
        let width = NR.min(out.cols - first);
        let mut add = [0.0; NR];
        if let Some(bias) = bias {
            add[..width].copy_from_slice(&bias[first..first + width]);
        }
        for (start, tiles) in &tiles {
            tiles.multiply(panel, |row, n, sums| {
                for (r, sums) in sums[..n].iter().enumerate() {
                    let at = (start + row + r) * stride + out.start + first;
                    // SAFETY: `at .. at + width` lies in a row of `result`, which outlives the loop, and
                    // no other task writes these columns: a panel belongs to one task.
                    let to = unsafe { std::slice::from_raw_parts_mut(target.at(at), width) };
                    for i in 0..width {
                        to[i] = sums[i] + add[i];
                    }
                }
            });
        }
    });
    memory.give(out.buffer, result);
}

/// The output, of which each task writes columns of its own.
struct Columns(*mut f32);

impl Columns {
    fn at(&self, i: usize) -> *mut f32 {
        self.0.wrapping_add(i)
    }
}

// SAFETY: tasks write disjoint columns and nobody reads until they are done.
unsafe impl Sync for Columns {}
