//! The devices of this machine.

use crate::error::JobError;
use crate::options::device::{DeviceChoice, Gemm, Precision};
use crate::options::engine::EngineOptions;
use engine::cpu::{CpuDevice, MatmulPrecision};
use engine::device::{Device, DeviceError, DeviceKind};
use engine::error::EngineError;

/// Opens the device of options.
pub type Open<'a> = &'a dyn Fn(&EngineOptions) -> Result<Box<dyn Device>, JobError>;

/// A device of this machine, or why there is none of its family.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The family.
    pub kind: DeviceKind,
    /// A description of the device, or why it cannot be used.
    pub what: String,
    /// Whether a job can run on it.
    pub usable: bool,
    /// What `--device` names it by.
    pub choice: DeviceChoice,
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
    Finding { kind: DeviceKind::Cpu, what, usable, choice: DeviceChoice::Cpu }
}

#[cfg(feature = "cuda")]
fn cuda() -> Vec<Finding> {
    let finding = |card: kernels::CudaSummary| Finding {
        kind: DeviceKind::Cuda,
        usable: card.unusable.is_none(),
        choice: DeviceChoice::Cuda(card.index),
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
    vec![Finding {
        kind: DeviceKind::Cuda,
        what: "not in this build (feature `cuda`)".into(),
        usable: false,
        choice: DeviceChoice::Cuda(None),
    }]
}

#[cfg(feature = "wgpu")]
fn wgpu() -> Vec<Finding> {
    let finding = |(index, adapter): (usize, shaders::AdapterSummary)| {
        let memory = adapter.memory.map_or(String::new(), |bytes| format!(", {} MiB", bytes >> 20));
        let what =
            format!("wgpu:{index} {} ({}, {}{memory})", adapter.name, adapter.backend, adapter.device_type);
        let usable = adapter.unusable.is_none();
        let what = adapter.unusable.map_or(what.clone(), |why| format!("{what}: {why}"));
        Finding { kind: DeviceKind::Wgpu, what, usable, choice: DeviceChoice::Wgpu(Some(index.to_string())) }
    };
    let found: Vec<Finding> = shaders::adapters().into_iter().enumerate().map(finding).collect();
    if found.is_empty() {
        let what = "no adapter of Vulkan, Metal or DX12 was found: install the card's driver, or a software driver \
                    (Debian: mesa-vulkan-drivers)";
        let choice = DeviceChoice::Wgpu(None);
        return vec![Finding { kind: DeviceKind::Wgpu, what: what.into(), usable: false, choice }];
    }
    found
}

#[cfg(not(feature = "wgpu"))]
fn wgpu() -> Vec<Finding> {
    vec![Finding {
        kind: DeviceKind::Wgpu,
        what: "not in this build (feature `wgpu`)".into(),
        usable: false,
        choice: DeviceChoice::Wgpu(None),
    }]
}

/// Opens the device that the options name.
///
/// # Errors
/// [`JobError::Usage`] if it is not usable here; [`JobError::Engine`].
pub fn open(args: &EngineOptions) -> Result<Box<dyn Device>, JobError> {
    let device: Box<dyn Device> = match &args.device {
        DeviceChoice::Auto => open_fastest(args)?,
        DeviceChoice::Cpu => open_cpu(args)?,
        DeviceChoice::Cuda(index) => open_cuda(*index, args.gemm)?,
        DeviceChoice::Wgpu(which) => open_wgpu(which.as_deref())?,
    };
    let kind = device.info().kind;
    if args.gemm == Gemm::Cublaslt && kind != DeviceKind::Cuda {
        let why = format!(
            "--gemm cublaslt is for CUDA cards, but the device is {kind}; leave it out, or give --device cuda"
        );
        return Err(JobError::Usage(why));
    }
    if args.float32_matmul_precision == Precision::Medium && kind != DeviceKind::Cpu {
        let why = format!(
            "--float32-matmul-precision medium is for the processor, but the device is {kind}; leave it out, or give \
             --device cpu"
        );
        return Err(JobError::Usage(why));
    }
    Ok(device)
}

fn open_cpu(args: &EngineOptions) -> Result<Box<dyn Device>, JobError> {
    let precision = match args.float32_matmul_precision {
        Precision::Highest => MatmulPrecision::Highest,
        Precision::Medium => MatmulPrecision::Medium,
    };
    Ok(Box::new(CpuDevice::with_precision(args.threads, precision).map_err(EngineError::from)?))
}

/// CUDA, then a hardware adapter of wgpu, then the processor.
fn open_fastest(args: &EngineOptions) -> Result<Box<dyn Device>, JobError> {
    if cuda().iter().any(|f| f.usable) {
        return open_cuda(None, args.gemm);
    }
    #[cfg(feature = "wgpu")]
    if let Ok(device) = shaders::WgpuDevice::open_hardware() {
        return Ok(Box::new(device));
    }
    open_cpu(args)
}

/// The user can do something about an absent device; anything else is a failure of the device.
fn unusable(kind: DeviceKind, error: DeviceError) -> JobError {
    match error {
        DeviceError::Absent(why) => JobError::Usage(format!("--device {kind}: {why}")),
        error => EngineError::from(error).into(),
    }
}

#[cfg(feature = "wgpu")]
fn open_wgpu(which: Option<&str>) -> Result<Box<dyn Device>, JobError> {
    match shaders::WgpuDevice::open(which) {
        Ok(device) => Ok(Box::new(device)),
        Err(error) => Err(unusable(DeviceKind::Wgpu, error)),
    }
}

#[cfg(not(feature = "wgpu"))]
fn open_wgpu(_: Option<&str>) -> Result<Box<dyn Device>, JobError> {
    let why = "not in this build (feature `wgpu`)".to_owned();
    Err(unusable(DeviceKind::Wgpu, DeviceError::Absent(why)))
}

#[cfg(feature = "cuda")]
fn open_cuda(index: Option<usize>, gemm: Gemm) -> Result<Box<dyn Device>, JobError> {
    let gemm = match gemm {
        Gemm::Builtin => kernels::Gemm::Builtin,
        Gemm::Cublaslt => kernels::Gemm::CublasLt,
    };
    let options = kernels::Options { index, gemm, ..kernels::Options::default() };
    match kernels::CudaDevice::open_with(options) {
        Ok(device) => Ok(Box::new(device)),
        Err(error) => Err(unusable(DeviceKind::Cuda, error)),
    }
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(_: Option<usize>, _: Gemm) -> Result<Box<dyn Device>, JobError> {
    let why = "not in this build (feature `cuda`)".to_owned();
    Err(unusable(DeviceKind::Cuda, DeviceError::Absent(why)))
}
