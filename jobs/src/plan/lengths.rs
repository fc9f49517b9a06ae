//! Lengths in tokens, counted exactly.

use serde::Serialize;
use std::collections::BTreeMap;

/// From least to most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Span {
    pub least: u64,
    pub most: u64,
}

/// Lengths in tokens. A percentile is the least length that so many of them do not exceed; all are 0 if there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lengths {
    pub sum: u64,
    pub p50: u64,
    pub p90: u64,
    pub max: u64,
}

/// How often each length was seen.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: BTreeMap<u64, u64>,
    count: u64,
}

impl Histogram {
    pub fn add(&mut self, length: u64) {
        *self.counts.entry(length).or_default() += 1;
        self.count += 1;
    }

    pub fn lengths(&self) -> Lengths {
        let sum = self.counts.iter().map(|(length, count)| length * count).sum();
        let max = self.counts.last_key_value().map_or(0, |(&length, _)| length);
        Lengths { sum, p50: self.percentile(50), p90: self.percentile(90), max }
    }

    fn percentile(&self, percent: u64) -> u64 {
        let wanted = (self.count * percent).div_ceil(100);
        let mut seen = 0;
        let at = self.counts.iter().find(|(_, count)| {
            seen += **count;
            seen >= wanted
        });
        at.map_or(0, |(&length, _)| length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_lengths_that_were_seen() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.lengths(), Lengths::default());
        (1..=10).for_each(|length| histogram.add(length));
        assert_eq!(histogram.lengths(), Lengths { sum: 55, p50: 5, p90: 9, max: 10 });
        histogram.add(1000);
        assert_eq!(histogram.lengths(), Lengths { sum: 1055, p50: 6, p90: 10, max: 1000 });
    }
}
