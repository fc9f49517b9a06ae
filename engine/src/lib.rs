//! Token ids in, token ids out: plans, pages, scheduling and the CPU device of gristmill.
//!
//! A model is compiled once into a [`plan::Plan`], a flat list of [`op::Op`]s over named buffers. A
//! [`device::Device`] runs it step by step. The crate knows no text, no Parquet and no GPU API.

pub mod buffer;
#[cfg(feature = "cases")]
pub mod cases;
pub mod constraint;
pub mod cpu;
pub mod device;
pub mod dtype;
pub mod e4m3;
mod engine;
pub mod error;
pub mod file;
pub mod forecast;
pub mod format;
pub mod models;
pub mod numbers;
pub mod op;
pub mod pages;
pub mod plan;
#[cfg(feature = "pretend")]
pub mod pretend;
pub mod request;
pub mod sample;
mod sampling;
pub mod scheduler;
pub mod sequence;
pub mod step;
pub mod walk;

pub use engine::{
    Capacity, Engine, EngineConfig, Occupancy, OpsTime, Stats, StepCosts, StepLoad, StepShape, StepTimes,
    Types,
};
pub use error::EngineError;
