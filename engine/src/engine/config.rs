//! How to run a model, and what that comes to on a device.

use crate::buffer::{BufferKind, Dims};
use crate::device::{ComputeTypes, DeviceInfo, DeviceKind};
use crate::dtype::DType;
use crate::error::EngineError;
use crate::format::Format;
use crate::models::{self, Checkpoint, Formats, Model, decoder};
use crate::plan::Plan;
use crate::scheduler::Limits;

/// How to run a model. Zeros and `None`s stand for what suits model and device.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// Sequences that run at once.
    pub max_num_seqs: Option<usize>,
    /// Tokens in a step.
    pub max_num_batched_tokens: Option<usize>,
    /// Tokens in a KV page.
    pub block_size: usize,
    /// The longest sequence; the model's own limit if there is none.
    pub max_model_len: Option<usize>,
    /// The share of the device's memory to use.
    pub gpu_memory_utilization: f64,
    /// Bytes of KV cache, instead of what the share leaves.
    pub kv_cache_bytes: Option<usize>,
    /// Whether prompts share the pages of common prefixes.
    pub enable_prefix_caching: bool,
    /// The type to compute and to hold weights in; the checkpoint's own where the device takes it.
    pub dtype: Option<DType>,
    /// The type of KV pages; the device's first.
    pub kv_cache_dtype: Option<DType>,
    /// The format to which matrices are converted as they load.
    pub quantization: Option<Format>,
    /// Whether the masks of constrained rows are handed in while the device runs the step; else such a row sits out
    /// every other step. No answer depends on it.
    pub late_masks: bool,
    /// Whether tokens that a constraint forces are computed together, and not one by one, for which a step has room for
    /// twice as many rows of logits. No answer depends on it.
    pub force_tokens: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            max_num_seqs: None,
            max_num_batched_tokens: None,
            block_size: 16,
            max_model_len: None,
            gpu_memory_utilization: 0.9,
            kv_cache_bytes: None,
            enable_prefix_caching: true,
            dtype: None,
            kv_cache_dtype: None,
            quantization: None,
            late_masks: true,
            force_tokens: false,
        }
    }
}

/// The types of a loaded model, resolved: never "auto".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Types {
    /// Of activations.
    pub activations: DType,
    /// Of KV pages.
    pub kv: DType,
    /// Of the matrices of weights, each once, in the order of the model.
    pub weights: Vec<Format>,
}

impl Types {
    /// The types that [`crate::Engine::new`] would choose, without loading the model.
    ///
    /// # Errors
    /// [`EngineError::Option`] for a type that the device does not take.
    pub fn resolve(model: &Model, info: &DeviceInfo, config: &EngineConfig) -> Result<Types, EngineError> {
        let types = resolve_types(config, info, model)?;
        let formats = Formats { activations: types.activations, kv: types.kv[0] };
        let matrix = |tensors: &[String]| matrix_format(model, &types, config, tensors);
        let decoder = decoder(&model.config, &formats, 1, 1, 1, matrix);
        Ok(Types { activations: types.activations, kv: types.kv[0], weights: decoder.weight_formats() })
    }
}

/// The format in which a matrix is held, given the names of its tensors.
pub(super) fn matrix_format(
    model: &Model,
    types: &ComputeTypes,
    config: &EngineConfig,
    tensors: &[String],
) -> Format {
    let checkpoint = model.checkpoint.as_ref();
    let first = || checkpoint?.dtype(tensors.first()?).map(Format::Plain);
    let stored = checkpoint.and_then(|checkpoint| checkpoint.format(tensors)).or_else(first);
    let own = stored.unwrap_or(model.config.dtype.into());
    let is_fp8 = matches!(own, Format::Fp8 | Format::Fp8Blocks);
    let wanted = match (config.quantization, config.dtype) {
        // What is in FP8 stays as it is.
        (Some(Format::Fp8), _) if is_fp8 => own,
        // The rows of embeddings and head lose too much by three bits of fraction.
        (Some(Format::Fp8), dtype) if models::is_vocabulary(tensors) => dtype.map_or(own, Format::Plain),
        (Some(format), _) => format,
        (None, dtype) => dtype.map_or(own, Format::Plain),
    };
    if types.weights.contains(&wanted) { wanted } else { widened(model, types, wanted) }
}

/// The format of a matrix whose own the device lacks: that of the model's type, or the device's first.
fn widened(model: &Model, types: &ComputeTypes, lacking: Format) -> Format {
    let own = Format::Plain(model.config.dtype);
    if lacking.plain().is_none() && types.weights.contains(&own) { own } else { types.weights[0] }
}

pub(super) fn max_len(config: &EngineConfig, of_model: usize) -> Result<usize, EngineError> {
    let bad = |why| EngineError::Option { field: "max_model_len", why };
    match config.max_model_len {
        Some(n) if n > of_model => Err(bad(format!("{n} exceeds the model's context of {of_model}"))),
        Some(n) if n < 2 => Err(bad(format!("{n} leaves no room for a prompt and an answer"))),
        n => Ok(n.unwrap_or(of_model)),
    }
}

pub(super) fn limits(
    config: &EngineConfig,
    device: &DeviceInfo,
    max_len: usize,
    vocab: usize,
) -> Result<Limits, EngineError> {
    let positive = |field, n: usize| match n {
        0 => Err(EngineError::Option { field, why: "must be at least 1".into() }),
        n => Ok(n),
    };
    // Enough rows to reach the device's rate, few enough that a step stays short beside a row, and that what each
    // sequence takes beside its pages stays small beside the device's memory.
    let cuda = device.kind == DeviceKind::Cuda;
    let usual_seqs = if cuda && device.memory_total >= 64 << 30 { 512 } else { 256 };
    let usual_tokens = if cuda { 8192 } else { 512 };
    let seqs = positive("max_num_seqs", config.max_num_seqs.unwrap_or(usual_seqs))?;
    let tokens = positive("max_num_batched_tokens", config.max_num_batched_tokens.unwrap_or(usual_tokens))?;
    let page_size = positive("block_size", config.block_size)?;
    Ok(Limits {
        seqs: seqs.min(tokens),
        tokens,
        // Forced tokens are reported beside those that all rows sample.
        outputs: seqs.min(tokens).max(256) * if config.force_tokens { 2 } else { 1 },
        adjustments: vocab.max(65_536) + 4096,
        targets: vocab.max(65_536),
        page_size,
        max_len,
        prefix_caching: config.enable_prefix_caching,
        late_masks: config.late_masks,
    })
}

/// Chooses the types of activations, KV pages and weights: what was asked for, else what suits the model and the device.
pub(super) fn resolve_types(
    config: &EngineConfig,
    info: &DeviceInfo,
    model: &Model,
) -> Result<ComputeTypes, EngineError> {
    let mut types = info.types_for(config.dtype.unwrap_or(model.config.dtype)).clone();
    let refuse = |field, does: &str, known: Vec<&str>, wanted: &str| {
        let why = format!("the {} device {does} {}, not {wanted}", info.kind, known.join(", "));
        EngineError::Option { field, why }
    };
    if let Some(kv) = config.kv_cache_dtype {
        if !types.kv.contains(&kv) {
            let known = types.kv.iter().map(|dtype| dtype.name()).collect();
            return Err(refuse("kv_cache_dtype", "holds KV pages in", known, kv.name()));
        }
        types.kv = vec![kv];
    }
    if types.kv[0] == DType::E4M3 {
        check_unscaled(model)?;
    }
    if let Some(format) = config.quantization.filter(|format| !types.weights.contains(format)) {
        let known = types.weights.iter().map(|format| format.name()).collect();
        return Err(refuse("quantization", "takes", known, format.name()));
    }
    Ok(types)
}

/// FP8 pages hold keys and values as they are: a checkpoint with scales for them wants other numbers there.
fn check_unscaled(model: &Model) -> Result<(), EngineError> {
    match model.checkpoint.as_ref().and_then(Checkpoint::kv_scale) {
        None => Ok(()),
        Some(tensor) => {
            let why = format!(
                "the checkpoint has scales for keys and values in FP8 ({tensor}), which are not used; leave it out"
            );
            Err(EngineError::Option { field: "kv_cache_dtype", why })
        }
    }
}

/// The number of KV pages that memory has room for beside `rest` bytes, at most what all sequences could fill.
pub(super) fn kv_pages(
    plan: &Plan,
    max_dims: &Dims,
    config: &EngineConfig,
    info: &DeviceInfo,
    rest: usize,
) -> Result<usize, EngineError> {
    let page = plan.kv_bytes_per_token() * max_dims.page_size;
    let share = (info.memory_total as f64 * config.gpu_memory_utilization) as usize;
    let usable = match info.kind {
        // Main memory is shared with all else: half of what is free now.
        DeviceKind::Cpu => (info.memory_free / 2).min(share),
        _ => share.saturating_sub(info.memory_total - info.memory_free),
    };
    let budget = config.kv_cache_bytes.unwrap_or(usable.saturating_sub(rest));
    // One buffer holds the pages of one layer.
    let largest = plan.buffers.iter().filter(|b| b.kind == BufferKind::KvPage);
    let largest = largest.map(|b| b.row_bytes() * max_dims.page_size).max().unwrap_or(1);
    let pages =
        (budget / page.max(1)).min(max_dims.seqs * max_dims.pages_per_seq).min(info.max_buffer / largest);
    if pages < max_dims.pages_per_seq {
        return Err(EngineError::NoRoomForKv {
            tokens: max_dims.pages_per_seq * max_dims.page_size,
            needed: page * max_dims.pages_per_seq,
            bytes_per_token: plan.kv_bytes_per_token(),
            weights: plan.bytes(max_dims, |kind| kind == BufferKind::Weight),
            rest,
            usable: config.kv_cache_bytes.is_none().then_some(usable),
            left: budget,
            device: info.name.clone(),
        });
    }
    Ok(pages)
}
