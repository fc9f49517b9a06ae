//! Which device, and how it computes.

use clap::ValueEnum;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The fastest that works here.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// An NVIDIA card through CUDA, by its number.
    Cuda(Option<usize>),
    /// Any card through Vulkan, Metal or DX12, by its number or a part of its name.
    Wgpu(Option<String>),
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<DeviceChoice, String> {
        let (kind, which) = match text.split_once(':') {
            Some((kind, which)) => (kind, Some(which)),
            None => (text, None),
        };
        match (kind, which) {
            ("auto", None) => Ok(DeviceChoice::Auto),
            ("cpu", None) => Ok(DeviceChoice::Cpu),
            ("cuda", None) => Ok(DeviceChoice::Cuda(None)),
            ("cuda", Some(which)) => match which.parse() {
                Ok(index) => Ok(DeviceChoice::Cuda(Some(index))),
                Err(_) => Err(format!("{which:?} is not the number of a card, as in cuda:1")),
            },
            ("wgpu", which) => Ok(DeviceChoice::Wgpu(which.map(str::to_owned))),
            _ => Err(format!("{text:?} is not auto, cpu, cuda, cuda:NUMBER, wgpu, wgpu:NUMBER or wgpu:NAME")),
        }
    }
}

/// What multiplies matrices on a CUDA card.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gemm {
    /// gristmill's own kernels.
    #[default]
    Builtin,
    /// NVIDIA's library.
    Cublaslt,
}

/// How exact products are on the processor; the names are those of PyTorch's `set_float32_matmul_precision`.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Products of f32 values.
    #[default]
    Highest,
    /// Products of bf16 values.
    Medium,
}
