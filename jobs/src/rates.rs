//! What the devices of this machine reach, measured once and kept in the user's cache.

use crate::digest::digest_bytes;
use crate::model::builtin::cache;
use crate::options::engine::{EngineOptions, engine_config};
use engine::device::{Device, Peaks};
use engine::error::EngineError;
use engine::models::Model;
use engine::{Capacity, Engine, EngineConfig, StepShape};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Layers of the model that are measured, with made-up weights: one is like another.
const LAYERS: usize = 1;
/// Sequences of the decode step that is measured, and the longest of them.
const SEQS: usize = 32;
const CONTEXT: usize = 512;
/// Tokens of the first step with prompts that is measured; they are doubled until it takes this long.
const TOKENS: usize = 64;
const LONG_ENOUGH: Duration = Duration::from_millis(100);
/// Runs of a step, of which the median counts.
const RUNS: usize = 3;

/// What a device reaches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// In a bare copy and in bare multiply-adds.
    pub bytes_per_second: f64,
    pub flops_per_second: f64,
    /// The same with FP8 weights.
    pub fp8_flops_per_second: f64,
    /// The shares of these that steps of the model reach: of prompts, and of decodes.
    pub prefill_share: f64,
    pub decode_share: f64,
}

impl Rates {
    /// Those of a model on a device, if they were measured before.
    pub fn kept(model: &Model, device: &dyn Device, options: &EngineOptions) -> Option<Rates> {
        let text = std::fs::read(path(model, device, options)).ok()?;
        serde_json::from_slice(&text).ok().filter(Rates::is_sound)
    }

    /// Those that were measured before, or else are measured now and kept: about two seconds.
    ///
    /// # Errors
    /// As [`Engine::new`] and [`Device::peaks`].
    pub fn kept_or_measured(
        model: &Model,
        device: Box<dyn Device>,
        options: &EngineOptions,
    ) -> Result<Rates, EngineError> {
        if let Some(kept) = Rates::kept(model, device.as_ref(), options) {
            return Ok(kept);
        }
        let path = path(model, device.as_ref(), options);
        let rates = measure(model, device, &engine_config(options))?;
        keep(&path, &rates);
        Ok(rates)
    }

    /// The rates to compare steps with.
    pub fn peaks(&self) -> Peaks {
        let Rates { bytes_per_second, flops_per_second, fp8_flops_per_second, .. } = *self;
        Peaks { bytes_per_second, flops_per_second, fp8_flops_per_second }
    }

    fn is_sound(&self) -> bool {
        let Rates { bytes_per_second, flops_per_second, fp8_flops_per_second, prefill_share, decode_share } =
            *self;
        [bytes_per_second, flops_per_second, fp8_flops_per_second, prefill_share, decode_share]
            .iter()
            .all(|rate| rate.is_finite() && *rate > 0.0)
    }
}

/// Runs steps of a layer of the model, and compares them with what the device reaches in bare loops.
fn measure(model: &Model, mut device: Box<dyn Device>, config: &EngineConfig) -> Result<Rates, EngineError> {
    let types = device.info().types_for(config.dtype.unwrap_or(model.config.dtype)).clone();
    let peaks = device.peaks(types.activations)?;
    let mut part = model.config.clone();
    part.layers.truncate(LAYERS);
    let (config_json, checkpoint, warnings) = (Vec::new(), None, Vec::new());
    let part = Model { config: part, config_json, checkpoint, warnings };
    let seqs = config.max_num_seqs.unwrap_or(SEQS).min(SEQS);
    let max_len =
        config.max_model_len.unwrap_or(CONTEXT).min(CONTEXT).min(model.config.max_position_embeddings);
    let mut config = EngineConfig {
        max_num_seqs: Some(seqs),
        max_model_len: Some(max_len),
        kv_cache_bytes: None,
        ..config.clone()
    };
    let page = Capacity::of(&part, device.as_ref(), &config)?;
    let pages = seqs * max_len.div_ceil(page.page_size);
    config.kv_cache_bytes = Some(pages * page.page_size * page.kv_bytes_per_token);
    let mut engine = Engine::new(&part, device, &config)?;
    let decode = StepShape { tokens: seqs, seqs, context: (max_len / 2).max(1) };
    let (decode_share, _) = engine.step_share(decode, RUNS, &peaks)?;
    let most = engine.limits().tokens.min(seqs * max_len);
    let mut tokens = TOKENS.min(most);
    let prefill_share = loop {
        let seqs = tokens.div_ceil(max_len);
        let shape = StepShape { tokens, seqs, context: tokens.div_ceil(seqs) };
        let (share, took) = engine.step_share(shape, RUNS, &peaks)?;
        if took >= LONG_ENOUGH || tokens == most {
            break share;
        }
        tokens = (2 * tokens).min(most);
    };
    let Peaks { bytes_per_second, flops_per_second, fp8_flops_per_second } = peaks;
    Ok(Rates { bytes_per_second, flops_per_second, fp8_flops_per_second, prefill_share, decode_share })
}

/// Where rates are kept.
fn path(model: &Model, device: &dyn Device, options: &EngineOptions) -> PathBuf {
    let info = device.info();
    let EngineOptions {
        threads, dtype, kv_cache_dtype, quantization, gemm, float32_matmul_precision, ..
    } = options;
    let what = format!(
        "{} {} {} {} {:?} {threads:?} {dtype:?} {kv_cache_dtype:?} {quantization:?} {gemm:?} \
         {float32_matmul_precision:?} {}",
        env!("CARGO_PKG_VERSION"),
        info.kind,
        info.family,
        info.name,
        options.max_num_batched_tokens,
        digest_bytes(&model.config_json)
    );
    cache().join("rates").join(format!("{}.json", digest_bytes(what.as_bytes())))
}

/// Writes by rename, so that another process never reads half a file. A cache that cannot be written is no error.
fn keep(path: &Path, rates: &Rates) {
    let Some(folder) = path.parent() else { return };
    let text = serde_json::to_string(rates).unwrap_or_default();
    let partial = path.with_extension(std::process::id().to_string());
    let done = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&partial, text))
        .and_then(|()| std::fs::rename(&partial, path));
    if let Err(error) = done {
        tracing::debug!(%error, path = %path.display(), "cannot write to the cache of rates");
    }
}
