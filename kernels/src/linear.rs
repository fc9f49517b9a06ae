//! Linear: `linear.cu` on tensor cores, `linear_plain.cu` for other types and shapes.

use crate::kernel::{Kernel, type_name};
use crate::launch::{Args, Config, Launch};
use crate::program::{Card, Site};
use engine::dtype::DType;
use engine::plan::{BufferId, View};

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
    /// Bytes of a slot: rows of 64 two-byte elements.
    fn slot(&self) -> u32 {
        (self.rows + self.cols) as u32 * 128
    }

    /// Slots that fit in `shared` bytes, or `None` if the pipeline would have fewer than three.
    fn fit(&self, shared: u32) -> Option<u32> {
        Some((shared / self.slot()).min(self.stages)).filter(|&stages| stages >= 3)
    }

    /// Tiles of an output.
    fn count(&self, rows: usize, cols: usize) -> usize {
        rows.div_ceil(self.rows) * cols.div_ceil(self.cols)
    }

    /// The estimated time of a whole Linear, in cycles: the slowest of arithmetic, L2 and DRAM.
    ///
    /// A multiprocessor is taken to do 1024 multiply-adds a cycle (A100 and, through mma.sync, H100) and
    /// to receive 14 bytes of DRAM and 48 of L2; what matters is only how tiles compare.
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
fn choose(tiles: &[Tile], rows: usize, k: usize, cols: usize, sms: u32) -> usize {
    let cost = |i: &usize| tiles[*i].cycles(rows, k, cols, sms);
    (0..tiles.len()).min_by(|a, b| cost(a).total_cmp(&cost(b))).unwrap_or(0)
}

/// Types and alignment of a variant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) x: DType,
    pub(crate) bias: Option<DType>,
    pub(crate) out: DType,
    /// Whether pairs of results can be stored at once.
    pub(crate) pair: bool,
    /// Whether the result is added to what the output holds: the residual.
    pub(crate) add: bool,
}

pub(crate) fn kernel(tile: &Tile, form: Form, stages: u32) -> Kernel {
    Kernel::new("linear.cu", include_str!("linear.cu"), "linear", tile.registers)
        .define("TX", type_name(form.x))
        .define("TB", type_name(form.bias.unwrap_or(form.x)))
        .define("TO", type_name(form.out))
        .define("BIAS", u32::from(form.bias.is_some()))
        .define("PAIR", u32::from(form.pair))
        .define("ADD", u32::from(form.add))
        .define("BM", tile.rows)
        .define("BN", tile.cols)
        .define("WM", tile.warps.0)
        .define("WN", tile.warps.1)
        .define("STAGES", stages)
        .shared(tile.slot() * stages)
}

pub(crate) fn plain_kernel(x: DType, weight: DType, bias: Option<DType>, out: DType, add: bool) -> Kernel {
    Kernel::new("linear_plain.cu", include_str!("linear_plain.cu"), "linear_plain", 48)
        .define("TX", type_name(x))
        .define("TW", type_name(weight))
        .define("TB", type_name(bias.unwrap_or(weight)))
        .define("TO", type_name(out))
        .define("BIAS", u32::from(bias.is_some()))
        .define("ADD", u32::from(add))
}

/// The variants of a form that fit a card, with their tiles.
pub(crate) fn fitting(form: Form, card: &Card) -> (Vec<Tile>, Vec<Kernel>) {
    TILES.iter().filter_map(|t| t.fit(card.shared).map(|stages| (*t, kernel(t, form, stages)))).unzip()
}

/// `add`: the result is added to what `out` holds.
pub(crate) fn lower(
    site: &mut Site,
    (x, weight, bias, out): (View, BufferId, Option<BufferId>, View),
    add: bool,
) -> Launch {
    let (x, weight, out) = (site.view(x), site.buffer(weight), site.view(out));
    let bias = bias.map(|b| site.buffer(b));
    let args = Args::default()
        .pointer(site.rows(x.rows))
        .pointer(x.at)
        .pointer(weight.at)
        .pointer(bias.as_ref().map_or(0, |b| b.at))
        .pointer(out.at)
        .word(out.cols)
        .word(x.cols)
        .word(x.stride)
        .word(out.stride);
    let (rows, k, n) = (x.rows, x.cols, out.cols);
    let bias = bias.map(|b| b.dtype);
    let half = matches!(x.dtype, DType::BF16 | DType::F16);
    if !(half && x.dtype == weight.dtype && x.aligned(8)) {
        let shape = move |extent: &crate::launch::Extent| {
            let tiles = extent.dims.count(rows).div_ceil(16) * n.div_ceil(16);
            (tiles > 0).then_some(Config { kernel: 0, grid: (tiles as u32, 1, 1), block: (16, 16, 1) })
        };
        let kernels = vec![plain_kernel(x.dtype, weight.dtype, bias, out.dtype, add)];
        return Launch { kernels, args, shape: Box::new(shape) };
    }
    let form = Form { x: x.dtype, bias, out: out.dtype, pair: out.aligned(2), add };
    let (tiles, kernels) = fitting(form, &site.card);
    let sms = site.card.sms;
    // Only the tiles that some row count will choose are compiled.
    let most = site.most.count(rows);
    let mut used: Vec<usize> = samples(most).map(|r| choose(&tiles, r, k, n, sms)).collect();
    used.sort_unstable();
    used.dedup();
    let tiles: Vec<Tile> = used.iter().map(|&i| tiles[i]).collect();
    let kernels = used.iter().map(|&i| kernels[i].clone()).collect();
    let shape = move |extent: &crate::launch::Extent| {
        let rows = extent.dims.count(rows);
        let kernel = choose(&tiles, rows, k, n, sms);
        let tile = &tiles[kernel];
        let grid = (tile.count(rows, n) as u32, 1, 1);
        (rows > 0).then_some(Config { kernel, grid, block: (32 * tile.warps.0 * tile.warps.1, 1, 1) })
    };
    Launch { kernels, args, shape: Box::new(shape) }
}

/// Row counts up to `most` at which a choice may change.
fn samples(most: usize) -> impl Iterator<Item = usize> {
    (1..=most.min(16)).chain((32..=most).step_by(16)).chain([most.max(1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Within the estimate, twice the rows never cost more than twice the time, and where steps are short
    /// one row more never costs a third more: no cliff at a fixed threshold.
    #[test]
    fn time_grows_smoothly_with_rows() {
        for (k, n) in [(4096, 6144), (4096, 4096), (4096, 28672), (14336, 4096), (4096, 128_256), (576, 1536)]
        {
            let cost = |rows| TILES[choose(&TILES, rows, k, n, 132)].cycles(rows, k, n, 132);
            for rows in 1..1024 {
                assert!(cost(2 * rows) <= cost(rows) * 2.01, "twice {rows} rows of {k} x {n}");
                assert!(rows >= 128 || cost(rows + 1) <= cost(rows) * 1.34, "{rows} rows of {k} x {n}");
            }
        }
    }

    /// Few rows take narrow tiles, many rows wide ones.
    #[test]
    fn tiles_follow_the_row_count() {
        let tile = |rows, k, n| TILES[choose(&TILES, rows, k, n, 132)];
        assert_eq!(tile(1, 4096, 4096).rows, 16);
        assert_eq!(tile(4096, 4096, 28672).rows, 128);
    }
}
