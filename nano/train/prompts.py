"""The instructions of the tasks, the chat format and the answers.

The wordings of the instructions are in `data/instructions.toml`.
"""

import json
import random
import re

import tables
from grammar import expand
from messages import Message
from patterns import SENTIMENTS, TOPICS

FILE = "instructions.toml"
_file = tables.read(FILE, ["systems", "tasks"])
SYSTEMS = tables.texts(f"{FILE}: systems", _file["systems"])
# Wordings of each task's instruction, by side of the split.
TASKS = {}
for task, listed in tables.keyed(f"{FILE}: tasks", _file["tasks"], ["labels", "sentiment", "topic", "summary", "extract"]).items():
    TASKS[task] = tables.sides(f"{FILE}: tasks.{task}", listed)
    for wordings in TASKS[task]:
        tables.patterns(f"{FILE}: tasks.{task}", wordings, must={"m"}, may={"s", "t"})
RECOMMENDED = {task: wordings[0][0] for task, wordings in TASKS.items()}


def listing(items: list[str], rng: random.Random | None) -> str:
    """Labels as a list: in their own order without a generator, else in any order and style."""
    if rng is None:
        return ", ".join(items[:-1]) + " or " + items[-1]
    items = rng.sample(items, len(items)) if rng.random() < 0.5 else items
    join = rng.choice((", ", ", ", " / ", ", or "))
    return rng.choice((", ".join(items[:-1]) + " or " + items[-1], join.join(items) if join != ", or " else ", ".join(items)))


def instruct(task: str, text: str, rng: random.Random | None = None, held: bool = False) -> str:
    """The user turn for `task` over `text`: the recommended wording without a generator, else any wording."""
    if rng is None:
        pattern = RECOMMENDED[task]
    else:
        wordings = TASKS[task][held]
        pattern = RECOMMENDED[task] if not held and rng.random() < 0.4 else expand(rng.choice(wordings), rng)
    pattern = pattern.replace("{s}", listing(SENTIMENTS, rng if pattern != RECOMMENDED[task] else None))
    pattern = pattern.replace("{t}", listing(TOPICS, rng if pattern != RECOMMENDED[task] else None))
    return pattern.replace("{m}", text)


def chat(user: str, system: str | None = None) -> str:
    """The turns in the model's chat format, up to the start of its answer."""
    turns = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    return f"{turns}<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"


def answer(task: str, message: Message) -> str:
    """The right answer."""
    match task:
        case "labels": return f"{message.sentiment}, {message.topic}"
        case "sentiment": return message.sentiment
        case "topic": return message.topic
        case "summary": return message.summary()
    product, order = json.dumps(message.product, ensure_ascii=False), json.dumps(message.order_number)
    return f'{{"order_number": {order}, "product": {product}, "amount": {message.amount or "null"}}}'


def correct(task: str, given: str, message: Message) -> bool:
    """Whether an answer is right: labels and JSON values equal to the truth, a summary naming every key fact."""
    given = given.strip()
    if task == "extract":
        try:
            return json.loads(given) == json.loads(answer(task, message))
        except ValueError:
            return False
    if task == "summary":
        return "\n" not in given and all(holds(given, fact) for fact in key_facts(message))
    return given == answer(task, message)


def key_facts(message: Message) -> list[str]:
    """What a summary must hold: the issue, the facts, the request."""
    return [fact for fact in (message.issue, message.product, message.order_number, message.amount, message.request) if fact]


def holds(summary: str, fact: str) -> bool:
    """Whether `summary` holds `fact` as a whole word or number, in any case."""
    return re.search(r"(?<![\w])" + re.escape(fact.lower()) + r"(?!\w|\.\d)", summary.lower()) is not None
