"""Writes threads of messages about one matter, together with their truth.

What states the matter, its facts and the wish is spread over the thread; some of it is said again in a later message. Everything
else is small talk, background and what looks like a fact and is none.
"""

import random
from dataclasses import dataclass

import messages
import tables
from grammar import fill
from messages import KINDS, Message, Writer, unmark

_file = tables.read("threads.toml", ["customer", "agent"])
TALK = {who: tables.sides(f"threads.toml: {who}", _file[who]) for who in ("customer", "agent")}
for who, lists in TALK.items():
    for listed in lists:
        tables.patterns(f"threads.toml: {who}", listed, may={"n", "day", "month", "city", "who"})
# How many sentences beside the matter a message has, and how often: from brief chats to long letters.
WORDINESS = (((0, 2), 0.3), ((1, 4), 0.48), ((3, 8), 0.15), ((10, 34), 0.07))
# In `examples`, where threads are read whole: a third of them exceed the context of 2,048, the longest by seven times.
OF_EXAMPLES = (((0, 2), 0.3), ((1, 4), 0.43), ((3, 8), 0.19), ((10, 46), 0.08))


@dataclass
class Thread:
    """The texts of a thread's messages, and for each of them the (position, kind) of its sentences; `truth` is that of all."""

    texts: list[str]
    sentences: list[list[tuple[int, int]]]
    truth: Message
    written_amount: str | None

    @property
    def text(self) -> str:
        """The whole document."""
        return "\n\n".join(self.texts)

    def part(self, first: int, count: int) -> Message:
        """The messages from `first` on as one text, with the truth that stands in them."""
        texts, truth = self.texts[first: first + count], self.truth
        text, start, sentences = "\n\n".join(texts), 0, []
        for message, marked in zip(texts, self.sentences[first: first + count]):
            sentences += [(start + end, kind) for end, kind in marked]
            start += len(message) + 2
        stated = {KINDS[kind] for _, kind in sentences}
        # A fact that stands in the text was written by its slot: what looks like one has other numbers and names.
        return Message(text, truth.sentiment, truth.topic, truth.issue if truth.issue in stated else None,
                       truth.request if truth.request in stated else None,
                       truth.order_number if truth.order_number and truth.order_number in text else None,
                       truth.product if truth.product and truth.product in text else None,
                       truth.amount if truth.amount and self.written_amount in text else None, ["thread"], sentences)


class ThreadWriter(Writer):
    """One thread in the making."""

    def __init__(self, rng: random.Random, side: int):
        super().__init__(rng, side)
        self.layout, self.talk_side = "thread", side
        self.casual = self.casual and self.chance(0.3)

    def talk(self, who: str, count: int) -> list[str]:
        """`count` sentences that state nothing; the shop's people do not tell of their families."""
        if who == "agent":
            return [self.pick(TALK[who][self.talk_side]) for _ in range(min(count, 4))]
        background = list(self.background(count))
        small = [self.pick(TALK[who][self.talk_side]) for _ in background]
        return [one if self.chance(0.5) else other for one, other in zip(small, background)]

    def again(self) -> list[str]:
        """Sentences that say some of the matter once more, in other words."""
        said = []
        if self.chance(0.35):
            self.pending = [fact for fact, value in zip("opa", (self.order, self.product, self.amount)) if value and self.chance(0.5)]
            said += self.facts()
        if self.chance(0.25):
            said.append(self.stating(self.key[2], self.plain_issue()))
        if self.request and self.chance(0.25):
            said += self.wish()
        return said

    def plain_issue(self) -> str:
        """The clause that says what the thread is about, without the product."""
        return self.pick(self.book.issues[self.key[2]]).replace("{it}", self.rng.choice(messages.GENERIC), 1).replace("{it}", "it")

    def spread(self, sentences: list[str], count: int) -> list[list[str]]:
        """Sentences in their order over `count` messages; the earlier ones get more."""
        places = sorted(int(count * self.rng.random() ** 1.5) for _ in sentences)
        return [[sentence for sentence, place in zip(sentences, places) if place == at] for at in range(count)]

    def thread(self, count: int, wordiness) -> Thread:
        """The finished thread of `count` messages; two in three are the customer's, the first and those that state something
        always."""
        rng = self.rng
        low, high = rng.choices([span for span, _ in wordiness], [share for _, share in wordiness])[0]
        me, you = rng.choice((("Customer", "Agent"), ("Customer", "Support"), ("Client", "Agent"), ("Customer", "Shop")))
        stated, texts, marks = self.spread(self.pieces(), count), [], []
        for sentence in self.again():
            stated[rng.randrange(count)].append(sentence)
        for number, matter in enumerate(stated):
            states = number == 0 or any(piece in self.kinds for piece in matter)
            who = "customer" if states or self.chance(0.6) else "agent"
            body = self.talk(who, rng.randint(low, high))
            if who == "agent" and self.chance(0.4):
                body.insert(0, self.pick(self.book.agent_lines))
            for piece in matter:
                body.insert(rng.randint(0, len(body)), piece)
            body = body or self.talk(who, 1)
            if number == 0 and self.chance(0.5):
                body.insert(0, self.pick(self.book.greetings))
            name = me if who == "customer" else you
            text, sentences = unmark(fill(f"{name}: " + " ".join(self.dress(piece) for piece in body), self.slot))
            texts.append(text)
            marks.append(sentences)
        truth = Message("", self.sentiment, self.topic, self.key[2], self.request, self.order, self.product, self.plain_amount)
        return Thread(texts, marks, truth, self.amount)


def write(seed: str, side: int, fewest: int = 3, most: int = 60, wordiness=WORDINESS) -> Thread:
    """The thread of a seed, of `fewest` to `most` messages."""
    rng = random.Random(f"thread-{seed}")
    writer = ThreadWriter(rng, side)
    return writer.thread(rng.randint(fewest, most), wordiness)
