//! How the rows of a buffer lie in the card's memory: as they are, or, of FP8 weights, all elements first, in rows of whole
//! 16 bytes that bulk copies can take, and all scales after them.

use engine::format::{FP8_SCALE, Format};
use engine::plan::BufferDesc;
use std::borrow::Cow;
use std::ops::Range;

/// Bytes to which rows of FP8 elements are padded, with zeros.
const PAD: usize = 16;

/// A part of every row, which lies beside the same part of the other rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plane {
    /// Its first byte in the buffer.
    pub(crate) offset: usize,
    /// Bytes of a row in it, with the padding.
    pub(crate) width: usize,
    /// Where they are in a row as it crosses the seam.
    part: Range<usize>,
}

/// Of an FP8 weight: bytes from row to row of its elements, and where its scales begin.
pub(crate) fn fp8_place(rows: usize, cols: usize) -> (usize, usize) {
    let pitch = cols.next_multiple_of(PAD);
    (pitch, rows * pitch)
}

/// The planes of a buffer of so many rows.
pub(crate) fn planes(desc: &BufferDesc, rows: usize) -> Vec<Plane> {
    let (cols, width) = (desc.cols, desc.row_bytes());
    match desc.format {
        Format::Plain(_) | Format::Q8_0 => vec![Plane { offset: 0, width, part: 0..width }],
        Format::Fp8 | Format::Fp8Blocks => {
            let (pitch, offset) = fp8_place(rows, cols);
            let scales = desc.format.fp8_scales(cols) * FP8_SCALE;
            let elements = Plane { offset: 0, width: pitch, part: scales..width };
            vec![elements, Plane { offset, width: scales, part: 0..scales }]
        }
    }
}

/// Bytes of all planes of a buffer of so many rows.
pub(crate) fn bytes(desc: &BufferDesc, rows: usize) -> usize {
    planes(desc, rows).iter().map(|plane| rows * plane.width).sum()
}

impl Plane {
    /// Its bytes of whole rows of `row` bytes.
    pub(crate) fn of<'a>(&self, rows: &'a [u8], row: usize) -> Cow<'a, [u8]> {
        if self.part.len() == row {
            return Cow::Borrowed(rows);
        }
        let mut bytes = vec![0; rows.len() / row * self.width];
        for (to, from) in bytes.chunks_exact_mut(self.width).zip(rows.chunks_exact(row)) {
            to[..self.part.len()].copy_from_slice(&from[self.part.clone()]);
        }
        Cow::Owned(bytes)
    }

    /// Puts its bytes of a row where they belong.
    pub(crate) fn give(&self, bytes: &[u8], row: &mut [u8]) {
        row[self.part.clone()].copy_from_slice(&bytes[..self.part.len()]);
    }
}
