//! The wgpu device of gristmill: every op in WGSL, for any vendor's GPU through Vulkan, Metal or DX12.
//!
//! A plan is compiled to a list of kernels, each with its buffers bound; a step is one command encoder,
//! one compute pass and one submission. The shapes that differ from op to op and from step to step
//! travel as immediates, so that a shader needs few pipelines.
//!
//! Activations are f32. Weights keep their format (bf16, f16, f32, q8_0 or FP8) and are widened where they are
//! read, with integer operations and `unpack2x16float`, so that no adapter needs 16-bit arithmetic and no
//! value leaves its format's range.

mod buffers;
mod check;
mod compiled;
mod device;
mod driver;
mod inflight;
mod memory;
mod ops;
mod options;
mod peak;
#[cfg(test)]
mod validate;

pub use device::WgpuDevice;
pub use driver::adapter::{AdapterSummary, adapters};
pub use options::Options;
