//! FP8 weights: e4m3 elements, and scales in a tensor beside them that multiply them: one for the tensor, one for each row,
//! or one for each block of rows and columns.

use super::{Stored, Tensor};
use crate::dtype::DType;
use crate::e4m3;
use crate::error::EngineError;
use crate::format::{FP8_BLOCK, Format};

/// What a checkpoint says of its FP8 weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fp8 {
    /// Rows and columns of the blocks that have a scale each, where they do.
    pub block: Option<[usize; 2]>,
}

/// What follows a weight's name in that of its scales: compressed-tensors, then DeepSeek and Qwen.
pub const SCALES: [&str; 2] = ["_scale", "_scale_inv"];

/// How the names of scales of keys and values in FP8 end: vLLM, before it compressed-tensors and AutoFP8, then Quark.
pub const KV_SCALES: [&str; 6] = [
    ".k_scale",
    ".v_scale",
    ".kv_scale",
    ".kv_proj.output_scale",
    ".k_proj.output_scale",
    ".v_proj.output_scale",
];

/// What to do with values that [`Format::Fp8`] has no place for.
const REMEDY: &str = "hold the weights in bfloat16 or float32 to load it all the same";

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

    /// The format that holds the matrix as it is; none if its blocks have another width.
    pub fn format(&self) -> Option<Format> {
        match self.block[1] {
            _ if self.across == 1 => Some(Format::Fp8),
            FP8_BLOCK => Some(Format::Fp8Blocks),
            _ => None,
        }
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

    /// The scales of a row.
    fn of_row(&self, row: usize) -> &[f32] {
        &self.values[row / self.block[0] * self.across..][..self.across]
    }

    /// The values of whole rows of `cols` elements, the first of which is row `row`.
    pub fn widen(&self, row: usize, cols: usize, elements: &[u8]) -> Vec<f32> {
        let mut values: Vec<f32> = elements.iter().map(|&bits| e4m3::to_f32(bits)).collect();
        for (r, values) in values.chunks_exact_mut(cols).enumerate() {
            for (values, scale) in values.chunks_mut(self.block[1]).zip(self.of_row(row + r)) {
                values.iter_mut().for_each(|v| *v *= scale);
            }
        }
        values
    }

    /// Whole rows of `cols` elements, the first of which is row `row`, in `format`, that of [`Scales::format`].
    ///
    /// # Errors
    /// A value that is no number, or is not finite.
    pub fn rows(&self, row: usize, cols: usize, elements: &[u8], format: Format) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::with_capacity(elements.len() / cols * format.row_bytes(cols));
        for (r, elements) in elements.chunks_exact(cols).enumerate() {
            let scales = self.of_row(row + r);
            if let Some(scale) = scales.iter().find(|scale| !(**scale * e4m3::MAX).is_finite()) {
                return Err(format!("has the scale {scale} in row {}; {REMEDY}", row + r));
            }
            if elements.iter().any(|&bits| e4m3::is_nan(bits)) {
                return Err(format!("holds NaN in row {}; {REMEDY}", row + r));
            }
            bytes.extend(DType::F32.encode(scales));
            bytes.extend(elements);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_at_the_edge_are_cut() {
        let scales = Scales { values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], across: 2, block: [2, 3] };
        let values = scales.widen(1, 5, &[0x38; 4 * 5]);
        let rows: Vec<&[f32]> = values.chunks(5).collect();
        assert_eq!(rows[0], [1.0, 1.0, 1.0, 2.0, 2.0]);
        assert_eq!(rows[1], [3.0, 3.0, 3.0, 4.0, 4.0]);
        assert_eq!(rows[2], rows[1]);
        assert_eq!(rows[3], [5.0, 5.0, 5.0, 6.0, 6.0]);
    }
}
