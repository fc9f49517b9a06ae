//! How the model runs: the flags, and the engine's configuration made of them.

use crate::log::note;
use crate::options::device::{DeviceChoice, Gemm, Precision};
use crate::options::number::{count, share};
use crate::options::size::parse_usize;
use clap::{Args, ValueEnum};
use engine::dtype::DType;
use engine::format::Format;
use engine::{Engine, EngineConfig};

#[derive(Args, Clone, Debug, PartialEq)]
#[command(next_help_heading = "Engine")]
pub struct EngineOptions {
    /// Run on this device: auto, cpu, cuda, cuda:NUMBER, wgpu, wgpu:NUMBER or wgpu:NAME (part of an adapter's name).
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Threads of the processor [default: one per core].
    #[arg(long, value_parser = count::<usize>(1, 1024))]
    pub threads: Option<usize>,
    /// Limit a prompt and its answer to TOKENS tokens together [default: the model's context]. 32k is 32,000 and 32K is
    /// 32,768.
    #[arg(long, value_name = "TOKENS", value_parser = count::<usize>(2, 1 << 31))]
    pub max_model_len: Option<usize>,
    /// Run at most ROWS rows in a step [default: 256; 512 on a card with 64 GiB or more].
    #[arg(long, value_name = "ROWS", value_parser = count::<usize>(1, 1 << 20))]
    pub max_num_seqs: Option<usize>,
    /// Run at most TOKENS tokens in a step [default: the device's].
    #[arg(long, value_name = "TOKENS", value_parser = count::<usize>(1, 1 << 24))]
    pub max_num_batched_tokens: Option<usize>,
    /// Tokens per KV page.
    #[arg(long, value_name = "TOKENS", value_parser = count::<usize>(1, 1 << 16), default_value = "16")]
    pub block_size: usize,
    /// Use this share of the device's memory, more than 0 and at most 1.
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "0.9")]
    pub gpu_memory_utilization: f64,
    /// Use BYTES bytes for KV pages, instead of what that share leaves.
    #[arg(long, value_name = "BYTES", value_parser = parse_usize)]
    pub kv_cache_memory_bytes: Option<usize>,
    /// Compute with and hold weights in this type [auto: the checkpoint's, where the device takes it].
    #[arg(long, value_enum, default_value_t)]
    pub dtype: Dtype,
    /// Hold KV pages in this type: float32, bfloat16, float16, or fp8 (e4m3: half the memory of 16 bits, and less exact)
    /// [auto: the device's].
    #[arg(long, value_name = "DTYPE", value_parser = kv_type, default_value = "auto")]
    pub kv_cache_dtype: Dtype,
    /// Convert a checkpoint's matrices to FORMAT as it loads: fp8 (8 bits a weight, a scale for each row; embeddings and head
    /// stay as they are) or q8_0 (8.5 bits a weight, as in GGUF).
    #[arg(long, value_name = "FORMAT", value_parser = parse_blocks)]
    pub quantization: Option<Format>,
    /// Multiply matrices on a CUDA card with this. `cublaslt` is outside the numeric contract: an answer may depend on the
    /// rows that share its steps.
    #[arg(long, value_enum, default_value_t)]
    pub gemm: Gemm,
    /// Precision of products on the processor: `highest` multiplies f32 values; `medium` multiplies bf16 values, which is
    /// faster where the processor has AVX-512 BF16. Sums are f32 in both cases.
    #[arg(long, value_enum, default_value_t)]
    pub float32_matmul_precision: Precision,
    /// Reuse the KV pages of prompts that begin alike [default: true].
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub enable_prefix_caching: Option<bool>,
}

/// A type of numbers.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtype {
    /// The checkpoint's or the device's.
    #[default]
    Auto,
    /// 32 bits.
    Float32,
    /// 16 bits with the range of 32.
    Bfloat16,
    /// 16 bits, IEEE 754.
    #[value(alias = "half")]
    Float16,
    /// 8 bits, e4m3: of KV pages only.
    #[value(skip)]
    Fp8,
}

/// A type of KV pages, as vLLM names those of FP8.
fn kv_type(name: &str) -> Result<Dtype, String> {
    match name {
        "fp8" | "fp8_e4m3" => Ok(Dtype::Fp8),
        "fp8_e5m2" => Err("of FP8, KV pages are held in e4m3 only; give fp8".into()),
        name => Dtype::from_str(name, false).map_err(|_| {
            "known are auto, float32, bfloat16, float16 and fp8, of which each device takes some".into()
        }),
    }
}

/// A format to which matrices are converted, by its name.
fn parse_blocks(name: &str) -> Result<Format, String> {
    let known = || Format::CONVERSIONS.iter().map(|format| format.name()).collect::<Vec<_>>().join(", ");
    let format = Format::CONVERSIONS.iter().find(|format| format.name() == name);
    format.copied().ok_or_else(|| format!("known are {}", known()))
}

/// The engine's configuration.
pub fn engine_config(args: &EngineOptions) -> EngineConfig {
    let dtype = |dtype| match dtype {
        Dtype::Auto => None,
        Dtype::Float32 => Some(DType::F32),
        Dtype::Bfloat16 => Some(DType::BF16),
        Dtype::Float16 => Some(DType::F16),
        Dtype::Fp8 => Some(DType::E4M3),
    };
    EngineConfig {
        max_num_seqs: args.max_num_seqs,
        max_num_batched_tokens: args.max_num_batched_tokens,
        block_size: args.block_size,
        max_model_len: args.max_model_len,
        gpu_memory_utilization: args.gpu_memory_utilization,
        kv_cache_bytes: args.kv_cache_memory_bytes,
        enable_prefix_caching: args.enable_prefix_caching.unwrap_or(true),
        dtype: dtype(args.dtype),
        kv_cache_dtype: dtype(args.kv_cache_dtype),
        quantization: args.quantization,
        late_masks: true,
        force_tokens: false,
    }
}

/// Prints how the model runs.
pub fn print_engine(engine: &Engine) {
    let limits = engine.limits();
    let types = engine.types();
    let weights: Vec<&str> = types.weights.iter().map(|format| format.name()).collect();
    let rows = if limits.seqs == 1 { "1 row".into() } else { format!("{} rows", limits.seqs) };
    note!(
        "engine: {}, weights {}, activations {}, KV {}, {} KV pages of {} tokens, up to {rows} and {} tokens a step",
        engine.device().info().name,
        weights.join(" and "),
        types.activations.name(),
        types.kv.name(),
        engine.pages(),
        limits.page_size,
        limits.tokens
    );
    if let Some(why) = &engine.device().info().breaks_contract {
        note!(
            "outside the numeric contract: {why}, so an answer may depend on the rows that share its steps"
        );
    }
}
