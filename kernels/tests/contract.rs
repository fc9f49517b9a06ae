//! The numeric contract of single ops, bit by bit: what shares a step with a row never changes it.
#![allow(clippy::unwrap_used)]

mod common;

use common::few::{few_have_the_bits_of_many, grouped};
use common::{BF16, F16, F16_FP8_PAGES, FP8_PAGES};
use engine::cases::{Attention, Case, Formats, attention, linear, linear_residual, sample, sample_filtered};
use engine::device::Device;
use engine::format::Format;
use engine::step::SampleRow;
use kernels::CudaDevice;

/// The output rows of a case, as bytes.
fn run(device: &mut CudaDevice, case: &Case) -> Vec<Vec<u8>> {
    let (id, _) = case.run(device).unwrap();
    let (view, rows) = case.outputs[0];
    let bytes = device.read(id, view.buffer, 0..rows).unwrap();
    bytes.chunks_exact(bytes.len() / rows).map(<[u8]>::to_vec).collect()
}

/// Rows of a Linear among few and among many, whatever tile is chosen for them.
#[test]
fn linear_rows_do_not_see_each_other() {
    rows_do_not_see_each_other(BF16, linear);
}

/// The same where the Linear adds to the residual itself.
#[test]
fn linear_rows_with_a_residual_do_not_see_each_other() {
    rows_do_not_see_each_other(BF16, linear_residual);
}

/// The same with blocks of quantised weights.
#[test]
fn linear_rows_with_quantized_weights_do_not_see_each_other() {
    for &weights in Format::SCALED {
        rows_do_not_see_each_other(Formats { weights, ..BF16 }, linear);
        rows_do_not_see_each_other(Formats { weights, ..BF16 }, linear_residual);
    }
}

fn rows_do_not_see_each_other(formats: Formats, case: fn(Formats, usize, usize, usize, bool) -> Case) {
    let mut device = common::open(None);
    let all = 300;
    let (k, n) = (if formats.weights.block() == 1 { 200 } else { 224 }, 328);
    let many = case(formats, all, k, n, true);
    let want = run(&mut device, &many);
    for rows in [1, 2, 15, 16, 17, 33, 64, 65, 129, 200] {
        let mut few = case(formats, rows, k, n, true);
        // The same numbers: the first rows of the many, from row 3 on.
        for ((_, to), (_, from)) in few.writes.iter_mut().zip(&many.writes) {
            let skip = if to.len() == from.len() { 0 } else { 3 * from.len() / all };
            if to.len() <= from.len() - skip {
                *to = from[skip..][..to.len()].to_vec();
            }
        }
        assert!(run(&mut device, &few) == want[3..3 + rows], "{rows} rows differ from the same among {all}");
    }
}

/// A context of three parts: prefilled in one piece, in chunks, or one token at a time, with pages of
/// different sizes, each position gives the same bits.
#[test]
fn attention_does_not_see_how_it_is_scheduled() {
    let all = [(None, None), (Some(1100), None), (None, Some(1.5)), (Some(1100), Some(1.5))];
    schedules_are_not_seen(BF16, &all);
}

/// The same over pages in FP8.
#[test]
fn attention_over_fp8_pages_does_not_see_how_it_is_scheduled() {
    schedules_are_not_seen(FP8_PAGES, &[(None, None), (Some(1100), Some(1.5))]);
}

fn schedules_are_not_seen(formats: Formats, shapes: &[(Option<usize>, Option<f32>)]) {
    let mut device = common::open(None);
    let len = 2100;
    for &(window, softcap) in shapes {
        let shape = |page_size| Attention { window, softcap, ..Attention::new(8, 2, 64, page_size) };
        // Queries 2030 .. 2100 at once, over parts 0 ..= 2: positions from 2048 on have a third part.
        let whole = attention(formats, shape(16), &[(70, len)]);
        let want = run(&mut device, &whole);
        for (queries, end, page_size) in
            [(1, 2100, 16), (1, 2049, 16), (1, 2048, 16), (3, 2050, 16), (40, 2080, 64)]
        {
            let mut part = attention(formats, shape(page_size), &[(queries, end)]);
            copy_context(&whole, &mut part, len - 70, end - queries);
            let first = end - queries - (len - 70);
            let got = run(&mut device, &part);
            assert!(
                got == want[first..first + queries],
                "{queries} queries up to {end}, pages of {page_size}, window {window:?}, softcap {softcap:?}"
            );
        }
    }
}

/// A context of ten parts, which decode walks side by side and merges, and a prompt one after the other.
#[test]
fn attention_over_many_parts() {
    let mut device = common::open(None);
    let (shape, len) = (Attention::new(64, 4, 128, 16), 9300);
    let whole = attention(F16, shape, &[(2, len)]);
    let mut part = attention(F16, shape, &[(1, len)]);
    copy_context(&whole, &mut part, len - 2, len - 1);
    assert!(run(&mut device, &part)[0] == run(&mut device, &whole)[1]);
}

/// Decode where warps share the tile of a sequence, and where there are too many sequences for that.
#[test]
fn attention_of_few_sequences_and_of_many() {
    let shape = |window, softcap, shape| Attention { window, softcap, ..shape };
    few_have_the_bits_of_many(&[
        (F16, grouped(16, 128, 16)),
        (F16, shape(Some(130), Some(1.5), grouped(4, 64, 16))),
        (BF16, shape(Some(1100), None, grouped(7, 64, 32))),
        (F16_FP8_PAGES, grouped(16, 128, 16)),
        (FP8_PAGES, shape(Some(130), Some(1.5), grouped(1, 256, 16))),
    ]);
}

/// Gives `to` the keys, values and queries of `from`, position by position, through their block tables.
fn copy_context(from: &Case, to: &mut Case, from_first: usize, to_first: usize) {
    let slot = |case: &Case, p: usize| {
        case.step.block_tables[p / case.step.page_size] as usize * case.step.page_size
            + p % case.step.page_size
    };
    let len = to.step.seq_len(0);
    for i in 0..to.writes.len() {
        let (id, bytes) = (to.writes[i].0, from.writes[i].1.clone());
        let desc = to.plan.desc(id);
        let row = desc.row_bytes();
        let places: Vec<(usize, usize)> = match desc.name.as_str() {
            "qkv" => (0..to.step.positions.len()).map(|t| (to_first + t - from_first, t)).collect(),
            "k pages" | "v pages" => (0..len).map(|p| (slot(from, p), slot(to, p))).collect(),
            _ => continue,
        };
        for (a, b) in places {
            to.writes[i].1[b * row..][..row].copy_from_slice(&bytes[a * row..][..row]);
        }
    }
}

/// A row of logits alone and among others, whatever it keeps of its tokens and reports.
#[test]
fn sampled_rows_do_not_see_each_other() {
    let mut device = common::open(None);
    for many in [sample(5000, true), sample_filtered(5000)] {
        let (_, all) = many.run(&mut device).unwrap();
        for (row, how) in many.step.sampling.iter().enumerate() {
            let mut one = many.clone();
            one.step.output_rows.truncate(1);
            one.step.sampling = vec![SampleRow { target_start: 0, ..*how }];
            one.step.targets =
                many.step.targets[how.target_start as usize..][..how.target_len as usize].to_vec();
            let logits = &mut one.writes[0].1;
            let bytes = logits.len() / 8;
            logits.copy_within(row * bytes..(row + 1) * bytes, 0);
            let (_, alone) = one.run(&mut device).unwrap();
            let same = bytemuck::bytes_of(&alone.sampled[0]) == bytemuck::bytes_of(&all.sampled[row]);
            assert!(same, "row {row} of {}: {:?}, alone {:?}", many.name, all.sampled[row], alone.sampled[0]);
        }
    }
}

/// What the tests above compare must be able to differ.
#[test]
fn another_key_gives_other_bits() {
    let mut device = common::open(None);
    let whole = attention(BF16, Attention::new(8, 2, 64, 16), &[(1, 2100)]);
    let mut other = attention(BF16, Attention::new(8, 2, 64, 16), &[(1, 2100)]);
    for (_, bytes) in &mut other.writes[1..2] {
        bytes.iter_mut().step_by(2).for_each(|b| *b ^= 0x10);
    }
    assert!(run(&mut device, &whole) != run(&mut device, &other));
}
