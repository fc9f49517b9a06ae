//! Attention of prompts on a card with `wgmma`, on a stand-in driver whose card is one: bits, faults planted in the real
//! kernel.
#![allow(clippy::unwrap_used)]

mod common;

use common::child::{caught, passes, tell_outcome};
use common::{BF16, F16, F16_FP8_PAGES, FP8_PAGES};
use engine::cases::{Attention, Case, attention};
use engine::device::Device;
use kernels::{CudaDevice, Options};

fn open(mma_prefill: bool) -> CudaDevice {
    CudaDevice::open_with(Options { mma_prefill, cache: common::cache(), ..Options::default() }).unwrap()
}

/// The bytes of the first output.
fn run(device: &mut CudaDevice, case: &Case) -> Vec<u8> {
    let (id, _) = case.run(device).unwrap();
    let (view, rows) = case.outputs[0];
    device.read(id, view.buffer, 0..rows).unwrap()
}

/// Both widths of heads, groups of many sizes, pages that bulk copies can fetch and others, pages in FP8, windows, soft caps,
/// chunks of prompts, contexts of several parts.
fn cases() -> Vec<Case> {
    let window = |window, shape| Attention { window: Some(window), ..shape };
    let softcap = |softcap, shape| Attention { softcap: Some(softcap), ..shape };
    let short = &[(33, 100), (70, 70), (1, 65), (130, 200), (5, 5)][..];
    vec![
        attention(BF16, Attention::new(8, 2, 128, 16), short),
        attention(F16, Attention::new(8, 2, 128, 32), short),
        attention(BF16, Attention::new(2, 2, 64, 16), short),
        attention(BF16, Attention::new(9, 3, 64, 8), short),
        attention(BF16, Attention::new(9, 1, 128, 12), short),
        attention(F16, window(40, Attention::new(4, 1, 128, 64)), short),
        attention(BF16, softcap(2.0, window(100, Attention::new(4, 2, 64, 16))), short),
        attention(BF16, Attention::new(4, 1, 128, 16), &[(70, 2100), (20, 1030), (40, 1024)]),
        attention(BF16, softcap(1.5, window(1100, Attention::new(2, 1, 64, 16))), &[(70, 2100), (150, 150)]),
        attention(FP8_PAGES, Attention::new(8, 2, 128, 16), short),
        attention(F16_FP8_PAGES, softcap(1.5, window(1100, Attention::new(2, 1, 64, 12))), &[(70, 2100)]),
    ]
}

/// The results are right, and have the bits that the kernel of other cards gives. With `SM90_CHILD` set it runs on a real
/// card.
#[test]
fn prompts_have_the_bits_of_mma() {
    passes("prompts_have_the_bits_of_mma", &[], || {
        let (mut wgmma, mut mma) = (open(false), open(true));
        if wgmma.info().family != "cuda sm_90a" {
            eprintln!("SKIPPED: the card has no wgmma");
            return;
        }
        for case in cases() {
            common::compare(&mut wgmma, BF16, &case).unwrap();
            assert!(run(&mut wgmma, &case) == run(&mut mma, &case), "{}", case.name);
        }
    });
}

/// Whether two sequences share a block with nothing but what they see: NaN in all other places changes no bit.
#[test]
fn what_no_row_sees_does_not_matter() {
    passes("what_no_row_sees_does_not_matter", &[], || {
        let mut device = open(false);
        for (formats, page_size) in [(BF16, 8), (BF16, 12), (BF16, 16), (BF16, 64), (FP8_PAGES, 16)] {
            let shape = Attention { window: Some(50), ..Attention::new(4, 2, 64, page_size) };
            let seqs = [(30, 100), (90, 90), (40, 41)];
            let case = attention(formats, shape, &seqs);
            let mut spoilt = case.clone();
            let mut seen = std::collections::HashSet::new();
            for (s, (tokens, len)) in seqs.into_iter().enumerate() {
                // Each row sees 50 positions.
                for p in (len - tokens).saturating_sub(49)..len {
                    let page = case.step.block_tables[s * case.step.pages_per_seq + p / page_size] as usize;
                    seen.insert(page * page_size + p % page_size);
                }
            }
            for (id, bytes) in &mut spoilt.writes {
                let desc = case.plan.desc(*id);
                if !desc.name.ends_with(" pages") {
                    continue;
                }
                for (slot, row) in bytes.chunks_exact_mut(desc.row_bytes()).enumerate() {
                    if !seen.contains(&slot) {
                        row.fill(0xff);
                    }
                }
            }
            assert!(spoilt.writes != case.writes);
            assert!(
                run(&mut device, &spoilt) == run(&mut device, &case),
                "pages of {page_size}, {formats:?}"
            );
        }
    });
}

/// The strictest check finds nothing in the sound kernel, whatever the order in which copies land.
#[test]
fn sound_kernel_passes() {
    for schedule in ["lazy", "3"] {
        passes("sound_kernel_passes", &[("CHECK", "full"), ("SCHEDULE", schedule)], || {
            let mut device = open(false);
            for case in [
                attention(BF16, Attention::new(8, 2, 64, 16), &[(70, 420), (33, 100), (5, 5)]),
                attention(
                    BF16,
                    Attention { window: Some(100), ..Attention::new(4, 1, 64, 8) },
                    &[(40, 1130)],
                ),
                attention(F16, Attention::new(4, 2, 128, 12), &[(70, 70)]),
                attention(FP8_PAGES, Attention::new(4, 2, 128, 16), &[(70, 150)]),
            ] {
                common::compare(&mut device, BF16, &case).unwrap();
            }
        });
    }
}

/// The child's part: with a planted fault, what comes of prompts.
#[test]
fn runs_cases() {
    tell_outcome(
        Options::default(),
        &[
            attention(BF16, Attention::new(4, 1, 64, 16), &[(40, 420), (70, 70)]),
            attention(BF16, Attention { window: Some(100), ..Attention::new(4, 1, 64, 16) }, &[(40, 1130)]),
            attention(
                FP8_PAGES,
                Attention { window: Some(310), ..Attention::new(4, 2, 128, 16) },
                &[(70, 450)],
            ),
        ],
    );
}

#[test]
fn faults_in_the_pipeline() {
    let turn = "turns.wait();\n                wgmma_rows(p);";
    let wait = "mbarrier_wait(barriers.full(ring.slot), ring.parity);\n                ";
    caught(&format!("{wait}{turn} => {turn}"), "full", "wgmma read");
    caught("mbarrier_wait(barriers.empty(ring.slot), ring.parity); => ;", "full", "still has to fill");
    let empty = "mbarrier_init(empty(s), 4";
    caught(&format!("{empty} * WGS); => {empty});"), "full", "attention_sm90");
    caught("mbarrier_wait(barriers.queries_full(), parity); => ;", "full", "of shared memory");
    caught("mbarrier_wait(barriers.queries_empty(), queries_parity); => ;", "full", "attention_sm90");
    caught("__syncwarp();\n    const u32 first => const u32 first", "full", "a barrier is missing");
    let release = "wgmma_results(acc);\n                w.release(slot);";
    caught(
        &format!("wgmma_wait<0>();\n                {release} => {release}"),
        "full",
        "race in shared memory",
    );
    caught("wgmma_wait<1>(); => ;", "fast", "the oracle says");
    caught(
        "cp_async_wait<0>();\n                fence_proxy_async(); => fence_proxy_async();",
        "full",
        "cp.async",
    );
    caught(
        "fence_proxy_async();\n                __syncwarp(); => __syncwarp();",
        "full",
        "without the asynchronous proxy",
    );
    caught("mbarrier_arrive_if(others, threadIdx.x % 32 == 0); => ;", "fast", "deadlock: ");
    let registers = "#define PRODUCER_REGISTERS";
    caught(&format!("{registers} 88 => {registers} 96"), "fast", "registers, the block has 64512");
    caught("Ring ring = {0, 1}; => Ring ring = {0, 0};", "fast", "deadlock: ");
}

#[test]
fn faults_in_the_results() {
    caught("acc[e] *= factor[e / 2 % 2] => acc[e] *= factor[0]", "fast", "the oracle says");
    caught("if (over) whole.merge => if (false) whole.merge", "fast", "the oracle says");
    caught("whole.finish(acc, max_score, sum, a.scale); => ;", "fast", "the oracle says");
    caught("all_to = a.positions[tile.begin + row / a.group] + 1 => all_to = to", "fast", "the oracle says");
    caught("all_from = start(a, to - 1) => all_from = 0", "fast", "the oracle says");
    caught("+ 128 * k, 1) => , 1)", "fast", "the oracle says");
    caught("const bool seen = source != NOWHERE; => const bool seen = true;", "full", "attention_sm90");
}

#[test]
fn faults_in_what_is_widened() {
    let widen = "narrow.widen(slots + slot, warp);\n            fence_proxy_async();";
    caught(
        &format!("{widen} => narrow.widen(slots + slot, warp);"),
        "full",
        "without the asynchronous proxy",
    );
    caught(
        "parity);\n            narrow.widen => parity);\n            if (false) narrow.widen",
        "full",
        "wgmma read",
    );
    caught(
        "place(slot, row, 2 * chunk + 1)) = high => place(slot, row, 2 * chunk + 1)) = low",
        "fast",
        "the oracle says",
    );
    caught(
        "store(slot + KEYS, row, chunk, values[i]) => store(slot + KEYS, row, chunk, keys[i])",
        "fast",
        "the oracle says",
    );
    let empty = "mbarrier_wait(barriers.empty(ring.slot), ring.parity);\n            narrow";
    caught(&format!("{empty} => narrow"), "full", "attention_sm90, block");
}
