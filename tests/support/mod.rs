//! What the tests share.

// Every test binary compiles this module and uses a part of it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

#[cfg(target_os = "linux")]
pub mod browser;
pub mod dice;
#[cfg(target_os = "linux")]
pub mod interpose;
pub mod job;
pub mod metrics;
#[cfg(target_os = "linux")]
pub mod pty;
pub mod store;
pub mod thrift;

use engine::cpu::{CpuDevice, MatmulPrecision};
use engine::device::{Device, DeviceError};
use std::path::PathBuf;

/// Opens the device of that name, or prints that its tests are skipped. `REQUIRE_DEVICE` names
/// devices (with commas between them) whose absence is a failure.
pub fn open(name: &str) -> Option<Box<dyn Device>> {
    let opened: Result<Box<dyn Device>, DeviceError> = match name {
        "cpu" => CpuDevice::new(Some(2)).map(|d| Box::new(d) as Box<dyn Device>),
        "cpu-medium" => {
            let device = CpuDevice::with_precision(Some(2), MatmulPrecision::Medium);
            device.map(|d| Box::new(d) as Box<dyn Device>)
        }
        #[cfg(feature = "cuda")]
        "cuda" => cuda(),
        #[cfg(feature = "wgpu")]
        "wgpu" => shaders::WgpuDevice::open(None).map(|d| Box::new(d) as Box<dyn Device>),
        other => Err(DeviceError::Absent(format!("this build has no device {other}"))),
    };
    match opened {
        Ok(device) => Some(device),
        Err(why) => {
            let required = std::env::var("REQUIRE_DEVICE").unwrap_or_default();
            assert!(!required.split(',').any(|r| r == name), "REQUIRE_DEVICE={required}, but: {why}");
            eprintln!("SKIPPED: no {name} device: {why}");
            None
        }
    }
}

/// The GPU of this machine, or the stand-in driver if there is none.
#[cfg(feature = "cuda")]
fn cuda() -> Result<Box<dyn Device>, DeviceError> {
    // Once for all tests of the process: a search while the stand-in is being loaded would find only a part of it.
    static STANDIN: std::sync::OnceLock<Result<Option<PathBuf>, String>> = std::sync::OnceLock::new();
    let standin = STANDIN.get_or_init(|| {
        if kernels::devices().iter().any(|d| d.unusable.is_none()) {
            return Ok(None);
        }
        gristmill_standin::install().map(|folder| Some(folder.join("cubins"))).map_err(|e| e.to_string())
    });
    let cache = standin.clone().map_err(DeviceError::Absent)?;
    // So that a card with wgmma shows what the kernels of others do.
    let mma = std::env::var_os("CUDA_MMA").is_some();
    let options = kernels::Options { cache, mma, ..kernels::Options::default() };
    kernels::CudaDevice::open_with(options).map(|d| Box::new(d) as Box<dyn Device>)
}

/// Runs a test of this program again, on a stand-in driver whose card has this compute capability, as in "90". Where there
/// is a real card, that one is tested as it is.
#[cfg(feature = "cuda")]
pub fn on_sm(capability: &str, test: &str) {
    if kernels::devices().iter().any(|d| d.unusable.is_none()) {
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("GRISTMILL_STANDIN_ARCH", capability)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[cfg(not(feature = "cuda"))]
pub fn on_sm(_capability: &str, _test: &str) {}

/// A folder of `tests/golden`; set `GOLDEN_DIR` if the tests run without their sources.
pub fn golden(name: &str) -> PathBuf {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    std::env::var_os("GOLDEN_DIR").map_or(here, Into::into).join(name)
}

/// The number of schedules to try: `SCHEDULES`, else `usual`.
pub fn schedules(usual: u64) -> u64 {
    std::env::var("SCHEDULES").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}
