//! Linear on a card with `wgmma`, on a stand-in driver whose card is one: bits, faults planted in the real kernel.
//!
//! The stand-in reads its settings once for each process, so each test runs its body in a child.
#![allow(clippy::unwrap_used)]

mod common;

use common::BF16;
use engine::cases::{Case, Formats, linear, linear_gated, linear_residual};
use engine::device::Device;
use engine::dtype::DType;
use engine::op::Activation;
use kernels::{CudaDevice, Options};
use std::process::Command;

fn open(linear_tile: Option<(usize, usize)>) -> CudaDevice {
    CudaDevice::open_with(Options { linear_tile, cache: common::cache(), ..Options::default() }).unwrap()
}

/// Runs the body in a child with these settings of the stand-in, and returns what it printed.
fn child(test: &str, settings: &[(&str, &str)], body: impl FnOnce()) -> Option<String> {
    if std::env::var_os("SM90_CHILD").is_some() {
        body();
        return None;
    }
    if kernels::devices().iter().any(|d| d.unusable.is_none()) {
        eprintln!("SKIPPED: {test} plants faults or asks for a stand-in, and there is a card");
        return None;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env("SM90_CHILD", "1").env("GRISTMILL_STANDIN_ARCH", "90");
    command.envs(settings.iter().map(|(name, value)| (format!("GRISTMILL_STANDIN_{name}"), value)));
    let output = command.output().unwrap();
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn passes(test: &str, settings: &[(&str, &str)], body: impl FnOnce()) {
    let said = child(test, settings, body);
    assert!(said.as_ref().is_none_or(|said| said.contains("test result: ok. 1 passed")), "{}", said.unwrap());
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
        let tiles: Vec<(usize, usize)> = kernels::linear_tiles().iter().map(|t| (t.0, t.1)).collect();
        for (formats, tiles) in [(BF16, &tiles[..]), (f16, &tiles[4..7])] {
            let cases = all_ends(formats);
            let mut first: Option<Vec<Vec<u8>>> = None;
            for tile in tiles {
                let mut device = open(Some(*tile));
                let bits: Vec<Vec<u8>> = cases
                    .iter()
                    .map(|case| {
                        match (case.name.contains("x131") || case.name.contains("x67")) && tile.1 > 128 {
                            // Rows of out that cannot be moved 16 bytes at a time have no tiles so wide.
                            true => Vec::new(),
                            false => run(&mut device, case),
                        }
                    })
                    .collect();
                match &first {
                    None => {
                        for case in &cases {
                            common::compare(&mut device, formats, case).unwrap();
                        }
                        first = Some(bits);
                    }
                    Some(first) => {
                        for ((case, want), got) in cases.iter().zip(first).zip(&bits) {
                            assert!(got.is_empty() || got == want, "{} with {tile:?}", case.name);
                        }
                    }
                }
            }
        }
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
            ];
            for case in small {
                common::compare(&mut device, BF16, &case).unwrap();
            }
        });
    }
}

/// The child's part: with a planted fault, what comes of a Linear and of one with a residual.
#[test]
fn runs_cases() {
    if std::env::var_os("SM90_CHILD").is_none() {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    common::cache();
    let options =
        Options { linear_tile: Some((1, 16)), cache: Some(cache.path().into()), ..Options::default() };
    let mut device = CudaDevice::open_with(options).unwrap();
    let mut outcome = Ok(());
    for case in [linear(BF16, 70, 400, 72, true), linear_residual(BF16, 33, 64, 72, false)] {
        outcome = outcome.and_then(|()| common::compare(&mut device, BF16, &case));
    }
    println!("outcome: {}", outcome.map_or_else(|why| why, |()| "right".into()));
    // After a fault every call fails, those of destructors too.
    std::process::exit(0);
}

/// The stand-in finds the fault and says `sign`, or the comparison does.
fn caught(patch: &str, check: &str, sign: &str) {
    let Some(said) = child("runs_cases", &[("PATCH", patch), ("CHECK", check)], || ()) else { return };
    assert!(said.contains("outcome: ") && !said.contains("outcome: right"), "{patch}: {said}");
    assert!(said.contains(sign), "{patch}: `{sign}` is missing in {said}");
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
