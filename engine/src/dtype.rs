//! Element types of buffers.

use crate::e4m3;
use half::slice::HalfFloatSliceExt;
use std::fmt;

/// The type of one element of a buffer. All of them are little-endian in bytes that cross the seam.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32 (bfloat16).
    BF16,
    /// [`e4m3`], without a scale; only KV pages hold it. Values beyond the greatest become it.
    E4M3,
    /// Unsigned 32-bit integers: token ids, positions, KV slots.
    U32,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::F16 | DType::BF16 => 2,
            DType::E4M3 => 1,
        }
    }

    /// The name, as flags and identities write it.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::E4M3 => "fp8_e4m3",
            DType::U32 => "u32",
        }
    }

    /// Whether elements are floating-point numbers.
    pub const fn is_float(self) -> bool {
        !matches!(self, DType::U32)
    }

    /// Encodes `values` as bytes of this type, rounding to nearest even.
    ///
    /// # Panics
    /// If the type is [`DType::U32`]: integers have no rounding to choose.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            DType::F32 => bytemuck::cast_slice(values).to_vec(),
            DType::F16 => {
                let mut halves = vec![half::f16::ZERO; values.len()];
                halves.convert_from_f32_slice(values);
                bytemuck::cast_slice(&halves).to_vec()
            }
            DType::BF16 => {
                let mut halves = vec![half::bf16::ZERO; values.len()];
                halves.convert_from_f32_slice(values);
                bytemuck::cast_slice(&halves).to_vec()
            }
            DType::E4M3 => values.iter().map(|&value| e4m3::from_f32(value)).collect(),
            DType::U32 => panic!("integers are not encoded from floats"),
        }
    }

    /// Decodes bytes of this type to f32; integers convert by value.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let two = |b: &[u8]| [b[0], b[1]];
        let four = |b: &[u8]| [b[0], b[1], b[2], b[3]];
        match self {
            DType::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(four(b))).collect(),
            DType::U32 => bytes.chunks_exact(4).map(|b| u32::from_le_bytes(four(b)) as f32).collect(),
            DType::F16 => bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes(two(b)).to_f32()).collect(),
            DType::BF16 => {
                bytes.chunks_exact(2).map(|b| half::bf16::from_le_bytes(two(b)).to_f32()).collect()
            }
            DType::E4M3 => bytes.iter().map(|&bits| e4m3::to_f32(bits)).collect(),
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
