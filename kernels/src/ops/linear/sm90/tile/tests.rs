//! The choice of tiles, against times measured on a card.
#![allow(clippy::unwrap_used)]

use super::*;

/// One line of the table: a layer, the tile, and what it took.
#[derive(Clone, Copy, Debug)]
struct Measured {
    layer: &'static str,
    size: Size,
    tile: Tile,
    micros: f64,
}

/// Multiprocessors of the card of the table.
const SMS: u32 = 132;

fn table() -> Vec<Measured> {
    parse(include_str!("../../../../../../benches/results/2026-11-27-h200-linear.tsv"))
}

fn parse(text: &'static str) -> Vec<Measured> {
    let line = |line: &'static str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [layer, rows, features, k, warpgroups, tokens, stages, micros] = fields[..] else {
            panic!("{line}");
        };
        let number = |text: &str| text.parse::<usize>().unwrap();
        Measured {
            layer,
            size: Size { rows: number(rows), k: number(k), features: number(features) },
            tile: tile(number(warpgroups), number(tokens), number(stages) as u32),
            micros: micros.parse().unwrap(),
        }
    };
    text.lines().filter(|l| !l.starts_with('#')).map(line).collect()
}

/// What each tile that is nearly the best for its layer and rows took: those are what a choice is between.
fn near_the_best(table: &[Measured]) -> Vec<Measured> {
    let same = |a: &Measured, b: &Measured| a.layer == b.layer && a.size.rows == b.size.rows;
    let best = |m: &Measured| {
        table.iter().filter(|other| same(m, other)).map(|m| m.micros).fold(f64::INFINITY, f64::min)
    };
    table.iter().copied().filter(|m| m.micros <= 1.3 * best(m)).collect()
}

/// The rates that estimate these times best, by the mean square of relative errors: one rate after the other is moved for
/// as long as that helps, by smaller and smaller factors.
fn fit(table: &[Measured]) -> Rates {
    let table = near_the_best(table);
    let error = |rates: &Rates| -> f64 {
        table.iter().map(|m| (m.tile.micros(&m.size, SMS, rates) / m.micros).ln().powi(2)).sum()
    };
    let fields: [fn(&mut Rates) -> &mut f64; 5] =
        [|r| &mut r.tile, |r| &mut r.product, |r| &mut r.memory, |r| &mut r.inward, |r| &mut r.l2];
    // Round numbers, to start from anywhere near.
    let mut best = Rates { tile: 1.0, product: 0.01, memory: 4e6, inward: 1e5, l2: 1e8 };
    let (mut least, mut step) = (error(&best), 0.5);
    while step > 0.002 {
        let mut better = false;
        for field in fields {
            for factor in [1.0 + step, 1.0 / (1.0 + step)] {
                let mut rates = best;
                *field(&mut rates) *= factor;
                let error = error(&rates);
                if error < least {
                    (best, least, better) = (rates, error, true);
                }
            }
        }
        if !better {
            step *= 0.6;
        }
    }
    best
}

/// Of the layers and row counts with two tiles or more in the table: for how many the rates choose one within a twentieth
/// of the best, and how many there are.
fn chosen_well(table: &[Measured], layer: &str, rates: &Rates) -> (usize, usize) {
    let of_layer: Vec<&Measured> = table.iter().filter(|m| m.layer == layer).collect();
    let mut rows: Vec<usize> = of_layer.iter().map(|m| m.size.rows).collect();
    rows.sort_unstable();
    rows.dedup();
    let (mut well, mut all) = (0, 0);
    for rows in rows {
        let tiles: Vec<&Measured> = of_layer.iter().copied().filter(|m| m.size.rows == rows).collect();
        if tiles.len() < 2 {
            continue;
        }
        let estimate = |m: &Measured| m.tile.micros(&m.size, SMS, rates);
        let chosen = tiles.iter().min_by(|a, b| estimate(a).total_cmp(&estimate(b))).unwrap();
        let best = tiles.iter().map(|m| m.micros).fold(f64::INFINITY, f64::min);
        all += 1;
        if chosen.micros <= 1.05 * best {
            well += 1;
        } else {
            eprintln!("{layer}, {rows} rows: {chosen:?}, the best takes {best}");
        }
    }
    (well, all)
}

/// Rates fitted without a layer choose its tiles well.
#[test]
fn tiles_of_a_layer_that_was_not_fitted() {
    let table = table();
    let (mut well, mut all) = (0, 0);
    for layer in ["qkv", "o", "gate_up", "down", "lm_head"] {
        let others: Vec<Measured> = table.iter().copied().filter(|m| m.layer != layer).collect();
        let (w, a) = chosen_well(&table, layer, &fit(&others));
        (well, all) = (well + w, all + a);
    }
    eprintln!("{well} of {all} choices are within 5 % of the best that was measured");
    assert!(all >= 30 && well * 10 >= all * 9, "{well} of {all}");
}

/// The rates in the source are those of the whole table, and estimate it within a tenth on average.
#[test]
fn rates_are_those_of_the_table() {
    let table = table();
    let fitted = fit(&table);
    let near = |a: f64, b: f64| (a / b - 1.0).abs() < 0.2;
    assert!(
        near(H200.memory, fitted.memory) && near(H200.product, fitted.product),
        "{H200:?}, fitted: {fitted:?}"
    );
    let error = |m: &Measured| (m.tile.micros(&m.size, SMS, &H200) / m.micros).ln().powi(2);
    let near_ones = near_the_best(&table);
    let mean = (near_ones.iter().map(error).sum::<f64>() / near_ones.len() as f64).sqrt();
    assert!(mean < 0.1, "{mean}; fitted: {fitted:?}");
}

/// The rates of bf16 choose tiles of FP8 well too, whose columns count half.
#[test]
fn tiles_of_fp8() {
    let mut table = parse(include_str!("../../../../../../benches/results/2026-11-26-h200-linear-fp8.tsv"));
    table.iter_mut().for_each(|m| m.size.k = two_byte_columns(m.size.k, Format::Fp8));
    let (mut well, mut all) = (0, 0);
    for layer in ["qkv", "o", "gate_up", "down", "lm_head"] {
        let (w, a) = chosen_well(&table, layer, &H200);
        (well, all) = (well + w, all + a);
    }
    eprintln!("{well} of {all} choices are within 5 % of the best that was measured");
    assert!(all >= 5 && well == all, "{well} of {all}");
}

/// Within the estimate twice the rows never cost more than twice the time and a little, and one row more at most the turn
/// that its tiles take: no cliff at a fixed threshold.
#[test]
fn time_grows_smoothly_with_rows() {
    for (k, features) in
        [(4096, 6144), (4096, 4096), (4096, 28672), (14336, 4096), (4096, 128_256), (576, 1536)]
    {
        let micros = |rows| {
            let size = Size { rows, k, features };
            TILES[choose(&TILES, &size, 132, &H200)].micros(&size, 132, &H200)
        };
        for rows in 1..1024 {
            assert!(micros(2 * rows) <= micros(rows) * 2.05, "twice {rows} rows of {k} x {features}");
            assert!(micros(rows + 1) <= micros(rows) * 1.6, "{rows} rows of {k} x {features}");
        }
    }
}

/// Few rows take narrow tiles, many rows wide ones.
#[test]
fn tiles_follow_the_row_count() {
    let chosen = |rows, k, features| TILES[choose(&TILES, &Size { rows, k, features }, 132, &H200)];
    for (k, features) in [(4096, 4096), (4096, 6144), (4096, 28672), (14336, 4096), (4096, 128_256)] {
        assert_eq!(chosen(1, k, features).tokens, 8, "{k} x {features}");
        assert!(chosen(16, k, features).tokens <= 16, "{k} x {features}");
    }
    assert_eq!(chosen(4096, 4096, 28672), tile(2, 256, 4));
}
