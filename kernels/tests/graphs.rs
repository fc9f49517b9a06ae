//! Decode graphs when the driver fails: what a capture meets is reported, and a lack of memory costs the graph only.
//! The stand-in driver fails at the call that `GRISTMILL_STANDIN_FAIL` names; each child is a process of its own.
#![allow(clippy::unwrap_used)]

mod common;

use common::BF16;
use engine::cases::{Attention, attention};
use engine::device::Device;
use std::process::Command;

/// The child's part: three decode steps of one bucket.
#[test]
fn runs_decode_steps() {
    if std::env::var_os("GRAPHS_CHILD").is_none() {
        return;
    }
    let cache = gristmill_standin::install().unwrap().join("cubins");
    let options = kernels::Options { cache: Some(cache), ..kernels::Options::default() };
    let mut device = kernels::CudaDevice::open_with(options).unwrap();
    let case = attention(BF16, Attention::new(8, 2, 64, 16), &[(1, 17), (1, 30), (1, 64)]);
    let mut results = Vec::new();
    let mut outcome = Ok(());
    for _ in 0..3 {
        outcome = outcome.and_then(|()| {
            let (id, _) = case.run(&mut device)?;
            let ticket = device.submit(id, &case.step)?;
            device.wait(ticket)?;
            results.push(case.read(&mut device, id)?);
            Ok::<(), engine::device::DeviceError>(())
        });
    }
    match outcome {
        Ok(()) => println!("outcome: {} alike", results.windows(2).filter(|w| w[0] == w[1]).count()),
        Err(why) => println!("outcome: {why}"),
    }
    std::process::exit(0);
}

/// What the child says when that call fails.
fn run(fail: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "runs_decode_steps", "--nocapture"])
        .env("GRISTMILL_STANDIN_FAIL", fail)
        .env("GRAPHS_CHILD", "1")
        .output()
        .unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn steps_agree_without_a_failure() {
    let said = run("");
    assert!(said.contains("outcome: 2 alike"), "{said}");
}

/// 901: the capture was invalidated. 719: a launch failed. Neither is passed over by launching op by op.
#[test]
fn a_capture_that_fails_is_reported() {
    for (fail, name) in [
        ("cuStreamEndCapture@1:901", "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"),
        ("cuStreamBeginCapture_v2@1:900", "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"),
        ("cuGraphInstantiateWithFlags@2:719", "CUDA_ERROR_LAUNCH_FAILED"),
        ("cuLaunchKernel@2:719", "CUDA_ERROR_LAUNCH_FAILED"),
        ("cuGraphLaunch@3:719", "CUDA_ERROR_LAUNCH_FAILED"),
    ] {
        let said = run(fail);
        assert!(said.contains("fails on purpose"), "{fail} was never called: {said}");
        assert!(said.contains("outcome: the cuda device failed: ") && said.contains(name), "{fail}: {said}");
    }
}

/// 2: out of memory.
#[test]
fn a_graph_without_memory_is_done_without() {
    for fail in ["cuGraphInstantiateWithFlags@1:2", "cuGraphUpload@2:2"] {
        let said = run(fail);
        assert!(said.contains("fails on purpose"), "{fail} was never called: {said}");
        assert!(said.contains("outcome: 2 alike"), "{fail}: {said}");
    }
}
