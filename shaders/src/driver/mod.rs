//! All that speaks to wgpu: adapters, the opened device, its pipelines and compute passes.

pub(crate) mod adapter;
pub(crate) mod failure;
pub(crate) mod gpu;
pub(crate) mod pass;
pub(crate) mod pipelines;
pub(crate) mod shader;
