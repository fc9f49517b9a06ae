//! How the model runs: the flags, and what the engine is made of them.

use crate::options::device::{DeviceChoice, Gemm, Precision};
use crate::options::size::parse_usize;
use clap::{Args, ValueEnum};
use engine::dtype::DType;
use engine::format::Format;
use engine::{Engine, EngineConfig};

/// How the model runs.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(next_help_heading = "Engine")]
pub struct EngineOptions {
    /// What the model runs on: auto, cpu, cuda, cuda:1, wgpu, wgpu:1 or wgpu:NAME (part of the adapter's name).
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Threads of the processor [default: one for each core].
    #[arg(long)]
    pub threads: Option<usize>,
    /// The most tokens of a prompt and its answer [default: the model's]. 32k is 32,000 and 32K 32,768.
    #[arg(long, value_name = "TOKENS", value_parser = parse_usize)]
    pub max_model_len: Option<usize>,
    /// The most rows of a step.
    #[arg(long, value_name = "ROWS", value_parser = parse_usize, default_value = "256")]
    pub max_num_seqs: usize,
    /// The most tokens of a step [default: the device's].
    #[arg(long, value_name = "TOKENS", value_parser = parse_usize)]
    pub max_num_batched_tokens: Option<usize>,
    /// Tokens of a KV page.
    #[arg(long, value_name = "TOKENS", default_value_t = 16)]
    pub block_size: usize,
    /// The share of the device's memory that may be used.
    #[arg(long, value_name = "SHARE", default_value_t = 0.9)]
    pub gpu_memory_utilization: f64,
    /// Bytes for KV pages in place of that share.
    #[arg(long, value_name = "BYTES", value_parser = parse_usize)]
    pub kv_cache_memory_bytes: Option<usize>,
    /// The type of weights [auto: the checkpoint's, where the device takes it].
    #[arg(long, value_enum, default_value_t)]
    pub dtype: Dtype,
    /// The type of KV pages [auto: the device's].
    #[arg(long, value_enum, default_value_t)]
    pub kv_cache_dtype: Dtype,
    /// Convert a checkpoint's matrices to 8 bits as it loads.
    #[arg(long, value_enum)]
    pub quantization: Option<Quantization>,
    /// What multiplies matrices on a CUDA card. `cublaslt` is outside the numeric contract: an answer may then depend on
    /// the rows that share its steps.
    #[arg(long, value_enum, default_value_t)]
    pub gemm: Gemm,
    /// How exact products are on the processor: `highest` multiplies f32 values, `medium` bf16 ones, which is faster where
    /// the processor has AVX-512 BF16. Sums are f32 either way.
    #[arg(long, value_enum, default_value_t)]
    pub float32_matmul_precision: Precision,
    /// Reuse the pages of equal prompt beginnings [default: true].
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub enable_prefix_caching: Option<bool>,
}

/// The type of numbers in memory.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtype {
    /// What suits.
    #[default]
    Auto,
    /// 32 bits.
    Float32,
    /// 16 bits with the range of 32.
    Bfloat16,
    /// 16 bits, IEEE 754.
    #[value(alias = "half")]
    Float16,
}

/// A format to which matrices are converted.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
#[value(rename_all = "snake_case")]
pub enum Quantization {
    /// 8 bits: blocks of 32 values with one scale each, as in GGUF.
    #[value(name = "q8_0")]
    Q8_0,
}

impl From<Quantization> for Format {
    fn from(quantization: Quantization) -> Format {
        match quantization {
            Quantization::Q8_0 => Format::Q8_0,
        }
    }
}

/// The engine's options as the flags have them.
pub fn engine_config(args: &EngineOptions) -> EngineConfig {
    let dtype = |dtype| match dtype {
        Dtype::Auto => None,
        Dtype::Float32 => Some(DType::F32),
        Dtype::Bfloat16 => Some(DType::BF16),
        Dtype::Float16 => Some(DType::F16),
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
        quantization: args.quantization.map(Format::from),
        late_masks: true,
    }
}

/// Prints how the model runs.
pub fn print_engine(engine: &Engine) {
    let limits = engine.limits();
    let types = engine.types();
    let weights: Vec<&str> = types.weights.iter().map(|format| format.name()).collect();
    eprintln!(
        "engine: {}, weights {}, activations {}, KV {}, {} KV pages of {} tokens, up to {} rows and {} tokens a step",
        engine.device().info().name,
        weights.join(" and "),
        types.activations.name(),
        types.kv.name(),
        engine.pages(),
        limits.page_size,
        limits.seqs,
        limits.tokens
    );
    if let Some(why) = &engine.device().info().breaks_contract {
        eprintln!(
            "outside the numeric contract: {why}, so answers may depend on the rows that share their steps"
        );
    }
}
