//! What speaks to NVIDIA's libraries: the driver, NVRTC, cuBLASLt. Nothing here knows plans or ops.

pub(crate) mod card;
pub(crate) mod cubins;
pub(crate) mod cublaslt;
pub(crate) mod failure;
pub(crate) mod functions;
pub(crate) mod graph;
pub(crate) mod launch;
pub(crate) mod library;
pub(crate) mod memory;
pub(crate) mod nvrtc;
pub(crate) mod tensor_map;
