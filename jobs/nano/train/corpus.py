"""Training sequences: chats over generated messages, tokenised, with the weight of each token's loss."""

import itertools
import random

import numpy as np
import torch

import messages
import names
import prompts

# Loss weights per token: an answer of a word or two, a longer answer. Prompts have none.
LABEL_WEIGHT, ANSWER_WEIGHT = 4.0, 1.0
# How often each task opens a sequence.
OPENING = {"labels": 0.22, "sentiment": 0.09, "topic": 0.09, "summary": 0.3, "extract": 0.3}
LABELS = ("labels", "sentiment", "topic")


def tasks(rng: random.Random) -> list[str]:
    """The tasks of one sequence: mostly two or three on the same message, since reading it is the larger cost."""
    first = rng.choices(list(OPENING), OPENING.values())[0]
    label = first if first in LABELS else rng.choice(LABELS)
    others = [task for task in (label, "summary", "extract") if task != first]
    rng.shuffle(others)
    return [first] + others[: rng.choices((0, 1, 2), (0.3, 0.4, 0.3))[0]]


def turns(index: int) -> list[tuple[str, str, float]]:
    """The (prompt, answer, weight) turns of training sequence `index`; the message stands in the first."""
    rng = random.Random(f"sequence-{index}")
    message = messages.write(f"train-{index}", names.TRAIN)
    system = rng.choice(prompts.SYSTEMS) if rng.random() < 0.12 else None
    found = []
    for task in tasks(rng):
        weight = LABEL_WEIGHT if task in LABELS else ANSWER_WEIGHT
        if not found:
            chat = prompts.chat(prompts.instruct(task, message.text, rng), system)
        else:
            chat = "\n" + prompts.chat(prompts.instruct(task, "", rng).strip())
        found.append((chat, prompts.answer(task, message), weight))
    return found


# The tasks on single sentences, in as few words as they can be asked with.
BRIEFLY = {"labels": "Sentiment and topic:", "sentiment": "Sentiment:", "topic": "Topic:", "summary": "Summary:",
           "extract": "JSON order_number, product, amount:"}


def sentence_turns(index: int) -> list[tuple[str, str, float]]:
    """The turn of training sequence `index` where it is about a sentence or two.

    They are a tenth of a message's tokens and hold all that one of the tasks depends on, so a model learns what
    words mean, and where facts begin and end, much sooner from these."""
    rng = random.Random(f"sentence-sequence-{index}")
    facts = rng.random() < 0.6
    message = (messages.note if facts else messages.remark)(f"sentence-{index}", names.TRAIN)
    task = "extract" if facts else rng.choice(("labels", "sentiment", "topic", "summary", "summary"))
    return [(prompts.chat(f"{BRIEFLY[task]}\n\n{message.text}"), prompts.answer(task, message), ANSWER_WEIGHT)]


def encode(tokenizer, turns, first: int, count: int, longest: int = 1024) -> list[tuple[np.ndarray, np.ndarray]]:
    """The `count` sequences that `turns` makes from number `first` on, as (ids, weights); a token's weight is that of predicting it.
    Sequences of more than `longest` tokens are left out."""
    end, sequences = tokenizer.token_to_id("<|im_end|>"), []
    chats = [turns(index) for index in range(first, first + count)]
    flat = tokenizer.encode_batch([text for chat in chats for turn in chat for text in turn[:2]], add_special_tokens=False)
    pieces = iter(flat)
    for chat in chats:
        ids, weights = [], []
        for _, _, weight in chat:
            prompt, answer = next(pieces).ids, next(pieces).ids + [end]
            ids += prompt + answer
            weights += [0.0] * len(prompt) + [weight] * len(answer)
        if len(ids) <= longest:
            sequences.append((np.array(ids, np.int64), np.array(weights, np.float32)))
    return sequences


def batches(tokenizer, turns, tokens: int, seed: int, pool: int = 1536):
    """Endless batches (ids, weights) of about `tokens` tokens, each of sequences of about one length; no
    sequence comes twice."""
    rng = random.Random(seed)
    for first in itertools.count(seed * 10**7, pool):
        members = sorted(encode(tokenizer, turns, first, pool), key=lambda sequence: len(sequence[0]))
        groups, group = [], []
        for sequence in members:
            if group and (len(group) + 1) * len(sequence[0]) > tokens:
                groups.append(group)
                group = []
            group.append(sequence)
        rng.shuffle(groups := groups + [group])
        yield from map(pad, groups)


def pad(group):
    """Sequences side by side, padded at the end with weight 0: ids and weights, each [rows, longest]."""
    width = max(len(ids) for ids, _ in group)
    ids = torch.zeros(len(group), width, dtype=torch.long)
    weights = torch.zeros(len(group), width)
    for row, (sequence, weight) in enumerate(group):
        ids[row, : len(sequence)] = torch.from_numpy(sequence)
        weights[row, : len(weight)] = torch.from_numpy(weight)
    return ids, weights


def drill(vocab_size: int, rows: int, length: int, generator: torch.Generator):
    """A copying drill: random tokens repeated with a period of 5 to half the length. Returns ids and which
    tokens can be foretold, each [rows, length]. Half of the rows have a dozen different tokens, as numbers have: the
    place to copy from is not known by the last token alone.

    Facts are copied from message to answer token by token; a model of this size finds out about copying much
    sooner from such rows than from messages alone."""
    ids = torch.randint(3, vocab_size, (rows, length), generator=generator)
    few = ids[:, :12].gather(1, torch.randint(12, (rows, length), generator=generator))
    ids[: rows // 2] = few[: rows // 2]
    periods = torch.randint(5, length // 2 + 1, (rows, 1), generator=generator)
    positions = torch.arange(length)[None]
    return ids.gather(1, positions % periods), positions > periods
