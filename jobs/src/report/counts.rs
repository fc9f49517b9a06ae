//! How often each number occurs, from which sums, percentiles and histograms are exact.

use std::collections::BTreeMap;

/// At most so many bars has a histogram.
const BARS: u64 = 24;

/// Numbers and how often they occur.
#[derive(Clone, Debug, Default)]
pub struct Counts(BTreeMap<u64, u64>);

impl Counts {
    pub fn add(&mut self, number: u64) {
        *self.0.entry(number).or_default() += 1;
    }

    /// How many numbers there are.
    pub fn len(&self) -> u64 {
        self.0.values().sum()
    }

    pub fn sum(&self) -> u128 {
        self.0.iter().map(|(&number, &count)| u128::from(number) * u128::from(count)).sum()
    }

    pub fn mean(&self) -> Option<f64> {
        let len = self.len();
        (len > 0).then(|| self.sum() as f64 / len as f64)
    }

    pub fn min(&self) -> Option<u64> {
        self.0.keys().next().copied()
    }

    pub fn max(&self) -> Option<u64> {
        self.0.keys().next_back().copied()
    }

    /// The least number that so many percent of all numbers do not exceed.
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let wanted = (self.len() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        self.0.iter().find_map(|(&number, &count)| {
            seen += count;
            (seen >= wanted).then_some(number)
        })
    }

    /// Bins of one width, which is 1, 2 or 5 times a power of ten: from, to (inclusive) and how many numbers.
    pub fn bins(&self) -> Vec<(u64, u64, u64)> {
        let (Some(min), Some(max)) = (self.min(), self.max()) else { return Vec::new() };
        let widths = (0..19).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u64.pow(power)));
        let fits = |width: &u64| max / width - min / width < BARS;
        let width = widths.into_iter().find(fits).unwrap_or(u64::MAX);
        let bin = |at: u64| {
            let (from, to) = (at * width, (at * width).saturating_add(width - 1));
            (from, to, self.0.range(from..=to).map(|(_, count)| count).sum())
        };
        (min / width..=max / width).map(bin).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_by_hand() {
        let mut counts = Counts::default();
        assert_eq!((counts.percentile(50), counts.mean(), counts.bins().len()), (None, None, 0));
        [3, 1, 4, 1, 5, 9, 2, 6, 5, 35].into_iter().for_each(|n| counts.add(n));
        assert_eq!((counts.len(), counts.sum(), counts.max()), (10, 71, Some(35)));
        assert_eq!([1, 50, 90, 99].map(|p| counts.percentile(p)), [Some(1), Some(4), Some(9), Some(35)]);
        let bins = counts.bins();
        assert_eq!((bins[0], bins[1], bins.len()), ((0, 1, 2), (2, 3, 2), 18));
        assert_eq!(bins.iter().map(|bin| bin.2).sum::<u64>(), 10);
        let mut wide = Counts::default();
        [0, u64::MAX].into_iter().for_each(|n| wide.add(n));
        assert_eq!(wide.bins().iter().map(|bin| bin.2).sum::<u64>(), 2);
    }
}
