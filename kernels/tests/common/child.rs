//! Tests of a card with `wgmma`. The stand-in reads its settings once for each process, so each test runs its body in a
//! child.

use super::{BF16, cache, compare};
use engine::cases::Case;
use kernels::{CudaDevice, Options};
use std::process::Command;

/// Runs the body in a child with these settings of the stand-in, and returns what it printed.
pub fn child(test: &str, settings: &[(&str, &str)], body: impl FnOnce()) -> Option<String> {
    if std::env::var_os("SM90_CHILD").is_some() {
        body();
        return None;
    }
    if super::card() {
        eprintln!("SKIPPED: {test} plants faults or asks for a stand-in, and there is a card");
        return None;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env("SM90_CHILD", "1").env("GRISTMILL_STANDIN_ARCH", "90");
    command.envs(settings.iter().map(|(name, value)| (format!("GRISTMILL_STANDIN_{name}"), value)));
    let output = command.output().unwrap();
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Runs the body in a child, which must find nothing.
pub fn passes(test: &str, settings: &[(&str, &str)], body: impl FnOnce()) {
    let said = child(test, settings, body);
    assert!(said.as_ref().is_none_or(|said| said.contains("test result: ok. 1 passed")), "{}", said.unwrap());
}

/// The body of a test `runs_cases`, which [`caught`] runs in a child with a planted fault: tells what comes of the cases.
pub fn tell_outcome(options: Options, cases: &[Case]) {
    if std::env::var_os("SM90_CHILD").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    cache();
    let options = Options { cache: Some(folder.path().into()), ..options };
    let mut device = CudaDevice::open_with(options).unwrap();
    let outcome = cases.iter().try_for_each(|case| compare(&mut device, BF16, case));
    println!("outcome: {}", outcome.map_or_else(|why| why, |()| "right".into()));
    // After a fault every call fails, those of destructors too.
    std::process::exit(0);
}

/// The stand-in finds the fault and says `sign`, or the comparison does.
pub fn caught(patch: &str, check: &str, sign: &str) {
    let Some(said) = child("runs_cases", &[("PATCH", patch), ("CHECK", check)], || ()) else { return };
    assert!(said.contains("outcome: ") && !said.contains("outcome: right"), "{patch}: {said}");
    assert!(said.contains(sign), "{patch}: `{sign}` is missing in {said}");
}
