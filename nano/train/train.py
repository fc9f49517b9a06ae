"""Trains the model from a seed: python train.py --out RUN [--steps N].

One process a core, each on its share of every batch: two processes of one thread are a sixth faster than one of two.
The seed fixes data and initial weights; for the same bits, machine and number of processes must be the same, and what
`torch.compile` has in its cache may matter too.
"""

import argparse
import json
import random
import time
from pathlib import Path

import mkl_path  # before torch
import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer

import corpus
import sequences
from guides import Guides
from model import Llama, Shape, Trace
from optimizer import Optimizer
from vocabulary import train_tokenizer


def schedule(progress: float) -> float:
    """The share of the peak learning rate: a short warm-up, a plateau, then linearly to zero."""
    return min(1.0, progress / 0.03 + 0.02) * min(1.0, (1.0 - progress) / 0.6)


def sentence_share(progress: float) -> float:
    """The share of batches of single sentences: most at first, few later."""
    return max(0.3, 0.9 - 1.6 * progress)


def guidance(progress: float) -> float:
    """The share of the guides' losses: less and less, and none where the model finds its own best way."""
    return max(0.0, 1.0 - progress / 0.8)


def drill_share(step: int, progress: float) -> float:
    """The weight of a copying drill: every fourth step has one, to keep the circuit general, but none at the end has."""
    return 0.5 if step % 4 == 0 and progress < 0.85 else 0.0


def losses_of(model: Llama, guides: Guides, ids, weights, looks, sentences):
    """The weighted mean loss of the answers' tokens, their plain mean, and the guides' losses."""
    chosen, trace = weights[:, 1:] > 0.0, Trace()
    hidden, target, weight = model.hidden_at(ids[:, :-1], chosen, trace), ids[:, 1:][chosen], weights[:, 1:][chosen]
    losses = F.cross_entropy(model.logits(hidden), target, reduction="none")
    return (losses * weight).sum() / weight.sum(), losses.detach().mean(), guides.losses(trace, chosen, looks, sentences)


def drill_loss(model: Llama, rows: int, generator: torch.Generator):
    """The mean loss over the predictable tokens of a copying drill."""
    ids, known = sequences.drill(model.shape.vocab_size, rows, 64, generator)
    return F.cross_entropy(model.logits(model.hidden_at(ids[:, :-1], known[:, 1:])), ids[:, 1:][known[:, 1:]])


def save(model: Llama, tokenizer: Tokenizer, out: Path):
    """A checkpoint folder: weights, sizes and tokenizer, as evaluate.py and export.py read it."""
    save_file({name: weight.detach().contiguous() for name, weight in model.state_dict().items()}, out / "weights.safetensors")
    (out / "shape.json").write_text(json.dumps(model.shape.config()))
    tokenizer.save(str(out / "tokenizer.json"))


class Log:
    """The running means of the losses, written every ten steps as lines of JSON and every hundred to the terminal."""

    def __init__(self, path: Path):
        self.file, self.began, self.seen, self.means = path.open("w"), time.monotonic(), 0, {}

    def add(self, step: int, last: bool, tokens: int, **losses: float):
        self.seen += tokens
        for name, loss in losses.items():
            self.means[name] = loss if name not in self.means else 0.95 * self.means[name] + 0.05 * loss
        minutes = (time.monotonic() - self.began) / 60
        if step % 10 == 0 or last:
            line = {"step": step, "minutes": minutes, "tokens": self.seen} | self.means
            self.file.write(json.dumps({name: round(value, 4) for name, value in line.items()}) + "\n")
            self.file.flush()
        if step % 100 == 0 or last:
            means = "  ".join(f"{name} {mean:.3f}" for name, mean in self.means.items())
            print(f"step {step}  {minutes:.1f} min  {self.seen / 60 / max(minutes, 1e-3):.0f} tokens/s  {means}", flush=True)


def train(rank: int, args):
    """One process of the training."""
    dist.init_process_group("gloo", rank=rank, world_size=args.processes, init_method=f"tcp://127.0.0.1:{args.port}")
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    model, made = Llama(Shape()), [train_tokenizer(Shape.vocab_size).to_str() if rank == 0 else None]
    dist.broadcast_object_list(made)
    tokenizer, guides = Tokenizer.from_str(made[0]), Guides(model.shape.hidden_size)
    optimizer = Optimizer(model, guides, args.rate)
    for layer in model.layers[:-1]:  # a quarter faster; one graph serves every batch's shape
        layer.forward = torch.compile(layer.forward, dynamic=True)
    sentences = sequences.batches(tokenizer, corpus.sentence_turns, args.tokens, args.seed)
    whole = sequences.batches(tokenizer, corpus.turns, args.tokens, args.seed)
    mix, generator = random.Random(args.seed), torch.Generator().manual_seed(args.seed + 1000 * rank)

    log, saved = Log(args.out / "log.jsonl") if rank == 0 else None, time.monotonic()
    for step in range(args.steps):
        progress = step / args.steps
        batch = next(sentences if mix.random() < sentence_share(progress) else whole)
        loss, answers, guiding = losses_of(model, guides, *batch)
        (loss + guidance(progress) * sum(guiding)).backward()
        seen = {"loss": float(answers)} | {name: float(one.detach()) for name, one in zip(("copied", "stated", "named"), guiding)}
        if drill := drill_share(step, progress):
            drilled = drill_loss(model, 20 // args.processes, generator)
            (drill * drilled).backward()
            seen["copying"] = float(drilled.detach())
        optimizer.step(schedule(progress))
        if rank == 0:
            log.add(step, step + 1 == args.steps, batch[0].numel() * args.processes, **seen)
            if time.monotonic() - saved > 300:
                save(model, tokenizer, args.out)
                saved = time.monotonic()
    if rank == 0:
        save(model, tokenizer, args.out)
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3100)
    parser.add_argument("--tokens", type=int, default=8192, help="tokens in a batch")
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2, help="one a core; another number gives other bits")
    parser.add_argument("--port", type=int, default=29511, help="of this machine, for the processes to meet at")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.multiprocessing.spawn(train, (args,), nprocs=args.processes)


if __name__ == "__main__":
    main()
