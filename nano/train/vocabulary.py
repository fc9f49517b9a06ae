"""The tokenizer: byte-level BPE trained on the generated text.

A word has the same tokens wherever it stands, so that a fact can be copied token by token from a message into an answer's
quotes: the space before it is a token of its own. Only `JOINED` words, frequent and never part of a fact, carry it. Digits and
line breaks stand alone, so that numbers are read digit by digit and a text has the same tokens with its template and without.
"""

import random
import re
from collections import Counter

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import messages
import names
import prompts

JOINED = 500
PIECES = r"\n|\p{N}|\p{L}+|[^\s\p{L}\p{N}]+|[^\S\n]"
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"


def samples(count: int) -> list[tuple[str, str]]:
    """(text, product) of messages of the training side, with instructions, answers and system prompts."""
    found = []
    for index in range(count):
        rng = random.Random(f"vocabulary-{index}")
        message = messages.write(f"vocabulary-message-{index}", names.TRAIN)
        task = rng.choice(list(prompts.TASKS))
        lines = (prompts.instruct(task, message.text, rng), prompts.answer(task, message), "user\nassistant\nsystem", rng.choice(prompts.SYSTEMS))
        found.append(("\n".join(lines), message.product or ""))
    return found


def joined_words(texts: list[tuple[str, str]]) -> list[str]:
    """The most frequent small words behind a space, but those that occur in a product."""
    goods = {word for _, product in texts for word in re.findall(r"\w+", product)}
    counts = Counter(word for text, _ in texts for word in re.findall(r"(?<= )[a-z]+(?![^\W_])", text) if word not in goods)
    return sorted(word for word, _ in counts.most_common(JOINED))


def train_tokenizer(vocab_size: int, count: int = 24000) -> Tokenizer:
    """A tokenizer of `vocab_size` entries."""
    texts = samples(count)
    pieces = rf" (?:{'|'.join(joined_words(texts))})(?!\p{{L}})|{PIECES}"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pieces), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator((text for text, _ in texts), trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END_OF_TEXT, TURN_START, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return tokenizer
