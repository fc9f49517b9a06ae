"""Writes one customer message together with its truth, from a random generator and a side of the split."""

import random
import re
from dataclasses import dataclass, field

import names
from grammar import NEGATION, SLOT, capitalise, expand, fill, misspell, sentence, shorten, strew, thin
from patterns import BOOKS, FACTS, ISSUES, SENTIMENTS, TOPICS

GENERIC = ["my order", "the order", "the item", "the product", "the article", "it"]
# What a product's name does not go on with: the words of training's own sentences.
ORDINARY = sorted({word for table in (BOOKS[names.TRAIN].issues, BOOKS[names.TRAIN].facts) for patterns in table.values()
                   for pattern in patterns for word in re.findall(r"[a-z']+", SLOT.sub("", pattern))} - names.GOODS)
PRODUCT = re.compile(r"\{p2?\}(?= \w)")
# What a sentence states: the issue, a wish, which facts, or nothing that a task asks for.
KINDS = [phrase for _, _, phrase in ISSUES] + list(BOOKS[names.TRAIN].requests) + FACTS + ["other"]
# A private character for each kind, that stands behind a sentence of the kind while its message is being written.
MARKS = [chr(0xE000 + index) for index in range(len(KINDS))]
# What a summary says where the text states no issue.
NO_ISSUE = "no issue"
OPPOSITE = {"positive": "negative", "negative": "positive"}


@dataclass
class Message:
    """A message and its truth. Facts that the message does not hold are None; `amount` is a plain decimal; `sentences` are
    (where it ends in the text, what it states as an index of KINDS)."""

    text: str
    sentiment: str
    topic: str
    issue: str | None
    request: str | None
    order_number: str | None
    product: str | None
    amount: str | None
    features: list[str] = field(default_factory=list)
    sentences: list[tuple[int, int]] = field(default_factory=list)

    def summary(self) -> str:
        """The one-line summary: issue, facts, request. Only a part of a thread states no issue."""
        facts = [self.product, self.order_number and f"order {self.order_number}", self.amount and f"amount {self.amount}"]
        facts = ", ".join(fact for fact in facts if fact)
        return capitalise(self.issue or NO_ISSUE) + (": " + facts if facts else "") + ("; " + self.request if self.request else "") + "."


class Writer:
    """One message in the making: its facts, and the pieces of text that will carry them."""

    def __init__(self, rng: random.Random, side: int):
        # Fresh patterns have the names of the held-out side.
        self.rng, self.side, self.book = rng, names.TRAIN if side == names.TRAIN else names.HELD, BOOKS[side]
        self.topic = rng.choice(TOPICS)
        self.sentiment = rng.choice(SENTIMENTS)
        kinds = [key for key in ISSUES if key[:2] == (self.topic, self.sentiment)]
        self.key = rng.choice(kinds)
        self.layout = rng.choices(("short", "prose", "letter", "long", "form", "thread"), (22, 40, 12, 4, 10, 12))[0]
        self.casual = rng.random() < (0.3 if self.layout != "letter" else 0.05)
        self.error_rate = rng.choice((0.03, 0.06, 0.12)) if rng.random() < 0.25 else 0.0
        self.features = []
        # Half of training is harder than what it is measured on: hurried texts, more contrasts, wishes and facts beside the
        # point, strange words. The other half is as plain as held-out messages, or a model learns to doubt what is plain.
        self.hard = side == names.TRAIN and rng.random() < 0.5
        self.harder = 1.6 if self.hard else 1.0
        self.hurried = self.hard and rng.random() < 0.4
        self.thinned = False
        self.kinds: dict[str, str] = {}  # of clauses, but for those that state nothing
        self.draw_facts()

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def pick(self, patterns) -> str:
        """One reading of one of `patterns`."""
        return expand(self.rng.choice(patterns), self.rng)

    def draw_facts(self):
        rng, scale = self.rng, 0.45 if self.layout == "short" else 1.0
        about_goods = self.topic not in ("account", "website", "service")
        self.order = names.order_number(rng) if self.chance(0.68 * scale) else None
        named = (0.8 if about_goods else 0.5) * max(scale, 0.7) * (0.85 if self.hard else 1.0)
        self.product = names.product(rng, self.side) if self.chance(named) else None
        self.amount, self.plain_amount = names.amount(rng) if self.chance(0.55 * scale) else (None, None)
        self.pending = [fact for fact, value in zip("opa", (self.order, self.product, self.amount)) if value]
        self.request = None
        if self.chance({"negative": 0.4, "neutral": 0.12, "positive": 0.03}[self.sentiment] * scale * self.harder):
            goods_only = ("wants a refund", "wants a replacement", "wants to cancel the order")
            wishes = [w for w in self.book.requests if self.sentiment == "negative" and (about_goods or w not in goods_only)]
            self.request = rng.choice(wishes or ["wants a call back", "wants a reply by email"])

    def slot(self, name: str) -> str:
        """The text of a slot."""
        rng, side = self.rng, self.side
        match name:
            case "o": return self.order
            case "p": return self.product
            case "a": return self.amount
            case "p2": return names.product(rng, side)
            case "a2": return names.amount(rng)[0]
            case "x": return names.code(rng)
            case "n": return rng.choice(names.SMALL) if self.chance(0.7) else str(rng.randint(2, 40))
            case "day": return rng.choice(names.DAYS)
            case "month": return rng.choice(names.MONTHS)
            case "year": return str(rng.randint(1975, 2026))
            case "city": return names.listed(names.CITIES, rng, side)
            case "street": return f"{rng.randint(1, 199)} {names.listed(names.STREETS, rng, side)} {rng.choice(('Street', 'Road', 'Lane'))}"
            case "who": return names.listed(names.FIRST_NAMES, rng, side)
            case "name": return names.person(rng, side)
            case "phone": return names.phone(rng)
            case "email": return f"{rng.choice(names.FIRST_NAMES[side])}.{names.invented(rng, side)}@mail.example".lower()
        raise KeyError(name)

    def issue(self) -> str:
        """The clause that says what the message is about; it may carry the product."""
        text = self.pick(self.book.issues[self.key[2]])
        thing = self.rng.choice(GENERIC)
        if "{it}" in text and "p" in self.pending and self.chance(0.65):
            self.pending.remove("p")
            thing = self.rng.choice(("the", "my", "the", "our", "this")) + " {p}"
        text = thin(text, self.rng) if self.thinned else text
        text = text.replace("{it}", thing, 1).replace("{it}", "it")
        if self.hard and "{p}" not in text and self.chance(0.2):
            text = strew(text, names.strange_word(self.rng), self.rng, keep=True)  # not every strange word is what was ordered
        if self.sentiment in OPPOSITE and self.chance(0.16 * self.harder):
            asides = [pattern for topic, pattern in self.book.asides[OPPOSITE[self.sentiment]] if topic != self.topic]
            frame = self.pick(self.book.contrasts)
            text = frame.replace("{aside}", expand(self.rng.choice(asides), self.rng)).replace("{main}", text)
            self.features.append("contrast")
        return self.stating(self.key[2], text)

    def stating(self, kind: str, text: str) -> str:
        """`text`, remembered as one that states `kind`."""
        self.kinds[text] = kind
        return text

    def wish(self) -> list[str]:
        """The sentence that says what is wished, if anything is."""
        return [self.stating(self.request, self.pick(self.book.requests[self.request]))] if self.request else []

    def facts(self) -> list[str]:
        """Sentences for the facts that are still to be stated, in any grouping and order."""
        rng, sentences = self.rng, []
        left = self.pending[:]
        rng.shuffle(left)
        while left:
            group = left[: rng.randint(1, len(left))]
            left = left[len(group):]
            kind = "".join(fact for fact in "opa" if fact in group)
            sentences.append(self.stating(kind, self.pick(self.book.facts[kind])))
        self.pending = []
        return sentences

    def distractors(self) -> list[str]:
        """Numbers, amounts and products that are not the ones asked for."""
        def share(likely: float, fact) -> float:
            # What looks like a fact must not mean that there is one.
            return likely * self.harder * (2.0 if self.hard and fact is None else 1.0)

        shares = (("number", share(0.16, self.order)), ("amount", share(0.12, self.amount)), ("product", share(0.14, self.product)))
        kinds = [kind for kind, probability in shares if self.chance(probability)]
        self.features += [f"other {kind}" for kind in kinds]
        return [self.pick(self.book.distractors[kind]) for kind in kinds]

    def background(self, count: int) -> list[str]:
        """`count` sentences without meaning for any task, none twice before all were used."""
        patterns, deck = self.book.background, []
        for _ in range(count):
            deck = deck or self.rng.sample(patterns, len(patterns))
            text = expand(deck.pop(), self.rng)
            # A word that sounds like goods, or that nobody knows, is no fact where the sentence says nothing of an order.
            strange = self.hard and self.chance(0.35)
            yield strew(text, names.strange_word(self.rng), self.rng, keep=False) if strange else text

    def pieces(self) -> list[str]:
        """The sentences of the message in their order."""
        rng = self.rng
        issue = self.issue()
        extra = self.distractors() if self.layout != "short" else []
        feeling = [self.pick(self.book.feelings[self.sentiment])] if self.chance(0.45) else []
        count = {"short": 0, "long": rng.randint(6, 34)}.get(self.layout, rng.choice((0, 0, 0, 1, 2, 3)))
        before = self.facts() if self.chance(0.5) else []
        after = self.facts() + extra + list(self.background(count))
        rng.shuffle(after)
        cut = rng.randint(0, len(after))
        request = self.wish()
        body = before + after[:cut] + [issue] + after[cut:]
        if feeling and self.chance(0.25):
            body = feeling + body
        elif feeling:
            body.insert(rng.randint(body.index(issue) + 1, len(body)), feeling[0])
        return body + request if self.chance(0.7) else body[:1] + request + body[1:]

    def dress(self, text: str) -> str:
        """A clause as a written sentence: case, full stop, typing errors, and the mark of what it states."""
        mark = MARKS[KINDS.index(self.kinds.get(text, "other"))]
        text = shorten(text, self.rng) if self.hurried else text
        if self.hard:  # where a product's name ends must be read off any word behind it
            text = PRODUCT.sub(lambda match: f"{match.group()} {self.rng.choice(ORDINARY)}" if self.chance(0.4) else match.group(), text)
        text = sentence(text, self.rng, self.casual)
        if self.casual and self.chance(0.5):
            text = re.sub(r"\b[A-Z]\w*(?![\w}])", lambda match: match.group().lower(), text)
        elif not self.casual:
            text = re.sub(r"([.?!] )([a-z])", lambda match: match.group(1) + match.group(2).upper(), text)
        return (misspell(text, self.rng, self.error_rate) if self.error_rate else text) + mark

    def layout_thread(self, sentences: list[str]) -> str:
        """The sentences as turns of a customer, with an agent's lines between them."""
        rng = self.rng
        me, you = rng.choice((("Customer", "Agent"), ("Customer", "Support"), ("C", "A"), ("Client", "Agent")))
        lines = [f"{you}: {self.pick(self.book.agent_lines)}"] if self.chance(0.3) else []
        while sentences:
            size = rng.randint(1, 3)
            lines.append(f"{me}: " + " ".join(sentences[:size]))
            sentences = sentences[size:]
            if sentences or self.chance(0.6):
                lines.append(f"{you}: {self.pick(self.book.agent_lines)}")
        if self.chance(0.3):
            lines.append(f"{me}: {self.pick(self.book.thread_fillers)}")
        return "\n".join(lines)

    def compose(self) -> str:
        """The text with its slots still open."""
        rng = self.rng
        sentences = [self.dress(text) for text in self.pieces()]
        if self.layout == "thread":
            return self.layout_thread(sentences)
        if self.layout == "form":
            return "\n".join(sentences)
        greeting = [self.pick(self.book.greetings)] if self.layout == "letter" or (self.layout != "short" and self.chance(0.4)) else []
        closer = [self.pick(self.book.closers)] if self.layout == "letter" or (self.layout != "short" and self.chance(0.35)) else []
        if self.layout == "letter" or (self.layout == "long" and self.chance(0.6)):
            at = rng.randint(1, len(sentences))
            paragraphs = [" ".join(sentences[:at]), " ".join(sentences[at:])]
            return rng.choice(("\n", "\n\n")).join(part for part in greeting + paragraphs + closer if part)
        return " ".join(greeting + sentences + closer)

    def message(self) -> Message:
        """The finished message."""
        return self.complete(self.compose())

    def finish(self, sentences: list[str]) -> Message:
        """A message of `sentences` in any order."""
        self.rng.shuffle(sentences)
        return self.complete(" ".join(self.dress(text) for text in sentences))

    def complete(self, text: str) -> Message:
        """The message of a text whose slots are still open."""
        text, sentences = unmark(fill(text, self.slot))
        features = [self.layout] + self.features
        features += ["typing errors"] if self.error_rate else []
        features += ["negation"] if NEGATION.search(text) else []
        features += ["unseen noun"] if self.product and any(self.product.find(n) >= 0 for n in names.NOUNS[names.HELD]) else []
        return Message(text, self.sentiment, self.topic, self.key[2], self.request, self.order, self.product, self.plain_amount, features, sentences)


def unmark(marked: str) -> tuple[str, list[tuple[int, int]]]:
    """A text without its marks, and where they stood: (position, kind)."""
    text, sentences = "", []
    for part in re.split(f"([{MARKS[0]}-{MARKS[-1]}])", marked):
        if part in MARKS:
            sentences.append((len(text), MARKS.index(part)))
        else:
            text += part
    return text, sentences


def remark(seed: str, side: int) -> Message:
    """A message of a sentence or two, without facts: what it is about, what is wished, and nothing else."""
    writer = Writer(random.Random(seed), side)
    writer.pending, writer.order, writer.product, writer.amount, writer.plain_amount = [], None, None, None, None
    writer.thinned = writer.hard
    return writer.finish([writer.issue()] + writer.wish())


def note(seed: str, side: int) -> Message:
    """A message of a few sentences that state facts, often with others that are not asked for; one of them may be what it is about."""
    writer = Writer(random.Random(seed), side)
    writer.request, writer.thinned = None, writer.hard
    about = [writer.issue()] if writer.chance(0.5) else []
    return writer.finish(about + writer.facts() + writer.distractors() + list(writer.background(writer.rng.choice((0, 0, 1, 2)))))


def write(seed: str, side: int) -> Message:
    """The message of a seed, the same on every machine."""
    return Writer(random.Random(seed), side).message()
