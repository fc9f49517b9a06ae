//! The ops: each has its Rust and its WGSL side by side. What several shaders share is in `snippets`.

pub(crate) mod compile;
pub(crate) mod context;
pub(crate) mod kernel;

pub(crate) mod add;
pub(crate) mod elementwise;
pub(crate) mod embed;
pub(crate) mod gated_mul;
pub(crate) mod gather_rows;
pub(crate) mod kv_write;
pub(crate) mod linear;
pub(crate) mod paged_attention;
pub(crate) mod rms_norm;
pub(crate) mod rope;
pub(crate) mod sample;
pub(crate) mod snippets;
pub(crate) mod soft_cap;
pub(crate) mod tiles;
