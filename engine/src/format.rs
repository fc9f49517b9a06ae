//! How a row of a weight lies in bytes.
//!
//! A row is one self-contained run of bytes, its scales inside, so that rows are written, read and shared out over
//! devices without knowing the format.

use crate::dtype::DType;
use crate::e4m3;
use half::f16;
use std::fmt;

/// Elements of a block of [`Format::Q8_0`].
pub const Q8_0_BLOCK: usize = 32;

/// Bytes of a block of [`Format::Q8_0`]: an f16 scale and 32 int8 values.
pub const Q8_0_BYTES: usize = 2 + Q8_0_BLOCK;

/// Columns that share a scale in [`Format::Fp8Blocks`].
pub const FP8_BLOCK: usize = 128;

/// Bytes of a scale of FP8 elements, an f32.
pub const FP8_SCALE: usize = 4;

/// The format of a buffer's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Elements one after the other.
    Plain(DType),
    /// GGUF's Q8_0: blocks of 32 elements, each an f16 scale `d` and 32 int8 values `q`; an element is `d * q`.
    Q8_0,
    /// FP8: an f32 scale for the row, then e4m3 elements, none of them NaN; each times the scale.
    Fp8,
    /// FP8: an f32 scale for every [`FP8_BLOCK`] columns, the last of which may be fewer, then e4m3 elements, none of them
    /// NaN; each times the scale of its columns.
    Fp8Blocks,
}

impl Format {
    /// The formats with scales. Every device takes all of them, or says which it lacks.
    pub const SCALED: &'static [Format] = &[Format::Q8_0, Format::Fp8, Format::Fp8Blocks];

    /// Those to which a checkpoint's matrices can be converted as they load.
    pub const CONVERSIONS: &'static [Format] = &[Format::Q8_0, Format::Fp8];

    /// Whether a value is within the range of the format. What is no number passes through plain formats, as it would in
    /// the model's own.
    pub fn holds(self, value: f32) -> bool {
        let max = f32::from(f16::MAX);
        match self {
            Format::Plain(DType::E4M3) => !value.is_finite() || value.abs() <= e4m3::MAX,
            Format::Plain(DType::F16) => !value.is_finite() || value.abs() <= max,
            Format::Plain(_) => true,
            Format::Q8_0 => value.abs() <= 127.0 * max,
            Format::Fp8 | Format::Fp8Blocks => value.is_finite(),
        }
    }

    /// Elements of a block; a row of a weight is whole blocks.
    pub const fn block(self) -> usize {
        match self {
            Format::Plain(_) | Format::Fp8 | Format::Fp8Blocks => 1,
            Format::Q8_0 => Q8_0_BLOCK,
        }
    }

    /// Bytes of a row of `cols` elements, whole blocks of them.
    pub const fn row_bytes(self, cols: usize) -> usize {
        match self {
            Format::Plain(dtype) => cols * dtype.size(),
            Format::Q8_0 => cols / Q8_0_BLOCK * Q8_0_BYTES,
            Format::Fp8 | Format::Fp8Blocks => self.fp8_scales(cols) * FP8_SCALE + cols,
        }
    }

    /// Scales at the beginning of an FP8 row of `cols` elements; none of other formats.
    pub const fn fp8_scales(self, cols: usize) -> usize {
        match self {
            Format::Plain(_) | Format::Q8_0 => 0,
            Format::Fp8 => 1,
            Format::Fp8Blocks => cols.div_ceil(FP8_BLOCK),
        }
    }

    /// Columns of an FP8 row of `cols` elements that share a scale.
    const fn fp8_shared(self, cols: usize) -> usize {
        match self {
            Format::Fp8Blocks => FP8_BLOCK,
            _ => cols,
        }
    }

    /// The type that decoding an element gives without loss.
    pub const fn value_type(self) -> DType {
        match self {
            Format::Plain(dtype) => dtype,
            Format::Q8_0 | Format::Fp8 | Format::Fp8Blocks => DType::F32,
        }
    }

    /// The type of the elements, if they lie there one by one.
    pub const fn plain(self) -> Option<DType> {
        match self {
            Format::Plain(dtype) => Some(dtype),
            Format::Q8_0 | Format::Fp8 | Format::Fp8Blocks => None,
        }
    }

    /// The name, as flags and identities write it.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Plain(dtype) => dtype.name(),
            Format::Q8_0 => "q8_0",
            Format::Fp8 => "fp8",
            Format::Fp8Blocks => "fp8_block",
        }
    }

    /// Encodes whole rows of `cols` values, rounding to nearest.
    ///
    /// # Panics
    /// If the format is plain [`DType::U32`], or the values are no whole rows or blocks.
    pub fn encode(self, values: &[f32], cols: usize) -> Vec<u8> {
        match self {
            Format::Plain(dtype) => dtype.encode(values),
            Format::Q8_0 => {
                let (blocks, rest) = values.as_chunks::<Q8_0_BLOCK>();
                assert!(rest.is_empty(), "{} values are no whole blocks of q8_0", values.len());
                blocks.iter().flat_map(encode_q8_0).collect()
            }
            Format::Fp8 | Format::Fp8Blocks => {
                assert!(values.len().is_multiple_of(cols), "{} values are no rows of {cols}", values.len());
                let row = |row: &[f32]| encode_fp8(row, self.fp8_shared(cols));
                values.chunks_exact(cols).flat_map(row).collect()
            }
        }
    }

    /// Decodes whole rows of `cols` elements to f32; integers convert by value.
    pub fn decode(self, bytes: &[u8], cols: usize) -> Vec<f32> {
        match self {
            Format::Plain(dtype) => dtype.decode(bytes),
            Format::Q8_0 => bytes.as_chunks::<Q8_0_BYTES>().0.iter().flat_map(decode_q8_0).collect(),
            Format::Fp8 | Format::Fp8Blocks => {
                let (shared, scales) = (self.fp8_shared(cols), self.fp8_scales(cols));
                let row = |row: &[u8]| {
                    let (scales, elements) = row.split_at(scales * FP8_SCALE);
                    let groups = elements.chunks(shared).zip(DType::F32.decode(scales));
                    let values =
                        groups.flat_map(|(group, scale)| group.iter().map(move |&bits| (bits, scale)));
                    values.map(|(bits, scale)| e4m3::to_f32(bits) * scale).collect::<Vec<_>>()
                };
                bytes.chunks_exact(self.row_bytes(cols)).flat_map(row).collect()
            }
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

/// The scale of a group is its greatest absolute value over that of e4m3.
fn encode_fp8(row: &[f32], shared: usize) -> Vec<u8> {
    let greatest = |group: &[f32]| group.iter().fold(0.0_f32, |greatest, v| greatest.max(v.abs()));
    let scales: Vec<f32> = row.chunks(shared).map(|group| greatest(group) / e4m3::MAX).collect();
    let mut bytes = DType::F32.encode(&scales);
    for (group, &scale) in row.chunks(shared).zip(&scales) {
        let element = |v: &f32| if scale == 0.0 { 0 } else { e4m3::from_f32(v / scale) };
        bytes.extend(group.iter().map(element));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: the greatest is 2.54, so the scale is 0.02 (rounded to f16) and values are multiples of it.
    #[test]
    fn q8_0_is_what_gguf_describes() {
        let mut values = [0.0; Q8_0_BLOCK];
        values[..4].copy_from_slice(&[2.54, -1.27, 0.03, -0.009]);
        let bytes = Format::Q8_0.encode(&values, values.len());
        assert_eq!(bytes.len(), Format::Q8_0.row_bytes(Q8_0_BLOCK));
        assert_eq!(bytes[..2], f16::from_f32(0.02).to_le_bytes());
        assert_eq!(bytes[2..7], [127, 0xC0, 2, 0, 0]);
        let scale = f16::from_f32(0.02).to_f32();
        assert_eq!(
            Format::Q8_0.decode(&bytes, Q8_0_BLOCK)[..4],
            [127.0 * scale, -64.0 * scale, 2.0 * scale, 0.0]
        );
    }

    #[test]
    fn decoded_values_encode_to_themselves() {
        let mut numbers = crate::numbers::Numbers(3);
        let values: Vec<f32> = (0..320).map(|_| numbers.float() * 3.0).collect();
        let decoded = Format::Q8_0.decode(&Format::Q8_0.encode(&values, 320), 320);
        for (block, values) in decoded.chunks(32).zip(values.chunks(32)) {
            let step = values.iter().fold(0.0_f32, |m, v| m.max(v.abs())) / 127.0;
            assert!(block.iter().zip(values).all(|(d, v)| (d - v).abs() <= 0.57 * step));
        }
        assert!(Format::Q8_0.decode(&Format::Q8_0.encode(&[0.0; 32], 32), 32).iter().all(|&v| v == 0.0));
    }

    /// By hand: a row of 448 and smaller values has the scale 1, one of twice that the scale 2.
    #[test]
    fn fp8_rows_begin_with_their_scales() {
        let mut values = [0.0; 2 * 130];
        values[..3].copy_from_slice(&[448.0, -1.5, 0.01]);
        values[128] = 224.0;
        values[130] = -896.0;
        let row = Format::Fp8.encode(&values, 130);
        assert_eq!(row.len(), 2 * Format::Fp8.row_bytes(130));
        assert_eq!(row[..7], [0, 0, 0x80, 0x3F, 0x7E, 0xBC, 5]);
        assert_eq!(row[134..139], [0, 0, 0, 0x40, 0xFE]);
        let blocks = Format::Fp8Blocks.encode(&values, 130);
        assert_eq!(blocks.len(), 2 * (2 * FP8_SCALE + 130));
        // Two scales, 1 and 0.5; the second for columns 128 and 129.
        assert_eq!(blocks[..9], [0, 0, 0x80, 0x3F, 0, 0, 0, 0x3F, 0x7E]);
        assert_eq!(blocks[8 + 128], 0x7E);
        for (format, bytes) in [(Format::Fp8, row), (Format::Fp8Blocks, blocks)] {
            let decoded = format.decode(&bytes, 130);
            assert_eq!((decoded[0], decoded[1], decoded[128], decoded[130]), (448.0, -1.5, 224.0, -896.0));
            assert_eq!(format.encode(&decoded, 130), bytes, "{format}");
        }
    }

    /// An element is within half a step: 1/16 of itself, or half of the smallest element.
    #[test]
    fn fp8_values_are_rounded_once() {
        let mut numbers = crate::numbers::Numbers(5);
        let values: Vec<f32> = (0..3 * 200).map(|_| numbers.float().powi(3)).collect();
        for format in [Format::Fp8, Format::Fp8Blocks] {
            let decoded = format.decode(&format.encode(&values, 200), 200);
            let close =
                |(d, v): (&f32, &f32)| (d - v).abs() <= (v.abs() / 16.0).max(1.01 / 448.0 / 1024.0) * 1.0001;
            assert!(decoded.iter().zip(&values).all(close), "{format}");
        }
        assert!(Format::Fp8.decode(&Format::Fp8.encode(&[0.0; 32], 32), 32).iter().all(|&v| v == 0.0));
    }
}
