//! What a job can run on here.

use crate::args::DeviceChoice;
use crate::error::JobError;
use engine::cpu::CpuDevice;
use engine::device::{Device, DeviceKind};
use engine::error::EngineError;

/// A device that is here, or why it is not.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The family.
    pub kind: DeviceKind,
    /// What was found, for people.
    pub what: String,
    /// Whether a job can run on it.
    pub usable: bool,
}

/// Looks for every family of devices.
pub fn find(threads: Option<usize>) -> Vec<Finding> {
    vec![cuda(), wgpu(), cpu(threads)]
}

fn cpu(threads: Option<usize>) -> Finding {
    let (what, usable) = match CpuDevice::new(threads) {
        Ok(device) => (device.info().name.clone(), true),
        Err(error) => (error.to_string(), false),
    };
    Finding { kind: DeviceKind::Cpu, what, usable }
}

fn cuda() -> Finding {
    let what = if cfg!(feature = "cuda") {
        "no CUDA kernels in this version yet"
    } else {
        "not in this build (feature `cuda`)"
    };
    Finding { kind: DeviceKind::Cuda, what: what.into(), usable: false }
}

fn wgpu() -> Finding {
    let what = if cfg!(feature = "wgpu") {
        "no shaders in this version yet"
    } else {
        "not in this build (feature `wgpu`)"
    };
    Finding { kind: DeviceKind::Wgpu, what: what.into(), usable: false }
}

/// One line for each device.
pub fn listing(findings: &[Finding]) -> String {
    let line = |f: &Finding| {
        format!("{:<5} {:<10} {}\n", f.kind, if f.usable { "usable" } else { "unusable" }, f.what)
    };
    findings.iter().map(line).collect()
}

/// Opens the device that was asked for.
///
/// # Errors
/// [`JobError::Usage`] if it is not usable here; [`JobError::Engine`].
pub fn open(choice: DeviceChoice, threads: Option<usize>) -> Result<Box<dyn Device>, JobError> {
    let wanted = match choice {
        DeviceChoice::Auto | DeviceChoice::Cpu => DeviceKind::Cpu,
        DeviceChoice::Cuda => DeviceKind::Cuda,
        DeviceChoice::Wgpu => DeviceKind::Wgpu,
    };
    match wanted {
        DeviceKind::Cpu => Ok(Box::new(CpuDevice::new(threads).map_err(EngineError::from)?)),
        kind => {
            let finding = if kind == DeviceKind::Cuda { cuda() } else { wgpu() };
            Err(JobError::Usage(format!("--device {kind}: {}", finding.what)))
        }
    }
}
