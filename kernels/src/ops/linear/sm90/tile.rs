//! The tiles of `linear_sm90.cu`, and which one a row count gets.

use engine::format::Format;

/// A tile of `linear_sm90.cu`: 64 features for each consumer warpgroup, by `tokens`. Every tile gives the same bits, so
/// the choice is a matter of speed only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tile {
    pub(crate) warpgroups: usize,
    pub(crate) tokens: usize,
    /// Slots of the pipeline.
    pub(crate) stages: u32,
}

const fn tile(warpgroups: usize, tokens: usize, stages: u32) -> Tile {
    Tile { warpgroups, tokens, stages }
}

/// From narrow tiles to wide ones. Three warpgroups, and tokens between the powers of two, keep more multiprocessors busy
/// at some hundred rows. The narrowest have as many slots as there is room for: they fill while what makes x still runs.
pub(crate) const TILES: [Tile; 16] = [
    tile(1, 8, 24),
    tile(1, 16, 22),
    tile(1, 32, 10),
    tile(1, 64, 8),
    tile(2, 64, 8),
    tile(3, 64, 6),
    tile(1, 96, 8),
    tile(2, 96, 7),
    tile(3, 96, 5),
    tile(1, 128, 8),
    tile(2, 128, 6),
    tile(3, 128, 5),
    tile(2, 160, 5),
    tile(1, 256, 5),
    tile(2, 192, 5),
    tile(2, 256, 4),
];

/// A Linear as the choice of its tile sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) rows: usize,
    /// In columns of two bytes.
    pub(crate) k: usize,
    /// Rows of the weight.
    pub(crate) features: usize,
}

/// The columns of a weight as [`Size::k`] counts them: of two bytes, which take as long as two of one.
pub(crate) fn two_byte_columns(cols: usize, weight: Format) -> usize {
    if weight.plain().is_some() { cols } else { cols.div_ceil(2) }
}

/// What a card does, fitted to times of the kernel on one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rates {
    /// Microseconds that a tile takes beside its columns: filling the pipeline, and its end.
    pub(crate) tile: f64,
    /// Microseconds to multiply 64 x 64 weights with 64 columns of 8 tokens.
    pub(crate) product: f64,
    /// Bytes a microsecond from the card's memory.
    pub(crate) memory: f64,
    /// Bytes a microsecond into one multiprocessor.
    pub(crate) inward: f64,
    /// Bytes a microsecond out of L2 into all of them.
    pub(crate) l2: f64,
}

/// Fitted to `benches/results/2026-11-27-h200-linear.tsv`; the tests fit them again.
pub(crate) const H200: Rates =
    Rates { tile: 1.97, product: 0.00823, memory: 5.09e6, inward: 1.27e5, l2: 4.21e7 };

/// Little less than the sum of two times where they are equal and little more than the greater where they are not, the more
/// so the higher the `power`: what two things take that run beside each other and meet now and then.
fn beside(a: f64, b: f64, power: i32) -> f64 {
    (a.powi(power) + b.powi(power)).powf(1.0 / f64::from(power))
}

impl Tile {
    /// Rows of the weight that a tile takes.
    pub(crate) fn features(&self) -> usize {
        64 * self.warpgroups
    }

    /// Bytes of a slot: rows of 64 two-byte elements.
    pub(super) fn slot(&self) -> usize {
        (self.features() + self.tokens) * 128
    }

    /// Tiles of an output.
    pub(super) fn count(&self, size: &Size) -> usize {
        size.rows.div_ceil(self.tokens) * size.features.div_ceil(self.features())
    }

    /// The estimated time of a Linear in microseconds. Multiprocessors take tiles in turns, the last turn with those that
    /// are left; a turn takes what a tile takes on its multiprocessor, beside the way of all its tiles from memory and L2.
    pub(crate) fn micros(&self, size: &Size, sms: u32, rates: &Rates) -> f64 {
        let (tiles, sms, steps) = (self.count(size), sms as usize, size.k.div_ceil(64) as f64);
        // Of a product the weights come from shared memory too, which takes as long as 64 tokens and half of those there are.
        let columns = beside(self.tokens as f64, (64 + self.tokens) as f64 / 2.0, 2);
        let product = rates.product * self.warpgroups as f64 * columns / 8.0;
        let alone = steps * product.max(self.slot() as f64 / rates.inward);
        let bytes = (2 * (size.features * size.k + size.rows * (size.k + size.features))) as f64;
        let shared = bytes / tiles as f64 / rates.memory + steps * self.slot() as f64 / rates.l2;
        let turn = |count: usize| match count {
            0 => 0.0,
            _ => beside(alone, count as f64 * shared, 6) + rates.tile,
        };
        (tiles / sms) as f64 * turn(sms) + turn(tiles % sms)
    }
}

/// The best tile, as an index into `tiles`. Tiles much wider than there are rows are the last resort: they have not been
/// measured, and of memory alone the estimate thinks too well.
pub(crate) fn choose(tiles: &[Tile], size: &Size, sms: u32, rates: &Rates) -> usize {
    let wide = |tile: &Tile| tile.tokens > size.rows.next_power_of_two().max(8);
    let micros = |tile: &Tile| tile.micros(size, sms, rates);
    let order = |a: &Tile, b: &Tile| wide(a).cmp(&wide(b)).then(micros(a).total_cmp(&micros(b)));
    (0..tiles.len()).min_by(|&a, &b| order(&tiles[a], &tiles[b])).unwrap_or(0)
}

/// The tiles that some row count up to `size.rows` gets, as indices into `tiles`.
pub(crate) fn used(tiles: &[Tile], size: &Size, sms: u32) -> Vec<usize> {
    let rows = (1..=size.rows.min(64)).chain((64..=size.rows).step_by(8)).chain([size.rows.max(1)]);
    let mut used: Vec<usize> = rows.map(|rows| choose(tiles, &Size { rows, ..*size }, sms, &H200)).collect();
    used.sort_unstable();
    used.dedup();
    used
}

#[cfg(test)]
mod tests;
