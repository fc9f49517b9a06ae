//! A model on a device before anything is allocated: its plan, and how much of everything there is to be.

use super::config::{EngineConfig, kv_pages, limits, matrix_format, max_len, resolve_types};
use crate::buffer::{BufferKind, Dims};
use crate::device::{ComputeTypes, Device};
use crate::error::EngineError;
use crate::models::{Decoder, Formats, Model, decoder};
use crate::scheduler::Limits;

/// A model's plan for a device, and its greatest dimensions.
pub(super) struct Layout {
    pub decoder: Decoder,
    pub limits: Limits,
    pub types: ComputeTypes,
    pub max_dims: Dims,
    /// Bytes of everything but KV pages.
    pub rest: usize,
}

impl Layout {
    /// Finds out what the options come to on a device, by the memory that is free now.
    ///
    /// # Errors
    /// [`EngineError::Option`], [`EngineError::NoRoomForKv`], or what is wrong with the model's shapes.
    pub fn new(model: &Model, device: &dyn Device, config: &EngineConfig) -> Result<Layout, EngineError> {
        let info = device.info().clone();
        let c = &model.config;
        let max_len = max_len(config, c.max_position_embeddings)?;
        let limits = limits(config, &info, max_len, c.vocab)?;
        let pages_per_seq = max_len.div_ceil(limits.page_size);
        let types = resolve_types(config, &info, model)?;
        let matrix = |tensors: &[String]| matrix_format(model, &types, config, tensors);
        let formats = Formats { activations: types.activations, kv: types.kv[0] };
        let decoder = decoder(c, &formats, max_len, limits.seqs, pages_per_seq, matrix);
        decoder.check_blocks()?;
        let mut max_dims = Dims {
            tokens: limits.tokens,
            seqs: limits.seqs,
            outputs: limits.outputs,
            adjustments: limits.adjustments,
            masks: limits.seqs,
            targets: limits.targets,
            pages: 0,
            page_size: limits.page_size,
            pages_per_seq,
            attended: 0,
            contexts: 0,
        };
        let rest = decoder.plan.bytes(&max_dims, |kind| kind != BufferKind::KvPage)
            + device.workspace(&decoder.plan, &max_dims)
            - device.spared(&decoder.plan, &max_dims);
        max_dims.pages = kv_pages(&decoder.plan, &max_dims, config, &info, rest)?;
        Ok(Layout { decoder, limits, types, max_dims, rest })
    }
}
