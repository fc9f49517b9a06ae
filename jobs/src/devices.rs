//! What a job can run on here.

use crate::args::DeviceChoice;
use crate::error::JobError;
use engine::cpu::CpuDevice;
use engine::device::{Device, DeviceKind};
use engine::dtype::DType;
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
    let mut found = cuda();
    found.extend(wgpu());
    found.push(cpu(threads));
    found
}

fn cpu(threads: Option<usize>) -> Finding {
    let (what, usable) = match CpuDevice::new(threads) {
        Ok(device) => (device.info().name.clone(), true),
        Err(error) => (error.to_string(), false),
    };
    Finding { kind: DeviceKind::Cpu, what, usable }
}

#[cfg(feature = "cuda")]
fn cuda() -> Vec<Finding> {
    let finding = |card: kernels::CudaSummary| Finding {
        kind: DeviceKind::Cuda,
        usable: card.unusable.is_none(),
        what: card.unusable.unwrap_or_else(|| {
            let (major, minor) = card.capability;
            let index = card.index.unwrap_or(0);
            format!("cuda:{index} {}, {} MiB, sm_{major}{minor}", card.name, card.memory >> 20)
        }),
    };
    kernels::devices().into_iter().map(finding).collect()
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Vec<Finding> {
    vec![Finding { kind: DeviceKind::Cuda, what: "not in this build (feature `cuda`)".into(), usable: false }]
}

fn wgpu() -> Vec<Finding> {
    let what = if cfg!(feature = "wgpu") {
        "no shaders in this version yet"
    } else {
        "not in this build (feature `wgpu`)"
    };
    vec![Finding { kind: DeviceKind::Wgpu, what: what.into(), usable: false }]
}

/// One line for each device.
pub fn listing(findings: &[Finding]) -> String {
    let line = |f: &Finding| {
        format!("{:<5} {:<10} {}\n", f.kind.to_string(), if f.usable { "usable" } else { "unusable" }, f.what)
    };
    findings.iter().map(line).collect()
}

/// Opens the device that was asked for. `dtype` is the type in which the model's weights will be held.
///
/// # Errors
/// [`JobError::Usage`] if it is not usable here; [`JobError::Engine`].
pub fn open(
    choice: &DeviceChoice,
    threads: Option<usize>,
    dtype: DType,
) -> Result<Box<dyn Device>, JobError> {
    match choice {
        DeviceChoice::Auto if cuda().iter().any(|f| f.usable) => open_cuda(None, dtype),
        DeviceChoice::Auto | DeviceChoice::Cpu => {
            Ok(Box::new(CpuDevice::new(threads).map_err(EngineError::from)?))
        }
        DeviceChoice::Cuda(index) => open_cuda(*index, dtype),
        DeviceChoice::Wgpu(_) => {
            let why = wgpu().into_iter().map(|f| f.what).collect::<Vec<_>>().join("; ");
            Err(JobError::Usage(format!("--device wgpu: {why}")))
        }
    }
}

#[cfg(feature = "cuda")]
fn open_cuda(index: Option<usize>, dtype: DType) -> Result<Box<dyn Device>, JobError> {
    let options = kernels::Options { index, dtype, ..kernels::Options::default() };
    match kernels::CudaDevice::open_with(options) {
        Ok(device) => Ok(Box::new(device)),
        Err(engine::device::DeviceError::Absent(why)) => {
            Err(JobError::Usage(format!("--device cuda: {why}")))
        }
        Err(error) => Err(EngineError::from(error).into()),
    }
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(_: Option<usize>, _: DType) -> Result<Box<dyn Device>, JobError> {
    Err(JobError::Usage("--device cuda: not in this build (feature `cuda`)".into()))
}
