//! Work lists cover every row once.
#![allow(clippy::unwrap_used)]

use super::*;

fn step(seqs: &[(usize, usize)]) -> Step {
    let mut step = Step { query_start: vec![0], ..Step::default() };
    for &(tokens, len) in seqs {
        step.query_start.push(step.query_start.last().unwrap() + tokens as u32);
        step.positions.extend((len - tokens) as u32..len as u32);
    }
    step
}

/// Every query row lies in exactly one tile (or one for each part), and slots do not overlap.
#[test]
fn lists_cover_every_row_once() {
    for (group, prefill_rows) in [(1, 64), (1, 128), (3, 128), (4, 64), (16, 64), (20, 128), (32, 64)] {
        let tiling = Tiling { group, prefill_rows };
        let seqs = [(1, 5), (1, SPLIT), (1, SPLIT + 1), (1, 5 * SPLIT), (3, 9), (200, 300), (70, 3000)];
        let lists = Lists::new(&step(&seqs), tiling);
        let mut slots: Vec<u32> = Vec::new();
        for (s, &(tokens, len)) in seqs.iter().enumerate() {
            let parts = if tokens == 1 { len.div_ceil(SPLIT) } else { 1 };
            let mut seen = vec![0; tokens * group];
            let tiles = [(&lists.decode, DECODE_ROWS), (&lists.prefill, prefill_rows)];
            for (item, rows) in tiles.iter().flat_map(|(l, rows)| l.iter().map(|i| (*i, *rows))) {
                if item.seq as usize == s {
                    let first = item.row as usize;
                    (first..(first + rows).min(seen.len())).for_each(|r| seen[r] += 1);
                    slots.extend(Some(item.slot).filter(|&s| s != ALL));
                }
            }
            assert!(seen.iter().all(|&n| n == parts), "sequence {s}, group {group}: {seen:?}");
        }
        let count = slots.len();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), count);
        let dims = Dims {
            tokens: seqs.iter().map(|s| s.0).sum(),
            seqs: seqs.len(),
            page_size: 16,
            pages_per_seq: 5 * SPLIT / 16,
            ..Dims::default()
        };
        let max = max_work(&dims, tiling);
        let count = lists.count();
        assert!(count.decode <= max.decode && count.prefill <= max.prefill);
        assert!(count.merges <= max.merges);
    }
}
