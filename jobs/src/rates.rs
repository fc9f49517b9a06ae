//! What the devices of this machine reach, measured once and kept in the user's cache.

use crate::digest::digest_bytes;
use crate::model::builtin::cache;
use crate::options::engine::{EngineOptions, engine_config};
use engine::device::{Device, Peaks};
use engine::error::EngineError;
use engine::models::Model;
use engine::{Capacity, Engine, EngineConfig, Stats, StepShape};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// Rates that are older are measured again: drivers and machines change.
const OLD: Duration = Duration::from_hours(30 * 24);

/// Steps that pass the rates by less than this are as fast as these: a measurement is not exact.
pub const MOST_SHARE: f64 = 1.1;

/// What a device reaches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// When, in seconds since 1970.
    pub measured: u64,
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

    /// Those that were measured before, or else, or where that is long ago, are measured now and kept: about two seconds.
    ///
    /// # Errors
    /// As [`Engine::new`] and [`Device::peaks`].
    pub fn kept_or_measured(
        model: &Model,
        device: Box<dyn Device>,
        options: &EngineOptions,
    ) -> Result<Rates, EngineError> {
        match Rates::kept(model, device.as_ref(), options).filter(|rates| !rates.is_old(now())) {
            Some(kept) => Ok(kept),
            None => Rates::measured(model, device, options),
        }
    }

    /// Those that are measured now, and kept.
    ///
    /// # Errors
    /// As [`Engine::new`] and [`Device::peaks`].
    pub fn measured(
        model: &Model,
        device: Box<dyn Device>,
        options: &EngineOptions,
    ) -> Result<Rates, EngineError> {
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

    /// Forgets what is kept if steps were faster than these rates, which were measured while the machine was busy then: the
    /// next plan measures again.
    pub fn forget_if_passed(
        self,
        stats: &Stats,
        model: &Model,
        device: &dyn Device,
        options: &EngineOptions,
    ) {
        let passed = [(stats.prefill_bound, stats.prefill_time), (stats.decode_bound, stats.decode_time)]
            .iter()
            .any(|(bound, took)| bound.as_secs_f64() > MOST_SHARE * took.as_secs_f64());
        if passed && Rates::kept(model, device, options) == Some(self) {
            // Another process may have done so.
            let _ = std::fs::remove_file(path(model, device, options));
        }
    }

    /// Whether a clock that says this many seconds since 1970 takes them for old; also one that was set back.
    fn is_old(&self, now: u64) -> bool {
        now.abs_diff(self.measured) > OLD.as_secs()
    }

    fn is_sound(&self) -> bool {
        let Rates {
            measured: _,
            bytes_per_second,
            flops_per_second,
            fp8_flops_per_second,
            prefill_share,
            decode_share,
        } = *self;
        [bytes_per_second, flops_per_second, fp8_flops_per_second, prefill_share, decode_share]
            .iter()
            .all(|rate| rate.is_finite() && *rate > 0.0)
    }
}

/// Runs steps of a layer of the model, and compares them with what the device reaches in bare loops.
fn measure(model: &Model, mut device: Box<dyn Device>, config: &EngineConfig) -> Result<Rates, EngineError> {
    let types = device.info().types_for(config.dtype.unwrap_or(model.config.dtype)).clone();
    let mut peaks = device.peaks(types.activations)?;
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
    let (mut decode_share, _) = engine.step_share(decode, RUNS, &peaks)?;
    let most = engine.limits().tokens.min(seqs * max_len);
    let mut tokens = TOKENS.min(most);
    let (prefill, mut prefill_share) = loop {
        let seqs = tokens.div_ceil(max_len);
        let shape = StepShape { tokens, seqs, context: tokens.div_ceil(seqs) };
        let (share, took) = engine.step_share(shape, RUNS, &peaks)?;
        if took >= LONG_ENOUGH || tokens == most {
            break (shape, share);
        }
        tokens = (2 * tokens).min(most);
    };
    if decode_share > 1.0 || prefill_share > 1.0 {
        // What a step reaches, the device does: a small model's weights lie in a cache, or another program ran before.
        peaks = raised(peaks, prefill_share, decode_share);
        (decode_share, _) = engine.step_share(decode, RUNS, &peaks)?;
        (prefill_share, _) = engine.step_share(prefill, RUNS, &peaks)?;
    }
    let Peaks { bytes_per_second, flops_per_second, fp8_flops_per_second } = peaks;
    let (prefill_share, decode_share) = (prefill_share.min(1.0), decode_share.min(1.0));
    let measured = now();
    Ok(Rates {
        measured,
        bytes_per_second,
        flops_per_second,
        fp8_flops_per_second,
        prefill_share,
        decode_share,
    })
}

/// Rates that are at least what steps have reached: memory sets the time of decodes, arithmetic that of prompts.
fn raised(peaks: Peaks, prefill_share: f64, decode_share: f64) -> Peaks {
    Peaks {
        bytes_per_second: peaks.bytes_per_second * decode_share.max(1.0),
        flops_per_second: peaks.flops_per_second * prefill_share.max(1.0),
        fp8_flops_per_second: peaks.fp8_flops_per_second * prefill_share.max(1.0),
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_grow_old_and_are_never_less_than_what_steps_reach() {
        let rates = Rates {
            measured: 1_000_000_000,
            bytes_per_second: 10.0,
            flops_per_second: 20.0,
            fp8_flops_per_second: 30.0,
            prefill_share: 1.0,
            decode_share: 1.0,
        };
        let days = |days: u64| 1_000_000_000 + days * 86_400;
        assert!(
            !rates.is_old(days(0)) && !rates.is_old(days(30)) && rates.is_old(days(31)) && rates.is_old(0)
        );
        let raised = raised(rates.peaks(), 0.5, 1.5);
        assert_eq!(raised, Peaks { bytes_per_second: 15.0, ..rates.peaks() });
    }
}
