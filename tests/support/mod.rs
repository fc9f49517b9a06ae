//! What the tests share.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod job;

use engine::cpu::CpuDevice;
use engine::device::{Device, DeviceError};

/// Opens the device of that name, or says loudly that its tests are skipped. `REQUIRE_DEVICE` names
/// devices (with commas between them) whose absence is a failure.
pub fn open(name: &str) -> Option<Box<dyn Device>> {
    let opened: Result<Box<dyn Device>, DeviceError> = match name {
        "cpu" => CpuDevice::new(Some(2)).map(|d| Box::new(d) as Box<dyn Device>),
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

/// A folder of `tests/golden`.
pub fn golden(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}
