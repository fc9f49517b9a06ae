"""What the second stage of the training teaches: asks behind the message, threads, notes merged into one line, and what was
known before. Beside it stand the chats of the first stage, so that nothing is forgotten.

The wordings are in `data/notes.toml`; the tokenizer is made from the first stage's only, and stays as it is.
"""

import random

import corpus
import messages
import names
import prompts
import tables
import threads
from corpus import ANSWER_WEIGHT, LABELS, LABEL_WEIGHT, Turn
from grammar import expand
from messages import KINDS, Message
from patterns import SENTIMENTS, TOPICS

_file = tables.read("notes.toml", ["asks", "merge", "refine"])
ASKS = {task: tables.sides(f"notes.toml: asks.{task}", table)
        for task, table in tables.keyed("notes.toml: asks", _file["asks"], list(prompts.TASKS)).items()}
MERGE, REFINE = (tables.sides(f"notes.toml: {name}", _file[name]) for name in ("merge", "refine"))
for _listed in ASKS.values():
    for _wordings in _listed:
        tables.patterns("notes.toml: asks", _wordings, may={"s", "t"})
for _listed, _must in ((MERGE, {"m"}), (REFINE, {"a", "m"})):
    for _wordings in _listed:
        tables.patterns("notes.toml", _wordings, must=_must)
# The tasks behind the message, and how often.
BEHIND = {"labels": 0.1, "sentiment": 0.33, "topic": 0.33, "summary": 0.12, "extract": 0.12}
# Tokens are not counted while threads are written: a message of a thread has about this many characters a token.
CHARACTERS = 3.3
# The most tokens of a text in a prompt: what the context of 2,048 leaves beside the prompt, an answer and a guard.
ROOM = 1880


def worded(wordings, side: int, rng: random.Random, share: float) -> str:
    """One of the wordings of a side: the recommended one in `share` of the cases, for held-out texts always."""
    recommended = wordings[names.TRAIN][0]
    return recommended if side != names.TRAIN or rng.random() < share else expand(rng.choice(wordings[names.TRAIN]), rng)


def listed(pattern: str, rng: random.Random) -> str:
    """A pattern with its lists of labels, in any order."""
    return pattern.replace("{s}", prompts.listing(SENTIMENTS, rng)).replace("{t}", prompts.listing(TOPICS, rng))


def weight(task: str) -> float:
    return LABEL_WEIGHT if task in LABELS else ANSWER_WEIGHT


def behind_turns(index: int, side: int = names.TRAIN) -> tuple[list[Turn], Message]:
    """A message with an ask behind it; often more asks on the same message follow."""
    rng = random.Random(f"behind-sequence-{index}")
    message = messages.write(f"behind-{index}", side)
    first = rng.choices(list(BEHIND), BEHIND.values())[0]
    ask = lambda task: listed(worded(ASKS[task], side, rng, 0.6), rng)
    found = [Turn(first, prompts.chat(f"{message.text}\n\n{ask(first)}"), prompts.answer(first, message), weight(first))]
    if side == names.TRAIN:
        for task in rng.sample([task for task in BEHIND if task != first], rng.choice((0, 1, 1, 2))):
            found.append(Turn(task, "\n" + prompts.chat(ask(task)), prompts.answer(task, message), weight(task)))
    return found, message


def thread_part(rng: random.Random, seed: str, side: int) -> tuple[threads.Thread, Message, int]:
    """A run of a thread's messages that fits into a prompt: short ones as often as long ones, whole threads as often as
    parts. Also the place of its first message."""
    most = int(ROOM * CHARACTERS * (rng.random() ** 1.5 if rng.random() < 0.75 else 1.0))
    thread = threads.write(seed, side, 2, 60)
    first = 0 if rng.random() < 0.5 else rng.randrange(len(thread.texts))
    count, length = 1, len(thread.texts[first])
    while first + count < len(thread.texts) and length + len(thread.texts[first + count]) + 2 < most:
        length += len(thread.texts[first + count]) + 2
        count += 1
    return thread, thread.part(first, count), first


def thread_turns(index: int, side: int = names.TRAIN) -> tuple[list[Turn], Message]:
    """A whole thread or a part of one, and its summary; sometimes what was extracted, too."""
    rng = random.Random(f"thread-sequence-{index}")
    _, part, _ = thread_part(rng, f"{index}", side)
    wording = prompts.RECOMMENDED["summary"].replace("{m}", part.text)
    if side == names.TRAIN and rng.random() < 0.25:
        wording = prompts.instruct("summary", part.text, rng)
    found = [Turn("summary", prompts.chat(wording), part.summary(), ANSWER_WEIGHT)]
    if side == names.TRAIN and rng.random() < 0.4:
        found.append(Turn("extract", "\n" + prompts.chat(prompts.RECOMMENDED["extract"].replace("{m}", "").strip()),
                          prompts.answer("extract", part), ANSWER_WEIGHT))
    return found, part


def known(truth: Message, of: list[str]) -> Message:
    """A note's truth that holds only the fields `of`."""
    keep = lambda name: getattr(truth, name) if name in of else None
    return Message("", truth.sentiment, truth.topic, *(keep(name) for name in FIELDS))


FIELDS = ["issue", "request", "order_number", "product", "amount"]


def notes(rng: random.Random, truth: Message, count: int) -> list[Message]:
    """`count` notes on parts of what `truth` states: each field in one of them at least, some said again."""
    held = [[] for _ in range(count)]
    again = rng.choice((0.0, 0.05, 0.15, 0.5))
    for name in FIELDS:
        place = int(count * rng.random() ** 1.3)
        for at in range(count):
            if at == place or rng.random() < again:
                held[at].append(name)
    return [known(truth, of) for of in held]


def merge_turns(index: int, side: int = names.TRAIN) -> tuple[list[Turn], Message]:
    """Notes, and the one line that holds them all. Where notes contradict each other, the first is believed."""
    rng = random.Random(f"merge-sequence-{index}")
    truth = threads.write(f"merge-{index}", side, 3, 4).truth
    truth = known(truth, [name for name in FIELDS if rng.random() < 0.93])
    count = rng.choices((rng.randint(2, 5), rng.randint(6, 12), rng.randint(13, 60)), (0.55, 0.37, 0.08))[0]
    listed = notes(rng, truth, count)
    if rng.random() < 0.12:
        other = threads.write(f"other-{index}", side, 3, 4).truth
        wrong = known(other, [name for name in FIELDS if getattr(truth, name) is not None and rng.random() < 0.4])
        last = max(min(at for at, note in enumerate(listed) if getattr(note, name)) for name in FIELDS if getattr(truth, name)) if prompts.key_facts(truth) else 0
        listed.insert(rng.randint(last + 1, len(listed)), wrong)
    lines, sentences, at = [], [], 0
    for note in listed:
        line = note.summary()
        sentences.append((at + len(note.issue or messages.NO_ISSUE), KINDS.index(note.issue or "other")))
        if note.request:
            sentences.append((at + len(line) - 1, KINDS.index(note.request)))
        lines.append(line)
        at += len(line) + 1
    text = "\n".join(lines)
    text += "\n" if side != names.TRAIN or rng.random() < 0.85 else ""
    message = Message(text, truth.sentiment, truth.topic, *(getattr(truth, name) for name in FIELDS), ["merge"], sentences)
    prompt = worded(MERGE, side, rng, 0.8).replace("{m}", text)
    return [Turn("summary", prompts.chat(prompt), truth.summary(), ANSWER_WEIGHT)], message


def refine_turns(index: int, side: int = names.TRAIN) -> tuple[list[Turn], Message]:
    """What was known before a part of a thread, the part, and the line that holds both."""
    rng = random.Random(f"refine-sequence-{index}")
    thread, part, first = thread_part(rng, f"refine-{index}", side)
    if first:
        before = thread.part(0, first)
    else:
        before = known(thread.truth, [name for name in FIELDS if rng.random() < 0.5])
    both = {name: getattr(before, name) or getattr(part, name) for name in FIELDS}
    note = before.summary()
    prompt = worded(REFINE, side, rng, 0.8)
    head = prompt.replace("{a}", note).replace("{m}", part.text)
    truth = Message(part.text, part.sentiment, part.topic, *both.values(), ["refine"], part.sentences)
    return [Turn("summary", prompts.chat(head), truth.summary(), ANSWER_WEIGHT)], truth


def first_turns(index: int, side: int = names.TRAIN) -> tuple[list[Turn], Message]:
    """A chat of the first stage; of another side with one turn in the recommended words."""
    if side == names.TRAIN:
        return corpus.turns(index)
    message = messages.write(f"first-{index}", side)
    task = list(prompts.TASKS)[index % len(prompts.TASKS)]
    return [Turn(task, prompts.chat(prompts.instruct(task, message.text)), prompts.answer(task, message), 1.0)], message


# The share of batches in their half of the tokens, and the chats that are written at once.
LESSONS = {
    "threads": (thread_turns, 0.8, 384),
    "refine": (refine_turns, 0.2, 192),
    "first": (first_turns, 0.4, 768),
    "sentences": (corpus.sentence_turns, 0.05, 1536),
    "behind": (behind_turns, 0.35, 768),
    "merges": (merge_turns, 0.2, 512),
}
HALVES = (["threads", "refine"], ["first", "sentences", "behind", "merges"])
