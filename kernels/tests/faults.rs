//! Faults planted in the real kernels, one of each kind, and that the stand-in driver and the op cases
//! catch them. The stand-in replaces text in the sources before it compiles them; each fault runs in a
//! process of its own.
#![allow(clippy::unwrap_used)]

mod common;

use common::BF16;
use engine::cases::cases;
use std::process::Command;

/// The child's part: runs the cases that `CASES` names, each by the start of its name.
#[test]
fn runs_cases() {
    let Ok(names) = std::env::var("CASES") else { return };
    gristmill_standin::install().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let mut device = common::open(Some(cache.path().into()));
    let mut outcome = Ok(());
    for case in cases(BF16).iter().filter(|case| names.split(';').any(|name| case.name == name)) {
        outcome = outcome.and_then(|()| common::compare(&mut device, BF16, case));
    }
    match outcome {
        Ok(()) => println!("outcome: the results agree"),
        Err(why) => println!("outcome: {why}"),
    }
    // After a fault every call fails, those of destructors too.
    std::process::exit(0);
}

/// What a child says of `cases` with a planted fault.
fn run(patch: &str, check: &str, cases: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "runs_cases", "--nocapture"])
        .env("GRISTMILL_STANDIN_PATCH", patch)
        .env("GRISTMILL_STANDIN_CHECK", check)
        .env("CASES", cases)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

const LINEAR: &str = "Linear 17x64x96 bias";
const DEEP: &str = "Linear 70x576x96 bias, RmsNorm";
const DECODE: &str = "PagedAttention 8/2x64 page 16 [(1, 17), (1, 300), (1, 64)]";
const PREFILL: &str = "PagedAttention 8/2x64 page 16 [(33, 100), (1, 65), (5, 5), (2, 129)]";

/// The fault is caught, by the stand-in with `sign` or, if that is empty, by the comparison.
fn caught(patch: &str, check: &str, cases: &str, sign: &str) {
    let said = run(patch, check, cases);
    assert!(said.contains("outcome: ") && !said.contains("outcome: the results agree"), "{patch}: {said}");
    assert!(said.contains(sign), "{patch}: `{sign}` is missing in {said}");
}

/// Without a fault the strictest check passes: what the others see is the fault.
#[test]
fn sound_kernels_pass() {
    let said = run("", "full", &[LINEAR, DEEP, DECODE, PREFILL].join(";"));
    assert!(said.contains("outcome: the results agree"), "{said}");
}

#[test]
fn page_off_by_one() {
    let patch = "pages[p / a.page_size] => pages[(p + 1) / a.page_size]";
    caught(patch, "fast", DECODE, "the oracle says");
}

#[test]
fn missing_barrier_in_the_pipeline() {
    let first = "__syncthreads();\n    load_step => load_step";
    caught(first, "full", LINEAR, "a barrier is missing before it");
    let others = "__syncthreads();\n                load_step => load_step";
    // Here a thread meets copies of others that they have not waited for yet.
    caught(others, "full", DEEP, "still has to fill");
}

#[test]
fn missing_wait_for_copies() {
    caught("cp_async_wait<STAGES - 2>(); => ;", "full", LINEAR, "cp.async");
}

#[test]
fn wrong_lane() {
    let patch = "2 * k + lane / 8 % 2 => 2 * k + lane / 16 % 2";
    caught(patch, "fast", LINEAR, "the oracle says");
}

#[test]
fn missing_tail_mask_of_rows() {
    caught("first + row < rows && => ", "full", LINEAR, "linear");
}

#[test]
fn forgotten_residual() {
    caught("v0 += to_f32(residual.at[0]); => ;", "fast", DEEP, "the oracle says");
}

#[test]
fn missing_causal_mask() {
    caught("p > pos[e / 2] || => ", "fast", PREFILL, "the oracle says");
}
