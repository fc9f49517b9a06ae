//! The table of rotary positions (Su et al., "RoFormer", 2021; the scalings as transformers has them).

use super::config::{Rope, RopeScaling};

/// `[positions, head_dim]`: cosines of the angles, then their sines.
pub fn table(rope: &Rope, head_dim: usize, positions: usize) -> Vec<f32> {
    let frequencies: Vec<f32> = (0..head_dim / 2).map(|i| frequency(rope, head_dim, i)).collect();
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
fn frequency(rope: &Rope, head_dim: usize, i: usize) -> f32 {
    let plain = 1.0 / rope.theta.powf(2.0 * i as f64 / head_dim as f64);
    let scaled = match rope.scaling {
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
