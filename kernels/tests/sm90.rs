//! Linear on a card with `wgmma`, on a stand-in driver whose card is one: bits, faults planted in the real kernel.
//!
//! The stand-in reads its settings once for each process, so each test runs its body in a child.
#![allow(clippy::unwrap_used)]

mod common;

use common::BF16;
use common::child::{caught, passes, tell_outcome};
use engine::cases::{Case, Formats, linear, linear_gated, linear_residual};
use engine::device::Device;
use engine::dtype::DType;
use engine::e4m3;
use engine::format::Format;
use engine::op::Activation;
use kernels::{CudaDevice, Options};

fn open(linear_tile: Option<(usize, usize)>) -> CudaDevice {
    CudaDevice::open_with(Options { linear_tile, cache: common::cache(), ..Options::default() }).unwrap()
}

/// With FP8 weights x is quantised by row.
const FP8: Formats = Formats { weights: Format::Fp8, ..BF16 };
const FP8_BLOCKS: Formats = Formats { weights: Format::Fp8Blocks, ..BF16 };

/// The greatest magnitude of the rows of [`with_e4m3_rows`], whose scale is 1 / 512, divided by a power of two.
const GREATEST: f32 = e4m3::MAX / 512.0;

/// The case with rows of x that are e4m3 elements times a power of two if `rounded`, so that nothing is lost when the
/// device quantises them; else with those that become these.
fn with_e4m3_rows(mut case: Case, rounded: bool) -> Case {
    let x = case.plan.iter().find(|(_, desc)| desc.name == "x").unwrap();
    let (id, dtype, cols) = (x.0, x.1.value_type(), x.1.cols);
    let (_, bytes) = case.writes.iter_mut().find(|(buffer, _)| *buffer == id).unwrap();
    let mut values = dtype.decode(bytes);
    for (r, row) in values.chunks_exact_mut(cols).enumerate() {
        row.iter_mut().for_each(|v| *v = v.clamp(-GREATEST, GREATEST));
        row[1] = GREATEST;
        // Small ones too.
        row.iter_mut().skip(2).step_by(3).for_each(|v| *v *= 0.01);
        if rounded {
            row.copy_from_slice(&dtype.decode(&dtype.encode(row)));
            row.iter_mut().for_each(|v| *v = e4m3::to_f32(e4m3::from_f32(*v * 512.0)) / 512.0);
        }
        // Each row has a scale of its own.
        row.iter_mut().for_each(|v| *v /= (1 << (r % 4)) as f32);
    }
    *bytes = dtype.encode(&values);
    case
}

/// The bytes of the first output.
fn run(device: &mut CudaDevice, case: &Case) -> Vec<u8> {
    let (id, _) = case.run(device).unwrap();
    let (view, rows) = case.outputs[0];
    device.read(id, view.buffer, 0..rows).unwrap()
}

/// Cases with tails of all sides, of every end that the kernel has.
fn all_ends(f: Formats) -> Vec<Case> {
    let mut wide = linear(f, 21, 136, 200, true);
    let out = wide.outputs[0].0.buffer;
    wide.plan.buffers.iter_mut().find(|desc| desc.name == "out").unwrap().format = DType::F32.into();
    wide.writes.retain(|(id, _)| *id != out);
    vec![
        linear(f, 300, 200, 328, true),
        linear(f, 70, 72, 131, false),
        linear_residual(f, 150, 136, 264, true),
        linear_residual(f, 33, 64, 67, false),
        linear_gated(f, 140, 136, 200, true, Activation::Silu),
        wide,
    ]
}

/// Every tile gives the same bits, for every end; and they are right. With `SM90_CHILD` set it runs on a real card.
#[test]
fn every_tile_gives_the_same_bits() {
    passes("every_tile_gives_the_same_bits", &[], || {
        if open(None).info().family != "cuda sm_90a" {
            eprintln!("SKIPPED: the card has no wgmma");
            return;
        }
        let f16 = Formats { activations: DType::F16, weights: DType::F16.into(), kv: DType::F16 };
        let fp8_f16 = Formats { weights: Format::Fp8, ..f16 };
        let tiles: Vec<(usize, usize)> = kernels::linear_tiles().iter().map(|t| (t.0, t.1)).collect();
        for (formats, tiles) in [
            (BF16, &tiles[..]),
            (f16, &tiles[4..7]),
            (FP8, &tiles[..]),
            (fp8_f16, &tiles[4..6]),
            (FP8_BLOCKS, &tiles[..]),
        ] {
            let mut cases = all_ends(formats);
            let blocks = formats.weights == Format::Fp8Blocks;
            if blocks || formats.weights == Format::Fp8 {
                cases = cases.into_iter().map(|case| with_e4m3_rows(case, true)).collect();
            }
            // Rows of out that cannot be moved 16 bytes at a time have no tiles so wide, nor do blocks.
            let has = |tile: (usize, usize), case: &Case| {
                let single = case.name.contains("x131") || case.name.contains("x67");
                tile.1
                    <= match (blocks, tile.0) {
                        (true, 3) => 96,
                        (true, _) if !single => 192,
                        (_, _) if single => 128,
                        (_, _) => 256,
                    }
            };
            let bits_of = |tile: (usize, usize)| -> Vec<Option<Vec<u8>>> {
                let mut device = open(Some(tile));
                cases.iter().map(|case| has(tile, case).then(|| run(&mut device, case))).collect()
            };
            // Together, since most of the time goes into compiling.
            let bits: Vec<Vec<Option<Vec<u8>>>> = std::thread::scope(|scope| {
                let bits_of = &bits_of;
                let each: Vec<_> = tiles.iter().map(|tile| scope.spawn(move || bits_of(*tile))).collect();
                each.into_iter().map(|each| each.join().unwrap()).collect()
            });
            let mut device = open(Some(tiles[0]));
            for case in &cases {
                common::compare(&mut device, formats, case).unwrap();
            }
            for (tile, got) in tiles.iter().zip(&bits) {
                for ((case, want), got) in cases.iter().zip(&bits[0]).zip(got) {
                    assert!(want.is_some() && (got.is_none() || got == want), "{} with {tile:?}", case.name);
                }
            }
        }
    });
}

/// An FP8 Linear rounds elements of x to the nearest e4m3, and gives a row the bits that it has without the others: NaN
/// and infinities make NaN of their own row only.
#[test]
fn rows_are_quantised_by_themselves() {
    passes("rows_are_quantised_by_themselves", &[], || {
        let mut device = open(None);
        if device.info().family != "cuda sm_90a" {
            eprintln!("SKIPPED: the card has no wgmma");
            return;
        }
        quantise_rows(&mut device, &[all_ends(FP8), all_ends(FP8_BLOCKS)].concat());
    });
}

/// The same of `mma.sync`, on cards that multiply e4m3 numbers with it; its products are right.
#[test]
fn mma_quantises_rows_by_themselves() {
    passes("mma_quantises_rows_by_themselves", &[("ARCH", "89")], || {
        let options = Options { mma: true, cache: common::cache(), ..Options::default() };
        let mut device = CudaDevice::open_with(options).unwrap();
        if device.info().family != "cuda mma e4m3" {
            eprintln!("SKIPPED: the card does not multiply e4m3 numbers");
            return;
        }
        quantise_rows(&mut device, &all_ends(FP8));
        for case in all_ends(FP8) {
            common::compare(&mut device, FP8, &with_e4m3_rows(case, true)).unwrap();
        }
    });
}

fn quantise_rows(device: &mut CudaDevice, cases: &[Case]) {
    for case in cases {
        let exact = run(device, &with_e4m3_rows(case.clone(), true));
        assert!(run(device, &with_e4m3_rows(case.clone(), false)) == exact, "{}", case.name);
    }
    let (rows, k, n) = (70, 136, 72);
    let all = linear(FP8, rows, k, n, true);
    let want = run(device, &all);
    let mut spoilt = all.clone();
    let x = &mut spoilt.writes.iter_mut().find(|(_, bytes)| bytes.len() == rows * k * 2).unwrap().1;
    x[(3 * k + 5) * 2..][..2].copy_from_slice(&DType::BF16.encode(&[f32::NAN]));
    x[(4 * k + 6) * 2..][..2].copy_from_slice(&DType::BF16.encode(&[f32::NEG_INFINITY]));
    x[5 * k * 2..6 * k * 2].fill(0);
    let got = run(device, &spoilt);
    let row = |bytes: &[u8], r: usize| DType::BF16.decode(&bytes[r * n * 2..][..n * 2]);
    for r in 0..rows {
        match r {
            3 | 4 => assert!(row(&got, r).iter().all(|v| v.is_nan()), "row {r}"),
            5 => assert!(row(&got, r).iter().all(|v| v.is_finite()), "a row of zeros"),
            _ => assert_eq!(row(&got, r), row(&want, r), "row {r}"),
        }
    }
}

/// What a plan takes is what the device says, with quantised rows and without what lies between two ops that run together.
#[test]
fn memory_is_accounted_for() {
    passes("memory_is_accounted_for", &[("MEMORY", "1G")], || {
        let mut device = open(None);
        for formats in [BF16, FP8] {
            let case = linear_gated(formats, 4096, 264, 8192, false, Activation::Silu);
            let between = 2 * 8192 * 2 * 4096;
            // The first compilation opens what stays open.
            device.compile(&case.plan, &case.max_dims).unwrap();
            let before = device.info().memory_free;
            let buffers =
                case.plan.bytes(&case.max_dims, |_| true) + device.workspace(&case.plan, &case.max_dims);
            let spared = device.spared(&case.plan, &case.max_dims);
            device.compile(&case.plan, &case.max_dims).unwrap();
            let (taken, said) = (before - device.info().memory_free, buffers - spared);
            if device.info().family == "cuda sm_90a" {
                assert_eq!(spared, between);
            }
            assert!(taken <= said && said - taken < 16 << 20, "{taken} bytes were taken, {said} were said");
        }
        let case = linear(FP8, 3, 264, 72, false);
        assert_eq!(device.spared(&case.plan, &case.max_dims), 0);
    });
}

/// The strictest check finds nothing in the sound kernel, whatever the order in which copies land.
#[test]
fn sound_kernel_passes() {
    for (schedule, tile) in [("lazy", (2, 64)), ("3", (1, 16))] {
        passes("sound_kernel_passes", &[("CHECK", "full"), ("SCHEDULE", schedule)], || {
            let mut device = open(Some(tile));
            let small = [
                linear(BF16, 40, 136, 200, true),
                linear_residual(BF16, 33, 64, 72, false),
                linear_gated(BF16, 17, 72, 40, false, Activation::Silu),
                with_e4m3_rows(linear(FP8, 40, 136, 200, true), true),
                with_e4m3_rows(linear_gated(FP8, 17, 72, 40, false, Activation::Silu), true),
                with_e4m3_rows(linear(FP8_BLOCKS, 40, 264, 200, true), true),
            ];
            for case in small {
                common::compare(&mut device, BF16, &case).unwrap();
            }
        });
    }
}

/// The child's part: with a planted fault, what comes of a Linear whose blocks take more steps than there are slots, and of
/// one with a residual.
#[test]
fn runs_cases() {
    let fp8 = with_e4m3_rows(linear_residual(FP8, 33, 200, 72, false), true);
    let blocks = with_e4m3_rows(linear(FP8_BLOCKS, 33, 400, 72, false), true);
    tell_outcome(
        Options { linear_tile: Some((1, 16)), ..Options::default() },
        &[linear(BF16, 70, 1200, 72, true), linear_residual(BF16, 33, 64, 72, false), fp8, blocks],
    );
}

#[test]
fn faults_in_the_pipeline() {
    let wait_full = "mbarrier_wait(full + 8 * ring.slot, ring.parity); => ;";
    caught(wait_full, "full", "wgmma read");
    let wait_empty = "mbarrier_wait(empty + 8 * ring.slot, ring.parity); => ;";
    caught(wait_empty, "full", "of this phase have arrived");
    caught("wgmma_wait<1>(); => ;", "full", "race in shared memory");
    let fence = "fence_mbarrier_init();\n        fence_proxy_async(); => fence_mbarrier_init();";
    caught(fence, "full", "a fence.proxy.async between the init");
    caught("Ring ring = {0, 1}; => Ring ring = {0, 0};", "fast", "deadlock: ");
    caught("Ring ring = {0, 0}; => Ring ring = {0, 1};", "full", "of shared memory");
    caught(
        "if (lane == 0) mbarrier_arrive(empty => if (lane == 40) mbarrier_arrive(empty",
        "fast",
        "deadlock: ",
    );
}

#[test]
fn faults_in_the_results() {
    caught("p.token < rows && => ", "full", "linear_sm90");
    caught("meet(); // The room is free. => ;", "full", "race in shared memory");
    caught("weight + 2 * q, => weight,", "fast", "the oracle says");
    caught("step + q > 0 => 1", "fast", "the oracle says");
    caught("y[e] += to_f32 => y[e] -= to_f32", "fast", "the oracle says");
}

#[test]
fn faults_in_fp8() {
    caught("x0 * scales.feature0 => scales.feature0", "fast", "the oracle says");
    caught("a.weight_scales[feature + 8] => a.weight_scales[feature]", "fast", "the oracle says");
    caught("token + 1 < rows ? a.x_scales[token + 1] => 1 ? a.x_scales[token + 1]", "full", "linear_sm90");
    caught("* steps + step] => * steps]", "fast", "the oracle says");
    caught("scaled[e] = 0.0f; => ;", "fast", "the oracle says");
    caught("x + 2 * q, q > 0) => x + 2 * q, 1)", "fast", "the oracle says");
    caught("e / 2 % 2 ? scale1 => e % 2 ? scale1", "fast", "the oracle says");
    caught("#define DEEP (FP8 ? 128 : 64) => #define DEEP 64", "fast", "the oracle says");
    caught("a.scales[r] = greatest / 448.0f => a.scales[r] = greatest", "fast", "the oracle says");
    caught("if (i < a.cols) { => if (i + 8 < a.cols) {", "fast", "the oracle says");
    caught(
        "__syncthreads();\n#pragma unroll\n    for (u32 w => #pragma unroll\n    for (u32 w",
        "full",
        "quantize",
    );
}

/// Kernels that are launched before the ones ahead of them are done, and do not wait for them.
#[test]
fn faults_in_overlapping_launches() {
    let before = "before griddepcontrol.wait";
    caught("wait_for_kernels_before();\n    Ring ring => Ring ring", "full", before);
    let consumers = "take_registers<CONSUMER_REGISTERS>();";
    caught(&format!("{consumers}\n    wait_for_kernels_before(); => {consumers}"), "full", before);
    let norm = "wait_for_kernels_before();\n    const size_t run => const size_t run";
    caught(norm, "full", before);
    caught(norm, "fast", "no thread of the block called griddepcontrol.wait");
}
