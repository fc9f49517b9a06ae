#![allow(clippy::unwrap_used)]
use super::*;

/// The shapes that a format takes.
fn blocks(format: Format) -> impl Iterator<Item = Blocks> {
    let shapes: [(usize, usize); 5] = [(1, 1), (64, 32), (70, 33), (200, 130), (9, 96)];
    let fit = shapes.into_iter().filter(move |(_, cols)| cols.is_multiple_of(format.block()));
    fit.map(move |(rows, cols)| Blocks::new(rows, cols, format, 1 << 20).unwrap())
}

#[test]
fn rows_come_back_as_they_went_in() {
    for blocks in FORMATS.into_iter().flat_map(blocks) {
        let rows = 0..BLOCK.min(blocks.rows);
        let bytes: Vec<u8> = (0..rows.len() * blocks.row_bytes()).map(|i| (i % 251) as u8).collect();
        let mut block = vec![0; blocks.block_bytes()];
        blocks.pack(rows.clone(), &bytes, &mut block);
        let mut back = vec![0; bytes.len()];
        blocks.unpack(rows, &block, &mut back);
        assert_eq!(back, bytes, "{blocks:?}");
    }
}

/// A row owns whole words, and every byte of a block belongs to one row.
#[test]
fn rows_share_no_word() {
    for blocks in FORMATS.into_iter().flat_map(blocks) {
        let mut owners = vec![0; blocks.block_bytes()];
        for row in 0..BLOCK {
            for range in blocks.ranges(row..row + 1) {
                assert!(range.start.is_multiple_of(4) && range.end.is_multiple_of(4), "{blocks:?}");
                owners[range].iter_mut().for_each(|owner| *owner += 1);
            }
        }
        assert!(owners.iter().all(|&owner| owner == 1), "{blocks:?}");
    }
}

#[test]
fn shards_hold_all_rows_once() {
    let f16 = DType::F16.into();
    let blocks = Blocks::new(1000, 64, f16, 3 * 64 * 64 * 2).unwrap();
    assert_eq!(blocks.shards(), 6);
    let rows: Vec<_> = (0..6).map(|s| blocks.shard_rows(s)).collect();
    assert_eq!(rows[0], (0, 192));
    assert_eq!(rows[5], (960, 40));
    assert_eq!((0..6).map(|s| blocks.shard_bytes(s)).sum::<usize>(), 16 * blocks.block_bytes());
    assert_eq!(blocks.place(4), (1, 64 * 64 * 2));
    assert!(Blocks::new(64, 64, f16, 100).is_none());
}
