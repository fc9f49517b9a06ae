//! What a model would take of a device's memory, and what is left for rows.

use super::config::EngineConfig;
use super::layout::Layout;
use crate::buffer::BufferKind;
use crate::device::Device;
use crate::error::EngineError;
use crate::models::Model;

/// What [`crate::Engine::new`] would make of a device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Bytes of weights.
    pub weights: usize,
    /// Bytes of activations, step inputs, and what the device takes besides.
    pub others: usize,
    /// Bytes of KV cache for each token.
    pub kv_bytes_per_token: usize,
    /// Tokens in a KV page.
    pub page_size: usize,
    /// KV pages that there is room for, at most as many as all rows of a step could fill.
    pub pages: usize,
    /// Rows that run at once, at most.
    pub seqs: usize,
}

impl Capacity {
    /// That of a device, by the memory that is free on it now. Nothing is loaded.
    ///
    /// # Errors
    /// As [`crate::Engine::new`] for options and memory.
    pub fn of(model: &Model, device: &dyn Device, config: &EngineConfig) -> Result<Capacity, EngineError> {
        let Layout { decoder, limits, max_dims, rest, types: _ } = Layout::new(model, device, config)?;
        let weights = decoder.plan.bytes(&max_dims, |kind| kind == BufferKind::Weight);
        Ok(Capacity {
            weights,
            others: rest.saturating_sub(weights),
            kv_bytes_per_token: decoder.plan.kv_bytes_per_token(),
            page_size: limits.page_size,
            pages: max_dims.pages,
            seqs: limits.seqs,
        })
    }

    /// Rows of so many tokens that run at once.
    pub fn rows_at_once(&self, tokens: u64) -> u64 {
        let pages = tokens.div_ceil(self.page_size as u64).max(1);
        (self.pages as u64 / pages).min(self.seqs as u64)
    }
}
