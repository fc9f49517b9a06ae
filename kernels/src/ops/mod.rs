//! The ops: for each its kernels (`.cu`), their arguments, and which variant and grid a plan needs.

pub(crate) mod add;
pub(crate) mod attention;
pub(crate) mod embed;
pub(crate) mod gated_mul;
pub(crate) mod gather_rows;
pub(crate) mod kv_write;
pub(crate) mod linear;
pub(crate) mod rms_norm;
pub(crate) mod rope;
pub(crate) mod sample;
pub(crate) mod soft_cap;
