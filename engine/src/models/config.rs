//! `config.json`, of transformers 4 and 5.

use crate::dtype::DType;
use crate::error::EngineError;
use crate::op::Activation;
use serde::Deserialize;
use std::path::Path;

/// The architectures that [`ModelConfig::parse`] knows.
pub const KNOWN: &[&str] =
    &["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"];

/// The positions of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// The base of the frequencies.
    pub theta: f64,
    /// How frequencies are stretched.
    pub scaling: RopeScaling,
}

/// How frequencies are stretched for long contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// They are not.
    None,
    /// All by one factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3.1: low ones by the factor, high ones not, those between smoothly.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths beyond `original / low` are stretched.
        low: f64,
        /// Wavelengths below `original / high` are not.
        high: f64,
        /// The context that the model was first trained on.
        original: f64,
    },
}

/// What the engine needs to know of a decoder-only transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The architecture's name.
    pub architecture: String,
    /// Columns of the residual stream.
    pub hidden: usize,
    /// Columns of the gated layer.
    pub intermediate: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Columns of a head.
    pub head_dim: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// The longest context.
    pub max_position_embeddings: usize,
    /// Keeps the root of a norm from zero.
    pub rms_norm_eps: f32,
    /// The gate function.
    pub activation: Activation,
    /// Positions.
    pub rope: Rope,
    /// The window of each layer, `None` where a layer sees everything.
    pub windows: Vec<Option<usize>>,
    /// Whether the head is the embedding table.
    pub tied: bool,
    /// Biases on q, k and v.
    pub qkv_bias: bool,
    /// A bias after attention.
    pub o_bias: bool,
    /// Biases in the gated layer.
    pub mlp_bias: bool,
    /// Norms on the heads of q and k.
    pub qk_norm: bool,
    /// The type in which the weights were published.
    pub dtype: DType,
}

/// The file as it is; absent fields have the defaults of transformers.
#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    architectures: Vec<String>,
    hidden_size: Option<u64>,
    intermediate_size: Option<u64>,
    num_hidden_layers: Option<u64>,
    num_attention_heads: Option<u64>,
    num_key_value_heads: Option<u64>,
    head_dim: Option<u64>,
    vocab_size: Option<u64>,
    max_position_embeddings: Option<u64>,
    rms_norm_eps: Option<f64>,
    hidden_act: Option<String>,
    rope_theta: Option<f64>,
    rope_scaling: Option<serde_json::Value>,
    rope_parameters: Option<serde_json::Value>,
    /// Absent and null differ: an absent window of Mistral is 4096.
    #[serde(default, deserialize_with = "present")]
    sliding_window: Option<Option<u64>>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<u64>,
    layer_types: Option<Vec<String>>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    dtype: Option<String>,
    torch_dtype: Option<String>,
    quantization_config: Option<serde_json::Value>,
}

#[allow(clippy::option_option, reason = "a key may be absent, null, or a number")]
fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(d).map(Some)
}

#[derive(Deserialize)]
struct RawRope {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
    partial_rotary_factor: Option<f64>,
}

impl ModelConfig {
    /// Reads a `config.json`; `file` is for messages.
    ///
    /// # Errors
    /// An unknown architecture, by name, or a field that is missing or out of its range.
    pub fn parse(json: &[u8], file: &Path) -> Result<ModelConfig, EngineError> {
        let bad = |why: String| EngineError::Config { file: file.to_owned(), why };
        let raw: Raw = serde_json::from_slice(json).map_err(|e| bad(e.to_string()))?;
        let name = raw.architectures.first().cloned().unwrap_or_else(|| "(none)".into());
        if !KNOWN.contains(&name.as_str()) {
            return Err(EngineError::Architecture { file: file.to_owned(), name, known: KNOWN });
        }
        raw.resolve(name).map_err(bad)
    }

    /// Columns of q, k and v together.
    pub fn qkv_cols(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }
}

impl Raw {
    fn resolve(self, name: String) -> Result<ModelConfig, String> {
        if self.quantization_config.is_some() {
            return Err("quantization_config: quantised checkpoints are not supported yet; use one in \
                        bf16, f16 or f32"
                .into());
        }
        let hidden = size("hidden_size", self.hidden_size, 1 << 17)?;
        let heads = size("num_attention_heads", self.num_attention_heads, 1 << 12)?;
        let kv_heads = match self.num_key_value_heads {
            None => heads,
            kv => size("num_key_value_heads", kv, 1 << 12)?,
        };
        if heads % kv_heads != 0 {
            return Err(format!(
                "num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}"
            ));
        }
        let head_dim = match self.head_dim {
            None if name == "Qwen3ForCausalLM" => 128,
            None if hidden % heads != 0 => {
                return Err(format!("hidden_size {hidden} is no multiple of num_attention_heads {heads}"));
            }
            None => hidden / heads,
            given => size("head_dim", given, 1 << 12)?,
        };
        if head_dim % 2 != 0 {
            return Err(format!("head_dim {head_dim} is odd; rotary positions need pairs"));
        }
        let layers = size("num_hidden_layers", self.num_hidden_layers, 1 << 12)?;
        let context = size("max_position_embeddings", self.max_position_embeddings.or(Some(2048)), 1 << 27)?;
        let eps = self.rms_norm_eps.unwrap_or(1e-6);
        if !(eps.is_finite() && eps > 0.0) {
            return Err(format!("rms_norm_eps {eps} must be above 0"));
        }
        let attention_bias = self.attention_bias.unwrap_or(false);
        Ok(ModelConfig {
            hidden,
            intermediate: size("intermediate_size", self.intermediate_size, 1 << 20)?,
            layers,
            heads,
            kv_heads,
            head_dim,
            vocab: size("vocab_size", self.vocab_size, 1 << 24)?,
            max_position_embeddings: context,
            rms_norm_eps: eps as f32,
            activation: match self.hidden_act.as_deref().unwrap_or("silu") {
                "silu" | "swish" => Activation::Silu,
                "gelu_pytorch_tanh" | "gelu_new" => Activation::GeluTanh,
                other => {
                    return Err(format!(
                        "hidden_act {other} is not known; known are silu and gelu_pytorch_tanh"
                    ));
                }
            },
            rope: self.rope(context)?,
            windows: self.windows(&name, layers)?,
            tied: self.tie_word_embeddings.unwrap_or(false),
            qkv_bias: name == "Qwen2ForCausalLM" || (attention_bias && name != "MistralForCausalLM"),
            o_bias: attention_bias && matches!(name.as_str(), "LlamaForCausalLM" | "Qwen3ForCausalLM"),
            mlp_bias: self.mlp_bias.unwrap_or(false) && name == "LlamaForCausalLM",
            qk_norm: name == "Qwen3ForCausalLM",
            dtype: match self.dtype.or(self.torch_dtype).as_deref() {
                Some("float32") => DType::F32,
                Some("float16") => DType::F16,
                _ => DType::BF16,
            },
            architecture: name,
        })
    }

    /// Transformers 5 nests the base in `rope_parameters`; a `rope_scaling` that is there replaces it.
    fn rope(&self, context: usize) -> Result<Rope, String> {
        let (key, value) = match (&self.rope_scaling, &self.rope_parameters) {
            (Some(v), _) if !v.is_null() => ("rope_scaling", v.clone()),
            (_, Some(v)) if !v.is_null() => ("rope_parameters", v.clone()),
            _ => ("rope_parameters", serde_json::json!({})),
        };
        if value.get("full_attention").is_some() || value.get("sliding_attention").is_some() {
            return Err(format!("{key} differs by kind of layer, which is not supported"));
        }
        let raw: RawRope = serde_json::from_value(value).map_err(|e| format!("{key}: {e}"))?;
        if raw.partial_rotary_factor.is_some_and(|f| f != 1.0) {
            return Err(format!("{key}.partial_rotary_factor is not supported"));
        }
        let positive = |name: &str, v: Option<f64>, default: f64| match v.unwrap_or(default) {
            v if v.is_finite() && v > 0.0 => Ok(v),
            v => Err(format!("{key}.{name} is {v}; it must be above 0")),
        };
        let theta = positive("rope_theta", raw.rope_theta.or(self.rope_theta), 10_000.0)?;
        let factor = positive("factor", raw.factor, 1.0)?;
        let scaling = match raw.rope_type.as_deref().unwrap_or("default") {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor },
            "llama3" => {
                let low = positive("low_freq_factor", raw.low_freq_factor, 1.0)?;
                let high = positive("high_freq_factor", raw.high_freq_factor, 4.0)?;
                if high <= low {
                    return Err(format!("{key}: high_freq_factor {high} is not above low_freq_factor {low}"));
                }
                let original = raw.original_max_position_embeddings;
                let original = positive("original_max_position_embeddings", original, context as f64)?;
                RopeScaling::Llama3 { factor, low, high, original }
            }
            other => {
                return Err(format!(
                    "{key}: rope type {other} is not known; known are default, linear, llama3"
                ));
            }
        };
        Ok(Rope { theta, scaling })
    }

    /// Which layers see a window only.
    fn windows(&self, name: &str, layers: usize) -> Result<Vec<Option<usize>>, String> {
        let window = match (self.sliding_window, name) {
            (_, "LlamaForCausalLM") => None,
            (None, "MistralForCausalLM") => Some(4096),
            (None, _) => None,
            (Some(window), _) => window,
        };
        let on = name == "MistralForCausalLM" || self.use_sliding_window.unwrap_or(false);
        let Some(window) = window.filter(|_| on) else { return Ok(vec![None; layers]) };
        let window = size("sliding_window", Some(window), 1 << 27)?;
        if let Some(types) = &self.layer_types {
            if types.len() != layers {
                return Err(format!("layer_types names {} layers of {layers}", types.len()));
            }
            let kind = |t: &String| match t.as_str() {
                "full_attention" => Ok(None),
                "sliding_attention" => Ok(Some(window)),
                other => Err(format!("layer_types: {other} is not known")),
            };
            return types.iter().map(kind).collect();
        }
        let first = match name {
            "MistralForCausalLM" => 0,
            _ => self.max_window_layers.unwrap_or(28) as usize,
        };
        Ok((0..layers).map(|layer| (layer >= first).then_some(window)).collect())
    }
}

/// A size that must be there, at least 1 and at most `most`.
fn size(name: &str, value: Option<u64>, most: u64) -> Result<usize, String> {
    match value {
        None => Err(format!("{name} is missing")),
        Some(v) if (1..=most).contains(&v) => Ok(v as usize),
        Some(v) => Err(format!("{name} is {v}; it must be from 1 to {most}")),
    }
}
