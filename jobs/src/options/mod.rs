//! What flags mean.

pub mod devices;
