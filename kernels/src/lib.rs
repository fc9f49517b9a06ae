//! The CUDA device of gristmill.
//!
//! - `ops`: each op is a pair: `op.cu` computes, `op.rs` says with which arguments, types and tile shapes.
//! - `lower` turns a plan into calls, `program` gives it memory and runs steps, `device` is the seam to the engine.
//! - `driver`: what speaks to NVIDIA's libraries. `include`: headers that several kernels share.
//!
//! The sources are part of the binary; NVRTC compiles them for the card that is found, and cubins are kept on
//! disk. Neither the build nor a machine without a card needs CUDA: libraries are looked for when a
//! device is opened.
//!
//! The numeric contract (a row's bits depend on the row and its positions only) is kept by construction:
//! see `linear.cu`, `attention.cuh` and `sample.cuh` for the order of their sums.

mod args;
mod buckets;
mod counts;
mod device;
mod driver;
mod grid;
mod in_flight;
mod inputs;
mod interleave;
mod kernel;
mod launch;
mod lower;
mod lowering;
mod ops;
mod peaks;
mod planes;
mod program;
mod stage;
mod summary;
mod supports;
mod variants;
mod work;
mod workspace;

pub use args::Layout;
pub use device::{CudaDevice, Gemm, Options};
pub use kernel::{Budget, HEADERS, Kernel};
pub use ops::linear::linear_tiles;
pub use summary::{CudaSummary, devices};
pub use variants::variants;
