//! The families of models: what makes one differ from another, as data.

use super::checkpoint::Transform;
use crate::op::Activation;

/// A family of models: one architecture of transformers.
#[derive(Debug)]
pub struct Family {
    /// Its name under `architectures` in `config.json`.
    pub architecture: &'static str,
    /// What transformers takes for keys that are absent.
    pub defaults: Defaults,
    /// The key that names the gate function.
    pub activation_key: &'static str,
    /// Biases on q, k and v; their key is `attention_bias`.
    pub qkv_bias: Bias,
    /// A bias on the projection after attention; its key is `attention_bias`.
    pub o_bias: Bias,
    /// Biases in the feed-forward layer; their key is `mlp_bias`.
    pub mlp_bias: Bias,
    /// Norms on the heads of q and k, `q_norm` and `k_norm`.
    pub qk_norm: bool,
    /// The norms around attention and feed-forward.
    pub norms: LayerNorms,
    /// What is done with the weights of all norms as they load.
    pub norm_transform: Transform,
    /// Whether embeddings are multiplied by the root of `hidden_size`.
    pub scaled_embeddings: bool,
    /// Which layers attend to a window only.
    pub windows: Windows,
}

/// What transformers takes for keys that are absent.
#[derive(Debug)]
pub struct Defaults {
    /// `max_position_embeddings`.
    pub max_position_embeddings: u64,
    /// `num_key_value_heads`; `None` is as many as query heads.
    pub kv_heads: Option<u64>,
    /// `head_dim`; `None` is `hidden_size / num_attention_heads`.
    pub head_dim: Option<u64>,
    /// `sliding_window`.
    pub sliding_window: Option<u64>,
    /// `query_pre_attn_scalar`: scores are divided by its root. `None` is `head_dim`, and the key is not read.
    pub query_pre_attn_scalar: Option<f64>,
    /// `attn_logit_softcapping`; where it is `None`, the key is not read.
    pub attn_logit_softcapping: Option<f64>,
    /// `final_logit_softcapping`; where it is `None`, the key is not read.
    pub final_logit_softcapping: Option<f64>,
    /// The gate function.
    pub activation: Activation,
    /// `tie_word_embeddings`.
    pub tied: bool,
}

/// Whether a family's linear layers have biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// They have none, whatever the config says.
    Never,
    /// They have some, whatever the config says.
    Always,
    /// The config says so.
    Key,
}

/// The norms of a layer, by their names within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerNorms {
    /// Before attention.
    pub pre_attention: &'static str,
    /// After attention, before its output is added to the residual stream.
    pub post_attention: Option<&'static str>,
    /// Before feed-forward.
    pub pre_mlp: &'static str,
    /// After feed-forward, before its output is added to the residual stream.
    pub post_mlp: Option<&'static str>,
}

/// Which layers attend to a window only, where no `layer_types` says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// None; `sliding_window` is not read.
    Never,
    /// All.
    Always,
    /// Every other one, the first among them.
    Alternate,
    /// With `use_sliding_window`, those from `max_window_layers` on.
    FromLayer {
        /// The default of `max_window_layers`.
        first: u64,
    },
}

const LLAMA_NORMS: LayerNorms = LayerNorms {
    pre_attention: "input_layernorm",
    post_attention: None,
    pre_mlp: "post_attention_layernorm",
    post_mlp: None,
};

const LLAMA: Family = Family {
    architecture: "LlamaForCausalLM",
    defaults: Defaults {
        max_position_embeddings: 2048,
        kv_heads: None,
        head_dim: None,
        sliding_window: None,
        query_pre_attn_scalar: None,
        attn_logit_softcapping: None,
        final_logit_softcapping: None,
        activation: Activation::Silu,
        tied: false,
    },
    activation_key: "hidden_act",
    qkv_bias: Bias::Key,
    o_bias: Bias::Key,
    mlp_bias: Bias::Key,
    qk_norm: false,
    norms: LLAMA_NORMS,
    norm_transform: Transform::None,
    scaled_embeddings: false,
    windows: Windows::Never,
};

const MISTRAL: Family = Family {
    architecture: "MistralForCausalLM",
    defaults: Defaults {
        max_position_embeddings: 131_072,
        kv_heads: Some(8),
        sliding_window: Some(4096),
        ..LLAMA.defaults
    },
    qkv_bias: Bias::Never,
    o_bias: Bias::Never,
    mlp_bias: Bias::Never,
    windows: Windows::Always,
    ..LLAMA
};

const QWEN2: Family = Family {
    architecture: "Qwen2ForCausalLM",
    defaults: Defaults {
        max_position_embeddings: 32_768,
        kv_heads: Some(32),
        sliding_window: Some(4096),
        ..LLAMA.defaults
    },
    qkv_bias: Bias::Always,
    o_bias: Bias::Never,
    mlp_bias: Bias::Never,
    windows: Windows::FromLayer { first: 28 },
    ..LLAMA
};

const QWEN3: Family = Family {
    architecture: "Qwen3ForCausalLM",
    defaults: Defaults { head_dim: Some(128), ..QWEN2.defaults },
    qkv_bias: Bias::Key,
    o_bias: Bias::Key,
    qk_norm: true,
    ..QWEN2
};

const GEMMA2: Family = Family {
    architecture: "Gemma2ForCausalLM",
    defaults: Defaults {
        max_position_embeddings: 8192,
        kv_heads: Some(4),
        head_dim: Some(256),
        sliding_window: Some(4096),
        query_pre_attn_scalar: Some(256.0),
        attn_logit_softcapping: Some(50.0),
        final_logit_softcapping: Some(30.0),
        activation: Activation::GeluTanh,
        tied: true,
    },
    activation_key: "hidden_activation",
    qkv_bias: Bias::Key,
    o_bias: Bias::Key,
    mlp_bias: Bias::Never,
    qk_norm: false,
    norms: LayerNorms {
        pre_attention: "input_layernorm",
        post_attention: Some("post_attention_layernorm"),
        pre_mlp: "pre_feedforward_layernorm",
        post_mlp: Some("post_feedforward_layernorm"),
    },
    norm_transform: Transform::PlusOne,
    scaled_embeddings: true,
    windows: Windows::Alternate,
};

/// The families that are known.
pub const FAMILIES: &[Family] = &[LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA2];

impl Family {
    /// The family of an architecture.
    pub fn of(architecture: &str) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| family.architecture == architecture)
    }

    /// The names of all families.
    pub fn names() -> Vec<&'static str> {
        FAMILIES.iter().map(|family| family.architecture).collect()
    }
}

impl Bias {
    /// Whether there is one, given what the config says.
    pub fn resolve(self, key: bool) -> bool {
        match self {
            Bias::Never => false,
            Bias::Always => true,
            Bias::Key => key,
        }
    }
}
