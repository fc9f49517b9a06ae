//! The RoPE parameters that `config.json` gives.

use super::keys::{Keys, RopeKeys};
use crate::models::rope::{RopeParameters, RopeScaling};

impl Keys {
    /// Resolves the RoPE parameters; `context` is `max_position_embeddings`.
    ///
    /// Transformers 5 has the base in `rope_parameters`; a `rope_scaling` that is there replaces them.
    pub fn rope(&self, context: usize) -> Result<RopeParameters, String> {
        let none = RopeKeys::default();
        let (name, keys) = match (&self.rope_scaling, &self.rope_parameters) {
            (Some(keys), _) => ("rope_scaling", keys),
            (None, Some(keys)) => ("rope_parameters", keys),
            (None, None) => ("rope_parameters", &none),
        };
        if keys.full_attention.is_some() || keys.sliding_attention.is_some() {
            return Err(format!("{name} differs by kind of layer, which is not supported"));
        }
        if keys.partial_rotary_factor.is_some_and(|factor| factor != 1.0) {
            return Err(format!("{name}.partial_rotary_factor is not supported"));
        }
        let section = Section { name, keys, outer: self, context: context as f64 };
        let theta = section.positive("rope_theta", keys.rope_theta.or(self.rope_theta), 10_000.0)?;
        Ok(RopeParameters { theta, scaling: section.scaling(theta)? })
    }
}

/// The keys of one object of RoPE parameters, and those beside it.
struct Section<'a> {
    name: &'static str,
    keys: &'a RopeKeys,
    outer: &'a Keys,
    context: f64,
}

impl Section<'_> {
    fn scaling(&self, theta: f64) -> Result<RopeScaling, String> {
        let keys = self.keys;
        let kind = keys.rope_type.as_ref().or(keys.old_type.as_ref());
        match kind.map_or("default", String::as_str) {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: self.factor()? }),
            "llama3" => self.llama3(),
            "yarn" => self.yarn(theta),
            other @ ("dynamic" | "longrope") => Err(format!(
                "{}: rope type {other} is not supported: its angles depend on how long the sequence has become, \
                 so that a position computed once would be wrong later",
                self.name
            )),
            other => Err(format!(
                "{}: rope type {other} is not known; known are default, linear, llama3, yarn",
                self.name
            )),
        }
    }

    fn llama3(&self) -> Result<RopeScaling, String> {
        let keys = self.keys;
        let low = self.positive("low_freq_factor", keys.low_freq_factor, 1.0)?;
        let high = self.positive("high_freq_factor", keys.high_freq_factor, 4.0)?;
        if high <= low {
            return Err(format!("{}: high_freq_factor {high} is not above low_freq_factor {low}", self.name));
        }
        Ok(RopeScaling::Llama3 { factor: self.factor()?, low, high, original: self.original()? })
    }

    fn yarn(&self, theta: f64) -> Result<RopeScaling, String> {
        let keys = self.keys;
        if theta <= 1.0 {
            return Err(format!(
                "{}.rope_theta is {theta}; with rope type yarn it must be above 1",
                self.name
            ));
        }
        let original = self.original()?;
        // Without a factor, it is how much longer the context has become.
        let factor = self.positive("factor", keys.factor, self.context / original)?;
        // Where keys are numbers, transformers takes 0 for absent.
        let number = |value: Option<f64>| value.filter(|v| *v != 0.0);
        let attention_factor = match (keys.attention_factor, number(keys.mscale), number(keys.mscale_all_dim))
        {
            (Some(given), _, _) => given,
            (None, Some(mscale), Some(all_dim)) => magnitude(factor, mscale) / magnitude(factor, all_dim),
            (None, _, _) => magnitude(factor, 1.0),
        };
        Ok(RopeScaling::Yarn {
            factor,
            original,
            beta_fast: self.positive("beta_fast", number(keys.beta_fast), 32.0)?,
            beta_slow: self.positive("beta_slow", number(keys.beta_slow), 1.0)?,
            truncate: keys.truncate.unwrap_or(true),
            attention_factor: self.positive("attention_factor", Some(attention_factor), 1.0)?,
        })
    }

    fn factor(&self) -> Result<f64, String> {
        self.positive("factor", self.keys.factor, 1.0)
    }

    /// The context that the model was first trained on. The key outside comes first, as in transformers.
    fn original(&self) -> Result<f64, String> {
        let keys = self.outer.original_max_position_embeddings;
        let original = keys.or(self.keys.original_max_position_embeddings);
        self.positive("original_max_position_embeddings", original, self.context)
    }

    fn positive(&self, key: &str, value: Option<f64>, default: f64) -> Result<f64, String> {
        match value.unwrap_or(default) {
            v if v.is_finite() && v > 0.0 => Ok(v),
            v => Err(format!("{}.{key} is {v}; it must be above 0", self.name)),
        }
    }
}

/// How much YaRN lets attention grow with the factor.
fn magnitude(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}
