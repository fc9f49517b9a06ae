//! Where the rows of a weight lie whose first half are gates and whose second half are the up rows that they multiply: in
//! groups of 8 gates and their 8 up rows, so that one tile of the kernel has both.

use std::ops::Range;

/// Rows of a kind that lie together.
pub(crate) const GROUP: usize = 8;

/// Rows that are written as one copy: `count` runs of `height` rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first row.
    pub(crate) row: usize,
    /// Where it lies.
    pub(crate) place: usize,
    /// Rows of a run.
    pub(crate) height: usize,
    /// Places from run to run.
    pub(crate) step: usize,
    pub(crate) count: usize,
}

impl Run {
    /// All of its rows.
    pub(crate) fn rows(&self) -> usize {
        self.height * self.count
    }
}

/// Where a row lies, of `all` rows.
pub(crate) fn place(row: usize, all: usize) -> usize {
    let half = all / 2;
    let (row, up) = if row < half { (row, 0) } else { (row - half, GROUP) };
    row / GROUP * 2 * GROUP + up + row % GROUP
}

/// The copies that write `rows` of `all`; halves are whole groups.
pub(crate) fn runs(rows: Range<usize>, all: usize) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut row = rows.start;
    while row < rows.end {
        let end = if row < all / 2 { rows.end.min(all / 2) } else { rows.end };
        // Up to the next group, or whole groups.
        let into = row % GROUP;
        let (height, count) = match (end - row) / GROUP {
            groups if into == 0 && groups > 0 => (GROUP, groups),
            _ => ((GROUP - into).min(end - row), 1),
        };
        runs.push(Run { row, place: place(row, all), height, step: 2 * GROUP, count });
        row += height * count;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_put_every_row_where_it_belongs() {
        for all in [16, 48, 96] {
            let mut places: Vec<usize> = (0..all).map(|row| place(row, all)).collect();
            for start in 0..all {
                for end in start..=all {
                    let mut row = start;
                    for run in runs(start..end, all) {
                        for i in 0..run.rows() {
                            assert_eq!(run.place + i / run.height * run.step + i % run.height, places[row]);
                            row += 1;
                        }
                    }
                    assert_eq!(row, end);
                }
            }
            assert!(places[1] == 1 && places[all / 2] == GROUP);
            places.sort_unstable();
            assert!(places.into_iter().eq(0..all));
        }
    }
}
