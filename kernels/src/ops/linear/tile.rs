//! The tiles of `linear.cu`, and which one a row count gets.

use engine::dtype::DType;
use engine::format::Format;

/// A tile of `linear.cu`. Every tile gives the same bits, so the choice is a matter of speed only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tile {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Warps along rows and along columns.
    pub(crate) warps: (u32, u32),
    /// Slots of the pipeline, where shared memory allows so many.
    pub(crate) stages: u32,
    /// Registers of a thread.
    pub(crate) registers: u32,
    /// Share of the multiprocessor's peak that the inner loop can reach: what limits it is the traffic
    /// from shared memory to registers, which falls as warp tiles grow.
    pub(crate) efficiency: f64,
}

const fn tile(
    (rows, cols): (usize, usize),
    warps: (u32, u32),
    stages: u32,
    registers: u32,
    efficiency: f64,
) -> Tile {
    Tile { rows, cols, warps, stages, registers, efficiency }
}

/// From narrow tiles, which spread few rows' weights over all multiprocessors, to wide ones.
pub(crate) const TILES: [Tile; 8] = [
    tile((16, 32), (1, 2), 6, 80, 0.4),
    tile((16, 64), (1, 4), 6, 80, 0.45),
    tile((32, 32), (1, 2), 6, 128, 0.45),
    tile((32, 64), (1, 4), 5, 120, 0.55),
    tile((64, 64), (2, 2), 4, 136, 0.65),
    tile((64, 128), (2, 2), 4, 208, 0.8),
    tile((128, 128), (2, 4), 4, 184, 0.9),
    tile((128, 256), (2, 4), 4, 255, 1.0),
];

impl Tile {
    /// Bytes of a slot: rows of 64 elements, two-byte ones of x, and of the weight two-byte ones or FP8.
    pub(super) fn slot(&self, weight: Format) -> u32 {
        let element = weight.plain().map_or(1, DType::size);
        (self.rows * 128 + self.cols * 64 * element) as u32
    }

    /// Slots that fit in `shared` bytes, or `None` if the pipeline would have fewer than three.
    pub(super) fn fit(&self, weight: Format, shared: u32) -> Option<u32> {
        Some((shared / self.slot(weight)).min(self.stages)).filter(|&stages| stages >= 3)
    }

    /// Tiles of an output.
    pub(super) fn count(&self, rows: usize, cols: usize) -> usize {
        rows.div_ceil(self.rows) * cols.div_ceil(self.cols)
    }

    /// The estimated time of a whole Linear, in cycles: the slowest of arithmetic, L2 and DRAM.
    ///
    /// It assumes that a multiprocessor does 1024 multiply-adds a cycle (A100 and, through mma.sync, H100) and
    /// receives 14 bytes of DRAM and 48 of L2. Only the comparison of tiles matters.
    fn cycles(&self, rows: usize, k: usize, cols: usize, sms: u32) -> f64 {
        let (tiles, sms) = (self.count(rows, cols) as f64, f64::from(sms));
        // The busiest multiprocessor decides; the share that all of them are busy on average.
        let waves = (tiles / sms).ceil();
        let busy = tiles / (sms * waves);
        let per_tile = (self.rows * self.cols * k) as f64 / (1024.0 * self.efficiency);
        let dram = ((rows + cols) * k * 2) as f64 / (14.0 * sms * busy);
        let l2 = tiles * ((self.rows + self.cols) * k * 2) as f64 / (48.0 * sms * busy);
        (waves * per_tile).max(dram).max(l2) + 100.0 * waves
    }
}

/// The tile for a Linear of `rows`, among those that fit; an index into `tiles`.
pub(super) fn choose(tiles: &[Tile], rows: usize, k: usize, cols: usize, sms: u32) -> usize {
    let cost = |i: &usize| tiles[*i].cycles(rows, k, cols, sms);
    (0..tiles.len()).min_by(|a, b| cost(a).total_cmp(&cost(b))).unwrap_or(0)
}

/// The tiles that some row count up to `max_rows` gets, as indices into `tiles`.
pub(super) fn used(tiles: &[Tile], max_rows: usize, k: usize, cols: usize, sms: u32) -> Vec<usize> {
    // Choices change at multiples of 16 rows, and below 16 rows anywhere.
    let rows = (1..=max_rows.min(16)).chain((32..=max_rows).step_by(16)).chain([max_rows.max(1)]);
    let mut used: Vec<usize> = rows.map(|rows| choose(tiles, rows, k, cols, sms)).collect();
    used.sort_unstable();
    used.dedup();
    used
}

#[cfg(test)]
mod tests;
