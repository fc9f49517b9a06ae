"""Training sequences: chats over generated messages, tokenised, with the weight of each token's loss."""

import random

import numpy as np
import torch

import messages
import names
import prompts

# Loss weights per token: an answer of a word or two, a longer answer, the prompt (early in training only).
LABEL_WEIGHT, ANSWER_WEIGHT, READING = 4.0, 1.0, 0.1
LABELS = ("labels", "sentiment", "topic")


def turns(index: int) -> list[tuple[str, str, float]]:
    """The (prompt, answer, weight) turns of training sequence `index`: a label and then a longer task on the
    same message, or the longer task alone."""
    rng = random.Random(f"sequence-{index}")
    message = messages.write(f"train-{index}", names.TRAIN)
    system = rng.choice(prompts.SYSTEMS) if rng.random() < 0.12 else None
    longer = rng.choice(("summary", "extract"))
    if rng.random() < 0.45:
        task = rng.choice(LABELS + ("labels",))
        follow = prompts.instruct(longer, "", rng).strip()
        return [(prompts.chat(prompts.instruct(task, message.text, rng), system), prompts.answer(task, message), LABEL_WEIGHT),
                (f"\n{prompts.chat(follow)}", prompts.answer(longer, message), ANSWER_WEIGHT)]
    return [(prompts.chat(prompts.instruct(longer, message.text, rng), system), prompts.answer(longer, message), ANSWER_WEIGHT)]


def encode(tokenizer, count: int, longest: int = 1024) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` sequences as (ids, weights); a token's weight is that of predicting it. Longer ones are left out."""
    end, sequences = tokenizer.token_to_id("<|im_end|>"), []
    for start in range(0, count, 2000):
        chats = [turns(index) for index in range(start, min(start + 2000, count))]
        flat = tokenizer.encode_batch([text for chat in chats for turn in chat for text in turn[:2]], add_special_tokens=False)
        pieces = iter(flat)
        for chat in chats:
            ids, weights = [], []
            for _, _, weight in chat:
                prompt, answer = next(pieces).ids, next(pieces).ids + [end]
                ids += prompt + answer
                weights += [READING] * len(prompt) + [weight] * len(answer)
            if len(ids) <= longest:
                sequences.append((np.array(ids, np.int16), np.array(weights, np.float32)))
    return sequences


def batches(sequences, tokens: int, rng: random.Random, pool: int = 1536):
    """Endless batches (ids, weights) of about `tokens` tokens, each of sequences of about one length."""
    while True:
        order = rng.sample(range(len(sequences)), len(sequences))
        for start in range(0, len(order), pool):
            members = sorted(order[start: start + pool], key=lambda index: len(sequences[index][0]))
            groups, group = [], []
            for index in members:
                if group and (len(group) + 1) * len(sequences[index][0]) > tokens:
                    groups.append(group)
                    group = []
                group.append(index)
            groups.append(group)
            rng.shuffle(groups)
            for group in groups:
                yield pad([sequences[index] for index in group])


def pad(group):
    """Sequences side by side, padded at the end with weight 0: ids and weights, each [rows, longest]."""
    width = max(len(ids) for ids, _ in group)
    ids = torch.zeros(len(group), width, dtype=torch.long)
    weights = torch.zeros(len(group), width)
    for row, (sequence, weight) in enumerate(group):
        ids[row, : len(sequence)] = torch.from_numpy(sequence.astype(np.int64))
        weights[row, : len(weight)] = torch.from_numpy(weight)
    return ids, weights
