//! A set of rows.

use std::ops::Range;

/// One bit per row of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowSet {
    words: Vec<u64>,
    rows: u64,
}

impl RowSet {
    /// None of `rows` rows.
    pub fn none_of(rows: u64) -> Self {
        RowSet { words: vec![0; rows.div_ceil(64) as usize], rows }
    }

    /// Rows of the job.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether a row is in the set.
    pub fn contains(&self, row: u64) -> bool {
        self.words.get((row / 64) as usize).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Adds a row; false if it does not belong to the job or is in the set already.
    pub fn insert(&mut self, row: u64) -> bool {
        let new = row < self.rows && !self.contains(row);
        if new {
            self.words[(row / 64) as usize] |= 1 << (row % 64);
        }
        new
    }

    /// How many rows are in the set.
    pub fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Rows of a range that are not in the set: how many, and the first.
    pub fn missing(&self, rows: Range<u64>) -> Option<(u64, u64)> {
        let (mut count, mut first) = (0, None);
        let word = rows.start / 64;
        let words = self.words.iter().skip(word as usize).chain(std::iter::repeat(&0));
        for (start, word) in (64 * word..rows.end.max(rows.start)).step_by(64).zip(words) {
            let before_end = u64::MAX >> (64 - (rows.end - start).min(64));
            let from_start = u64::MAX << rows.start.saturating_sub(start).min(63);
            let missing = !word & before_end & from_start;
            if missing != 0 {
                first = first.or(Some(start + u64::from(missing.trailing_zeros())));
                count += u64::from(missing.count_ones());
            }
        }
        first.map(|first| (count, first))
    }
}
