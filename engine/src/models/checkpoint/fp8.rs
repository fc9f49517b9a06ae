//! FP8 weights: e4m3 elements, and scales in a tensor beside them that multiply them: one for the tensor, one for each row,
//! or one for each block of rows and columns.

use super::{Stored, Tensor};
use crate::error::EngineError;

/// What a checkpoint says of its FP8 weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fp8 {
    /// Rows and columns of the blocks that have a scale each, where they do.
    pub block: Option<[usize; 2]>,
}

/// What follows a weight's name in that of its scales: compressed-tensors, then DeepSeek and Qwen.
pub const SCALES: [&str; 2] = ["_scale", "_scale_inv"];

/// The value of an e4m3 element: four bits of exponent with a bias of 7, three of fraction, no infinities.
pub fn e4m3(bits: u8) -> f32 {
    let (exponent, fraction) = (i32::from(bits >> 3 & 15), f32::from(bits & 7) / 8.0);
    let magnitude = match (exponent, bits & 7) {
        (15, 7) => f32::NAN,
        (0, _) => fraction * 2.0_f32.powi(-6),
        _ => (1.0 + fraction) * 2.0_f32.powi(exponent - 7),
    };
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

/// Scales of a matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Scales {
    values: Vec<f32>,
    /// Scales of a row of them.
    across: usize,
    /// Rows and columns that share one.
    block: [usize; 2],
}

impl Scales {
    /// How `scales` lie over a matrix.
    ///
    /// # Errors
    /// Their shape is none of those.
    pub fn layout(scales: &Tensor, name: &str, shape: &[usize], fp8: Fp8) -> Result<Self, EngineError> {
        let [rows, cols] = *shape else {
            return Err(scales.bad(name, "scales a tensor that is no matrix"));
        };
        let (across, block) = match (scales.shape.as_slice(), fp8.block) {
            ([] | [1] | [1, 1], _) => (1, [rows, cols]),
            (&[n] | &[n, 1], None) if n == rows => (1, [1, cols]),
            (&[down, across], Some([r, c])) if down == rows.div_ceil(r) && across == cols.div_ceil(c) => {
                (across, [r, c])
            }
            (found, block) => {
                let blocks = block.map_or(String::new(), |b| format!(" or for each block of {b:?}"));
                let why = format!(
                    "has shape {found:?}; a weight of {shape:?} has one scale, one for each row{blocks}"
                );
                return Err(scales.bad(name, &why));
            }
        };
        Ok(Scales { values: Vec::new(), across, block })
    }

    /// The same with its values.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(mut self, scales: &Tensor, name: &str) -> Result<Self, EngineError> {
        let Stored::Plain(dtype) = scales.stored else {
            return Err(scales.bad(name, "holds FP8 values, which cannot be scales"));
        };
        let bytes = scales.open()?.read(scales.bytes.clone())?;
        self.values = dtype.decode(&bytes);
        Ok(self)
    }

    /// Multiplies whole rows of `cols` elements, the first of which is row `row`.
    pub fn apply(&self, row: usize, cols: usize, values: &mut [f32]) {
        for (r, values) in values.chunks_exact_mut(cols).enumerate() {
            let scales = &self.values[(row + r) / self.block[0] * self.across..][..self.across];
            for (values, scale) in values.chunks_mut(self.block[1]).zip(scales) {
                values.iter_mut().for_each(|v| *v *= scale);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OCP 8-bit Floating Point Specification, table 1.
    #[test]
    fn elements_have_the_values_of_the_specification() {
        for (bits, value) in [
            (0x00, 0.0),
            (0x01, 2.0_f32.powi(-9)),
            (0x07, 0.875 * 2.0_f32.powi(-6)),
            (0x08, 2.0_f32.powi(-6)),
            (0x38, 1.0),
            (0xBC, -1.5),
            (0x7E, 448.0),
            (0xFE, -448.0),
        ] {
            assert_eq!(e4m3(bits), value, "{bits:#x}");
        }
        assert!(e4m3(0x7F).is_nan() && e4m3(0xFF).is_nan());
        // Between two zeros and two that are no numbers all values differ and grow.
        assert!((1..0x7E).all(|bits| e4m3(bits) < e4m3(bits + 1)));
    }

    #[test]
    fn blocks_at_the_edge_are_cut() {
        let scales = Scales { values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], across: 2, block: [2, 3] };
        let mut values = [1.0; 4 * 5];
        scales.apply(1, 5, &mut values);
        let rows: Vec<&[f32]> = values.chunks(5).collect();
        assert_eq!(rows[0], [1.0, 1.0, 1.0, 2.0, 2.0]);
        assert_eq!(rows[1], [3.0, 3.0, 3.0, 4.0, 4.0]);
        assert_eq!(rows[2], rows[1]);
        assert_eq!(rows[3], [5.0, 5.0, 5.0, 6.0, 6.0]);
    }
}
