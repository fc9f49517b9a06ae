//! What a row's scores become: probabilities, the label, the labels' share of all continuations.

use crate::choices::trie::log_sum_exp;
use serde::{Deserialize, Serialize};

/// The scores of one column of a row. In f32, which JSON gives back to the bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnScores {
    /// The natural logarithm of each label's probability among the labels, calibrated where that was asked for.
    pub logprobs: Vec<f32>,
    /// The natural logarithm of the share of all continuations that are one of the labels.
    pub mass: f32,
}

impl ColumnScores {
    /// Of the labels' log-probabilities under the model. `content_free` are those of a row without content, by which
    /// the probabilities are divided: contextual calibration (Zhao, Wallace, Feng, Klein, Singh: "Calibrate Before Use:
    /// Improving Few-Shot Performance of Language Models", ICML 2021, section 5), with W = diag(p_cf)^-1 and b = 0.
    pub fn new(labels: &[f64], content_free: Option<&[f64]>) -> ColumnScores {
        let mass = log_sum_exp(labels.iter().copied()) as f32;
        let logprobs = match content_free {
            Some(free) => normalized(labels.iter().zip(free).map(|(label, free)| label - free)),
            None => normalized(labels.iter().copied()),
        };
        ColumnScores { logprobs, mass }
    }

    /// The most likely label; of equally likely ones the first.
    pub fn label(&self) -> usize {
        let better = |best: usize, i: usize| if self.logprobs[i] > self.logprobs[best] { i } else { best };
        (0..self.logprobs.len()).fold(0, better)
    }

    /// The probability of a label among the labels.
    pub fn probability(&self, label: usize) -> f32 {
        f64::from(self.logprobs[label]).exp() as f32
    }

    /// The share of all continuations that are one of the labels.
    pub fn share(&self) -> f32 {
        f64::from(self.mass).exp() as f32
    }

    /// Whether all are numbers. They are not if no label can follow the prompt at all.
    pub fn are_finite(&self) -> bool {
        self.mass.is_finite() && self.logprobs.iter().all(|logprob| logprob.is_finite())
    }
}

/// Logarithms of probabilities that add up to 1.
fn normalized(logs: impl Iterator<Item = f64> + Clone) -> Vec<f32> {
    let total = log_sum_exp(logs.clone());
    logs.map(|log| (log - total) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(probabilities: &[f64]) -> Vec<f64> {
        probabilities.iter().map(|p| p.ln()).collect()
    }

    #[test]
    fn probabilities_are_those_among_the_labels() {
        let scores = ColumnScores::new(&logs(&[0.1, 0.3]), None);
        let close = |got: f32, want: f32| assert!((got - want).abs() < 1e-7, "{got}, not {want}");
        close(scores.probability(0), 0.25);
        close(scores.probability(1), 0.75);
        close(scores.share(), 0.4);
        assert_eq!(scores.label(), 1);
        // Ties go to the first.
        assert_eq!(ColumnScores::new(&logs(&[0.2, 0.3, 0.3]), None).label(), 1);
    }

    #[test]
    fn a_label_that_is_likely_without_content_counts_less() {
        // Scaled by 1 / 0.8 and 1 / 0.2: 0.75 and 2.
        let scores = ColumnScores::new(&logs(&[0.06, 0.04]), Some(&logs(&[0.08, 0.02])));
        let got = scores.probability(0);
        assert!((got - 0.75 / 2.75).abs() < 1e-6 && scores.label() == 1, "{got}");
        assert!((scores.share() - 0.1).abs() < 1e-7, "the mass is the model's own");
    }
}
