"""Writes the model folders and what transformers computes with them (float32, CPU, eager attention)."""

import json
import re
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch
from transformers import AutoConfig, AutoModelForCausalLM, logging

from cases import CASES, Case

PROMPT_LENGTHS = (1, 7, 45)
LAST_POSITIONS = 8  # of a longer prompt, only these positions are kept
NEW_TOKENS = 16
MARGIN = 0.01  # between the best and the second log-probability of each greedy step
DISTINCT = 8  # the minimum number of different tokens among the greedy ones
SHOWS = 0.01  # how far a mistake must move some log-probability: 100 times the tolerance of the tests
DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}

logging.disable_progress_bar()
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
torch.set_grad_enabled(False)


def write(out: Path) -> None:
    """Writes every case under `out` and prints how safe its greedy choices are."""
    for case in CASES:
        folder = out / case.name
        folder.mkdir(parents=True, exist_ok=True)
        write_config(case, folder)
        write_weights(case, folder)
        expected, margin, drift = compute(case, folder)
        least = check_mistakes_show(case, folder)
        save_file(expected, folder / "expected.safetensors")
        print(f"{case.name:15} margin {margin:.4f}  f32 from f64 {drift:.1e}  smallest mistake {least:.3f}")


def write_json(path: Path, value) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    text = re.sub(r"\[[\d,\s]+\]", lambda ids: " ".join(ids[0].split()), text)  # a list of ids on one line
    path.write_text(text + "\n", encoding="utf-8")


def write_config(case: Case, folder: Path) -> None:
    write_json(folder / "config.json", case.config_json())
    if case.style == 5:
        config = AutoConfig.from_pretrained(folder)
        config.save_pretrained(folder)
    if case.generation:
        write_json(folder / "generation_config.json", case.generation | {"transformers_version": "4.57.1"})


def draw(case: Case, rng: np.random.Generator, name: str, shape: tuple) -> torch.Tensor:
    """Random values of a size that keeps activations near 1, attention peaked and logits spread."""
    values = rng.standard_normal(shape)
    if "norm" in name:
        around = case.after_mlp if "post_feedforward" in name else 1.0
        values = around - case.plus_one + 0.25 * values
    elif "bias" in name:
        values = 0.3 * values
    elif "embed" in name or "lm_head" in name:
        values = 0.4 * values
    else:
        values = 1.4 / shape[1] ** 0.5 * values
    return torch.from_numpy(values).to(DTYPES[case.storage])


def write_weights(case: Case, folder: Path) -> None:
    """model.safetensors, or shards that split the sorted names in equal runs, with their index."""
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
    rng = np.random.default_rng(case.seed)
    shapes = {
        name: tuple(p.shape) for name, p in sorted(model.named_parameters())
    }  # a tied head is not listed
    tensors = {name: draw(case, rng, name, shape) for name, shape in shapes.items()}
    if case.shards == 1:
        save_torch(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = list(tensors)
    weight_map = {}
    for shard in range(case.shards):
        file = f"model-{shard + 1:05}-of-{case.shards:05}.safetensors"
        part = names[shard * len(names) // case.shards : (shard + 1) * len(names) // case.shards]
        save_torch({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    write_json(
        folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": weight_map}
    )


def load(folder: Path, changes: dict | None = None, dtype: torch.dtype = torch.float32):
    """The model as transformers reads it from the folder, its config changed by `changes`."""
    config = AutoConfig.from_pretrained(folder)
    for key, value in (changes or {}).items():
        setattr(config, key, value)
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=dtype, attn_implementation="eager", output_loading_info=True
    )
    wrong = {key: value for key, value in info.items() if value}
    assert not wrong, f"{folder.name}: {wrong}"
    return model.eval()


def logprobs(model, ids: list[int]) -> torch.Tensor:
    """[len, vocab]: row i is the distribution of the token after position i."""
    logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    return torch.log_softmax(logits, dim=-1)


def prompts(case: Case) -> list[list[int]]:
    vocab = case.config_json()["vocab_size"]
    rng = np.random.default_rng(case.seed + 1000)
    return [rng.integers(4, min(vocab, 370), size=length).tolist() for length in PROMPT_LENGTHS]


def decode(model, prompt: list[int]) -> list[int]:
    """The greedy tokens after `prompt`, one at a time through the KV cache; end tokens do not stop it."""
    output = model(torch.tensor([prompt]), use_cache=True)
    greedy = [output.logits[0, -1].argmax().item()]
    while len(greedy) < NEW_TOKENS:
        output = model(torch.tensor([greedy[-1:]]), past_key_values=output.past_key_values, use_cache=True)
        greedy.append(output.logits[0, -1].argmax().item())
    return greedy


def end_tokens(case: Case) -> set[int]:
    ends = (case.generation or case.config_json())["eos_token_id"]
    return set(ends if isinstance(ends, list) else [ends])


def compute(case: Case, folder: Path) -> tuple[dict, float, float]:
    """The expected tensors, the smallest greedy margin, and the distance of the float32 results from float64."""
    model, double = load(folder), load(folder, dtype=torch.float64)
    ends = end_tokens(case)
    expected, margin, drift = {}, float("inf"), 0.0
    for number, prompt in enumerate(prompts(case)):
        greedy = decode(model, prompt)
        rows = logprobs(model, prompt + greedy[:-1])
        drift = max(drift, (rows - logprobs(double, prompt + greedy[:-1])).abs().max().item())
        steps = rows[len(prompt) - 1 :]
        best = steps.topk(2).values
        margin = min(margin, (best[:, 0] - best[:, 1]).min().item())
        assert steps.argmax(-1).tolist() == greedy, (
            f"{case.name}: decode with a cache differs from a whole prefill"
        )
        assert not ends & set(greedy), f"{case.name}: an end token was drawn"
        assert len(set(greedy)) >= DISTINCT, f"{case.name}: the greedy tokens repeat: {greedy}"
        positions = range(max(0, len(prompt) - LAST_POSITIONS), len(prompt))
        expected |= {
            f"prompt.{number}.ids": np.array(prompt, np.int32),
            f"prompt.{number}.positions": np.array(positions, np.int32),
            f"prompt.{number}.logprobs": rows[positions.start : positions.stop].numpy().copy(),
            f"prompt.{number}.greedy_ids": np.array(greedy, np.int32),
            f"prompt.{number}.greedy_logprobs": best[:, 0].numpy().copy(),
        }
    assert margin > MARGIN, f"{case.name}: a greedy step is decided by {margin}"
    return expected, margin, drift


def check_mistakes_show(case: Case, folder: Path) -> float:
    """Proves that an ignored tensor or setting moves the kept log-probabilities; returns the smallest movement."""
    prompt = prompts(case)[-1]
    model = load(folder)
    right = logprobs(model, prompt)[-LAST_POSITIONS:]
    moved = {}
    for name, tensor in model.named_parameters():
        kept = tensor.clone()
        tensor.fill_(1.0 - case.plus_one if "norm" in name else 0.0)
        moved[name] = logprobs(model, prompt)[-LAST_POSITIONS:]
        tensor.copy_(kept)
    for name, changes in case.without.items():
        moved[name] = logprobs(load(folder, changes), prompt)[-LAST_POSITIONS:]
    for name, change in case.mistakes.items():
        changed = load(folder)
        change(changed)
        moved[name] = logprobs(changed, prompt)[-LAST_POSITIONS:]
    moved = {name: (other - right).abs().max().item() for name, other in moved.items()}
    hidden = [name for name, by in moved.items() if not by > SHOWS]
    assert not hidden, f"{case.name}: it would not show without {hidden}"
    return min(moved.values())
