//! `config.json` of transformers 4 and 5: its keys become the numbers that a plan is built from.

mod keys;
mod quantization;
mod resolve;
mod rope;

use super::checkpoint::{Fp8, Transform};
use super::families::{Family, LayerNorms};
use super::rope::RopeParameters;
use crate::dtype::DType;
use crate::error::EngineError;
use crate::op::Activation;
use keys::Keys;
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
    /// The type in which the weights were published; of FP8 weights the one in which they are computed with.
    pub dtype: DType,
    /// How FP8 weights are scaled.
    pub fp8: Fp8,
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
        let mut json = serde_json::Deserializer::from_slice(json);
        // The error says at which key.
        let keys: Keys = serde_path_to_error::deserialize(&mut json).map_err(|e| bad(e.to_string()))?;
        json.end().map_err(|e| bad(e.to_string()))?;
        let Some(name) = keys.architectures.as_deref().and_then(|names| names.first()) else {
            let why = "architectures is missing, null or empty; it must name the model's class, such as \
                       [\"LlamaForCausalLM\"]";
            return Err(bad(why.into()));
        };
        let Some(family) = Family::of(name) else {
            let (file, name) = (file.to_owned(), name.clone());
            return Err(EngineError::Architecture { file, name, known: Family::names() });
        };
        keys.resolve(family).map_err(bad)
    }

    /// Columns of q, k and v together.
    pub fn qkv_cols(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }
}

#[cfg(test)]
mod tests;
