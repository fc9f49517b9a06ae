"""Writes rope/: RoPE parameters of many kinds, and the cosines and sines that transformers computes from them."""

import copy
from pathlib import Path

import torch
from safetensors.numpy import save_file
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from cases import LLAMA3_ROPE, SMALL
from models import write_json

POSITIONS = (0, 1, 2, 31, 500, 4095)

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}
HEAD = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "head_dim": 64, "max_position_embeddings": 8192}

# What each folder's config.json says besides HEAD and SMALL.
CONFIGS = {
    "default": {"rope_theta": 500000.0},
    "linear": {"rope_scaling": {"type": "linear", "factor": 2.5}},
    "llama3": {"rope_theta": 500000.0, "rope_scaling": LLAMA3_ROPE | {"original_max_position_embeddings": 1024}},
    "yarn": {"rope_theta": 1000000.0, "rope_scaling": YARN},
    "yarn-both-types": {"rope_scaling": YARN | {"type": "yarn"}},
    "yarn-parameters": {"rope_parameters": YARN | {"rope_theta": 150000.0}},
    "yarn-no-truncation": {"rope_scaling": YARN | {"truncate": False}},
    "yarn-betas": {"rope_scaling": YARN | {"beta_fast": 8, "beta_slow": 2.5}},
    "yarn-betas-of-0": {"rope_scaling": YARN | {"beta_fast": 0, "beta_slow": 0}},
    "yarn-equal-betas": {"rope_scaling": YARN | {"beta_fast": 4, "beta_slow": 4, "truncate": False}},
    "yarn-attention-factor": {"rope_scaling": YARN | {"attention_factor": 0.75}},
    "yarn-mscale": {"rope_scaling": YARN | {"mscale": 1.0, "mscale_all_dim": 0.707}},
    "yarn-mscale-alone": {"rope_scaling": YARN | {"mscale": 0.707}},
    "yarn-mscale-of-0": {"rope_scaling": YARN | {"mscale": 0.707, "mscale_all_dim": 0}},
    "yarn-no-factor": {"rope_scaling": YARN | {"factor": None}},
    "yarn-factor-below-1": {"rope_scaling": YARN | {"factor": 0.5}},
    "yarn-original-outside": {"original_max_position_embeddings": 512, "rope_scaling": YARN},
    "yarn-no-original": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
}


def write(out: Path) -> None:
    """Writes configs.json, and `[positions, head_dim]` for each: the cosines of the pairs, then their sines."""
    folder = out / "rope"
    folder.mkdir(parents=True, exist_ok=True)
    configs = {name: SMALL | HEAD | changes for name, changes in CONFIGS.items()}
    write_json(folder / "configs.json", configs)
    positions = torch.tensor([POSITIONS])
    expected = {"positions": positions[0].int().numpy()}
    for name, config in configs.items():
        rotary = LlamaRotaryEmbedding(LlamaConfig(**copy.deepcopy(config)))  # it modifies its argument
        cosines, sines = rotary(torch.zeros(1), positions)
        half = HEAD["head_dim"] // 2
        expected[name] = torch.cat((cosines[0, :, :half], sines[0, :, :half]), dim=-1).numpy().copy()
    save_file(expected, folder / "expected.safetensors")
