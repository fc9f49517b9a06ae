//! The choice of tiles.

use super::*;

/// Within the estimate, twice the rows never cost more than twice the time, and where steps are short
/// one row more never costs a third more: no cliff at a fixed threshold.
#[test]
fn time_grows_smoothly_with_rows() {
    for (k, n) in [(4096, 6144), (4096, 4096), (4096, 28672), (14336, 4096), (4096, 128_256), (576, 1536)] {
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
