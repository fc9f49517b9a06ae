//! Errors of the engine in terms of flags: which one to change, and how.

use engine::device::{DeviceError, MemoryUse};
use engine::error::EngineError;

/// The message of an error of the engine, with the flag that it is about and a remedy where there is one.
pub fn message(error: &EngineError) -> String {
    match error {
        EngineError::Option { field, why } => format!("{}: {why}", flag(field)),
        EngineError::NoRoomForKv { weights, rest, usable, left, bytes_per_token, .. } => {
            let remedy = match usable {
                Some(usable) if weights >= usable => {
                    "the weights alone do not fit, and a shorter context would not help: choose a smaller model, give \
                     --quantization fp8, or free memory"
                        .into()
                }
                Some(usable) if rest >= usable => {
                    "activations leave no room: lower --max-num-batched-tokens or --max-num-seqs, or free memory".into()
                }
                _ => {
                    let more = match usable {
                        Some(_) => "--gpu-memory-utilization, if it is below 1",
                        None => "--kv-cache-memory-bytes",
                    };
                    format!(
                        "the context does not fit: lower --max-model-len (there is room for about {} tokens) or \
                         --max-num-batched-tokens, or raise {more}",
                        left / (*bytes_per_token).max(1)
                    )
                }
            };
            format!("{error}; {remedy}")
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
        MemoryUse::Weights => "choose a smaller model or give --quantization fp8",
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
    fn a_context_without_room_is_told_why() {
        let error = |weights, rest, usable: Option<usize>, left| {
            let (tokens, needed, bytes_per_token, device) = (100, 1000, 10, "x".to_string());
            message(&EngineError::NoRoomForKv {
                tokens,
                needed,
                bytes_per_token,
                weights,
                rest,
                usable,
                left,
                device,
            })
        };
        let weights = error(900, 950, Some(800), 0);
        assert!(weights.contains("the weights alone do not fit") && !weights.contains("--max-model-len"));
        let activations = error(700, 950, Some(800), 0);
        assert!(
            activations.contains("lower --max-num-batched-tokens") && !activations.contains("--quantization")
        );
        let context = error(100, 200, Some(800), 600);
        assert!(context.contains("room for about 60 tokens") && context.contains("--gpu-memory-utilization"));
        assert!(error(900, 950, None, 600).contains("raise --kv-cache-memory-bytes"));
    }

    #[test]
    fn memory_that_is_short_has_a_remedy_for_its_use() {
        let error = |memory_use| {
            let what = "layers.0.mlp".to_string();
            DeviceError::OutOfMemory { what, needed: 2, available: 1, memory_use }.into()
        };
        assert!(message(&error(MemoryUse::Weights)).ends_with("smaller model or give --quantization fp8"));
        assert!(message(&error(MemoryUse::Activations)).contains("--max-num-batched-tokens"));
    }
}
