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

/// A Linear as the choice of its tile sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) k: usize,
    pub(super) cols: usize,
    pub(super) weight: Format,
}

/// Bytes of an element of the weight: two, or one of FP8.
fn element(weight: Format) -> usize {
    weight.plain().map_or(1, DType::size)
}

impl Tile {
    /// Bytes of a slot: rows of 64 elements, two-byte ones of x, and of the weight two-byte ones or FP8.
    pub(super) fn slot(&self, weight: Format) -> u32 {
        (self.rows * 128 + self.cols * 64 * element(weight)) as u32
    }

    /// Slots that fit in `shared` bytes, or `None` if the pipeline would have fewer than three.
    pub(super) fn fit(&self, weight: Format, shared: u32) -> Option<u32> {
        Some((shared / self.slot(weight)).min(self.stages)).filter(|&stages| stages >= 3)
    }

    /// Tiles of an output.
    pub(super) fn count(&self, size: &Size) -> usize {
        size.rows.div_ceil(self.rows) * size.cols.div_ceil(self.cols)
    }

    /// The estimated time of a whole Linear, in cycles: the slowest of arithmetic, L2 and DRAM.
    ///
    /// It assumes that a multiprocessor does 1024 multiply-adds a cycle (A100 and, through mma.sync, H100) and
    /// receives 14 bytes of DRAM and 48 of L2. Only the comparison of tiles matters.
    fn cycles(&self, size: &Size, sms: u32) -> f64 {
        let Size { rows, k, cols, weight } = *size;
        let bytes = |rows: usize, cols: usize| ((2 * rows + element(weight) * cols) * k) as f64;
        let (tiles, sms) = (self.count(size) as f64, f64::from(sms));
        // The busiest multiprocessor decides; the share that all of them are busy on average.
        let waves = (tiles / sms).ceil();
        let busy = tiles / (sms * waves);
        let per_tile = (self.rows * self.cols * k) as f64 / (1024.0 * self.efficiency);
        let dram = bytes(rows, cols) / (14.0 * sms * busy);
        let l2 = tiles * bytes(self.rows, self.cols) / (48.0 * sms * busy);
        (waves * per_tile).max(dram).max(l2) + 100.0 * waves
    }
}

/// The best tile among those that fit; an index into `tiles`.
pub(super) fn choose(tiles: &[Tile], size: &Size, sms: u32) -> usize {
    let cost = |i: &usize| tiles[*i].cycles(size, sms);
    (0..tiles.len()).min_by(|a, b| cost(a).total_cmp(&cost(b))).unwrap_or(0)
}

/// The tiles that some row count up to `size.rows` gets, as indices into `tiles`.
pub(super) fn used(tiles: &[Tile], size: &Size, sms: u32) -> Vec<usize> {
    // Choices change at multiples of 16 rows, and below 16 rows anywhere.
    let rows = (1..=size.rows.min(16)).chain((32..=size.rows).step_by(16)).chain([size.rows.max(1)]);
    let mut used: Vec<usize> = rows.map(|rows| choose(tiles, &Size { rows, ..*size }, sms)).collect();
    used.sort_unstable();
    used.dedup();
    used
}

#[cfg(test)]
mod tests;
