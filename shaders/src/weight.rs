//! How the weights of Linear and Embed lie on the device.
//!
//! A weight `[N, K]` is cut into blocks of 64 rows. Within a block, runs of 8 columns (units) follow each
//! other, and within a unit its 64 rows: 16 bytes a row in f16 and bf16; in f32 the first 4 columns of
//! all 64 rows, then the other 4. Neighbouring lanes of a Linear own neighbouring rows, so that what they
//! read lies side by side. K is padded with zeros to a multiple of 32, N to a multiple of 64.
//!
//! Blocks are shared out over as many buffers (shards) as the adapter's limit on bindings asks for.

use engine::dtype::DType;

/// Rows of a block.
pub(crate) const BLOCK: usize = 64;

/// The shape of a weight on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub rows: usize,
    pub cols: usize,
    pub dtype: DType,
    /// Blocks in a shard; the last may hold fewer.
    pub per_shard: usize,
}

impl Blocks {
    /// The layout of a weight whose shards may have `limit` bytes, if a block fits at all.
    pub fn new(rows: usize, cols: usize, dtype: DType, limit: usize) -> Option<Blocks> {
        let mut blocks = Blocks { rows, cols, dtype, per_shard: 1 };
        blocks.per_shard = limit / blocks.block_bytes();
        (blocks.per_shard > 0).then_some(blocks)
    }

    /// Units in a row, with the padding.
    pub fn units(&self) -> usize {
        self.cols.next_multiple_of(32) / 8
    }

    /// Bytes of a block.
    pub fn block_bytes(&self) -> usize {
        BLOCK * self.units() * 8 * self.dtype.size()
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

    /// Bytes of all shards.
    pub fn bytes(&self) -> usize {
        self.rows.div_ceil(BLOCK) * self.block_bytes()
    }

    /// The shard and the byte offset within it of a block.
    pub fn place(&self, block: usize) -> (usize, usize) {
        (block / self.per_shard, block % self.per_shard * self.block_bytes())
    }

    /// The value for the shaders' `FORMAT`.
    pub fn format(&self) -> f64 {
        format(self.dtype)
    }

    /// Calls `piece(row within the block, byte within the row, byte within the block, length)` for every
    /// run of a row that lies in one piece.
    fn pieces(&self, rows: std::ops::Range<usize>, mut piece: impl FnMut(usize, usize, usize, usize)) {
        let size = self.dtype.size();
        let run = 16 / size;
        for first in (0..self.cols).step_by(run) {
            let (unit, half) = (first / 8, first % 8 / run);
            let length = run.min(self.cols - first) * size;
            for row in rows.clone() {
                let slot = (unit * (8 / run) + half) * BLOCK + row;
                piece(row, first * size, slot * 16, length);
            }
        }
    }

    /// Lays out rows of a block (`rows` counted within it) from row-major bytes, over what `block` holds.
    pub fn pack(&self, rows: std::ops::Range<usize>, bytes: &[u8], block: &mut [u8]) {
        let stride = self.cols * self.dtype.size();
        let first = rows.start;
        self.pieces(rows, |row, from, to, length| {
            block[to..to + length].copy_from_slice(&bytes[(row - first) * stride + from..][..length]);
        });
    }

    /// The reverse of [`Blocks::pack`].
    pub fn unpack(&self, rows: std::ops::Range<usize>, block: &[u8], bytes: &mut [u8]) {
        let stride = self.cols * self.dtype.size();
        let first = rows.start;
        self.pieces(rows, |row, from, to, length| {
            bytes[(row - first) * stride + from..][..length].copy_from_slice(&block[to..to + length]);
        });
    }
}

/// What the shaders call a float type.
pub(crate) fn format(dtype: DType) -> f64 {
    match dtype {
        DType::F32 | DType::U32 => 0.0,
        DType::F16 => 1.0,
        DType::BF16 => 2.0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rows_come_back_as_they_went_in() {
        for (rows, cols) in [(1, 1), (64, 32), (70, 33), (200, 130)] {
            for dtype in [DType::F32, DType::F16, DType::BF16] {
                let blocks = Blocks::new(rows, cols, dtype, 1 << 20).unwrap();
                let stride = cols * dtype.size();
                let bytes: Vec<u8> = (0..64.min(rows) * stride).map(|i| (i % 251) as u8).collect();
                let mut block = vec![0; blocks.block_bytes()];
                blocks.pack(0..64.min(rows), &bytes, &mut block);
                let mut back = vec![0; bytes.len()];
                blocks.unpack(0..64.min(rows), &block, &mut back);
                assert_eq!(back, bytes);
            }
        }
    }

    #[test]
    fn shards_hold_all_rows_once() {
        let blocks = Blocks::new(1000, 64, DType::F16, 3 * 64 * 64 * 2).unwrap();
        assert_eq!(blocks.shards(), 6);
        let rows: Vec<_> = (0..6).map(|s| blocks.shard_rows(s)).collect();
        assert_eq!(rows[0], (0, 192));
        assert_eq!(rows[5], (960, 40));
        assert_eq!((0..6).map(|s| blocks.shard_bytes(s)).sum::<usize>(), blocks.bytes());
        assert_eq!(blocks.place(4), (1, 64 * 64 * 2));
        assert!(Blocks::new(64, 64, DType::F16, 100).is_none());
    }
}
