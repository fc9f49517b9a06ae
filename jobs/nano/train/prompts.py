"""The instructions of the tasks, the chat format and the answers.

Of each task's wordings the first is the one recommended to users; the second list is never trained on and
measures how well other people's wordings work. `{m}` is the message, `{s}` and `{t}` are the label lists.
"""

import json
import random
import re

from grammar import expand
from issues import SENTIMENTS, TOPICS
from messages import Message

SYSTEMS = ["You are a helpful assistant.", "You label and summarise customer messages.", "Answer briefly.", "You are a precise text classifier and extractor."]

TASKS = {
    "labels": (
        ["Label this customer message with its sentiment ({s}) and its topic ({t}).\n\n{m}",
         "(Give|State|Name|Write) the sentiment ({s}) and the topic ({t}) of (this|the following) (message|customer message|text)(.|:)\n\n{m}",
         "(Classify|Label|Categorise) (this|the following) (message|customer message|email) by sentiment ({s}) and topic ({t})(.|:)\n\n{m}",
         "What are the sentiment and the topic of this (message|customer message)? (Sentiments|Possible sentiments): {s}. (Topics|Possible topics): {t}.\n\n{m}",
         "{m}\n\n(Give|Name|State) the sentiment ({s}) and the topic ({t}) of (this|the) message (above|)."],
        ["Tell me which sentiment ({s}) and which topic ({t}) this email has:\n\n{m}"],
    ),
    "sentiment": (
        ["Classify the sentiment of this customer message as positive, neutral or negative.\n\n{m}",
         "(Classify|Label|Rate|Judge) the sentiment of (this|the following) (message|customer message|review|text|email) as {s}(.|:)\n\n{m}",
         "What is the sentiment of (this|the following) (message|customer message|text)? (Answer|Reply|Answer only) (with|) {s}.\n\n{m}",
         "Is (this|the following) (message|customer message|review) {s}?\n\n{m}", "Sentiment ({s})(:|?)\n\n{m}",
         "(Find|Decide on|Pick) the sentiment of (this|the following) (message|email|text|review)(: {s}.|, {s}:| from {s}.)\n\n{m}",
         "(Sentiments|Possible sentiments): {s}.(| Choose one for this message.| Give the one of this message.)\n\n{m}",
         "(Sentiment analysis|Determine the sentiment|Give the sentiment)(: {s}.|, {s}:|.)\n\n{m}",
         "{m}\n\n(What is the sentiment of this message|Is this message {s}|Sentiment of the message above)?"],
        ["Please tell me if the customer's sentiment here is {s}:\n\n{m}", "Read the text and give its sentiment, {s}.\n\n{m}"],
    ),
    "topic": (
        ["Classify the topic of this customer message as one of: delivery, billing, refund, quality, account, website, service, stock.\n\n{m}",
         "(Classify|Label|Name|Choose) the topic of (this|the following) (message|customer message|text|email)(:| as one of:| from:) {t}.\n\n{m}",
         "(What is|Which is) the topic of (this|the following) (message|customer message|email)? (Answer|Choose|Reply) (with one of|from): {t}.\n\n{m}",
         "(Which of these topics|Which topic) fits (this|the following) (message|text) (best|): {t}?\n\n{m}", "Topic ({t})(:|?)\n\n{m}",
         "(Find|Decide on|Pick) the topic of (this|the following) (message|email|text|review)(: {t}.|, one of {t}:| from {t}.)\n\n{m}",
         "(Topics|Possible topics|Categories): {t}.(| Choose one for this message.| Give the one that this message is about.)\n\n{m}",
         "What is (this|the following) (message|email|text) about: {t}?\n\n{m}",
         "(Assign|Give) (this|the following) (message|customer message) (a|one) (topic|category) ({t})(.|:)\n\n{m}",
         "{m}\n\n(What is the topic of this message|Which topic is it|Topic of the message above)(: {t}?|? Choose from {t}.|?)"],
        ["Sort this email into one topic of {t}.\n\n{m}", "One of these topics is right for the message below: {t}. Name it.\n\n{m}"],
    ),
    "summary": (
        ["Summarise this customer message in one line.\n\n{m}",
         "(Summarise|Summarize|Sum up) (this|the following) (message|customer message|conversation|thread|email|text) (in one line|in one sentence|briefly|shortly|)(.|:)\n\n{m}",
         "(Write|Give|Give me) (a|a short|a one-line|a brief) summary of (this|the following) (message|customer message|conversation|thread|email)(.|:)\n\n{m}",
         "(What is the gist of|What does the customer say in|What does the customer want in) this (message|conversation|text|thread)?\n\n{m}", "(Summary|TL;DR|Short summary)(:| of this message:)\n\n{m}",
         "{m}\n\n(Summarise|Summarize|Sum up) (this|the) (message|conversation|text) (above|) (in one line|in one sentence|)."],
        ["In one sentence, what does this customer want?\n\n{m}", "Give me the gist of this email in a single line:\n\n{m}"],
    ),
    "extract": (
        ["Extract the order number, the product and the amount from this customer message as JSON.\n\n{m}",
         "(Extract|Find|Get|Return|Give) (the order number, the product and the amount|order number, product and amount|order_number, product and amount) (from|in) (this|the following) (message|customer message|email|text) (as JSON|in JSON|as a JSON object)(.|:)\n\n{m}",
         "(Return|Write|Give) (a JSON object|JSON) with (the keys |)order_number, product and amount (for|from) (this|the following) (message|customer message|email)(.|, with null for what is missing.|:)\n\n{m}",
         "(Which|What) order number, product and amount (are|does the customer name) in this (message|text)? (Answer|Reply) (as|in|with) JSON.\n\n{m}", "(JSON|Extract as JSON) (order_number, product, amount)(:|.)\n\n{m}",
         "{m}\n\n(Extract|Return|Give) (the order number, the product and the amount|order_number, product and amount) (of the message above|) (as|in) JSON."],
        ["Read the email and return order number, product and amount as a JSON object:\n\n{m}", "JSON with order_number, product, amount, please:\n\n{m}"],
    ),
}

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
