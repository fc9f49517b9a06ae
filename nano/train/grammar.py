"""Sentence patterns: `(a|b)` choices are expanded, `{slot}`s filled, typing errors put into the rest."""

import random
import re

# An innermost choice; its options may hold brackets that are no choice themselves, as in "(: {s}| ({s})|)".
CHOICE = re.compile(r"\(((?:[^()]|\([^()|]*\))*\|(?:[^()]|\([^()|]*\))*)\)")
SLOT = re.compile(r"\{(\w+)\}")


def expand(pattern: str, rng: random.Random) -> str:
    """One reading of a pattern: every choice made (innermost first), slots left in place. A `|` in no choice is a ValueError."""
    while match := CHOICE.search(pattern):
        pattern = pattern[: match.start()] + rng.choice(match.group(1).split("|")) + pattern[match.end():]
    if "|" in pattern:
        raise ValueError(f"a choice that cannot be made: {pattern}")
    return re.sub(r" +([,;?:]|\.(?=\s|$))", r"\1", re.sub(r"  +", " ", pattern.replace(" ?", " "))).strip()


def readings(pattern: str) -> set[str]:
    """All readings of a pattern, for the check that the two sides of the split share none."""
    match = CHOICE.search(pattern)
    if match is None:
        return {expand(pattern, random.Random(0))}
    head, tail = pattern[: match.start()], pattern[match.end():]
    return set().union(*(readings(head + option + tail) for option in match.group(1).split("|")))


def fill(text: str, slots) -> str:
    """`text` with each `{name}` replaced by `slots(name)`."""
    return SLOT.sub(lambda match: slots(match.group(1)), text)


def capitalise(text: str) -> str:
    """`text` with its first letter in upper case (a slot at the start is left alone)."""
    return text[:1].upper() + text[1:]


def sentence(text: str, rng: random.Random, casual: bool) -> str:
    """`text` as a sentence: capital letter and full stop, both left out now and then in casual writing."""
    if not (casual and rng.random() < 0.4):
        text = capitalise(text)
    if text[-1:] in ".!?,":
        return text
    return text + ("" if casual and rng.random() < 0.15 else rng.choices((".", "!"), (6, 1))[0])


SMALL_WORDS = set("a an the my our your this that is was it i we you me us have has had for of to in on with from by so and very".split())


def shorten(text: str, rng: random.Random) -> str:
    """`text` as somebody in a hurry writes it: without some of its small words; slots stay."""
    return " ".join(word for word in text.split(" ") if word.lower() not in SMALL_WORDS or rng.random() < 0.6) or text


def strew(text: str, word: str, rng: random.Random, keep: bool) -> str:
    """`text` with `word` before one of its longer words or, unless `keep`, now and then in its place; slots stay."""
    found = list(re.finditer(r"(?<![{\w])[a-z]{4,}(?![}\w])", text))
    if not found:
        return text
    start, end = rng.choice(found).span()
    kept = " " + text[start:end] if keep or rng.random() < 0.5 else ""
    return text[:start] + word + kept + text[end:]


NEGATION = re.compile(r"\b(not|no|never|nothing|nobody|without|cannot|\w+n't|anything but)\b", re.I)


def thin(text: str, rng: random.Random) -> str:
    """`text` without a fifth of its words, negations and slots apart: what is left must still tell what it is about."""
    words = text.split()
    left = [word for word in words if rng.random() < 0.8 or "{" in word or NEGATION.search(word)]
    return " ".join(left if len(left) > 3 else words)


def misspell(text: str, rng: random.Random, rate: float) -> str:
    """Typing errors in about `rate` of the words of `text`; slots, short words and words with digits stay."""
    return re.sub(r"(?<![{\w])[A-Za-z']{4,}(?![}\w])",
                  lambda match: misspell_word(match.group(), rng) if rng.random() < rate else match.group(), text)


def misspell_word(word: str, rng: random.Random) -> str:
    """`word` with two letters swapped, one dropped, one doubled, or its apostrophe gone."""
    if "'" in word:
        return word.replace("'", "")
    at = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(3)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2:]
    return word[:at] + word[at + 1:] if kind == 1 else word[:at] + word[at] + word[at:]
