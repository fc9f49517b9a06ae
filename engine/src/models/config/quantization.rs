//! `quantization_config`: which quantised checkpoints are read.

use crate::models::checkpoint::Fp8;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// The keys of `quantization_config` that matter for reading weights. Scales of activations do not: activations are not
/// quantised.
#[derive(Deserialize)]
pub struct QuantizationKeys {
    quant_method: Option<String>,
    /// `fp8`.
    fmt: Option<String>,
    weight_block_size: Option<[usize; 2]>,
    /// `compressed-tensors`.
    format: Option<String>,
    #[serde(default)]
    config_groups: BTreeMap<String, Group>,
    sparsity_config: Option<Sparsity>,
    transform_config: Option<BTreeMap<String, IgnoredAny>>,
}

#[derive(Deserialize)]
struct Group {
    weights: Option<Weights>,
}

#[derive(Deserialize)]
struct Weights {
    num_bits: Option<u64>,
    #[serde(rename = "type")]
    kind: Option<String>,
    strategy: Option<String>,
    symmetric: Option<bool>,
    block_structure: Option<[usize; 2]>,
}

#[derive(Deserialize)]
struct Sparsity {
    format: Option<String>,
}

impl QuantizationKeys {
    /// What they say of FP8 weights.
    ///
    /// # Errors
    /// The key that asks for another kind.
    pub fn resolve(&self) -> Result<Fp8, String> {
        let block = match self.quant_method.as_deref() {
            Some("fp8") => self.fp8()?,
            Some("compressed-tensors") => self.compressed_tensors()?,
            method => return Err(refused("quant_method", method)),
        };
        match block {
            Some([0, _] | [_, 0]) => Err("quantization_config: blocks of no rows or columns".into()),
            block => Ok(Fp8 { block }),
        }
    }

    fn fp8(&self) -> Result<Option<[usize; 2]>, String> {
        match self.fmt.as_deref() {
            None | Some("e4m3") => Ok(self.weight_block_size),
            fmt => Err(refused("fmt", fmt)),
        }
    }

    fn compressed_tensors(&self) -> Result<Option<[usize; 2]>, String> {
        if !matches!(self.format.as_deref(), Some("float-quantized" | "naive-quantized")) {
            return Err(refused("format", self.format.as_deref()));
        }
        if let Some(format) = self.sparsity_config.as_ref().and_then(|s| s.format.as_deref())
            && format != "dense"
        {
            return Err(refused("sparsity_config.format", Some(format)));
        }
        if self.transform_config.as_ref().is_some_and(|keys| !keys.is_empty()) {
            return Err(refused("transform_config", None));
        }
        let mut block = None;
        for weights in self.config_groups.values().filter_map(|group| group.weights.as_ref()) {
            if weights.num_bits != Some(8) || weights.kind.as_deref() != Some("float") {
                return Err(refused("weights.type", weights.kind.as_deref()));
            }
            if weights.symmetric == Some(false) {
                return Err(refused("weights.symmetric", Some("false")));
            }
            match (weights.strategy.as_deref(), weights.block_structure) {
                (Some("tensor" | "channel"), _) => {}
                (Some("block"), Some(size)) if block.is_none_or(|other| other == size) => block = Some(size),
                (strategy, _) => return Err(refused("weights.strategy", strategy)),
            }
        }
        Ok(block)
    }
}

fn refused(key: &str, value: Option<&str>) -> String {
    let value = value.map_or(String::new(), |value| format!(" {value:?}"));
    format!(
        "quantization_config.{key}{value} is not supported; of quantised checkpoints those with FP8 (e4m3) weights \
         are read (quant_method fp8, or compressed-tensors with format float-quantized), else use one in bf16, f16 or f32"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn resolved(keys: Value) -> Result<Fp8, String> {
        serde_json::from_value::<QuantizationKeys>(keys).unwrap().resolve()
    }

    /// The configs of a published model of each kind, shortened.
    #[test]
    fn fp8_is_read_and_all_else_refused_by_name() {
        let compressed = |weights: Value| {
            json!({
                "quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
                "kv_cache_scheme": null, "quantization_status": "compressed",
                "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights,
                    "input_activations": {"num_bits": 8, "type": "float", "dynamic": true, "strategy": "token"}}}
            })
        };
        let weights =
            |strategy: &str| json!({"num_bits": 8, "type": "float", "strategy": strategy, "symmetric": true});
        assert_eq!(resolved(compressed(weights("tensor"))), Ok(Fp8::default()));
        assert_eq!(resolved(compressed(weights("channel"))), Ok(Fp8::default()));
        let mut block = weights("block");
        block["block_structure"] = json!([128, 128]);
        assert_eq!(resolved(compressed(block)), Ok(Fp8 { block: Some([128, 128]) }));
        let deepseek = json!({"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
            "weight_block_size": [128, 128]});
        assert_eq!(resolved(deepseek), Ok(Fp8 { block: Some([128, 128]) }));

        let mut sparse = compressed(weights("channel"));
        sparse["sparsity_config"] = json!({"format": "sparse-24-bitmask"});
        let mut turned = compressed(weights("channel"));
        turned["transform_config"] = json!({"config_groups": {}});
        for (keys, key) in [
            (json!({"quant_method": "gptq"}), "quant_method \"gptq\""),
            (json!({"bits": 4}), "quant_method"),
            (json!({"quant_method": "fp8", "fmt": "e5m2"}), "fmt \"e5m2\""),
            (json!({"quant_method": "fp8", "weight_block_size": [0, 128]}), "blocks of no rows"),
            (
                json!({"quant_method": "compressed-tensors", "format": "pack-quantized"}),
                "format \"pack-quantized\"",
            ),
            (
                compressed(json!({"num_bits": 8, "type": "int", "strategy": "channel"})),
                "weights.type \"int\"",
            ),
            (compressed(json!({"num_bits": 4, "type": "float", "strategy": "channel"})), "weights.type"),
            (compressed(weights("group")), "weights.strategy \"group\""),
            (compressed(weights("block")), "weights.strategy \"block\""),
            (sparse, "sparsity_config"),
            (turned, "transform_config"),
        ] {
            let why = resolved(keys).unwrap_err();
            assert!(why.starts_with("quantization_config") && why.contains(key), "{why}");
        }
    }
}
