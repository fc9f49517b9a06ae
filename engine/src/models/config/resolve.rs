//! The keys of a config become numbers: what is absent has the family's default, what is out of range is refused.

use super::keys::{Key, Keys};
use super::{LayerConfig, ModelConfig};
use crate::dtype::DType;
use crate::models::checkpoint::Fp8;
use crate::models::families::{Family, Windows};
use crate::models::rope::RopeParameters;
use crate::op::Activation;

/// No model's context is near this.
const MAX_CONTEXT: u64 = 1 << 27;

impl Keys {
    /// What the keys say of a model of this family.
    ///
    /// # Errors
    /// The key that is missing, out of its range or not supported.
    pub fn resolve(&self, family: &Family) -> Result<ModelConfig, String> {
        let fp8 = self.quantization_config.as_ref().map_or(Ok(Fp8::default()), |keys| keys.resolve())?;
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
        let context = size("max_position_embeddings", Some(context), MAX_CONTEXT)?;
        let rope = self.rope(context)?;
        let longest = match rope.scaling.context() {
            None => context,
            Some(stretched) => {
                size("the context that yarn stretches to", Some(stretched), MAX_CONTEXT)?.max(context)
            }
        };
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
            max_position_embeddings: longest,
            rms_norm_eps: eps as f32,
            norm_transform: family.norm_transform,
            activation: self.activation(family)?,
            layers: self.layers(family, head_dim, &rope)?,
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
            fp8,
        })
    }

    fn kv_heads(&self, family: &Family, heads: usize) -> Result<usize, String> {
        let key = self.num_key_value_heads.or_absent(family.defaults.kv_heads);
        let kv_heads = size("num_key_value_heads", key.or(Some(heads as u64)), 1 << 12)?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(format!(
                "num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}"
            ));
        }
        Ok(kv_heads)
    }

    fn head_dim(&self, family: &Family, hidden: usize, heads: usize) -> Result<usize, String> {
        let head_dim = match self.head_dim.or(family.defaults.head_dim) {
            None if !hidden.is_multiple_of(heads) => {
                return Err(format!("hidden_size {hidden} is no multiple of num_attention_heads {heads}"));
            }
            None => hidden / heads,
            key => size("head_dim", key, 1 << 12)?,
        };
        if !head_dim.is_multiple_of(2) {
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

    fn layers(
        &self,
        family: &Family,
        head_dim: usize,
        rope: &RopeParameters,
    ) -> Result<Vec<LayerConfig>, String> {
        let count = size("num_hidden_layers", self.num_hidden_layers, 1 << 12)?;
        let attention_bias = self.attention_bias.unwrap_or(false);
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
        let window = size("sliding_window", Some(window), MAX_CONTEXT)?;
        if let Some(types) = &self.layer_types {
            return by_type(types, layers, window);
        }
        let has = |layer: usize| match family.windows {
            Windows::Never => false,
            Windows::Always => true,
            Windows::Alternate => layer.is_multiple_of(2),
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
