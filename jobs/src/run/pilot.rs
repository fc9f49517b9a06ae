//! Some rows of a job, answered before the rest, to see what the rest will take.

use crate::journal::finished::FinishedRows;

/// So many rows of a job, spread evenly.
pub fn spread_rows(rows: u64, count: u64) -> Vec<u64> {
    let (of, count) = (u128::from(rows), u128::from(count.min(rows)));
    (0..count).map(|i| ((2 * i + 1) * of / (2 * count)) as u64).collect()
}

/// The rows that are finished, and with them all others than these: what is left is a pilot's.
pub fn all_but(rows: &[u64], finished: &FinishedRows, of: u64) -> FinishedRows {
    let mut all = finished.clone();
    let mut next = rows.iter().copied().peekable();
    for row in 0..of {
        match next.next_if_eq(&row) {
            Some(_) => {}
            None => _ = all.insert(row),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pilot_is_spread_over_the_rows() {
        assert_eq!(spread_rows(100, 4), [12, 37, 62, 87]);
        assert_eq!(spread_rows(3, 64), [0, 1, 2]);
        assert!(spread_rows(0, 64).is_empty());
        assert_eq!(spread_rows(u64::MAX, 1), [u64::MAX / 2]);
    }

    #[test]
    fn what_is_left_is_the_pilots() {
        let mut finished = FinishedRows::none_of(10);
        finished.insert(3);
        let left = all_but(&[3, 5, 9], &finished, 10);
        let unfinished: Vec<u64> = (0..10).filter(|&row| !left.contains(row)).collect();
        assert_eq!(unfinished, [5, 9]);
    }
}
