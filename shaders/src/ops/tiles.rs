//! Tiles of a Linear, and the choice among them.

/// The shape of a tile: rows, and lanes times columns of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    pub rows: usize,
    pub lanes: usize,
    pub cols: usize,
}

/// Tiles of software adapters, whose registers are a processor's: 8 lanes are one vector, and a wide
/// tile repays reading a weight.
pub(crate) const SOFTWARE: &[Tile] = &[
    software(1),
    software(2),
    software(3),
    software(4),
    software(5),
    software(6),
    software(7),
    software(8),
    software(9),
    software(10),
    software(12),
    software(14),
    software(16),
    software(17),
    software(18),
    software(20),
    software(22),
    software(24),
];

const fn software(rows: usize) -> Tile {
    Tile { rows, lanes: 8, cols: 4 }
}

/// Tiles of hardware adapters: few columns to a lane while rows are few, so that the card is filled.
pub(crate) const HARDWARE: &[Tile] = &[
    Tile { rows: 1, lanes: 64, cols: 1 },
    Tile { rows: 2, lanes: 64, cols: 1 },
    Tile { rows: 4, lanes: 64, cols: 1 },
    Tile { rows: 8, lanes: 64, cols: 1 },
    Tile { rows: 12, lanes: 64, cols: 2 },
    Tile { rows: 16, lanes: 64, cols: 2 },
    Tile { rows: 24, lanes: 64, cols: 2 },
];

/// The only tile of adapters without subgroups.
pub(crate) const WORKGROUP: &[Tile] = &[Tile { rows: 8, lanes: 64, cols: 1 }];

/// The tile for a row count: of those that waste the fewest rows after splitting into as few tiles as
/// the tallest allows, the lowest.
pub(crate) fn choose(tiles: impl ExactSizeIterator<Item = Tile> + Clone, rows: usize) -> usize {
    let tallest = tiles.clone().map(|t| t.rows).max().unwrap_or(1);
    let needed = rows.div_ceil(rows.div_ceil(tallest).max(1));
    let last = tiles.len() - 1;
    tiles.map(|t| t.rows).position(|rows| rows >= needed).unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_split_into_even_tiles() {
        let rows = |n| SOFTWARE[choose(SOFTWARE.iter().copied(), n)].rows;
        assert_eq!([1, 8, 9, 17, 24].map(rows), [1, 8, 9, 17, 24]);
        // 25 rows are two tiles of 14, not one of 24 and a row alone; 64 are three of 22.
        assert_eq!([25, 32, 33, 64, 1000].map(rows), [14, 16, 17, 22, 24]);
    }
}
