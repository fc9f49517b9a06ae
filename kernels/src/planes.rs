//! How the rows of a buffer lie in the card's memory: as they are; of FP8 weights, all elements first, in rows of whole
//! 16 bytes that bulk copies can take, and all scales after them; of FP8 pages, columns in pairs.

use engine::dtype::DType;
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
    /// Whether columns lie where [`pair_place`] says.
    in_pairs: bool,
}

/// Where a column of e4m3 lies in a row of so many: `PageColumn` of `pages.cuh`. Of 16 columns each of the first 8 lies beside the
/// one 8 after it.
fn pair_place(col: usize, cols: usize) -> usize {
    let (group, col_in) = (col / 16 * 16, col % 16);
    if group + 16 > cols { col } else { group + col_in % 8 * 2 + col_in / 8 }
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
        Format::Plain(_) | Format::Q8_0 => {
            let in_pairs = desc.format == DType::E4M3.into();
            vec![Plane { offset: 0, width, part: 0..width, in_pairs }]
        }
        Format::Fp8 | Format::Fp8Blocks => {
            let (pitch, offset) = fp8_place(rows, cols);
            let scales = desc.format.fp8_scales(cols) * FP8_SCALE;
            let elements = Plane { offset: 0, width: pitch, part: scales..width, in_pairs: false };
            vec![elements, Plane { offset, width: scales, part: 0..scales, in_pairs: false }]
        }
    }
}

/// Bytes of all planes of a buffer of so many rows.
pub(crate) fn bytes(desc: &BufferDesc, rows: usize) -> usize {
    planes(desc, rows).iter().map(|plane| rows * plane.width).sum()
}

impl Plane {
    /// Whether it has rows of so many bytes as they cross the seam.
    pub(crate) fn is_plain(&self, row: usize) -> bool {
        self.part.len() == row && !self.in_pairs
    }

    /// Its bytes of whole rows of `row` bytes.
    pub(crate) fn of<'a>(&self, rows: &'a [u8], row: usize) -> Cow<'a, [u8]> {
        if self.is_plain(row) {
            return Cow::Borrowed(rows);
        }
        let mut bytes = vec![0; rows.len() / row * self.width];
        for (to, from) in bytes.chunks_exact_mut(self.width).zip(rows.chunks_exact(row)) {
            let from = &from[self.part.clone()];
            if self.in_pairs {
                from.iter().enumerate().for_each(|(col, &bits)| to[pair_place(col, row)] = bits);
            } else {
                to[..from.len()].copy_from_slice(from);
            }
        }
        Cow::Owned(bytes)
    }

    /// Puts its bytes of a row where they belong.
    pub(crate) fn give(&self, bytes: &[u8], row: &mut [u8]) {
        let cols = row.len();
        if self.in_pairs {
            row.iter_mut().enumerate().for_each(|(col, bits)| *bits = bytes[pair_place(col, cols)]);
        } else {
            row[self.part.clone()].copy_from_slice(&bytes[..self.part.len()]);
        }
    }
}
