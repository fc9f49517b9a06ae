//! What goes wrong in the engine.

use crate::device::DeviceError;
use crate::file::FileError;
use std::path::PathBuf;

/// The engine's errors. Each says what was wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A file of the model cannot be read, or has changed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A model's configuration cannot be used.
    #[error("{}: {why}", .file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// The field and what is wrong with it.
        why: String,
    },
    /// A model of a family that is not known.
    #[error("{}: architecture {name} is not known; known are {}", .file.display(), known.join(", "))]
    Architecture {
        /// The file.
        file: PathBuf,
        /// The name that it gives.
        name: String,
        /// The names that would do.
        known: Vec<&'static str>,
    },
    /// A weight file cannot be used.
    #[error("{}: {why}", .file.display())]
    Weights {
        /// The file.
        file: PathBuf,
        /// The tensor and what is wrong with it.
        why: String,
    },
    /// An option does not fit the model or the machine.
    #[error("{field}: {why}")]
    Option {
        /// The field of [`crate::EngineConfig`].
        field: &'static str,
        /// What is wrong and what would do.
        why: String,
    },
    /// Memory has no room for the KV cache of one sequence.
    #[error(
        "a sequence of {tokens} tokens needs {} MiB of KV cache ({bytes_per_token} bytes a token); weights take {} MiB and \
         activations {} MiB, which leaves {} MiB on {device}",
        mib(*needed), mib(*weights), mib(rest - weights), mib(*left)
    )]
    NoRoomForKv {
        /// Tokens of the longest sequence.
        tokens: usize,
        /// Bytes of its keys and values.
        needed: usize,
        /// Bytes of keys and values of one token.
        bytes_per_token: usize,
        /// Bytes of weights.
        weights: usize,
        /// Bytes of all else, weights among them.
        rest: usize,
        /// Bytes that all may take together; `None` if the bytes of KV pages were given.
        usable: Option<usize>,
        /// Bytes that are left for KV pages.
        left: usize,
        /// The device's name.
        device: String,
    },
    /// A request cannot be served. It concerns this row only.
    #[error("{0}")]
    Request(String),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

fn mib(bytes: usize) -> usize {
    bytes.div_ceil(1 << 20)
}
