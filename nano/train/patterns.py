"""The sentence patterns: issues (`data/issues.toml`), the sentences around them (`data/frames.toml`), and the third side
of both (`data/fresh.toml`)."""

from dataclasses import dataclass, fields

import names
import tables

# Which facts a sentence can carry: o order number, p product, a amount.
FACTS = ["o", "p", "a", "op", "oa", "pa", "opa"]
# The slots that any pattern may hold.
SLOTS = {"n", "day", "month", "year", "city", "street", "who", "phone", "email"}
# The slots that the patterns of a list hold beside these: always, or where they like.
MUST = {"contrasts": {"aside", "main"}, "distractors.amount": {"a2"}, "distractors.product": {"p2"}} | {f"facts.{kind}": set(kind) for kind in FACTS}
MAY = {"issues": {"it"}, "closers": {"name"}, "distractors.number": {"x"}}


@dataclass
class Book:
    """The patterns of one side of the split; issues are named by their phrase, asides are (topic, pattern)."""

    issues: dict[str, list[str]]
    facts: dict[str, list[str]]
    requests: dict[str, list[str]]
    feelings: dict[str, list[str]]
    asides: dict[str, list[tuple[str, str]]]
    distractors: dict[str, list[str]]
    greetings: list[str]
    closers: list[str]
    contrasts: list[str]
    background: list[str]
    agent_lines: list[str]
    thread_fillers: list[str]

    def all(self) -> list[str]:
        """Every pattern."""
        found = []
        for field in fields(self):
            table = getattr(self, field.name)
            for patterns in table.values() if isinstance(table, dict) else [table]:
                found += [pattern for _, pattern in patterns] if field.name == "asides" else patterns
        return found


BOOK = [field.name for field in fields(Book)]


def book(listed: dict, keys: dict[str, list[str]], side: str = "", file: str = "") -> Book:
    """The book of `listed` tables, checked. `keys` are those that the tables of several lists must have; `side` and `file`,
    if all tables are of one, are where a mistake is."""
    def place(name: str) -> str:
        return f"{file or ('issues.toml' if name.startswith('issues') else 'frames.toml')}: {name}{side and '.' + side}"

    def one(name: str, value):
        if name.startswith("asides."):
            if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 and pair[0] in TOPICS for pair in value):
                raise tables.TableError(f"{place(name)}: must be a list of [topic, pattern]")
            tables.patterns(place(name), [pattern for _, pattern in value], may=SLOTS)
            return [(topic, pattern) for topic, pattern in value]
        group = name.split(".")[0]
        return tables.patterns(place(name), value, MUST.get(name, set()), SLOTS | MAY.get(name, MAY.get(group, set())))

    def table(name: str):
        if name not in keys:
            return one(name, listed[name])
        return {key: one(f"{name}.{key}", value) for key, value in tables.keyed(place(name), listed[name], keys[name]).items()}

    return Book(**{name: table(name) for name in BOOK})


def half(table, side: str):
    """One side of nested tables whose innermost hold both."""
    if not isinstance(table, dict):
        raise tables.TableError(f"a table with {' and '.join(tables.SIDES)} is missing around {str(table)[:60]}")
    return table[side] if sorted(table) == sorted(tables.SIDES) else {key: half(inner, side) for key, inner in table.items()}


_issues = tables.read("issues.toml", ["topics", "sentiments", "issues"])
_frames = tables.read("frames.toml", [name for name in BOOK if name != "issues"])
TOPICS = tables.texts("issues.toml: topics", _issues["topics"])
SENTIMENTS = tables.texts("issues.toml: sentiments", _issues["sentiments"])
# What a message can be about: (topic, sentiment, phrase).
ISSUES = [(topic, sentiment, phrase)
          for topic, by_sentiment in tables.keyed("issues.toml: issues", _issues["issues"], TOPICS).items()
          for sentiment, phrases in tables.keyed(f"issues.toml: issues.{topic}", by_sentiment, SENTIMENTS).items()
          for phrase in phrases]
_phrases = {phrase: _issues["issues"][topic][sentiment][phrase] for topic, sentiment, phrase in ISSUES}
if len(_phrases) < len(ISSUES):
    raise tables.TableError("issues.toml: a phrase names two issues")
KEYS = {"issues": list(_phrases), "facts": FACTS, "requests": list(_frames["requests"]), "feelings": SENTIMENTS,
        "asides": ["positive", "negative"], "distractors": ["number", "amount", "product"]}
BOOKS = {
    names.TRAIN: book(half(_frames | {"issues": _phrases}, "train"), KEYS, side="train"),
    names.HELD: book(half(_frames | {"issues": _phrases}, "held"), KEYS, side="held"),
    names.FRESH: book(tables.read("fresh.toml", BOOK), KEYS, file="fresh.toml"),
}
