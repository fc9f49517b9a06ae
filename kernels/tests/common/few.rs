//! Attention of few sequences beside that of many.

use super::open;
use engine::cases::{Attention, Case, Formats, attention};
use engine::device::Device;
use engine::plan::Rows;
use kernels::CudaDevice;
use std::ops::Range;

/// The output rows of a case, as bytes.
fn run(device: &mut CudaDevice, case: &Case) -> Vec<Vec<u8>> {
    let (id, _) = case.run(device).unwrap();
    let (view, rows) = case.outputs[0];
    let bytes = device.read(id, view.buffer, 0..rows).unwrap();
    bytes.chunks_exact(bytes.len() / rows).map(<[u8]>::to_vec).collect()
}

/// One token each, about the ends of blocks, rounds and parts, then prompts of a few tokens.
const SEQS: [(usize, usize); 14] = [
    (1, 1),
    (1, 63),
    (1, 64),
    (1, 65),
    (1, 255),
    (1, 256),
    (1, 257),
    (1, 511),
    (1, 1024),
    (1, 1025),
    (1, 2049),
    (2, 129),
    (3, 330),
    (4, 1000),
];

/// Sequences of a case that are alone in a step: the same queries, the same pages.
fn alone(formats: Formats, shape: Attention, many: &Case, which: Range<usize>) -> Case {
    let mut few = attention(formats, shape, &SEQS[which.clone()]);
    few.plan = many.plan.clone();
    let (step, all) = (&mut few.step, &many.step);
    let pages = all.pages_per_seq;
    let tokens = all.query_start[which.start] as usize..all.query_start[which.end] as usize;
    (few.max_dims.pages, few.max_dims.pages_per_seq) = (many.max_dims.pages, pages);
    step.pages_per_seq = pages;
    step.block_tables = all.block_tables[which.start * pages..which.end * pages].to_vec();
    step.kv_slots = all.kv_slots[tokens.clone()].to_vec();
    for ((id, to), (_, from)) in few.writes.iter_mut().zip(&many.writes) {
        let desc = many.plan.desc(*id);
        let row = desc.row_bytes();
        *to = match desc.rows {
            Rows::Tokens => from[tokens.start * row..tokens.end * row].to_vec(),
            _ => from.clone(),
        };
    }
    few
}

/// Sequences by themselves and four at a time have the bits that they have among so many that a warp is alone with a tile.
/// Of results in f16 one in a few thousand shows a last bit of f32, so there are many.
pub fn few_have_the_bits_of_many(shapes: &[(Formats, Attention)]) {
    // No card has as many multiprocessors.
    let seqs = [&SEQS[..], &[(1, 1); 150]].concat();
    for &(formats, shape) in shapes {
        let mut device = open(None);
        let many = attention(formats, shape, &seqs);
        let want = run(&mut device, &many);
        let starts = &many.step.query_start;
        let ones = (0..SEQS.len()).map(|s| s..s + 1);
        for which in ones.chain([0..4, 4..8, 7..11, 10..14]) {
            let few = alone(formats, shape, &many, which.clone());
            let rows = starts[which.start] as usize..starts[which.end] as usize;
            assert!(run(&mut device, &few) == want[rows], "{:?} of {shape:?}, {formats:?}", &SEQS[which]);
        }
    }
}

/// Two KV heads, each with so many query heads.
pub fn grouped(group: usize, head_dim: usize, page_size: usize) -> Attention {
    Attention::new(2 * group, 2, head_dim, page_size)
}
