"""Trains the model from a seed: python train.py --out RUN [--steps N] [--minutes M].

The schedule runs over `--steps`; `--minutes` ends it by the clock on a machine that is too slow for them.
"""

import argparse
import json
import os
import random
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # a spinning thread is a lost one where the cores are shared

import mkl_path  # before torch
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import corpus
from evaluate import load
from model import Llama, Shape
from optimizer import Optimizer
from vocabulary import train_tokenizer


def schedule(progress: float) -> float:
    """The share of the peak learning rate: a short warm-up, a plateau, then linearly to zero."""
    return min(1.0, progress / 0.03 + 0.02) * min(1.0, (1.0 - progress) / 0.6)


def sentence_share(progress: float) -> float:
    """The share of batches of single sentences: most at first, few later."""
    return max(0.3, 0.9 - 1.6 * progress)


def loss_of(model: Llama, ids, weights):
    """The weighted mean loss of the answers' tokens, and their plain mean."""
    chosen = weights[:, 1:] > 0.0
    hidden, target, weight = model.hidden_at(ids[:, :-1], chosen), ids[:, 1:][chosen], weights[:, 1:][chosen]
    losses = F.cross_entropy(model.logits(hidden), target, reduction="none")
    return (losses * weight).sum() / weight.sum(), float(losses.detach().mean())


def drill_loss(model: Llama, generator: torch.Generator):
    """The mean loss over the foretellable tokens of a copying drill."""
    ids, known = corpus.drill(model.shape.vocab_size, 20, 64, generator)
    return F.cross_entropy(model.logits(model.hidden_at(ids[:, :-1], known[:, 1:])), ids[:, 1:][known[:, 1:]])


def save(model: Llama, tokenizer, out: Path):
    """A checkpoint folder: weights, sizes and tokenizer, as evaluate.py and export.py read it."""
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.detach().contiguous() for name, weight in model.state_dict().items()}, out / "weights.safetensors")
    (out / "shape.json").write_text(json.dumps(model.shape.config()))
    tokenizer.save(str(out / "tokenizer.json"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--tokens", type=int, default=8192, help="tokens in a batch")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--init", type=Path, help="checkpoint or exported folder to go on from")
    parser.add_argument("--begin", type=float, default=0.0, help="where in the schedule to go on, from 0 to 1")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(2)
    args.out.mkdir(parents=True, exist_ok=True)

    if args.init:
        model, tokenizer = load(args.init)
    else:
        model, tokenizer = Llama(Shape(num_hidden_layers=args.layers)), train_tokenizer(Shape.vocab_size)
    print(f"{sum(weight.numel() for weight in model.parameters()):,} weights", flush=True)
    optimizer = Optimizer(model, args.rate)
    for layer in model.layers[:-1]:  # a quarter faster; one graph serves every batch's shape
        layer.forward = torch.compile(layer.forward, dynamic=True)
    sentences = corpus.batches(tokenizer, corpus.sentence_turns, args.tokens, args.seed)
    whole = corpus.batches(tokenizer, corpus.turns, args.tokens, args.seed)

    generator, mix = torch.Generator().manual_seed(args.seed), random.Random(args.seed)

    log, began, seen, saved, smooth, copying = (args.out / "log.jsonl").open("w"), time.monotonic(), 0, time.monotonic(), None, 0.0
    for step in range(args.steps):
        progress = max(step / args.steps, (time.monotonic() - began) / 60 / args.minutes)
        progress = args.begin + (1.0 - args.begin) * progress
        if progress >= 1.0:
            break
        ids, weights = next(sentences if mix.random() < sentence_share(progress) else whole)
        loss, answers = loss_of(model, ids, weights)
        loss.backward()
        if step % 4 == 0 and progress < 0.85:  # keeps the copying circuit general; none at the end
            drilled = drill_loss(model, generator)
            (0.5 * drilled).backward()
            copying = 0.9 * copying + 0.1 * float(drilled.detach())
        optimizer.step(schedule(progress))
        seen += ids.numel()
        smooth = answers if smooth is None else 0.95 * smooth + 0.05 * answers
        if step % 10 == 0 or step + 1 == args.steps:
            minutes = (time.monotonic() - began) / 60
            log.write(json.dumps({"step": step, "minutes": round(minutes, 2), "tokens": seen, "loss": round(smooth, 4), "copying": round(copying, 4)}) + "\n")
            log.flush()
            if step % 100 == 0:
                print(f"step {step}  progress {progress:.3f}  {minutes:.1f} min  {seen / 60 / max(minutes, 1e-3):.0f} tokens/s  loss {smooth:.4f}  copying {copying:.3f}", flush=True)
        if time.monotonic() - saved > 300:
            save(model, tokenizer, args.out)
            saved = time.monotonic()
    save(model, tokenizer, args.out)


if __name__ == "__main__":
    main()
