//! How a row of a weight lies in bytes.
//!
//! A row is one self-contained run of bytes, its scales inside, so that rows are written, read and shared out over
//! devices without knowing the format.

use crate::dtype::DType;
use half::f16;
use std::fmt;

/// Elements of a block of [`Format::Q8_0`].
pub const Q8_0_BLOCK: usize = 32;

/// Bytes of a block of [`Format::Q8_0`]: an f16 scale and 32 int8 values.
pub const Q8_0_BYTES: usize = 2 + Q8_0_BLOCK;

/// The format of a buffer's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Elements one after the other.
    Plain(DType),
    /// GGUF's Q8_0: blocks of 32 elements, each an f16 scale `d` and 32 int8 values `q`; an element is `d * q`.
    Q8_0,
}

impl Format {
    /// The formats of blocks, to which a checkpoint's matrices can be converted. Every device takes all of them, or says
    /// which it lacks.
    pub const BLOCKS: &'static [Format] = &[Format::Q8_0];

    /// Whether a value is within the range of the format. What is no number passes through plain formats, as it would in
    /// the model's own.
    pub fn holds(self, value: f32) -> bool {
        let max = f32::from(f16::MAX);
        match self {
            Format::Plain(DType::F16) => !value.is_finite() || value.abs() <= max,
            Format::Plain(_) => true,
            Format::Q8_0 => value.abs() <= 127.0 * max,
        }
    }

    /// Elements of a block; a row of a weight is whole blocks.
    pub const fn block(self) -> usize {
        match self {
            Format::Plain(_) => 1,
            Format::Q8_0 => Q8_0_BLOCK,
        }
    }

    /// Bytes of `cols` elements of a row, whole blocks of them.
    pub const fn row_bytes(self, cols: usize) -> usize {
        match self {
            Format::Plain(dtype) => cols * dtype.size(),
            Format::Q8_0 => cols / Q8_0_BLOCK * Q8_0_BYTES,
        }
    }

    /// The type that decoding an element gives without loss.
    pub const fn value_type(self) -> DType {
        match self {
            Format::Plain(dtype) => dtype,
            Format::Q8_0 => DType::F32,
        }
    }

    /// The type of the elements, if they lie there one by one.
    pub const fn plain(self) -> Option<DType> {
        match self {
            Format::Plain(dtype) => Some(dtype),
            Format::Q8_0 => None,
        }
    }

    /// The name, as flags and identities write it.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Plain(dtype) => dtype.name(),
            Format::Q8_0 => "q8_0",
        }
    }

    /// Encodes whole blocks of values, rounding to nearest.
    ///
    /// # Panics
    /// If the format is plain [`DType::U32`], or the values are no whole blocks.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Format::Plain(dtype) => dtype.encode(values),
            Format::Q8_0 => {
                let (blocks, rest) = values.as_chunks::<Q8_0_BLOCK>();
                assert!(rest.is_empty(), "{} values are no whole blocks of q8_0", values.len());
                blocks.iter().flat_map(encode_q8_0).collect()
            }
        }
    }

    /// Decodes whole blocks to f32; integers convert by value.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Format::Plain(dtype) => dtype.decode(bytes),
            Format::Q8_0 => bytes.as_chunks::<Q8_0_BYTES>().0.iter().flat_map(decode_q8_0).collect(),
        }
    }
}

impl From<DType> for Format {
    fn from(dtype: DType) -> Format {
        Format::Plain(dtype)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The scale is the greatest absolute value over 127, as in ggml's reference; values are rounded by the scale before
/// it is itself rounded to f16.
fn encode_q8_0(values: &[f32; Q8_0_BLOCK]) -> [u8; Q8_0_BYTES] {
    let greatest = values.iter().fold(0.0_f32, |greatest, v| greatest.max(v.abs()));
    let scale = greatest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let mut block = [0; Q8_0_BYTES];
    block[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    for (q, v) in block[2..].iter_mut().zip(values) {
        *q = ((v * inverse).round() as i8).cast_unsigned();
    }
    block
}

fn decode_q8_0(block: &[u8; Q8_0_BYTES]) -> [f32; Q8_0_BLOCK] {
    let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
    std::array::from_fn(|i| scale * f32::from(block[2 + i].cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: the greatest is 2.54, so the scale is 0.02 (rounded to f16) and values are multiples of it.
    #[test]
    fn q8_0_is_what_gguf_describes() {
        let mut values = [0.0; Q8_0_BLOCK];
        values[..4].copy_from_slice(&[2.54, -1.27, 0.03, -0.009]);
        let bytes = Format::Q8_0.encode(&values);
        assert_eq!(bytes.len(), Format::Q8_0.row_bytes(Q8_0_BLOCK));
        assert_eq!(bytes[..2], f16::from_f32(0.02).to_le_bytes());
        assert_eq!(bytes[2..7], [127, 0xC0, 2, 0, 0]);
        let scale = f16::from_f32(0.02).to_f32();
        assert_eq!(Format::Q8_0.decode(&bytes)[..4], [127.0 * scale, -64.0 * scale, 2.0 * scale, 0.0]);
    }

    #[test]
    fn decoded_values_encode_to_themselves() {
        let mut numbers = crate::numbers::Numbers(3);
        let values: Vec<f32> = (0..320).map(|_| numbers.float() * 3.0).collect();
        let decoded = Format::Q8_0.decode(&Format::Q8_0.encode(&values));
        for (block, values) in decoded.chunks(32).zip(values.chunks(32)) {
            let step = values.iter().fold(0.0_f32, |m, v| m.max(v.abs())) / 127.0;
            assert!(block.iter().zip(values).all(|(d, v)| (d - v).abs() <= 0.57 * step));
        }
        assert!(Format::Q8_0.decode(&Format::Q8_0.encode(&[0.0; 32])).iter().all(|&v| v == 0.0));
    }
}
