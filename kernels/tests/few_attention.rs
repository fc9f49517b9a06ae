//! Attention of few sequences, whose warps share a tile: bits, and on the stand-in driver faults planted in the real kernel.
#![allow(clippy::unwrap_used)]

mod common;

use common::child::{caught, passes, tell_outcome};
use common::few::{few_have_the_bits_of_many, grouped};
use common::{BF16, F16, F16_FP8_PAGES, FP8_PAGES};
use engine::cases::{Attention, Case, attention};
use kernels::Options;

fn window(window: usize, shape: Attention) -> Attention {
    Attention { window: Some(window), ..shape }
}

fn softcap(softcap: f32, shape: Attention) -> Attention {
    Attention { softcap: Some(softcap), ..shape }
}

/// All widths of heads that a model has, groups, windows, soft caps, pages of many sizes.
#[test]
fn few_sequences_have_the_bits_of_many() {
    passes("few_sequences_have_the_bits_of_many", &[("ARCH", "80")], || {
        few_have_the_bits_of_many(&[
            (F16, softcap(1.5, window(130, grouped(16, 128, 8)))),
            (F16, window(1, grouped(4, 128, 12))),
            (BF16, softcap(2.0, grouped(1, 128, 16))),
            (F16, grouped(20, 64, 64)),
            (F16, window(300, grouped(4, 80, 16))),
            (F16, window(70, grouped(16, 96, 16))),
            (F16, softcap(0.5, window(700, grouped(16, 256, 16)))),
        ]);
    });
}

#[test]
fn few_sequences_over_fp8_pages_have_the_bits_of_many() {
    passes("few_sequences_over_fp8_pages_have_the_bits_of_many", &[("ARCH", "80")], || {
        few_have_the_bits_of_many(&[
            (F16_FP8_PAGES, window(1100, grouped(4, 128, 64))),
            (FP8_PAGES, softcap(1.5, window(130, grouped(7, 64, 8)))),
            (F16_FP8_PAGES, grouped(16, 96, 16)),
            (F16_FP8_PAGES, softcap(0.5, window(40, grouped(1, 256, 16)))),
        ]);
    });
}

/// The same where a round is two blocks and where it is four, by the shared memory of a card.
#[test]
fn few_sequences_have_the_bits_of_many_on_other_cards() {
    for card in ["89", "90"] {
        passes("few_sequences_have_the_bits_of_many_on_other_cards", &[("ARCH", card)], || {
            few_have_the_bits_of_many(&[
                (F16, grouped(16, 128, 16)),
                (F16, softcap(1.5, window(300, grouped(4, 128, 16)))),
                (F16_FP8_PAGES, grouped(16, 128, 16)),
            ]);
        });
    }
}

/// How a fault of the kernel is told; no error of the compiler is.
const OF_KERNEL: &str = "kernel attention_few, block";

/// Several tiles for each block of threads after a prompt, a last round of one block, windows that begin within a block and
/// behind a part.
fn cases() -> [Case; 3] {
    [
        attention(BF16, Attention::new(8, 2, 64, 16), &[(1, 300), (4, 330), (20, 40), (1, 17)]),
        attention(BF16, window(20, Attention::new(4, 2, 64, 16)), &[(1, 300), (3, 140)]),
        attention(BF16, window(1100, Attention::new(8, 2, 64, 16)), &[(1, 2300), (1, 1025)]),
    ]
}

/// The strictest check finds nothing in the sound kernel, whatever the order in which warps and copies go.
#[test]
fn sound_kernel_passes() {
    for (schedule, card) in [("lazy", "90"), ("3", "90"), ("5", "89")] {
        let settings = [("CHECK", "full"), ("SCHEDULE", schedule), ("ARCH", card)];
        passes("sound_kernel_passes", &settings, || {
            let mut device = common::open(None);
            let wide = attention(BF16, Attention::new(2, 1, 128, 16), &[(1, 400), (1, 70)]);
            for case in cases().into_iter().chain([wide]) {
                common::compare(&mut device, BF16, &case).unwrap();
            }
        });
    }
}

/// The child's part: with a planted fault, what comes of the cases.
#[test]
fn runs_cases() {
    tell_outcome(Options::default(), &cases());
}

#[test]
fn faults_in_the_pipeline() {
    let keys = "cp_async_wait<1>();\n                __syncwarp();";
    caught(&format!("{keys} => __syncwarp();"), "full", "a wait is missing");
    caught(&format!("{keys} => cp_async_wait<1>();"), "full", OF_KERNEL);
    caught("__syncwarp();\n            fetch => fetch", "full", "race in shared memory");
    caught("count, own_keys, a.k_pages); => count, own_values, a.k_pages);", "full", OF_KERNEL);
    let greatest = "Exchange::put(exchange.greatest, greatest);\n                __syncthreads();";
    caught(&format!("{greatest} => Exchange::put(exchange.greatest, greatest);"), "full", OF_KERNEL);
    let values = "cp_async_wait<1>();\n                __syncthreads();";
    caught(&format!("{values} => __syncthreads();"), "full", "a wait is missing");
    caught(&format!("{values} => cp_async_wait<1>();"), "full", OF_KERNEL);
    caught(
        "__syncthreads();\n                round += ROUND; => round += ROUND;",
        "full",
        "race in shared memory",
    );
    caught("if (!begun) wait_for_kernels_before();\n        load => load", "fast", "griddepcontrol.wait");
}

#[test]
fn faults_in_the_results() {
    // Keys of another block, and scores that none weighs.
    caught(
        "multiply_keys(s, qf[k], own_keys, k) => multiply_keys(s, qf[k], shared, k)",
        "fast",
        "the oracle says",
    );
    caught("|| block < seen_from) mask => ) mask", "fast", "the oracle says");
    caught("if (b == warp) own_max => if (b == 0) own_max", "fast", "the oracle says");
    caught("acc[n][e] *= factor[b][e / 2] => acc[n][e] *= factor[b][0]", "fast", "the oracle says");
    caught("fmaf(sum[h], factor[b][h], => fmaf(sum[h], factor[0][h],", "fast", "the oracle says");
    caught("exchange.weights[b][k][lane] => exchange.weights[0][k][lane]", "fast", "the oracle says");
    caught("values + b * BLOCK * KV_STRIDE => values", "fast", "the oracle says");
    caught("if (round + b * BLOCK >= tile.to) continue; => ", "full", OF_KERNEL);
    // The next tile begins before this one ends.
    caught("ahead.round = ahead.tile.from; => ahead.round = 0;", "fast", "the oracle says");
    caught("row < t.rows ? => true ?", "full", OF_KERNEL);
}
