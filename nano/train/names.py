"""Names and numbers: products put together from parts, order numbers, amounts, people, places.

Invented names (brands, surnames) belong to the training or to the held-out side by a checksum of the
name, listed words by the list they stand in, so no held-out name can occur in a training text.
"""

import random
import re
import string
import zlib

import tables

FILE = "names.toml"
_file = tables.read(FILE, ["days", "months", "small_numbers", "endings", "syllables", "first_names", "cities", "streets", "adjectives", "nouns"])
_syllables = tables.keyed(f"{FILE}: syllables", _file["syllables"], ["onsets", "vowels", "codas"])
DAYS, MONTHS, SMALL, ENDINGS = (tables.texts(f"{FILE}: {key}", _file[key]) for key in ("days", "months", "small_numbers", "endings"))
ONSETS, VOWELS, CODAS = (tables.texts(f"{FILE}: syllables.{key}", _syllables[key], weighted=True) for key in ("onsets", "vowels", "codas"))
# Lists by side of the split.
FIRST_NAMES, CITIES, STREETS = (tables.sides(f"{FILE}: {key}", _file[key]) for key in ("first_names", "cities", "streets"))
# The last of these are further words that only training uses.
*ADJECTIVES, TRAIN_ADJECTIVES = tables.sides(f"{FILE}: adjectives", _file["adjectives"], ("further",))
*NOUNS, TRAIN_NOUNS = tables.sides(f"{FILE}: nouns", _file["nouns"], ("further",))
# Every word of goods that training shows.
GOODS = {word for listed in (ADJECTIVES[0], NOUNS[0], TRAIN_ADJECTIVES, TRAIN_NOUNS) for entry in listed for word in re.split(r"\W+", entry.lower())}

# The sides of the split; fresh patterns go with held-out names.
TRAIN, HELD, FRESH = 0, 1, 2


def side_of(name: str) -> int:
    """The side an invented name belongs to: one in eight is held out."""
    return HELD if zlib.crc32(name.lower().encode()) % 8 == 0 else TRAIN


def invented(rng: random.Random, side: int) -> str:
    """An invented name of one to three syllables on the given side of the split."""
    while True:
        syllables = rng.choices((1, 2, 3), (1, 6, 3))[0]
        name = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(syllables))
        if 4 <= len(name) <= 11 and side_of(name) == side:
            return name.capitalize()


def brand(rng: random.Random, side: int) -> str:
    """A brand: an invented word, now and then in capitals or with a second capital inside."""
    name, style = invented(rng, side), rng.random()
    if style < 0.06 and len(name) <= 6:
        return name.upper()
    return name[:3] + name[3:].capitalize() if style < 0.10 else name


def model_code(rng: random.Random) -> str:
    """A model code such as X200, K-35 or 4100."""
    letters = "".join(rng.choices(string.ascii_uppercase, k=rng.choice((0, 1, 1, 2))))
    digits = "".join(rng.choices(string.digits, k=rng.choice((1, 2, 3, 3, 4)) if letters else rng.choice((3, 4))))
    return letters + (rng.choice(("", "-")) if letters else "") + digits


def product(rng: random.Random, side: int) -> str:
    """A product: [brand] [adjective] noun [model code], in the order shops write them.

    On the held-out side about one noun and one adjective in four are words that training never shows. On the training
    side one in three behind a brand is invented, so that the whole word has to be copied and none can be known, and more have no brand.
    """
    def pick(lists, further):
        if side == HELD:
            return rng.choice(lists[HELD] if rng.random() < 0.25 else lists[TRAIN])
        kind = rng.random()
        known = rng.choice(further if kind < 0.7 else lists[TRAIN])
        if kind > (0.35 if branded else 0.2):
            return known
        word = invented(rng, side).lower()
        word += rng.choice(ENDINGS) if rng.random() < 0.5 else ""
        return f"{word} {known.split()[-1]}" if lists is NOUNS and rng.random() < 0.3 else word

    parts = []
    branded = rng.random() < (0.7 if side == TRAIN else 0.85)
    if branded:
        parts.append(brand(rng, side))
    coded = branded and rng.random() < 0.25
    if coded and rng.random() < 0.5:
        parts.append(model_code(rng))
        coded = False
    if rng.random() < (0.5 if branded else 0.8):
        parts.append(pick(ADJECTIVES, TRAIN_ADJECTIVES))
    parts.append(pick(NOUNS, TRAIN_NOUNS))
    if coded:
        parts.append(model_code(rng))
    return " ".join(parts)


def strange_word(rng: random.Random) -> str:
    """A word that training puts where it has no business: of goods, or invented."""
    lists = (NOUNS[TRAIN], TRAIN_NOUNS, ADJECTIVES[TRAIN], TRAIN_ADJECTIVES)
    return invented(rng, TRAIN).lower() + rng.choice(("", *ENDINGS)) if rng.random() < 0.3 else rng.choice(rng.choice(lists))


def order_number(rng: random.Random) -> str:
    """An order number in one of many shapes: digits, letters and digits, groups, dates."""
    def digits(low, high):
        return "".join(rng.choices(string.digits, k=rng.randint(low, high)))

    def letters(low, high):
        return "".join(rng.choices(string.ascii_uppercase, k=rng.randint(low, high)))

    shape = rng.randrange(10)
    if shape <= 2:
        return digits(5, 10)
    if shape == 3:
        return f"{letters(1, 3)}-{digits(4, 8)}"
    if shape == 4:
        return f"{letters(1, 3)}{digits(4, 8)}"
    if shape == 5:
        return f"{digits(2, 4)}-{digits(4, 7)}"
    if shape == 6:
        return f"{rng.choice(('ORD', 'PO', 'SO', 'WEB', letters(2, 3)))}-{digits(4, 6)}-{letters(1, 2)}"
    if shape == 7:
        return f"{digits(3, 3)}-{digits(7, 7)}-{digits(3, 4)}"
    if shape == 8:
        return "".join(rng.choice(string.ascii_uppercase + string.digits * 2) for _ in range(rng.randint(6, 9))) + digits(1, 1)
    return f"{rng.randint(2019, 2029)}/{digits(3, 6)}"


def amount(rng: random.Random) -> tuple[str, str]:
    """An amount as (what a customer writes, its plain decimal number)."""
    whole = rng.choice((rng.randint(3, 99), rng.randint(10, 999), rng.randint(100, 4999)))
    cents = rng.choice((None, "00", "50", "90", "95", "99", f"{rng.randrange(100):02}", f"{rng.randrange(100):02}"))
    plain = str(whole) if cents is None else f"{whole}.{cents}"
    written = f"{whole:,}" if whole >= 1000 and rng.random() < 0.6 else str(whole)
    written += "" if cents is None else "." + cents
    form = rng.choice(("${}", "${}", "€{}", "£{}", "{} EUR", "{} euros", "{} dollars", "EUR {}", "{} €", "USD {}", "{} pounds"))
    return form.format(written), plain


def listed(names, rng: random.Random, side: int) -> str:
    """One of listed names; on the training side now and then an invented one, as not every strange name is a product."""
    return invented(rng, side) if side == TRAIN and rng.random() < 0.3 else rng.choice(names[side])


def person(rng: random.Random, side: int) -> str:
    """A first name and, mostly, an invented surname."""
    first = listed(FIRST_NAMES, rng, side)
    return first if rng.random() < 0.3 else f"{first} {invented(rng, side)}"


def phone(rng: random.Random) -> str:
    """A telephone number."""
    groups = ["".join(rng.choices(string.digits, k=rng.randint(3, 4))) for _ in range(rng.randint(2, 3))]
    return rng.choice(("0", "+44 ", "+1 ", "")) + rng.choice((" ", "-", "")).join(groups)


def code(rng: random.Random) -> str:
    """A number that is no order number: a tracking code, a customer number, a postcode."""
    return rng.choice((order_number(rng), "".join(rng.choices(string.digits, k=rng.randint(4, 12)))))
