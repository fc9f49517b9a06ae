//! How figures of a run are spread.

use serde::Serialize;

/// With the names of TensorRT-LLM. A percentile is the least figure that so many of them do not exceed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    pub minimum: f64,
    pub maximum: f64,
    pub average: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
}

impl Percentiles {
    /// Of these figures; all are 0 if there are none.
    pub fn of(mut figures: Vec<f64>) -> Percentiles {
        figures.sort_by(f64::total_cmp);
        let count = figures.len();
        let at = |percent: usize| match count {
            0 => 0.0,
            _ => figures[(count * percent).div_ceil(100).max(1) - 1],
        };
        Percentiles {
            minimum: at(0),
            maximum: at(100),
            average: figures.iter().sum::<f64>() / count.max(1) as f64,
            p50: at(50),
            p90: at(90),
            p95: at(95),
            p99: at(99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_figures_that_were_seen() {
        let of_ten = Percentiles::of((1..=10).rev().map(f64::from).collect());
        let wanted = Percentiles {
            minimum: 1.0,
            maximum: 10.0,
            average: 5.5,
            p50: 5.0,
            p90: 9.0,
            p95: 10.0,
            p99: 10.0,
        };
        assert_eq!(of_ten, wanted);
        assert_eq!(Percentiles::of(vec![]), Percentiles::default());
        assert_eq!(Percentiles::of(vec![7.0]).p50, 7.0);
    }
}
