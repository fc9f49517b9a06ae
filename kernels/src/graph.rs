//! Buckets of decode steps: steps that run the same launches, so that one graph serves them all.

use crate::launch::{Extent, WorkCount};
use crate::work::most_work;
use engine::plan::Dims;
use engine::step::Step;

/// The least bucket that holds so many rows: steps of about a sixteenth, so that padding stays cheap.
pub(crate) fn bucket(rows: usize) -> usize {
    let step = (rows.next_power_of_two() / 16).max(1);
    rows.next_multiple_of(step)
}

/// The extent of the graph that can run this step, or `None` if it is no decode step: one token for each
/// sequence.
pub(crate) fn extent(step: &Step, most: &Dims, groups: &[usize]) -> Option<Extent> {
    let dims = step.dims();
    if dims.tokens == 0 || dims.tokens != dims.seqs {
        return None;
    }
    let rows = bucket(dims.tokens).min(most.seqs).min(most.tokens);
    let outputs = if dims.outputs == 0 { 0 } else { rows.min(most.outputs) };
    if dims.outputs > outputs || rows < dims.tokens {
        return None;
    }
    let dims = Dims { tokens: rows, seqs: rows, outputs, ..*most };
    let work = groups
        .iter()
        .map(|&group| {
            let most = most_work(&dims, group);
            WorkCount { prefill: 0, ..most }
        })
        .collect();
    Some(Extent { dims, work })
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
