"""Training chats over generated messages: which tasks, in which words, with which weight."""

import random
from dataclasses import dataclass

import messages
import names
import prompts

# Loss weights per token: an answer of a word or two, a longer answer. Prompts have none.
LABEL_WEIGHT, ANSWER_WEIGHT = 4.0, 1.0
# How often each task opens a sequence.
OPENING = {"labels": 0.22, "sentiment": 0.09, "topic": 0.09, "summary": 0.3, "extract": 0.3}
LABELS = ("labels", "sentiment", "topic")


@dataclass
class Turn:
    """A prompt, its right answer, and the weight of each of the answer's tokens."""

    task: str
    prompt: str
    answer: str
    weight: float


def tasks(rng: random.Random) -> list[str]:
    """The tasks of one sequence: mostly two or three on the same message, since reading it is the larger cost."""
    first = rng.choices(list(OPENING), OPENING.values())[0]
    label = first if first in LABELS else rng.choice(LABELS)
    others = [task for task in (label, "summary", "extract") if task != first]
    rng.shuffle(others)
    return [first] + others[: rng.choices((0, 1, 2), (0.3, 0.4, 0.3))[0]]


def turns(index: int) -> tuple[list[Turn], messages.Message]:
    """The turns of training sequence `index` and its message, which stands in the first."""
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
        found.append(Turn(task, chat, prompts.answer(task, message), weight))
    return found, message


# The tasks on single sentences, in as few words as they can be asked with.
BRIEFLY = {"labels": "Sentiment and topic:", "sentiment": "Sentiment:", "topic": "Topic:", "summary": "Summary:",
           "extract": "JSON order_number, product, amount:"}


def sentence_turns(index: int) -> tuple[list[Turn], messages.Message]:
    """The turn of training sequence `index`, and its message, where it is about a sentence or two.

    They are a tenth of a message's tokens and hold all that one of the tasks depends on, so a model learns what
    words mean, and where facts begin and end, much sooner from these."""
    rng = random.Random(f"sentence-sequence-{index}")
    facts = rng.random() < 0.6
    message = (messages.note if facts else messages.remark)(f"sentence-{index}", names.TRAIN)
    task = "extract" if facts else rng.choice(("labels", "sentiment", "topic", "summary", "summary"))
    return [Turn(task, prompts.chat(f"{BRIEFLY[task]}\n\n{message.text}"), prompts.answer(task, message), ANSWER_WEIGHT)], message
