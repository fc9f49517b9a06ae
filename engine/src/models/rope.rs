//! The table of RoPE's cosines and sines (Su et al., "RoFormer", 2021; the scalings as transformers has them).

use std::f64::consts::PI;
use std::ops::Range;

/// RoPE parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeParameters {
    /// The base of the frequencies.
    pub theta: f64,
    /// How frequencies are changed for long contexts.
    pub scaling: RopeScaling,
}

/// How frequencies are changed for long contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// They are not.
    None,
    /// All are divided by one factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies are divided by the factor, high ones kept, those between smoothly.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths beyond `original / low` are stretched.
        low: f64,
        /// Wavelengths below `original / high` are not.
        high: f64,
        /// The context that the model was first trained on.
        original: f64,
    },
    /// YaRN (Peng et al., 2023): low frequencies are divided by the factor, high ones kept, and those between
    /// are mixed in a ramp over the pairs.
    Yarn {
        /// The factor.
        factor: f64,
        /// The context that the model was first trained on.
        original: f64,
        /// Pairs that turn more often than this within the original context are kept.
        beta_fast: f64,
        /// Pairs that turn less often than this are divided.
        beta_slow: f64,
        /// Whether the ramp begins and ends at whole pairs.
        truncate: bool,
        /// What cosines and sines are multiplied by.
        attention_factor: f64,
    },
}

impl RopeScaling {
    /// The context that the original one is stretched to, where that is not in `max_position_embeddings`: a
    /// config to which YaRN was added keeps the old one there.
    pub fn context(&self) -> Option<u64> {
        match self {
            RopeScaling::Yarn { factor, original, .. } => Some((factor * original) as u64),
            _ => None,
        }
    }
}

impl RopeParameters {
    /// `[positions, head_dim]`, the rows of these positions: cosines of the angles, then their sines.
    pub fn table(&self, head_dim: usize, positions: Range<usize>) -> Vec<f32> {
        let frequencies: Vec<f32> = (0..head_dim / 2).map(|i| self.frequency(head_dim, i)).collect();
        let scale = match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } => attention_factor as f32,
            _ => 1.0,
        };
        let mut table = Vec::with_capacity(positions.len() * head_dim);
        for position in positions {
            // The product is rounded to f32, as in the models' training.
            let angle = |f: &f32| f64::from(position as f32 * f);
            table.extend(frequencies.iter().map(|f| angle(f).cos() as f32 * scale));
            table.extend(frequencies.iter().map(|f| angle(f).sin() as f32 * scale));
        }
        table
    }

    /// The angle of pair `i` per position.
    fn frequency(&self, head_dim: usize, i: usize) -> f32 {
        let plain = 1.0 / self.theta.powf(2.0 * i as f64 / head_dim as f64);
        let scaled = match self.scaling {
            RopeScaling::None => plain,
            RopeScaling::Linear { factor } => plain / factor,
            RopeScaling::Llama3 { factor, low, high, original } => {
                let wavelength = 2.0 * PI / plain;
                if wavelength > original / low {
                    plain / factor
                } else if wavelength < original / high {
                    plain
                } else {
                    let smooth = (original / wavelength - low) / (high - low);
                    (1.0 - smooth) * plain / factor + smooth * plain
                }
            }
            RopeScaling::Yarn { factor, original, beta_fast, beta_slow, truncate, .. } => {
                let pair = |turns| self.pair_of(turns, head_dim, original);
                let (mut low, mut high) = (pair(beta_fast), pair(beta_slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let kept = 1.0 - ramp(low.max(0.0), high.min(head_dim as f64 - 1.0), i);
                plain / factor * (1.0 - kept) + plain * kept
            }
        };
        scaled as f32
    }

    /// The pair, between two of them maybe, that turns so often within a context of `positions`.
    fn pair_of(&self, turns: f64, head_dim: usize, positions: f64) -> f64 {
        head_dim as f64 * (positions / (turns * 2.0 * PI)).ln() / (2.0 * self.theta.ln())
    }
}

/// How far pair `i` is from `low` to `high`, from 0 to 1.
fn ramp(low: f64, high: f64, i: usize) -> f64 {
    // Transformers widens an empty ramp by this.
    let high = if low == high { high + 0.001 } else { high };
    ((i as f64 - low) / (high - low)).clamp(0.0, 1.0)
}
