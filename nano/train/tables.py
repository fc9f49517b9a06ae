"""Reads the tables in `data/`. A mistake in one is a `TableError` that names the file and the place."""

import random
import tomllib
from pathlib import Path

from grammar import SLOT, expand

FOLDER = Path(__file__).resolve().parent / "data"
SIDES = ["train", "held"]


class TableError(ValueError):
    """A table that cannot be used: where it is, and what is wrong."""


def read(name: str, keys: list[str]) -> dict:
    """The tables of a file, which has exactly these keys."""
    try:
        tables = tomllib.loads((FOLDER / name).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise TableError(f"{name}: {error}") from None
    return keyed(name, tables, keys)


def keyed(where: str, table, keys: list[str]) -> dict:
    """`table`, a table with exactly these keys."""
    if not isinstance(table, dict):
        raise TableError(f"{where}: must be a table with the keys {', '.join(keys)}")
    for what, names in (("lacks", set(keys) - set(table)), ("must not have", set(table) - set(keys))):
        if names:
            raise TableError(f"{where}: {what} {', '.join(sorted(names))}")
    return table


def texts(where: str, value, weighted: bool = False) -> list[str]:
    """`value`, a list of texts; only in a `weighted` list may one be empty or stand twice."""
    if not isinstance(value, list) or not value or not all(isinstance(entry, str) for entry in value):
        raise TableError(f"{where}: must be a list of texts with one entry at least")
    for at, entry in enumerate(value):
        if not weighted and (entry != entry.strip() or not entry):
            raise TableError(f"{where}: an empty entry, or a space at an end: {entry!r}")
        if not weighted and entry in value[:at]:
            raise TableError(f"{where}: stands twice: {entry!r}")
    return value


def sides(where: str, table, extra: tuple[str, ...] = ()) -> tuple[list[str], ...]:
    """The lists of a table with the two sides of the split (and `extra` lists), which share no entry."""
    lists = [texts(f"{where}.{key}", keyed(where, table, [*SIDES, *extra])[key]) for key in (*SIDES, *extra)]
    if shared := set(lists[0]) & set(lists[1]):
        raise TableError(f"{where}: on both sides: {', '.join(sorted(shared))}")
    return tuple(lists)


def patterns(where: str, value, must: set[str] = frozenset(), may: set[str] = frozenset()) -> list[str]:
    """`value`, a list of patterns: each can be expanded, holds the slots `must` and no others than these and `may`."""
    for pattern in texts(where, value):
        try:
            held = set(SLOT.findall(expand(pattern, random.Random(0))))
        except ValueError as error:
            raise TableError(f"{where}: {error}") from None
        unknown = set(SLOT.findall(pattern)) - must - may
        if missing := must - held or unknown:
            what = "lacks" if missing is not unknown else "must not hold"
            raise TableError(f"{where}: {what} {', '.join(f'{{{slot}}}' for slot in sorted(missing))}: {pattern!r}")
    return value
