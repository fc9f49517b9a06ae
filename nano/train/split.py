"""Checks that the held-out rows are held out: python split.py [--training 20000] [--held 2000].

1. No reading of a held-out pattern is a reading of a training pattern.
2. No held-out reading of six words or more, and no held-out name, occurs in a training text.
3. No held-out message, and no (brand, noun) of one, occurs in a training text.
It also lists the words of the held-out patterns that no training pattern has: there should be few, as a
model of this size learns no words but those it is shown.
"""

import argparse
import random
import re
import sys

import messages
import names
from corpus import turns
from grammar import SLOT, readings
from lessons import thread_turns
from patterns import BOOKS
from threads import TALK


def plain(text: str) -> str:
    """`text` in lower case with single spaces and without punctuation."""
    return " ".join(re.findall(r"[\w{}']+", text.lower()))


def words(patterns) -> set[str]:
    return {word for pattern in patterns for reading in readings(pattern) for word in re.findall(r"[a-z']+", SLOT.sub("", reading).lower())}


def patterns(side: int) -> list[str]:
    """The patterns of a side: of messages, and of what threads say beside them."""
    return BOOKS[side].all() + [pattern for lists in TALK.values() for pattern in lists[side]]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--training", type=int, default=20_000)
    parser.add_argument("--held", type=int, default=2_000)
    args = parser.parse_args()
    faults = []

    train, held = ({plain(reading) for pattern in patterns(side) for reading in readings(pattern)} for side in (names.TRAIN, names.HELD))
    faults += [f"pattern on both sides: {reading}" for reading in train & held]
    print(f"{len(train):,} training readings, {len(held):,} held-out readings, {len(train & held)} shared")

    texts = [plain(turns(index)[0][0].prompt) for index in random.Random(1).sample(range(10**7, 2 * 10**7), args.training)]
    texts += [plain(thread_turns(index)[0][0].prompt) for index in random.Random(2).sample(range(2 * 10**7, 3 * 10**7), args.training // 10)]
    corpus = "\n".join(texts)
    pieces = {piece.strip() for reading in held for piece in SLOT.split(reading)[::2] if len(piece.split()) >= 6}
    faults += [f"held-out text in training: {piece}" for piece in pieces if piece in corpus]
    vocabulary = set(re.findall(r"\w+", corpus))
    listed = [names.FIRST_NAMES, names.CITIES, names.STREETS, names.NOUNS, names.ADJECTIVES]
    heldout = {plain(name) for _, group in listed for name in group}
    faults += [f"held-out name in training: {name}" for name in heldout if (name in vocabulary if " " not in name else f" {name} " in corpus)]

    rows = [messages.write(f"example-{index}", names.HELD) for index in range(args.held)]
    known = set(texts)
    faults += [f"held-out message in training: {row.text}" for row in rows if plain(row.text) in known]
    products = {plain(row.product) for row in rows if row.product and row.product[0].isupper() and row.product.split()[0] not in sum(names.ADJECTIVES, [])}
    faults += [f"held-out product in training: {product}" for product in products if f" {product} " in corpus]
    print(f"{len(texts):,} training texts, {len(rows):,} held-out rows, {len(products):,} of their branded products looked for")

    unseen = words(patterns(names.HELD)) - words(patterns(names.TRAIN))
    print("words of held-out patterns only:", " ".join(sorted(unseen)) or "none")
    print("\n".join(faults) or "the split holds")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
