//! KV pages in FP8: what is written into them, and what attention makes of it.
#![allow(clippy::unwrap_used)]

mod common;

use common::child::passes;
use common::{F16_FP8_PAGES, FP8_PAGES};
use engine::cases::{Attention, Case, Formats, attention, kv_write};
use engine::device::Device;
use engine::dtype::DType;
use engine::e4m3;
use kernels::CudaDevice;

const F32: Formats = Formats { kv: DType::E4M3, ..Formats::F32 };

/// Bytes of an output of a case.
fn run(device: &mut CudaDevice, case: &Case, output: usize) -> Vec<u8> {
    let (id, _) = case.run(device).unwrap();
    let (view, rows) = case.outputs[output];
    device.read(id, view.buffer, 0..rows).unwrap()
}

/// Every value of 16 bits, in columns that are moved 8 at a time and in others; of f32, values about every middle between
/// two elements.
#[test]
fn every_value_becomes_the_nearest_element() {
    let mut device = common::open(None);
    let middles = || (0..0x7E).map(|bits| (e4m3::to_f32(bits) + e4m3::to_f32(bits + 1)) / 2.0);
    let near = middles().flat_map(|middle| [middle.next_down(), middle, middle.next_up()]);
    let ends = [448.0, 448.0_f32.next_up(), 464.0, 465.0, 480.0, 1e30, f32::INFINITY, f32::NAN, 0.0, 1e-40];
    let of_f32: Vec<f32> = near.chain(ends).flat_map(|value| [value, -value]).collect();
    let of_16_bits: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    for (formats, cols) in
        [(FP8_PAGES, 1024), (FP8_PAGES, 1020), (FP8_PAGES, 1032), (F16_FP8_PAGES, 1024), (F32, 1024)]
    {
        let dtype = formats.activations;
        let values = if dtype == DType::F32 { of_f32.clone() } else { dtype.decode(&of_16_bits) };
        let rows = values.len().div_ceil(cols);
        let mut case = kv_write(formats, rows, cols, 16);
        let row = |r: usize| (0..3 * cols).map(move |c| (r, c));
        // A row of buffer `qkv` is another column, then keys, then values.
        let value = |(r, c): (usize, usize)| values[(r * cols + c % cols) % values.len()];
        case.writes[0].1 = dtype.encode(&(0..rows).flat_map(row).map(value).collect::<Vec<_>>());
        for output in 0..2 {
            let got = run(&mut device, &case, output);
            for (r, &slot) in case.step.kv_slots.iter().enumerate() {
                for c in 0..cols {
                    let value = value((r, c));
                    let (got, want) = (got[slot as usize * cols + c], e4m3::from_f32(value));
                    // The sign of NaN means nothing, and cards drop it.
                    let nan = value.is_nan() && got & 0x7F == 0x7F;
                    assert!(
                        nan || got == want,
                        "{value} in {formats:?}, column {c} of {cols}: {got}, not {want}"
                    );
                }
            }
        }
    }
}

/// Decode and prefill, few sequences and many, all widths of heads, groups, windows, soft caps, contexts of several parts.
fn cases(f: Formats) -> Vec<Case> {
    let window = |window, shape| Attention { window: Some(window), ..shape };
    let softcap = |softcap, shape| Attention { softcap: Some(softcap), ..shape };
    let mixed = &[(33, 100), (1, 65), (5, 5), (2, 129), (1, 300)][..];
    let many: Vec<(usize, usize)> = (0..150).map(|s| (1, 20 + s)).collect();
    let mut all = vec![
        attention(f, Attention::new(2, 1, 16, 16), mixed),
        attention(f, Attention::new(6, 2, 80, 64), mixed),
        attention(f, Attention::new(8, 2, 64, 16), mixed),
        attention(f, window(40, Attention::new(4, 1, 128, 8)), mixed),
        attention(f, softcap(0.5, window(9, Attention::new(2, 1, 256, 16))), mixed),
        attention(f, Attention::new(3, 3, 20, 16), mixed),
    ];
    if f == FP8_PAGES {
        all.push(attention(f, Attention::new(8, 4, 64, 16), &many));
        all.push(attention(f, Attention::new(8, 1, 128, 16), &[(1, 2100), (40, 1100), (1, 1024)]));
        all.push(attention(
            f,
            softcap(1.5, window(1100, Attention::new(4, 2, 64, 16))),
            &[(1, 2100), (30, 2060)],
        ));
    }
    all
}

/// The same case with pages of the activations' type that hold the same values.
fn widened(f: Formats, narrow: &Case) -> Case {
    let mut wide = narrow.clone();
    for (id, bytes) in &mut wide.writes {
        let desc = &mut wide.plan.buffers[id.0];
        if desc.value_type() == DType::E4M3 {
            *bytes = f.activations.encode(&DType::E4M3.decode(bytes));
            desc.format = f.activations.into();
        }
    }
    wide
}

fn pages_are_widened(formats: &[Formats]) {
    let mut device = common::open(None);
    for &f in formats {
        for narrow in cases(f) {
            let (got, want) = (run(&mut device, &narrow, 0), run(&mut device, &widened(f, &narrow), 0));
            assert!(got == want, "{f:?}: {}", narrow.name);
            assert!(f.activations.decode(&got).iter().all(|value| value.is_finite()), "{}", narrow.name);
        }
    }
}

/// Pages in FP8 give the bits of wide pages that hold the same values.
#[test]
fn fp8_pages_have_the_bits_of_wide_ones() {
    pages_are_widened(&[FP8_PAGES, F16_FP8_PAGES, F32]);
}

/// The same on a card with wgmma, which multiplies prompts over wide pages by it.
#[test]
fn fp8_pages_have_the_bits_of_wide_ones_on_sm_90a() {
    passes("fp8_pages_have_the_bits_of_wide_ones_on_sm_90a", &[], || pages_are_widened(&[FP8_PAGES]));
}

/// All elements, and NaN, which shows in what sees it and nowhere else.
#[test]
fn every_element_is_read_as_it_is() {
    let mut device = common::open(None);
    for (f, head_dim) in [(FP8_PAGES, 128), (F16_FP8_PAGES, 128), (F32, 128), (FP8_PAGES, 20)] {
        // One position: the answer is its value.
        let shape = Attention::new(2, 2, head_dim, 16);
        let seqs = [(1, 1); 8];
        let mut case = attention(f, shape, &seqs);
        let row = 2 * head_dim;
        for s in 0..seqs.len() {
            let slot = case.step.block_tables[s * case.step.pages_per_seq] as usize * 16;
            for c in 0..row {
                case.writes[2].1[slot * row + c] = ((s * row + c) % 256) as u8;
            }
        }
        assert!(case.plan.desc(case.writes[2].0).name == "v pages");
        let got = f.activations.decode(&run(&mut device, &case, 0));
        for (i, got) in got.iter().enumerate() {
            let want = e4m3::to_f32((i % 256) as u8);
            assert!(
                *got == want || got.is_nan() && want.is_nan(),
                "{f:?}: {:#x} gave {got}, not {want}",
                i % 256
            );
        }
        // A key that is no number.
        let slot = case.step.block_tables[3 * case.step.pages_per_seq] as usize * 16;
        case.writes[1].1[slot * row + head_dim + 5] = 0x7F;
        let got = f.activations.decode(&run(&mut device, &case, 0));
        let heads = got.chunks(head_dim).map(|head| head.iter().all(|value| value.is_nan()));
        assert!(heads.enumerate().all(|(head, nan)| nan == (head == 7)), "{f:?}");
    }
}
