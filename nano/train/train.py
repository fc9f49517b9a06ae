"""Trains the model: python train.py --out RUN [--steps N], then python train.py --out RUN2 --begin RUN --seed 2 --minutes 52.

The first stage begins from scratch. The second begins with the weights of a folder and teaches what is in `lessons.py`.

One process a core, each on its share of every batch: two processes of one thread are a sixth faster than one of two.
The seed fixes data and initial weights; for the same bits, machine and number of processes must be the same, and what
`torch.compile` has in its cache may matter too. With `--minutes` the clock says when the run ends, and no bits are the same.
"""

import argparse
import json
import time
from pathlib import Path

import mkl_path  # before torch
import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer

import sequences
import stages
from guides import Guides
from model import Llama, Trace
from optimizer import Optimizer


def guidance(progress: float) -> float:
    """The share of the guides' losses: less and less, and none where the model finds its own best way."""
    return max(0.0, 1.0 - progress / 0.8)


def losses_of(model: Llama, guides: Guides, half: bool, ids, weights, looks, sentences):
    """The weighted mean loss of the answers' tokens, their plain mean, and the guides' losses; with `half` the layers multiply in bf16."""
    chosen, trace = weights[:, 1:] > 0.0, Trace()
    target, weight = ids[:, 1:][chosen], weights[:, 1:][chosen]
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        hidden = model.hidden_at(ids[:, :-1], chosen, trace).float()
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

    def add(self, step: int, tokens: int, **losses: float):
        self.seen += tokens
        for name, loss in losses.items():
            self.means[name] = loss if name not in self.means else 0.95 * self.means[name] + 0.05 * loss
        minutes = (time.monotonic() - self.began) / 60
        if step % 10 == 0:
            line = {"step": step, "minutes": minutes, "tokens": self.seen} | self.means
            self.file.write(json.dumps({name: round(value, 4) for name, value in line.items()}) + "\n")
            self.file.flush()
        if step % 20 == 0:
            means = "  ".join(f"{name} {mean:.3f}" for name, mean in self.means.items())
            print(f"step {step}  {minutes:.1f} min  {self.seen / 60 / max(minutes, 1e-3):.0f} tokens/s  {means}", flush=True)

    def held(self, mean: float, shares: dict[str, float]):
        """The shares of held-out answers that are right."""
        minutes = (time.monotonic() - self.began) / 60
        self.file.write(json.dumps({"minutes": round(minutes, 4), "tokens": self.seen, "held": shares}) + "\n")
        self.file.flush()
        print(f"held-out after {minutes:.1f} min: mean {mean:.1%}  " + "  ".join(f"{name} {share:.1%}" for name, share in shares.items()), flush=True)


def check(stage, out: Path, log: Log, best: float) -> float:
    """Scores the held-out chats, says how many chats were too long, and keeps the weights if they are the best so far."""
    save(stage.model, stage.tokenizer, out)
    shares = stage.held.shares(stage.model)
    mean = sum(shares.values()) / len(shares)
    log.held(mean, shares)
    print("left out as too long: " + ", ".join(f"{name} {one.left_out} of {one.left_out + one.kept}" for name, one in stage.encoders.items()))
    if mean > best:
        (out / "best").mkdir(exist_ok=True)
        save(stage.model, stage.tokenizer, out / "best")
    return max(mean, best)


def train(rank: int, args):
    """One process of the training."""
    dist.init_process_group("gloo", rank=rank, world_size=args.processes, init_method=f"tcp://127.0.0.1:{args.port}")
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    if args.begin is None:
        stage = stages.First(rank, args.tokens, args.seed)
    else:
        stage = stages.Second(args.begin, args.tokens, args.seed, rank == 0)
    model, guides = stage.model, Guides(stage.model.shape.hidden_size)
    optimizer = Optimizer(model, guides, args.rate)
    for layer in model.layers[:-1]:  # a quarter faster; one graph serves every batch's shape
        layer.forward = torch.compile(layer.forward, dynamic=True)
    generator = torch.Generator().manual_seed(args.seed + 1000 * rank)

    log = Log(args.out / "log.jsonl") if rank == 0 else None
    began, best = time.monotonic(), check(stage, args.out, log, 0.0) if log and stage.held else 0.0
    step, saved, checked = 0, time.monotonic(), time.monotonic()
    while (progress := (time.monotonic() - began) / 60 / args.minutes if args.minutes else step / args.steps) < 1.0:
        batches, seen = stage.batches(progress), {}
        for name, batch in batches:
            loss, answers, guiding = losses_of(model, guides, args.half, *batch)
            ((loss + guidance(progress) * sum(guiding)) / len(batches)).backward()
            seen[name] = float(answers)
            seen |= {name: float(one.detach()) for name, one in zip(("copied", "stated", "named"), guiding)}
        if drill := stage.drill_share(step, progress):
            drilled = drill_loss(model, 20 // args.processes, generator)
            (drill * drilled).backward()
            seen["copying"] = float(drilled.detach())
        optimizer.step(stage.schedule(progress))
        if rank == 0:
            log.add(step, sum(batch[0].numel() for _, batch in batches) * args.processes, **seen)
            if time.monotonic() - saved > 300:
                save(model, stage.tokenizer, args.out)
                saved = time.monotonic()
            if stage.held and time.monotonic() - checked > 480:
                best, checked = check(stage, args.out, log, best), time.monotonic()
        step += 1
    if rank == 0:
        print(f"{step} steps, {log.seen:,} tokens, {(time.monotonic() - began) / 60:.1f} minutes", flush=True)
        save(model, stage.tokenizer, args.out)
        if stage.held:
            check(stage, args.out, log, best)
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--begin", type=Path, help="begin with the weights and the tokenizer of this folder: the second stage")
    parser.add_argument("--steps", type=int, default=3100)
    parser.add_argument("--minutes", type=float, help="end after these minutes instead of after --steps")
    parser.add_argument("--tokens", type=int, default=8192, help="tokens in a batch")
    parser.add_argument("--half", action="store_true", help="multiply in bf16: faster where the processor has instructions for it")
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2, help="one a core; another number gives other bits")
    parser.add_argument("--port", type=int, default=29511, help="of this machine, for the processes to meet at")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if (args.begin is None) != (args.seed == 1):
        parser.error("the first stage has seed 1; give the second another seed: the same one would show its messages again")
    torch.multiprocessing.spawn(train, (args,), nprocs=args.processes)


if __name__ == "__main__":
    main()
