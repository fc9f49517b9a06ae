"""Scores a checkpoint (or the exported folder) on held-out rows: python evaluate.py FOLDER [--rows 2000].

The rows are those of examples/messages.parquet: written by the generator from held-out patterns and names.
"""

import argparse
import json
import os
import random
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # a spinning thread is a lost one where the cores are shared

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

import messages
import names
import prompts
from model import Llama, Shape, generate

LIMITS = {"labels": 12, "sentiment": 8, "topic": 8, "summary": 120, "extract": 120}
EXAMPLE_SEED = "example"


def load(folder: Path) -> tuple[Llama, Tokenizer]:
    """The model in f32 from a checkpoint of train.py or an exported folder."""
    exported = (folder / "config.json").exists()
    config = json.loads((folder / ("config.json" if exported else "shape.json")).read_text())
    model = Llama(Shape(**{key: config[key] for key in Shape().config() if key in config and key != "head_dim"}))
    weights = load_file(folder / ("model.safetensors" if exported else "weights.safetensors"))
    model.load_state_dict({name.removeprefix("model."): weight.float() for name, weight in weights.items()})
    return model.eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))


def answers(model, tokenizer, chats: list[str], limit: int, tokens: int = 16384) -> list[str]:
    """The greedy answers to `chats`, in their order; batches hold chats of about one length."""
    ids = [encoding.ids for encoding in tokenizer.encode_batch(chats, add_special_tokens=False)]
    order, found, end = sorted(range(len(ids)), key=lambda row: len(ids[row])), {}, tokenizer.token_to_id("<|im_end|>")
    while order:
        size = max(1, min(len(order), tokens // (len(ids[order[0]]) + limit)))
        group, order = order[:size], order[size:]
        for row, answer in zip(group, generate(model, [ids[row] for row in group], end, limit)):
            found[row] = tokenizer.decode(answer)
    return [found[row] for row in range(len(chats))]


def score(model, tokenizer, task: str, rows: list[messages.Message], wording: str, failures: list) -> float:
    """The share of right answers for `task`, in the recommended or in unseen wordings; failures are appended."""
    rngs = [None if wording == "recommended" else random.Random(f"wording-{row}") for row in range(len(rows))]
    chats = [prompts.chat(prompts.instruct(task, row.text, rng, held=rng is not None)) for row, rng in zip(rows, rngs)]
    given = answers(model, tokenizer, chats, LIMITS[task])
    wrong = [(task, row, answer) for row, answer in zip(rows, given) if not prompts.correct(task, answer, row)]
    failures += wrong
    return 1 - len(wrong) / len(rows)


def table(rows: list[messages.Message], failures: list) -> str:
    """Right answers by feature of the message and task, as a Markdown table."""
    tasks, groups = list(prompts.TASKS), defaultdict(list)
    for row in rows:
        for feature in [f"topic {row.topic}", f"sentiment {row.sentiment}"] + row.features:
            groups[feature].append(row)
    wrong = {(task, id(row)) for task, row, _ in failures}
    lines = ["| rows with | rows | " + " | ".join(tasks) + " |", "|---|---|" + "---|" * len(tasks)]
    for feature, members in sorted(groups.items()):
        shares = [1 - sum((task, id(row)) in wrong for row in members) / len(members) for task in tasks]
        lines.append(f"| {feature} | {len(members)} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--seed", default=EXAMPLE_SEED)
    parser.add_argument("--unseen", type=int, default=500, help="rows to score with wordings of the instruction that training never shows")
    parser.add_argument("--patterns", choices=("train", "held", "fresh"), default="held", help="the side of the split that the rows are written from")
    parser.add_argument("--failures", type=int, default=0, help="print this many wrong answers a task")
    args = parser.parse_args()
    torch.set_num_threads(2)
    model, tokenizer = load(args.folder)
    side = {"train": names.TRAIN, "held": names.HELD, "fresh": names.FRESH}[args.patterns]
    rows = [messages.write(f"{args.seed}-{index}", side) for index in range(args.rows)]
    failures, rest = [], []
    for task in prompts.TASKS:
        print(f"{task:10} {score(model, tokenizer, task, rows, 'recommended', failures):7.2%}", flush=True)
        if args.unseen:
            share = score(model, tokenizer, task, rows[: args.unseen], "unseen", rest)
            print(f"{'':10} {share:7.2%} in unseen wordings of the instruction", flush=True)
    print(table(rows, failures))
    for task in prompts.TASKS:
        for _, row, answer in [failure for failure in failures if failure[0] == task][: args.failures]:
            print(f"--- {task} {row.features}\n{row.text[:600]}\n  right: {prompts.answer(task, row)}\n  given: {answer}")


if __name__ == "__main__":
    main()
