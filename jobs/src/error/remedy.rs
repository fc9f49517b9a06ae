//! Errors of the engine in terms of flags: which one to change, and how.

use engine::device::{DeviceError, MemoryUse};
use engine::error::EngineError;

/// The message of an error of the engine, with the flag that it is about and a remedy where there is one.
pub fn message(error: &EngineError) -> String {
    match error {
        EngineError::Option { field, why } => format!("{}: {why}", flag(field)),
        EngineError::NoRoomForKv { left: 0, .. } => {
            format!(
                "{error}; choose a smaller model, give --quantization q8_0, or lower --max-num-batched-tokens"
            )
        }
        EngineError::NoRoomForKv { .. } => {
            format!("{error}; lower --max-model-len or --max-num-batched-tokens")
        }
        EngineError::Device(DeviceError::OutOfMemory { memory_use, .. }) => {
            format!("{error}; {}", remedy(*memory_use))
        }
        error => error.to_string(),
    }
}

/// The flag of a field of the engine's configuration.
fn flag(field: &str) -> String {
    match field {
        "kv_cache_bytes" => "--kv-cache-memory-bytes".into(),
        field => format!("--{}", field.replace('_', "-")),
    }
}

fn remedy(memory: MemoryUse) -> &'static str {
    match memory {
        MemoryUse::Weights => "choose a smaller model or give --quantization q8_0",
        MemoryUse::KvPages => "lower --gpu-memory-utilization or --kv-cache-memory-bytes",
        MemoryUse::Activations => "lower --max-num-batched-tokens or --max-num-seqs",
        MemoryUse::Plan => {
            "lower --gpu-memory-utilization, --max-num-seqs or --max-num-batched-tokens, or choose a smaller model"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_by_its_flag() {
        let error = |field| EngineError::Option { field, why: "is 0".into() };
        assert_eq!(message(&error("max_num_seqs")), "--max-num-seqs: is 0");
        assert_eq!(message(&error("kv_cache_bytes")), "--kv-cache-memory-bytes: is 0");
    }

    #[test]
    fn memory_that_is_short_has_a_remedy_for_its_use() {
        let error = |memory_use| {
            let what = "layers.0.mlp".to_string();
            DeviceError::OutOfMemory { what, needed: 2, available: 1, memory_use }.into()
        };
        assert!(message(&error(MemoryUse::Weights)).ends_with("smaller model or give --quantization q8_0"));
        assert!(message(&error(MemoryUse::Activations)).contains("--max-num-batched-tokens"));
    }
}
