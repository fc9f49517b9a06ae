//! `config.json` of transformers 4 and 5: its keys become the numbers that a plan is built from.

mod keys;
mod rope;

use super::checkpoint::Transform;
use super::families::{Family, LayerNorms, Windows};
use super::rope::RopeParameters;
use crate::dtype::DType;
use crate::error::EngineError;
use crate::op::Activation;
use keys::{Key, Keys};
use std::path::Path;

/// What the engine needs to know of a decoder-only transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The architecture's name.
    pub architecture: &'static str,
    /// Columns of the residual stream.
    pub hidden: usize,
    /// Columns of the gated layer.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Columns of a head.
    pub head_dim: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// The longest context: `max_position_embeddings`, or what YaRN stretches the original one to.
    pub max_position_embeddings: usize,
    /// Multiplies the embeddings.
    pub embed_scale: f32,
    /// Keeps the root of a norm from zero.
    pub rms_norm_eps: f32,
    /// What is done with the weights of norms as they load.
    pub norm_transform: Transform,
    /// The gate function.
    pub activation: Activation,
    /// The layers, the first one first.
    pub layers: Vec<LayerConfig>,
    /// Whether the head is the embedding table.
    pub tied: bool,
    /// Logits are bent to within this, `cap * tanh(x / cap)`.
    pub logits_softcap: Option<f32>,
    /// The type in which the weights were published.
    pub dtype: DType,
}

/// What may differ from layer to layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerConfig {
    /// How many positions a query attends to, itself among them; `None` is all before it.
    pub window: Option<usize>,
    /// Multiplies the scores of attention.
    pub attention_scale: f32,
    /// Scores are bent to within this, `cap * tanh(x / cap)`.
    pub attention_softcap: Option<f32>,
    /// RoPE parameters. Layers whose parameters are equal share a table.
    pub rope: RopeParameters,
    /// The norms around attention and feed-forward.
    pub norms: LayerNorms,
    /// Norms on the heads of q and k.
    pub qk_norm: bool,
    /// Biases on q, k and v.
    pub qkv_bias: bool,
    /// A bias on the projection after attention.
    pub o_bias: bool,
    /// Biases in the feed-forward layer.
    pub mlp_bias: bool,
}

impl ModelConfig {
    /// Reads a `config.json`; `file` is for messages.
    ///
    /// # Errors
    /// An unknown architecture, by name, or a field that is missing or out of its range.
    pub fn parse(json: &[u8], file: &Path) -> Result<ModelConfig, EngineError> {
        let bad = |why: String| EngineError::Config { file: file.to_owned(), why };
        let keys: Keys = serde_json::from_slice(json).map_err(|e| bad(e.to_string()))?;
        let name = keys.architectures.first().map_or("(none)", String::as_str);
        let Some(family) = Family::of(name) else {
            let (file, name) = (file.to_owned(), name.to_owned());
            return Err(EngineError::Architecture { file, name, known: Family::names() });
        };
        keys.resolve(family).map_err(bad)
    }

    /// Columns of q, k and v together.
    pub fn qkv_cols(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }
}

impl Keys {
    fn resolve(&self, family: &Family) -> Result<ModelConfig, String> {
        if self.quantization_config.is_some() {
            return Err("quantization_config: quantised checkpoints are not supported yet; use one in \
                        bf16, f16 or f32"
                .into());
        }
        if self.use_bidirectional_attention == Some(true) {
            return Err(
                "use_bidirectional_attention is not supported: tokens are generated one by one".into()
            );
        }
        let defaults = &family.defaults;
        let hidden = size("hidden_size", self.hidden_size, 1 << 17)?;
        let heads = size("num_attention_heads", self.num_attention_heads, 1 << 12)?;
        let head_dim = self.head_dim(family, hidden, heads)?;
        let context = self.max_position_embeddings.unwrap_or(defaults.max_position_embeddings);
        let context = size("max_position_embeddings", Some(context), 1 << 27)?;
        let eps = positive("rms_norm_eps", self.rms_norm_eps.or(Some(1e-6)))?;
        Ok(ModelConfig {
            architecture: family.architecture,
            hidden,
            embed_scale: if family.scaled_embeddings { (hidden as f64).sqrt() as f32 } else { 1.0 },
            intermediate: size("intermediate_size", self.intermediate_size, 1 << 20)?,
            heads,
            kv_heads: self.kv_heads(family, heads)?,
            head_dim,
            vocab: size("vocab_size", self.vocab_size, 1 << 24)?,
            max_position_embeddings: self
                .rope(context)?
                .scaling
                .context()
                .map_or(context, |c| c.max(context)),
            rms_norm_eps: eps as f32,
            norm_transform: family.norm_transform,
            activation: self.activation(family)?,
            layers: self.layers(family, head_dim, context)?,
            tied: self.tie_word_embeddings.unwrap_or(defaults.tied),
            logits_softcap: softcap(
                "final_logit_softcapping",
                self.final_logit_softcapping,
                defaults.final_logit_softcapping,
            )?,
            dtype: match self.dtype.as_deref().or(self.torch_dtype.as_deref()) {
                Some("float32") => DType::F32,
                Some("float16") => DType::F16,
                _ => DType::BF16,
            },
        })
    }

    fn kv_heads(&self, family: &Family, heads: usize) -> Result<usize, String> {
        let key = self.num_key_value_heads.or_absent(family.defaults.kv_heads);
        let kv_heads = size("num_key_value_heads", key.or(Some(heads as u64)), 1 << 12)?;
        if heads % kv_heads != 0 {
            return Err(format!(
                "num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}"
            ));
        }
        Ok(kv_heads)
    }

    fn head_dim(&self, family: &Family, hidden: usize, heads: usize) -> Result<usize, String> {
        let head_dim = match self.head_dim.or(family.defaults.head_dim) {
            None if hidden % heads != 0 => {
                return Err(format!("hidden_size {hidden} is no multiple of num_attention_heads {heads}"));
            }
            None => hidden / heads,
            key => size("head_dim", key, 1 << 12)?,
        };
        if head_dim % 2 != 0 {
            return Err(format!("head_dim {head_dim} is odd; RoPE rotates pairs of columns"));
        }
        Ok(head_dim)
    }

    fn activation(&self, family: &Family) -> Result<Activation, String> {
        let key = family.activation_key;
        let keys = [("hidden_act", &self.hidden_act), ("hidden_activation", &self.hidden_activation)];
        let value = keys.iter().find(|(name, _)| *name == key).and_then(|(_, value)| value.as_deref());
        match value {
            None => Ok(family.defaults.activation),
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some("gelu_pytorch_tanh" | "gelu_new") => Ok(Activation::GeluTanh),
            Some(other) => Err(format!("{key} {other} is not known; known are silu and gelu_pytorch_tanh")),
        }
    }

    fn layers(&self, family: &Family, head_dim: usize, context: usize) -> Result<Vec<LayerConfig>, String> {
        let count = size("num_hidden_layers", self.num_hidden_layers, 1 << 12)?;
        let attention_bias = self.attention_bias.unwrap_or(false);
        let rope = self.rope(context)?;
        let defaults = &family.defaults;
        let scalar = match defaults.query_pre_attn_scalar {
            None => head_dim as f64,
            default => positive("query_pre_attn_scalar", self.query_pre_attn_scalar.or(default))?,
        };
        let attention_softcap =
            softcap("attn_logit_softcapping", self.attn_logit_softcapping, defaults.attn_logit_softcapping)?;
        let layer = |window| LayerConfig {
            window,
            attention_scale: 1.0 / (scalar as f32).sqrt(),
            attention_softcap,
            rope: rope.clone(),
            norms: family.norms,
            qk_norm: family.qk_norm,
            qkv_bias: family.qkv_bias.resolve(attention_bias),
            o_bias: family.o_bias.resolve(attention_bias),
            mlp_bias: family.mlp_bias.resolve(self.mlp_bias.unwrap_or(false)),
        };
        Ok(self.windows(family, count)?.into_iter().map(layer).collect())
    }

    /// The window of each layer.
    fn windows(&self, family: &Family, layers: usize) -> Result<Vec<Option<usize>>, String> {
        let on = match family.windows {
            Windows::Never => false,
            Windows::Always | Windows::Alternate => true,
            Windows::FromLayer { .. } => self.use_sliding_window.unwrap_or(false),
        };
        let key = self.sliding_window.or_absent(family.defaults.sliding_window);
        let Some(window) = key.filter(|_| on) else { return Ok(vec![None; layers]) };
        let window = size("sliding_window", Some(window), 1 << 27)?;
        if let Some(types) = &self.layer_types {
            return by_type(types, layers, window);
        }
        let has = |layer: usize| match family.windows {
            Windows::Never => false,
            Windows::Always => true,
            Windows::Alternate => layer % 2 == 0,
            Windows::FromLayer { first } => layer as u64 >= self.max_window_layers.unwrap_or(first),
        };
        Ok((0..layers).map(|layer| has(layer).then_some(window)).collect())
    }
}

/// The windows that `layer_types` gives.
fn by_type(types: &[String], layers: usize, window: usize) -> Result<Vec<Option<usize>>, String> {
    if types.len() != layers {
        return Err(format!("layer_types names {} layers of {layers}", types.len()));
    }
    let kind = |name: &String| match name.as_str() {
        "full_attention" => Ok(None),
        "sliding_attention" => Ok(Some(window)),
        other => Err(format!("layer_types: {other} is not known")),
    };
    types.iter().map(kind).collect()
}

/// A cap, if the family has one.
fn softcap(name: &str, key: Key<f64>, default: Option<f64>) -> Result<Option<f32>, String> {
    match default.and(key.or_absent(default)) {
        None => Ok(None),
        cap => positive(name, cap).map(|cap| Some(cap as f32)),
    }
}

/// A number that must be there and above 0.
fn positive(name: &str, value: Option<f64>) -> Result<f64, String> {
    match value {
        None => Err(format!("{name} is missing")),
        Some(v) if v.is_finite() && v > 0.0 => Ok(v),
        Some(v) => Err(format!("{name} is {v}; it must be above 0")),
    }
}

/// A size that must be there, at least 1 and at most `max`.
fn size(name: &str, value: Option<u64>, max: u64) -> Result<usize, String> {
    match value {
        None => Err(format!("{name} is missing")),
        Some(v) if (1..=max).contains(&v) => Ok(v as usize),
        Some(v) => Err(format!("{name} is {v}; it must be from 1 to {max}")),
    }
}

#[cfg(test)]
mod tests;
