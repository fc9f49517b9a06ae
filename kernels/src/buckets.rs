//! Which decode steps share a graph: those of about as many rows, since they run the same launches.

use crate::grid::{GridDims, WorkCount};
use crate::work::{Tiling, max_work};
use engine::plan::Dims;
use engine::step::Step;

/// The least bucket that holds so many rows. Buckets are about a sixteenth apart, so that padding stays cheap.
fn bucket(rows: usize) -> usize {
    let step = (rows.next_power_of_two() / 16).max(1);
    rows.next_multiple_of(step)
}

/// The counts of the graph that can run this step, or `None` if it is no decode step: one token for each
/// sequence.
pub(crate) fn decode_grid(step: &Step, max_dims: &Dims, tilings: &[Tiling]) -> Option<GridDims> {
    let dims = step.dims();
    if dims.tokens == 0 || dims.tokens != dims.seqs {
        return None;
    }
    let rows = bucket(dims.tokens).min(max_dims.seqs).min(max_dims.tokens);
    let outputs = if dims.outputs == 0 { 0 } else { rows.min(max_dims.outputs) };
    if dims.outputs > outputs || rows < dims.tokens {
        return None;
    }
    let dims = Dims { tokens: rows, seqs: rows, outputs, ..*max_dims };
    let work = |&tiling| WorkCount { prefill: 0, ..max_work(&dims, tiling) };
    Some(GridDims { dims, work: tilings.iter().map(work).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_their_rows_and_waste_little() {
        for rows in 1..=1024 {
            let bucket = bucket(rows);
            assert!(bucket >= rows && bucket - rows < rows.div_ceil(8).max(1), "{rows} in {bucket}");
        }
    }
}
