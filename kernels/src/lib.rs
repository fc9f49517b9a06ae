//! The CUDA device of gristmill.
//!
//! Each op is a pair: `op.cu` computes, `op.rs` says with which arguments, types and tile shapes. The
//! sources are part of the binary; NVRTC compiles them for the card that is found, and cubins are kept on
//! disk. Neither the build nor a machine without a card needs CUDA: libraries are looked for when a
//! device is opened.
//!
//! The numeric contract (a row's bits depend on the row and its positions only) is kept by construction:
//! see `linear.cu`, `attention.cuh` and `sample.cu` for the order of their sums.

mod add;
mod attention;
mod cubins;
mod cublaslt;
mod device;
mod embed;
mod failure;
mod gated;
mod gather;
mod graph;
mod inputs;
mod kernel;
mod launch;
mod library;
mod linear;
mod memory;
mod norm;
mod nvrtc;
mod program;
mod rope;
mod sample;
mod summary;
mod variants;
mod work;

pub use device::{CudaDevice, Gemm, Options};
pub use kernel::{Budget, HEADERS, Kernel};
pub use summary::{CudaSummary, devices};
pub use variants::variants;
