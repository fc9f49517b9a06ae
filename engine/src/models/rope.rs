//! The table of RoPE's cosines and sines (Su et al., "RoFormer", 2021; the scalings as transformers has them).

/// RoPE parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
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
}

impl Rope {
    /// `[positions, head_dim]`: cosines of the angles, then their sines.
    pub fn table(&self, head_dim: usize, positions: usize) -> Vec<f32> {
        let frequencies: Vec<f32> = (0..head_dim / 2).map(|i| self.frequency(head_dim, i)).collect();
        let mut table = Vec::with_capacity(positions * head_dim);
        for position in 0..positions {
            // The product is rounded to f32, as in the models' training.
            let angle = |f: &f32| f64::from(position as f32 * f);
            table.extend(frequencies.iter().map(|f| angle(f).cos() as f32));
            table.extend(frequencies.iter().map(|f| angle(f).sin() as f32));
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
                let wavelength = 2.0 * std::f64::consts::PI / plain;
                if wavelength > original / low {
                    plain / factor
                } else if wavelength < original / high {
                    plain
                } else {
                    let smooth = (original / wavelength - low) / (high - low);
                    (1.0 - smooth) * plain / factor + smooth * plain
                }
            }
        };
        scaled as f32
    }
}
