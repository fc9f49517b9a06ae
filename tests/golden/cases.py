"""The models: one entry per folder, with the config.json as users find it on a hub.

`style` 4 is written by hand the way transformers 4 wrote it; `style` 5 is what transformers 5 itself saves.
`storage` is the dtype of the tensors on disk. `without` names changes to the config that an engine could make
by mistake; make.py proves that each of them would show in the expected log-probabilities.
"""

from dataclasses import dataclass, field

LLAMA3_ROPE = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 48,
    "rope_type": "llama3",
}

YARN_ROPE = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}

# Settings of every model, unless its own config overrides them.
SMALL = {
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 32,
    "max_position_embeddings": 256,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "use_cache": True,
    "vocab_size": 192,
}


@dataclass
class Case:
    """One model folder."""

    name: str
    kind: str
    architecture: str
    seed: int
    storage: str
    config: dict
    style: int = 4
    shards: int = 1
    generation: dict | None = None
    plus_one: bool = False  # norms multiply by 1 + w
    after_mlp: float = 1.0  # the mean of what norms after feed-forward multiply by
    without: dict = field(default_factory=dict)
    mistakes: dict = field(default_factory=dict)  # as `without`, but each changes the loaded model

    def config_json(self) -> dict:
        """config.json in the shape of transformers 4."""
        torch_dtype = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[self.storage]
        head = {"architectures": [self.architecture], "model_type": self.kind, "torch_dtype": torch_dtype}
        merged = SMALL | head | {"transformers_version": "4.57.1"} | self.config
        return {key: merged[key] for key in sorted(merged) if merged[key] != "absent"}


def llama3(name: str, **more) -> Case:
    config = {
        "attention_bias": False,
        "eos_token_id": [2, 3],
        "head_dim": 16,
        "mlp_bias": False,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "pretraining_tp": 1,
        "rope_scaling": LLAMA3_ROPE,
        "rope_theta": 500000.0,
        "tie_word_embeddings": True,
    }
    generation = {
        "bos_token_id": 1,
        "do_sample": True,
        "eos_token_id": [2, 3],
        "temperature": 0.6,
        "top_p": 0.9,
    }
    # Of the 8 frequencies, one is kept, one is in the smoothed band, and the others are divided by the factor.
    scaled = LLAMA3_ROPE | {"rope_theta": 500000.0}
    without = {
        "llama3 rope scaling": theta(500000.0),
        "the band, kept": {"rope_parameters": scaled | {"high_freq_factor": 1.01}},
        "the band, divided": {"rope_parameters": scaled | {"low_freq_factor": 3.9}},
    }
    return Case(
        name,
        "llama",
        "LlamaForCausalLM",
        SEEDS["llama3"],
        "BF16",
        config,
        generation=generation,
        without=without,
        **more,
    )


def gemma2(name: str, config: dict, without: dict, **more) -> Case:
    common = {
        "attn_logit_softcapping": 1.5,
        "cache_implementation": "hybrid",
        "final_logit_softcapping": 4.0,
        "head_dim": 16,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "num_hidden_layers": 3,
        "query_pre_attn_scalar": 24,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "sliding_window": 8,
    }
    common_without = {
        "the final soft-cap": {"final_logit_softcapping": None},
        "query_pre_attn_scalar": {"query_pre_attn_scalar": 16},
        "a window one shorter": {"sliding_window": 7},
        "gelu_pytorch_tanh": {"hidden_activation": "silu"},
    }
    mistakes = {
        "scaled embeddings": lambda model: model.model.embed_tokens.embed_scale.fill_(1.0),
        "1 + w": lambda model: [p.sub_(1.0) for n, p in model.named_parameters() if "norm" in n],
    }
    return Case(
        name,
        "gemma2",
        "Gemma2ForCausalLM",
        SEEDS[name],
        "BF16",
        common | config,
        generation={"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0},
        plus_one=True,
        after_mlp=8.0,  # else the embeddings, which are the head too, make every token repeat itself
        without=common_without | without,
        mistakes=mistakes,
        **more,
    )


def theta(value: float) -> dict:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": value}}


def yarn(**changes) -> dict:
    return {"rope_parameters": YARN_ROPE | {"rope_type": "yarn", "rope_theta": 10.0} | changes}


# Chosen so that no greedy step is close and no end token is sampled (models.py checks both).
SEEDS = {
    "llama2": 6,
    "llama3": 81,
    "llama-linear": 60,
    "mistral": 4,
    "mistral-nemo": 23,
    "qwen2": 40,
    "qwen2.5": 48,
    "qwen2-window": 38,
    "qwen2-yarn": 4,
    "qwen3": 46,
    "gemma2": 43,
    "gemma2-layers": 114,
}

CASES = [
    # Multi-head attention, an untied head; no num_key_value_heads, head_dim or rope_theta, as in old folders.
    Case(
        "llama2",
        "llama",
        "LlamaForCausalLM",
        SEEDS["llama2"],
        "F16",
        {
            "num_key_value_heads": "absent",
            "attention_dropout": "absent",
            "rope_scaling": None,
            "tie_word_embeddings": False,
            "pretraining_tp": 1,
        },
        generation={"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        without={"default theta": theta(500000.0)},
    ),
    # Grouped heads, llama3 rope scaling, a tied head (Llama 3.2), two end tokens.
    llama3("llama3"),
    # The same weights again: two shards, and the config as transformers 5 saves it.
    llama3("llama3-sharded", style=5, shards=2),
    # Linear rope scaling under its old key "type"; biases on every linear layer.
    Case(
        "llama-linear",
        "llama",
        "LlamaForCausalLM",
        SEEDS["llama-linear"],
        "F32",
        {
            "attention_bias": True,
            "mlp_bias": True,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
            "rope_scaling": {"type": "linear", "factor": 4.0},
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
        },
        without={"linear rope scaling": theta(10000.0)},
    ),
    # Sliding window shorter than the long prompt.
    Case(
        "mistral",
        "mistral",
        "MistralForCausalLM",
        SEEDS["mistral"],
        "BF16",
        {"sliding_window": 8, "rope_theta": 10000.0, "tie_word_embeddings": False},
        generation={"bos_token_id": 1, "eos_token_id": 2},
        without={
            "sliding window": {"sliding_window": None},
            "a window one shorter": {"sliding_window": 7},
            "a window one longer": {"sliding_window": 9},
        },
    ),
    # No window, head_dim apart from hidden_size / heads (Mistral-Nemo).
    Case(
        "mistral-nemo",
        "mistral",
        "MistralForCausalLM",
        SEEDS["mistral-nemo"],
        "BF16",
        {"sliding_window": None, "rope_theta": 1000000.0, "head_dim": 16, "tie_word_embeddings": False},
        style=5,
        without={"rope_theta": theta(10000.0), "no window": {"sliding_window": 8}},
    ),
    # Biases on q, k and v; a tied head.
    Case(
        "qwen2",
        "qwen2",
        "Qwen2ForCausalLM",
        SEEDS["qwen2"],
        "BF16",
        {
            "rope_theta": 1000000.0,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
            "use_sliding_window": False,
            "sliding_window": 256,
            "max_window_layers": 2,
        },
        generation={"bos_token_id": 1, "eos_token_id": 2, "max_new_tokens": 32},
        without={"rope_theta": theta(10000.0)},
    ),
    # An untied head; a window that use_sliding_window turns off.
    Case(
        "qwen2.5",
        "qwen2",
        "Qwen2ForCausalLM",
        SEEDS["qwen2.5"],
        "BF16",
        {
            "rope_theta": 1000000.0,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": False,
            "use_sliding_window": False,
            "sliding_window": 8,
            "max_window_layers": 0,
        },
        generation={
            "bos_token_id": 1,
            "do_sample": True,
            "eos_token_id": [2, 3],
            "pad_token_id": 3,
            "repetition_penalty": 1.05,
            "temperature": 0.7,
            "top_k": 20,
            "top_p": 0.8,
        },
        without={"use_sliding_window": {"sliding_window": 8, "layer_types": ["sliding_attention"] * 2}},
    ),
    # The first max_window_layers layers have full attention, the others a window.
    Case(
        "qwen2-window",
        "qwen2",
        "Qwen2ForCausalLM",
        SEEDS["qwen2-window"],
        "BF16",
        {
            "rope_theta": 10000.0,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
            "use_sliding_window": True,
            "sliding_window": 8,
            "max_window_layers": 1,
            "num_hidden_layers": 3,
        },
        style=5,
        without={
            "windows on the last layers": {"layer_types": ["full_attention"] * 3},
            "the first layer's full view": {"layer_types": ["sliding_attention"] * 3},
        },
    ),
    # YaRN as the cards of Qwen2.5 and Qwen3 tell users to add it: max_position_embeddings stays what it was, and the
    # long prompt goes beyond it. Of the 8 frequencies one is kept, three are in the ramp.
    Case(
        "qwen2-yarn",
        "qwen2",
        "Qwen2ForCausalLM",
        SEEDS["qwen2-yarn"],
        "BF16",
        {
            "max_position_embeddings": 16,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_theta": 10.0,
            "rope_scaling": YARN_ROPE,
            "tie_word_embeddings": True,
            "use_sliding_window": False,
        },
        generation={"bos_token_id": 1, "eos_token_id": 2},
        without={
            "yarn": theta(10.0),
            "the attention factor": yarn(attention_factor=1.0),
            "the factor": yarn(factor=3.9),
            "the original context": yarn(original_max_position_embeddings=64),
            "the end of the ramp at a whole pair": yarn(truncate=False),
            "the ramp, kept": yarn(beta_slow=0.1),
            "the ramp, divided": yarn(beta_slow=2.0),
        },
    ),
    # Norms on q and k, head_dim apart from hidden_size / heads; a whole model with tokenizer and chat template.
    Case(
        "qwen3",
        "qwen3",
        "Qwen3ForCausalLM",
        SEEDS["qwen3"],
        "BF16",
        {
            "attention_bias": False,
            "head_dim": 16,
            "rope_theta": 1000000.0,
            "rope_scaling": None,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
            "use_sliding_window": False,
            "sliding_window": None,
            "max_window_layers": 2,
            "vocab_size": 384,
            "bos_token_id": 378,
            "eos_token_id": 381,
        },
        generation={
            "bos_token_id": 378,
            "do_sample": True,
            "eos_token_id": [381, 379],
            "pad_token_id": 379,
            "temperature": 0.6,
            "top_k": 20,
            "top_p": 0.95,
        },
        without={"rope_theta": theta(10000.0)},
    ),
    # All features of Gemma 2: norms before and after, both soft-caps, scaled embeddings; as on the hub, the config says
    # nothing of layer_types, tied embeddings (which are the default) and biases.
    gemma2(
        "gemma2",
        {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0},
        {
            "the soft-cap of scores": {"attn_logit_softcapping": None},
            "windows": {"layer_types": ["full_attention"] * 3},
            "alternation": {"layer_types": ["sliding_attention"] * 3},
            "the first layer's window": {"layer_types": ["full_attention", "sliding_attention", "full_attention"]},
        },
    ),
    # The config of transformers 5 with layer_types of its own; scores have no soft-cap.
    gemma2(
        "gemma2-layers",
        {"attn_logit_softcapping": None, "layer_types": ["full_attention", "full_attention", "sliding_attention"]},
        {"layer_types": {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}},
        style=5,
    ),
]
