"""The tokenizer: byte-level BPE trained on the generated text.

Digits stand alone and a capitalised word never carries the space before it, so that names, codes and amounts
have the same tokens in a message and inside an answer's quotes; line breaks stand alone, so that text has the
same tokens whether it is encoded with its template or apart from it.
"""

import random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import messages
import names
import prompts

PIECES = r"\n|\p{N}|\p{Lu}\p{L}*| ?\p{L}+| ?[^\s\p{L}\p{N}]+|[^\S\n]+"
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"


def train_tokenizer(vocab_size: int, samples: int = 24000) -> Tokenizer:
    """A tokenizer of `vocab_size` entries, trained on messages of the training side, instructions and answers."""
    def texts():
        for index in range(samples):
            rng = random.Random(f"vocabulary-{index}")
            message = messages.write(f"vocabulary-message-{index}", names.TRAIN)
            task = rng.choice(list(prompts.TASKS))
            yield prompts.instruct(task, message.text, rng)
            yield prompts.answer(task, message)
            yield "user\nassistant\nsystem\n" + rng.choice(prompts.SYSTEMS)

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PIECES), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts(), trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END_OF_TEXT, TURN_START, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return tokenizer
