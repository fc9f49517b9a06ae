#!/usr/bin/env python3
"""gristmill beside Hugging Face transformers in f32, on the processor, at the shape of SmolLM2-135M. By hand:

    python3 -m venv venv
    venv/bin/pip install torch transformers      (a build of torch for processors alone is enough)
    venv/bin/python benches/peers/transformers.py --gristmill target/release/gristmill

Both make up their weights (gristmill bf16, transformers f32) and their prompts, which all have one length, and generate
greedily to the same length. transformers takes all prompts as one batch, which suits it best: no prompt is padded and no
answer ends early. They run in turns; the fastest run of each counts, and its total tokens (of prompts and answers) per
second are printed with their ratio.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Its own name is that of the package, which must not be looked for here.
sys.path = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent]

import torch  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}


def gristmill(args: argparse.Namespace, folder: Path) -> float:
    """Total tokens per second of one run."""
    (folder / "config.json").write_text(json.dumps(CONFIG | {"torch_dtype": "bfloat16"}))
    figures = folder / "figures.json"
    command = [args.gristmill, "bench", "throughput", "--device", "cpu", "--load-format", "dummy", "--model", str(folder)]
    sizes = {"--num-prompts": args.prompts, "--input-len": args.input_len, "--output-len": args.output_len}
    command += [str(part) for pair in sizes.items() for part in pair]
    command += ["--threads", str(args.threads), "--output-json", str(figures)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads(figures.read_text())["total_tokens_per_second"]


def transformers(args: argparse.Namespace, model: LlamaForCausalLM, prompts: torch.Tensor) -> float:
    """The same of transformers."""
    lengths = {"min_new_tokens": args.output_len, "max_new_tokens": args.output_len}
    begun = time.perf_counter()
    with torch.inference_mode():
        answers = model.generate(prompts, attention_mask=torch.ones_like(prompts), do_sample=False, **lengths)
    seconds = time.perf_counter() - begun
    assert answers.shape == (args.prompts, args.input_len + args.output_len)
    return answers.numel() / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gristmill", default="target/release/gristmill")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--input-len", type=int, default=256)
    parser.add_argument("--output-len", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**CONFIG)).to(torch.float32).eval()
    prompts = torch.randint(3, CONFIG["vocab_size"], (args.prompts, args.input_len))
    rates: dict[str, list[float]] = {"gristmill": [], "transformers": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            rates["gristmill"].append(gristmill(args, Path(folder)))
            rates["transformers"].append(transformers(args, model, prompts))
    for name, found in rates.items():
        print(f"{name}: {max(found):.0f} total tokens/s, of {', '.join(f'{rate:.0f}' for rate in found)}")
    print(f"gristmill / transformers: {max(rates['gristmill']) / max(rates['transformers']):.2f}")


if __name__ == "__main__":
    main()
