//! The keys of `config.json`, as the file has them.

use super::quantization::QuantizationKeys;
use serde::{Deserialize, Deserializer};

/// `rope_parameters` of transformers 5, `rope_scaling` of transformers 4.
#[derive(Default, Deserialize)]
pub struct RopeKeys {
    pub rope_type: Option<String>,
    /// The old name of `rope_type`.
    #[serde(rename = "type")]
    pub old_type: Option<String>,
    pub rope_theta: Option<f64>,
    pub factor: Option<f64>,
    pub low_freq_factor: Option<f64>,
    pub high_freq_factor: Option<f64>,
    pub original_max_position_embeddings: Option<f64>,
    pub beta_fast: Option<f64>,
    pub beta_slow: Option<f64>,
    pub attention_factor: Option<f64>,
    pub mscale: Option<f64>,
    pub mscale_all_dim: Option<f64>,
    pub truncate: Option<bool>,
    pub partial_rotary_factor: Option<f64>,
    /// Parameters for each kind of layer, in place of all the others.
    pub full_attention: Option<serde::de::IgnoredAny>,
    pub sliding_attention: Option<serde::de::IgnoredAny>,
}

/// The file as it is: every key may be absent.
#[derive(Deserialize)]
pub struct Keys {
    pub architectures: Option<Vec<String>>,
    pub hidden_size: Option<u64>,
    pub intermediate_size: Option<u64>,
    pub num_hidden_layers: Option<u64>,
    pub num_attention_heads: Option<u64>,
    #[serde(default)]
    pub num_key_value_heads: Key<u64>,
    pub head_dim: Option<u64>,
    pub vocab_size: Option<u64>,
    pub max_position_embeddings: Option<u64>,
    pub original_max_position_embeddings: Option<f64>,
    pub rms_norm_eps: Option<f64>,
    pub hidden_act: Option<String>,
    pub hidden_activation: Option<String>,
    pub rope_theta: Option<f64>,
    pub rope_scaling: Option<RopeKeys>,
    pub rope_parameters: Option<RopeKeys>,
    #[serde(default)]
    pub sliding_window: Key<u64>,
    pub use_sliding_window: Option<bool>,
    pub max_window_layers: Option<u64>,
    pub layer_types: Option<Vec<String>>,
    pub query_pre_attn_scalar: Option<f64>,
    #[serde(default)]
    pub attn_logit_softcapping: Key<f64>,
    #[serde(default)]
    pub final_logit_softcapping: Key<f64>,
    pub use_bidirectional_attention: Option<bool>,
    pub tie_word_embeddings: Option<bool>,
    pub attention_bias: Option<bool>,
    pub mlp_bias: Option<bool>,
    pub dtype: Option<String>,
    pub torch_dtype: Option<String>,
    pub quantization_config: Option<QuantizationKeys>,
}

/// A key for which absent and null mean different things: an absent window of Mistral is 4096, null is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Key<T> {
    #[default]
    Absent,
    Null,
    Value(T),
}

impl<T> Key<T> {
    /// The value, `default` if the key is absent, none if it is null.
    pub fn or_absent(self, default: Option<T>) -> Option<T> {
        match self {
            Key::Absent => default,
            Key::Null => None,
            Key::Value(value) => Some(value),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Key<T> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        Option::deserialize(json).map(|value| value.map_or(Key::Null, Key::Value))
    }
}
