//! What some row groups say of all.

use crate::plan::lengths::Span;
use serde::Serialize;
use std::ops::Range;

/// A row group that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupTally {
    pub rows: u64,
    pub errors: u64,
    pub prompt_tokens: u64,
    /// Tokens that answers can have.
    pub generated: Span,
}

impl GroupTally {
    /// Nothing counted so far, of so many rows.
    pub fn of(rows: u64) -> GroupTally {
        GroupTally { rows, ..GroupTally::default() }
    }
}

/// Which row groups were read, and what they say of all rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    pub row_groups: usize,
    pub of_row_groups: usize,
    pub rows: u64,
    pub prompt_tokens: Estimate,
    pub error_rows: Estimate,
    /// Of the tokens that all answers can have, the least and the most.
    pub least_generated_tokens: Estimate,
    pub most_generated_tokens: Estimate,
}

/// A figure of all rows, by those of the sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub value: f64,
    /// Two standard errors, by how much the row groups differ; none where one alone was read, which says nothing of the
    /// others.
    pub error: Option<f64>,
}

impl Sample {
    /// Of the row groups that were read, in a job of so many row groups and rows.
    pub fn new(groups: &[GroupTally], ranges: &[Range<u64>], of: usize, rows: u64) -> Sample {
        let estimate = |figure: fn(&GroupTally) -> u64| {
            let pairs: Vec<(f64, f64)> =
                groups.iter().map(|group| (group.rows as f64, figure(group) as f64)).collect();
            estimate(&pairs, of, rows as f64)
        };
        Sample {
            row_groups: ranges.len(),
            of_row_groups: of,
            rows: groups.iter().map(|group| group.rows).sum(),
            prompt_tokens: estimate(|group| group.prompt_tokens),
            error_rows: estimate(|group| group.errors),
            least_generated_tokens: estimate(|group| group.generated.least),
            most_generated_tokens: estimate(|group| group.generated.most),
        }
    }
}

/// So many row groups, spread evenly.
pub fn spread(groups: &[Range<u64>], count: u64) -> Vec<Range<u64>> {
    let (of, count) = (groups.len() as u128, u128::from(count).min(groups.len() as u128));
    (0..count).map(|i| groups[((2 * i + 1) * of / (2 * count)) as usize].clone()).collect()
}

/// The ratio estimate of a sum over `total` rows from row groups' rows and figures, with the error of sampling whole row
/// groups.
pub fn estimate(pairs: &[(f64, f64)], of: usize, total: f64) -> Estimate {
    let (rows, figures) = pairs.iter().fold((0.0, 0.0), |(x, y), pair| (x + pair.0, y + pair.1));
    let ratio = if rows > 0.0 { figures / rows } else { 0.0 };
    let n = pairs.len() as f64;
    let value = ratio * total;
    if pairs.len() >= of {
        return Estimate { value, error: Some(0.0) };
    }
    if pairs.len() < 2 {
        return Estimate { value, error: None };
    }
    let squares: f64 = pairs.iter().map(|(x, y)| (y - ratio * x).powi(2)).sum();
    let left = 1.0 - n / of as f64;
    let of_ratio = (left * squares / (n - 1.0) / n).sqrt() / (rows / n);
    Estimate { value, error: Some(2.0 * of_ratio * total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_groups_are_spread_evenly() {
        let groups: Vec<Range<u64>> = (0..10).map(|i| i * 5..i * 5 + 5).collect();
        let starts = |count| spread(&groups, count).iter().map(|group| group.start / 5).collect::<Vec<_>>();
        assert_eq!((starts(1), starts(2), starts(3)), (vec![5], vec![2, 7], vec![1, 5, 8]));
        assert_eq!(starts(99), (0..10).collect::<Vec<_>>());
        assert!(spread(&[], 3).is_empty());
    }

    #[test]
    fn an_estimate_has_the_error_of_its_row_groups() {
        // By hand: 3 tokens a row; residuals -10, 0 and 10; 200 / 2 / 3 = 33.3, times 1 - 3 / 12 = 25; the root, 5, is of 10
        // rows, so 0.5 a row; twice that for 120 rows.
        let three = [(10.0, 20.0), (10.0, 30.0), (10.0, 40.0)];
        let Estimate { value, error } = estimate(&three, 12, 120.0);
        assert!(
            (value - 360.0).abs() < 1e-9 && (error.unwrap_or(0.0) - 120.0).abs() < 1e-9,
            "{value} {error:?}"
        );
        assert_eq!(estimate(&three, 3, 30.0), Estimate { value: 90.0, error: Some(0.0) });
        assert_eq!(estimate(&three[..1], 3, 30.0), Estimate { value: 60.0, error: None });
        assert_eq!(estimate(&[], 0, 0.0), Estimate { value: 0.0, error: Some(0.0) });
    }
}
