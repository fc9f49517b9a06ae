//! Flags, as the command line and a job file give them, and what they mean.

pub mod batch;
pub mod columns;
pub mod device;
pub mod devices;
pub mod documents;
pub mod engine;
pub mod job;
pub mod model;
pub mod number;
pub mod prices;
pub mod prompt;
pub mod sampling;
pub mod shard;
pub mod size;
pub mod structured;
