use super::*;
use crate::models::FAMILIES;
use serde_json::{Value, json};

/// A config with no keys but those that must be there, and `more`.
fn parse(architecture: &str, more: &Value) -> Result<ModelConfig, String> {
    let mut config = json!({
        "architectures": [architecture],
        "hidden_size": 2304,
        "intermediate_size": 96,
        "num_hidden_layers": 30,
        "num_attention_heads": 32,
        "vocab_size": 100,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    let parsed = ModelConfig::parse(config.to_string().as_bytes(), Path::new("config.json"));
    parsed.map_err(|error| error.to_string())
}

fn sound(architecture: &str, more: &Value) -> ModelConfig {
    parse(architecture, more).unwrap_or_else(|why| panic!("{architecture} {more}: {why}"))
}

fn refused(architecture: &str, more: &Value) -> String {
    parse(architecture, more).err().unwrap_or_else(|| panic!("{architecture} {more} was taken"))
}

/// What transformers 5.23.0 has for absent keys.
#[test]
fn absent_keys_are_what_transformers_takes() {
    for (architecture, context, kv_heads, head_dim, tied) in [
        ("LlamaForCausalLM", 2048, 32, 72, false),
        ("MistralForCausalLM", 131_072, 8, 72, false),
        ("Qwen2ForCausalLM", 32_768, 32, 72, false),
        ("Qwen3ForCausalLM", 32_768, 32, 128, false),
        ("Gemma2ForCausalLM", 8192, 4, 256, true),
    ] {
        let c = sound(architecture, &json!({}));
        let got = (c.max_position_embeddings, c.kv_heads, c.head_dim, c.tied);
        assert_eq!(got, (context, kv_heads, head_dim, tied), "{architecture}");
        assert_eq!(sound(architecture, &json!({"num_key_value_heads": null})).kv_heads, 32, "{architecture}");
    }
    assert_eq!(FAMILIES.len(), 5, "a family is missing above");
}

#[test]
fn windows_are_those_of_the_family() {
    let windows = |architecture: &str, more: Value| -> Vec<usize> {
        let layers = sound(architecture, &more).layers;
        layers.iter().map(|layer| layer.window.unwrap_or(0)).collect()
    };
    assert_eq!(windows("LlamaForCausalLM", json!({"sliding_window": 7})), [0; 30]);
    assert_eq!(windows("MistralForCausalLM", json!({})), [4096; 30]);
    assert_eq!(windows("MistralForCausalLM", json!({"sliding_window": null})), [0; 30]);
    assert_eq!(windows("Qwen3ForCausalLM", json!({"sliding_window": 7})), [0; 30]);
    let on = windows("Qwen3ForCausalLM", json!({"use_sliding_window": true}));
    assert_eq!(on, [[0; 28].as_slice(), &[4096; 2]].concat());
    assert_eq!(windows("Gemma2ForCausalLM", json!({"sliding_window": 7})), [7, 0].repeat(15));
    let types = ["full_attention", "sliding_attention", "sliding_attention"].repeat(10);
    assert_eq!(windows("Gemma2ForCausalLM", json!({"layer_types": types})), [0, 4096, 4096].repeat(10));
}

#[test]
fn soft_caps_are_absent_null_or_numbers() {
    let caps = |more: Value| {
        let c = sound("Gemma2ForCausalLM", &more);
        (c.layers[0].attention_softcap, c.logits_softcap)
    };
    assert_eq!(caps(json!({})), (Some(50.0), Some(30.0)));
    assert_eq!(caps(json!({"attn_logit_softcapping": null})), (None, Some(30.0)));
    assert_eq!(caps(json!({"final_logit_softcapping": 2.5})), (Some(50.0), Some(2.5)));
    let llama = sound("LlamaForCausalLM", &json!({"final_logit_softcapping": 2.5}));
    assert_eq!((llama.layers[0].attention_softcap, llama.logits_softcap), (None, None));
    let why = refused("Gemma2ForCausalLM", &json!({"attn_logit_softcapping": 0}));
    assert!(why.contains("attn_logit_softcapping is 0"), "{why}");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (more, why) in [
        (
            json!({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
            "rope type dynamic is not supported",
        ),
        (json!({"rope_scaling": {"rope_type": "longrope"}}), "rope type longrope is not supported"),
        (json!({"rope_scaling": {"rope_type": "su"}}), "known are default, linear, llama3, yarn"),
        (json!({"rope_scaling": {"rope_type": "yarn", "factor": -1}}), "rope_scaling.factor is -1"),
        (
            json!({"rope_parameters": {"rope_type": "yarn", "attention_factor": 0}}),
            "rope_parameters.attention_factor",
        ),
        (json!({"rope_theta": 1, "rope_scaling": {"type": "yarn"}}), "must be above 1"),
        (json!({"rope_parameters": {"full_attention": {}}}), "differs by kind of layer"),
        (json!({"rope_parameters": {"partial_rotary_factor": 0.5}}), "partial_rotary_factor"),
        (json!({"rope_scaling": {"type": "yarn", "factor": 1e20}}), "the context that yarn stretches to"),
        (json!({"head_dim": 15}), "head_dim 15 is odd"),
        (json!({"hidden_act": "relu"}), "hidden_act relu"),
        (json!({"use_bidirectional_attention": true}), "use_bidirectional_attention"),
        (json!({"quantization_config": {"quant_method": "gptq"}}), "quantization_config"),
    ] {
        let error = refused("LlamaForCausalLM", &more);
        assert!(error.contains(why), "{error}");
    }
    let error = refused("Gemma2ForCausalLM", &json!({"hidden_activation": "relu"}));
    assert!(error.contains("hidden_activation relu"), "{error}");
    assert!(
        refused("EvilForCausalLM", &json!({})).contains("known are LlamaForCausalLM, MistralForCausalLM")
    );
}

/// Users add YaRN to a config and leave the context in it as it was.
#[test]
fn yarn_stretches_the_context() {
    let context = |more: Value| sound("Qwen2ForCausalLM", &more).max_position_embeddings;
    let yarn = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768});
    assert_eq!(context(json!({"max_position_embeddings": 32_768, "rope_scaling": yarn})), 131_072);
    assert_eq!(context(json!({"max_position_embeddings": 40_960, "rope_scaling": yarn})), 131_072);
    assert_eq!(context(json!({"max_position_embeddings": 200_000, "rope_scaling": yarn})), 200_000);
}

#[test]
fn what_is_wrong_is_named_by_its_key() {
    for (more, why) in [
        (json!({"architectures": null}), "architectures is missing, null or empty"),
        (json!({"architectures": []}), "architectures is missing, null or empty"),
        (json!({"architectures": "LlamaForCausalLM"}), "architectures: invalid type: string"),
        (json!({"hidden_size": "big"}), "hidden_size: invalid type: string \"big\""),
        (json!({"rope_scaling": {"factor": "2"}}), "rope_scaling.factor: invalid type: string"),
    ] {
        let error = refused("LlamaForCausalLM", &more);
        assert!(error.contains("config.json") && error.contains(why), "{error}");
    }
}

#[test]
fn both_names_of_the_rope_type_may_be_there() {
    let rope =
        |more: Value| sound("LlamaForCausalLM", &json!({ "rope_scaling": more })).layers[0].rope.clone();
    let linear = rope(json!({"rope_type": "linear", "factor": 2.0}));
    assert_eq!(rope(json!({"type": "linear", "rope_type": "linear", "factor": 2})), linear);
    assert_eq!(rope(json!({"type": "linear", "factor": 2.0})), linear);
    assert_eq!(
        rope(json!({"type": "default", "rope_type": "linear", "factor": 2.0})),
        linear,
        "the new one counts"
    );
    assert_eq!(
        rope(json!({"type": "default", "rope_type": "default", "mrope_section": [1]})),
        rope(json!({}))
    );
}
