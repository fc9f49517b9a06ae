//! Which rows of a job are finished.

use crate::journal::row_set::RowSet;
use std::ops::Range;

/// The finished rows of a job, and tallies of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FinishedRows {
    set: RowSet,
    /// Finished rows.
    pub count: u64,
    /// Finished rows that have an error.
    pub errors: u64,
    /// Tokens of their prompts.
    pub input_tokens: u64,
    /// Tokens generated for them.
    pub generated_tokens: u64,
}

impl FinishedRows {
    /// None of `rows` rows.
    pub fn none_of(rows: u64) -> Self {
        FinishedRows { set: RowSet::none_of(rows), ..Default::default() }
    }

    pub fn rows(&self) -> u64 {
        self.set.rows()
    }

    /// Whether a row is finished.
    pub fn contains(&self, row: u64) -> bool {
        self.set.contains(row)
    }

    /// Sets a row; false if it does not belong to the job or was set before.
    pub fn insert(&mut self, row: u64) -> bool {
        let new = self.set.insert(row);
        self.count += u64::from(new);
        new
    }

    /// Rows of a range that are not finished: how many, and the first.
    pub fn missing(&self, rows: Range<u64>) -> Option<(u64, u64)> {
        self.set.missing(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_set_once_and_found_missing() {
        let mut finished = FinishedRows::none_of(130);
        for row in [0, 63, 64, 129] {
            assert!(finished.insert(row) && !finished.insert(row) && finished.contains(row));
        }
        assert!(!finished.insert(130) && !finished.contains(130) && !finished.contains(u64::MAX));
        assert_eq!((finished.count, finished.missing(0..130)), (4, Some((126, 1))));
        assert_eq!(finished.missing(0..1), None);
        assert_eq!((finished.missing(0..0), finished.missing(0..2)), (None, Some((1, 1))));
        assert_eq!((finished.missing(0..63), finished.missing(0..64)), (Some((62, 1)), Some((62, 1))));
        assert_eq!(finished.missing(0..300), Some((296, 1)));
        assert_eq!((finished.missing(1..63), finished.missing(63..65)), (Some((62, 1)), None));
        assert_eq!(
            (finished.missing(64..130), finished.missing(100..129)),
            (Some((64, 65)), Some((29, 100)))
        );
        assert_eq!((finished.missing(64..64), finished.missing(129..130)), (None, None));
        assert_eq!(
            (finished.missing(130..131), finished.missing(200..300)),
            (Some((1, 130)), Some((100, 200)))
        );
        (0..130).for_each(|row| _ = finished.insert(row));
        assert_eq!((finished.count, finished.missing(0..130)), (130, None));
    }
}
