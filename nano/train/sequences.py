"""Chats as training sequences: tokens, the weight of each token's loss, and where in the message answers were read from."""

import bisect
import itertools
import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist

import corpus
import guides
import messages
from vocabulary import TURN_END

# The most tokens of a sequence of the first stage.
LONGEST = 1024


@dataclass
class Sequence:
    """A chat in tokens. A token's weight is that of predicting it; `looks` [count, 3] are the (head, target, source) of `guides`,
    `sentences` [count, 2] the (last token, kind) of the message's sentences."""

    ids: np.ndarray
    weights: np.ndarray
    looks: np.ndarray
    sentences: np.ndarray


def copied(message: messages.Message) -> list[str]:
    """The texts that answers copy from the message."""
    return [fact for fact in (message.order_number, message.product, message.amount) if fact]


def stated(message: messages.Message) -> list[str]:
    """The texts that answers say in words of their own: the issue and the wish, as they stand in a summary."""
    return ([messages.capitalise(message.issue)] if message.issue else []) + ([" " + message.request] if message.request else [])


def places(ids: list[int], piece: list[int], skip: int | None = None) -> list[list[int]]:
    """Where `piece` stands in `ids`, as the positions of its tokens; tokens `skip` between them do not count."""
    at = [position for position, token in enumerate(ids) if token != skip]
    kept = [ids[position] for position in at]
    return [at[start: start + len(piece)] for start in range(len(kept) - len(piece) + 1)
            if kept[start] == piece[0] and kept[start: start + len(piece)] == piece]


class Encoder:
    """Makes sequences of chats."""

    def __init__(self, tokenizer, longest: int = LONGEST):
        self.tokenizer, self.longest, self.kept, self.left_out = tokenizer, longest, 0, 0
        self.end, self.comma = tokenizer.token_to_id(TURN_END), tokenizer.token_to_id(",")

    def sequences(self, turns, first: int, count: int) -> list[Sequence]:
        """The `count` sequences that `turns` makes from number `first` on; those that are too long are left out and counted."""
        chats = [turns(index) for index in range(first, first + count)]
        texts = [text for chat, message in chats
                 for text in [part for turn in chat for part in (turn.prompt, turn.answer)] + copied(message) + stated(message)]
        encoded = iter(self.tokenizer.encode_batch(texts, add_special_tokens=False))
        made = [self.sequence(chat, message, encoded) for chat, message in chats]
        fitting = [sequence for sequence in made if len(sequence.ids) <= self.longest]
        self.kept += len(fitting)
        self.left_out += len(made) - len(fitting)
        return fitting

    def sequence(self, chat: list[corpus.Turn], message: messages.Message, encoded) -> Sequence:
        """The sequence of a chat whose encoded texts come next."""
        ids, weights, answers = [], [], []
        for turn in chat:
            prompt, answer = next(encoded), next(encoded).ids + [self.end]
            if not answers:
                sentences = self.sentences(prompt, turn.prompt.index(message.text), message)
            ids += prompt.ids
            answers.append((turn.task, len(ids), answer))
            ids += answer
            weights += [0.0] * len(prompt.ids) + [turn.weight] * len(answer)
        facts = [next(encoded).ids for _ in copied(message)]
        sayings = [next(encoded).ids for _ in stated(message)]
        looks = self.copies(ids[: answers[0][1]], answers, facts) + self.readings(answers, message, sayings, sentences)
        return Sequence(np.array(ids, np.int64), np.array(weights, np.float32),
                        np.array(looks, np.int64).reshape(-1, 3), np.array(sentences, np.int64).reshape(-1, 2))

    def sentences(self, prompt, start: int, message: messages.Message) -> list[tuple[int, int]]:
        """The (last token, kind) of the sentences of a message that begins at character `start` of its prompt."""
        ends = [end for _, end in prompt.offsets]
        return [(bisect.bisect_left(ends, start + end), kind) for end, kind in message.sentences]

    def copies(self, prompt: list[int], answers, facts: list[list[int]]) -> list[tuple[int, int, int]]:
        """For each token of a fact in an answer where it stands in the prompt, also where a number is written with commas there."""
        return [(guides.COPIED, begin + target, source)
                for fact in facts
                for sources in places(prompt, fact, self.comma)
                for _, begin, answer in answers
                for targets in places(answer, fact)[:1]
                for target, source in zip(targets, sources)]

    def readings(self, answers, message: messages.Message, sayings: list[list[int]], sentences) -> list[tuple[int, int, int]]:
        """For each token of a label, an issue or a wish in an answer the last token of the sentence that states it."""
        kinds = [messages.KINDS.index(kind) for kind in (message.issue, message.request) if kind]
        looks = []
        for task, begin, answer in answers:
            for kind, saying in zip(kinds, sayings):
                whole = task in corpus.LABELS and kind == kinds[0]
                targets = range(len(answer) - 1) if whole else itertools.chain(*places(answer, saying)[:1])
                looks += [(guides.STATED, begin + target, last) for target in targets for last, sentence in sentences if sentence == kind]
        return looks


def batches(encoder: Encoder, turns, tokens: int, seed: int, pool: int = 1536):
    """Endless batches of about `tokens` tokens, each of sequences of about one length; no sequence comes twice. Each of the
    group's processes writes its share of the sequences and gets its share of every batch."""
    rng, rank, world = random.Random(seed), dist.get_rank(), dist.get_world_size()
    for first in itertools.count(seed * 10**7, pool):
        shares = [None] * world
        dist.all_gather_object(shares, encoder.sequences(turns, first + rank * pool // world, pool // world))
        groups, group = [], []
        for sequence in sorted(itertools.chain(*shares), key=lambda sequence: len(sequence.ids)):
            if group and (len(group) + 1) * len(sequence.ids) > tokens:
                groups.append(group)
                group = []
            group.append(sequence)
        rng.shuffle(groups)  # the last group, of whatever is left, is dropped
        yield from (pad(group[rank::world]) for group in groups)


def pad(group: list[Sequence]):
    """Sequences side by side, padded at the end with weight 0: ids and weights, each [rows, longest]; the looks [count, 4] and
    sentences [count, 3] have the row before their own numbers."""
    width = max(len(sequence.ids) for sequence in group)
    ids = torch.zeros(len(group), width, dtype=torch.long)
    weights = torch.zeros(len(group), width)
    for row, sequence in enumerate(group):
        ids[row, : len(sequence.ids)] = torch.from_numpy(sequence.ids)
        weights[row, : len(sequence.ids)] = torch.from_numpy(sequence.weights)
    return ids, weights, stack([sequence.looks for sequence in group]), stack([sequence.sentences for sequence in group])


def stack(tables: list[np.ndarray]) -> torch.Tensor:
    """The rows of all tables, each after the number of its table."""
    return torch.from_numpy(np.concatenate([np.insert(table, 0, row, axis=1) for row, table in enumerate(tables)]))


def drill(vocab_size: int, rows: int, length: int, generator: torch.Generator):
    """A copying drill: random tokens repeated with a period of 5 to half the length. Returns ids and which
    tokens can be predicted, each [rows, length]. Half of the rows have a dozen different tokens, as numbers have: the
    place to copy from is not known by the last token alone.

    Facts are copied from message to answer token by token; a model of this size finds out about copying much
    sooner from such rows than from messages alone."""
    ids = torch.randint(3, vocab_size, (rows, length), generator=generator)
    few = ids[:, :12].gather(1, torch.randint(12, (rows, length), generator=generator))
    ids[: rows // 2] = few[: rows // 2]
    periods = torch.randint(5, length // 2 + 1, (rows, 1), generator=generator)
    positions = torch.arange(length)[None]
    return ids.gather(1, positions % periods), positions > periods
