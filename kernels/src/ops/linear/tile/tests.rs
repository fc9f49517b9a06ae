//! The choice of tiles.

use super::*;

/// Layers: K and columns.
const LAYERS: [(usize, usize); 6] =
    [(4096, 6144), (4096, 4096), (4096, 28672), (14336, 4096), (4096, 128_256), (576, 1536)];

/// What the chosen tile is estimated to take.
fn cost(rows: usize, (k, cols): (usize, usize), weight: Format) -> f64 {
    let size = Size { rows, k, cols, weight };
    TILES[choose(&TILES, &size, 132)].cycles(&size, 132)
}

/// Within the estimate, twice the rows never cost more than twice the time, and where steps are short
/// one row more never costs a third more: no cliff at a fixed threshold.
#[test]
fn time_grows_smoothly_with_rows() {
    for layer in LAYERS {
        let cost = |rows| cost(rows, layer, DType::BF16.into());
        for rows in 1..1024 {
            assert!(cost(2 * rows) <= cost(rows) * 2.01, "twice {rows} rows of {layer:?}");
            assert!(rows >= 128 || cost(rows + 1) <= cost(rows) * 1.34, "{rows} rows of {layer:?}");
        }
    }
}

/// Few rows take narrow tiles, many rows wide ones.
#[test]
fn tiles_follow_the_row_count() {
    let weight = DType::BF16.into();
    let tile = |rows, k, cols| TILES[choose(&TILES, &Size { rows, k, cols, weight }, 132)];
    assert_eq!(tile(1, 4096, 4096).rows, 16);
    assert_eq!(tile(4096, 4096, 28672).rows, 128);
}

/// Weights of one byte halve the time of few rows, which is their way from memory, and change nothing for many, whose time
/// is that of the products.
#[test]
fn fp8_weights_are_one_byte_each() {
    for layer in LAYERS {
        let ratio = |rows| cost(rows, layer, Format::Fp8) / cost(rows, layer, DType::BF16.into());
        // A short launch takes its time, whatever it reads.
        assert!(layer.0 < 4096 || ratio(1) < 0.6, "{layer:?}: {}", ratio(1));
        assert!(ratio(4096) > 0.99, "{layer:?}: {}", ratio(4096));
    }
}
