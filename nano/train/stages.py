"""The two stages of the training: from scratch, and from a folder of weights. Each says where it begins and which batch comes next."""

import random
from pathlib import Path

import torch.distributed as dist
from tokenizers import Tokenizer

import corpus
import lessons
import sequences
from evaluate import load
from held import HeldOut
from model import Llama, Shape
from vocabulary import train_tokenizer


class First:
    """From scratch: the tasks on single sentences and on messages."""

    def __init__(self, rank: int, tokens: int, seed: int):
        self.model, made = Llama(Shape()), [train_tokenizer(Shape.vocab_size).to_str() if rank == 0 else None]
        dist.broadcast_object_list(made)
        self.tokenizer, self.mix, self.held = Tokenizer.from_str(made[0]), random.Random(seed), None
        self.encoders = {name: sequences.Encoder(self.tokenizer) for name in ("sentences", "messages")}
        self.sentences = sequences.batches(self.encoders["sentences"], corpus.sentence_turns, tokens, seed)
        self.whole = sequences.batches(self.encoders["messages"], corpus.turns, tokens, seed)

    def batches(self, progress: float):
        """The batches of a step, each with the name of its loss: single sentences mostly at first, few later."""
        single = self.mix.random() < max(0.3, 0.9 - 1.6 * progress)
        return [("loss", next(self.sentences if single else self.whole))]

    def schedule(self, progress: float) -> float:
        """The share of the peak learning rate: a short warm-up, a plateau, then linearly to zero."""
        return min(1.0, progress / 0.03 + 0.02) * min(1.0, (1.0 - progress) / 0.6)

    def drill_share(self, step: int, progress: float) -> float:
        """The weight of a copying drill: every fourth step has one, to keep the circuit general, but none at the end has."""
        return 0.5 if step % 4 == 0 and progress < 0.85 else 0.0


class Second:
    """From a folder, whose tokenizer stays as it is: the lessons of `lessons.py`, and chats as long as the context."""

    def __init__(self, folder: Path, tokens: int, seed: int, check: bool):
        self.model, self.tokenizer = load(folder)
        self.model.train()
        self.mix, self.held = random.Random(seed), HeldOut(self.tokenizer) if check else None
        longest = self.model.shape.max_position_embeddings
        self.encoders = {name: sequences.Encoder(self.tokenizer, longest) for name in lessons.LESSONS}
        self.sources = {name: sequences.batches(self.encoders[name], turns, tokens // 2, seed, pool)
                        for name, (turns, _, pool) in lessons.LESSONS.items()}
        self.halves = [{name: lessons.LESSONS[name][1] for name in half} for half in lessons.HALVES]

    def batches(self, _: float):
        """The batches of a step, each with the name of its lesson: half of the tokens are long, with few answers, half short."""
        drawn = [self.mix.choices(list(half), half.values())[0] for half in self.halves]
        return [(lesson, next(self.sources[lesson])) for lesson in drawn]

    def schedule(self, progress: float) -> float:
        """The share of the peak learning rate: a short warm-up, then linearly to zero."""
        return min(1.0, progress / 0.03 + 0.02) * min(1.0, (1.0 - progress) / 0.85)

    def drill_share(self, step: int, progress: float) -> float:
        """No copying drill: notes are one."""
        return 0.0
