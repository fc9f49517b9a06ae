//! How the weights of Linear and Embed lie on the device.
//!
//! A weight `[N, K]` is cut into blocks of 64 rows, and a block into groups of columns. A row's part of a
//! group is cut into pieces, and the same piece of all 64 rows lies together, so that neighbouring lanes of
//! a Linear, which own neighbouring rows, read neighbouring words:
//!
//! - f16, bf16: 8 columns in one piece of 16 bytes.
//! - f32: 8 columns in two pieces of 16 bytes.
//! - q8_0: 64 columns, their quants in four pieces of 16 bytes, then their two scales in one of 4 bytes.
//! - fp8, fp8_block: 128 columns, their elements in eight pieces of 16 bytes, then their scale in one of 4 bytes. Where a
//!   row has one scale, all of its groups have it.
//!
//! K is padded with zeros to whole groups and a multiple of 32, N to a multiple of 64.
//!
//! Blocks are distributed over as many buffers (shards) as the adapter's limit on bindings asks for.

use engine::dtype::DType;
use engine::format::{FP8_SCALE, Format};
use std::ops::Range;

/// Rows of a block.
pub(crate) const BLOCK: usize = 64;

/// The formats of weights that shaders can widen, the preferred first.
pub(crate) const FORMATS: [Format; 6] = [
    Format::Plain(DType::BF16),
    Format::Plain(DType::F16),
    Format::Plain(DType::F32),
    Format::Q8_0,
    Format::Fp8,
    Format::Fp8Blocks,
];

/// Columns that a shader widens at a time.
const UNIT: usize = 8;

/// Columns that lie together.
struct Group {
    /// How many.
    cols: usize,
    /// Bytes of a row in it.
    bytes: usize,
    /// The pieces of a row, in the order in which they lie.
    pieces: &'static [Piece],
}

/// Bytes of a row that lie together, beside those of the other rows: a multiple of 4, so that each row
/// can be written by itself.
struct Piece {
    size: usize,
    from: From,
}

/// Where the bytes of a piece come from.
enum From {
    /// The first byte within the row's part of the group, and how many, run by run.
    Runs(&'static [(usize, usize)]),
    /// Elements of FP8, behind the scales of their row, from the group's column on.
    Elements(usize),
    /// The scale of FP8 elements.
    Scale,
}

const fn runs(size: usize, from: &'static [(usize, usize)]) -> Piece {
    Piece { size, from: From::Runs(from) }
}

const fn elements(col: usize) -> Piece {
    Piece { size: 16, from: From::Elements(col) }
}

const HALVES: Group = Group { cols: 8, bytes: 16, pieces: &[runs(16, &[(0, 16)])] };

const FLOATS: Group = Group { cols: 8, bytes: 32, pieces: &[runs(16, &[(0, 16)]), runs(16, &[(16, 16)])] };

const Q8_0: Group = Group {
    cols: 64,
    bytes: 68,
    pieces: &[
        runs(16, &[(2, 16)]),
        runs(16, &[(18, 16)]),
        runs(16, &[(36, 16)]),
        runs(16, &[(52, 16)]),
        runs(4, &[(0, 2), (34, 2)]),
    ],
};

const FP8: Group = Group {
    cols: 128,
    bytes: 132,
    pieces: &[
        elements(0),
        elements(16),
        elements(32),
        elements(48),
        elements(64),
        elements(80),
        elements(96),
        elements(112),
        Piece { size: FP8_SCALE, from: From::Scale },
    ],
};

/// The shape of a weight on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub rows: usize,
    pub cols: usize,
    pub format: Format,
    /// Blocks in a shard; the last may hold fewer.
    pub per_shard: usize,
}

impl Blocks {
    /// The layout of a weight whose shards may have `limit` bytes, if a block fits at all.
    pub fn new(rows: usize, cols: usize, format: Format, limit: usize) -> Option<Blocks> {
        let mut blocks = Blocks { rows, cols, format, per_shard: 1 };
        blocks.per_shard = limit / blocks.block_bytes();
        (blocks.per_shard > 0).then_some(blocks)
    }

    fn group(&self) -> &'static Group {
        match self.format {
            Format::Plain(DType::F32 | DType::U32) => &FLOATS,
            Format::Plain(DType::F16 | DType::BF16) => &HALVES,
            // No buffer of this device is e4m3 without scales.
            Format::Plain(DType::E4M3) => &FLOATS,
            Format::Q8_0 => &Q8_0,
            Format::Fp8 | Format::Fp8Blocks => &FP8,
        }
    }

    /// Groups in a row, with the padding.
    fn groups(&self) -> usize {
        self.cols.next_multiple_of(32).div_ceil(self.group().cols)
    }

    /// Units in a row, with the padding.
    pub fn units(&self) -> usize {
        self.groups() * self.group().cols / UNIT
    }

    /// Bytes of a row as `write` and `read` speak of it.
    pub fn row_bytes(&self) -> usize {
        self.format.row_bytes(self.cols)
    }

    /// Bytes of a block.
    pub fn block_bytes(&self) -> usize {
        BLOCK * self.groups() * self.group().bytes
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.rows.div_ceil(BLOCK).div_ceil(self.per_shard).max(1)
    }

    /// The rows of a shard: its first, and how many it has.
    pub fn shard_rows(&self, shard: usize) -> (usize, usize) {
        let first = shard * self.per_shard * BLOCK;
        (first, (self.rows - first).min(self.per_shard * BLOCK))
    }

    /// Bytes of a shard.
    pub fn shard_bytes(&self, shard: usize) -> usize {
        self.shard_rows(shard).1.div_ceil(BLOCK) * self.block_bytes()
    }

    /// The shard and the byte offset within it of a block.
    pub fn place(&self, block: usize) -> (usize, usize) {
        (block / self.per_shard, block % self.per_shard * self.block_bytes())
    }

    /// The pieces of all groups: the group, the piece, and its first byte within the block.
    fn pieces(&self) -> impl Iterator<Item = (usize, &'static Piece, usize)> {
        let group = self.group();
        (0..self.groups()).flat_map(move |g| {
            let mut first = g * BLOCK * group.bytes;
            group.pieces.iter().map(move |piece| {
                let at = first;
                first += BLOCK * piece.size;
                (g, piece, at)
            })
        })
    }

    /// The bytes of a block that hold these rows and no others.
    pub fn ranges(&self, rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        self.pieces().map(move |(_, piece, at)| at + rows.start * piece.size..at + rows.end * piece.size)
    }

    /// Calls `copy(row, byte within the row, byte within the block, length)` for all bytes of these rows.
    fn copies(&self, rows: Range<usize>, mut copy: impl FnMut(usize, usize, usize, usize)) {
        let (group, end) = (self.group(), self.row_bytes());
        let scales = self.format.fp8_scales(self.cols);
        for (g, piece, at) in self.pieces() {
            let mut within = 0;
            let runs: &[(usize, usize)] = match &piece.from {
                From::Runs(runs) => runs,
                From::Elements(_) | From::Scale => &[(0, piece.size)],
            };
            for &(start, length) in runs {
                let first = match piece.from {
                    From::Runs(_) => g * group.bytes + start,
                    From::Elements(col) => scales * FP8_SCALE + g * group.cols + col,
                    From::Scale => g.min(scales - 1) * FP8_SCALE,
                };
                // The last group may be padding in part.
                let used = length.min(end.saturating_sub(first));
                for row in rows.clone().filter(|_| used > 0) {
                    copy(row, first, at + row * piece.size + within, used);
                }
                within += length;
            }
        }
    }

    /// Lays out rows of a block (`rows` counted within it) from row-major bytes, over what `block` holds.
    pub fn pack(&self, rows: Range<usize>, bytes: &[u8], block: &mut [u8]) {
        let (stride, first) = (self.row_bytes(), rows.start);
        self.copies(rows, |row, from, to, length| {
            block[to..to + length].copy_from_slice(&bytes[(row - first) * stride + from..][..length]);
        });
    }

    /// The reverse of [`Blocks::pack`].
    pub fn unpack(&self, rows: Range<usize>, block: &[u8], bytes: &mut [u8]) {
        let (stride, first) = (self.row_bytes(), rows.start);
        self.copies(rows, |row, from, to, length| {
            bytes[(row - first) * stride + from..][..length].copy_from_slice(&block[to..to + length]);
        });
    }
}

/// The number by which shaders know a format: a constant of `snippets/floats.wgsl` or `snippets/weight.wgsl`.
pub(crate) fn format_code(format: Format) -> f64 {
    match format {
        Format::Plain(DType::F32 | DType::E4M3 | DType::U32) => 0.0,
        Format::Plain(DType::F16) => 1.0,
        Format::Plain(DType::BF16) => 2.0,
        Format::Q8_0 => 3.0,
        Format::Fp8 | Format::Fp8Blocks => 4.0,
    }
}

#[cfg(test)]
mod tests;
