"""Texts and values from elsewhere, formatted for messages and logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from numbers import Number
from typing import Any
from unicodedata import normalize

MAX_SHOWN = 60
MAX_LISTED = 50


def one_line(text: str) -> str:
    """Return the text in one line without control characters, so that it cannot pass for a log line of its own."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def shortened(text: str, limit: int = MAX_SHOWN) -> str:
    """Return the text in one line, cut if it is longer than ``limit`` characters."""
    # What is cut away is not read: a text may be very long.
    line = one_line(text[: 4 * limit])
    return line if len(line) <= limit and len(text) <= 4 * limit else f"{line[:limit]}…"


def quoted(text: str) -> str:
    """Return the text in quotation marks, in one line and not too long."""
    return f"'{shortened(text)}'"


def quoter(texts: Iterable[str]) -> Callable[[str], str]:
    r"""
    Return a function that quotes one of these texts so that it can be distinguished from the others.

    Texts that differ in spaces, in invisible characters or in the way an accent is encoded are quoted with escapes,
    such as ``'Gold\xa0'``.
    """
    similar = Counter(map(_visible, set(texts)))
    return lambda text: _escaped(text) if similar[_visible(text)] > 1 else quoted(text)


def described(value: Any) -> str:
    """Return what kind of value it is, and a text itself if it is short; never all of a long one."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            if len(value) > MAX_SHOWN:
                return f"{len(value):,} characters"
            return f"the text {quoted(value) if value.isprintable() else _escaped(value)}"
        case Number():
            return "a number"
        case Mapping():
            return f"a mapping of {len(value)}"
        case bytes() | bytearray():
            return "bytes"
        case Collection():
            return f"a {type(value).__name__} of {len(value)}"
    return f"of type {type(value).__name__}"


def listed(names: Iterable[str]) -> str:
    """Return the names with commas between them, the first fifty and how many more there are."""
    names = list(names)
    shown = ", ".join(names[:MAX_LISTED])
    return shown if len(names) <= MAX_LISTED else f"{shown} and {len(names) - MAX_LISTED} more"


def _visible(text: str) -> str:
    return "".join(normalize("NFKC", shortened(text)).split())


def _escaped(text: str) -> str:
    escaped = ascii(text[: 4 * MAX_SHOWN])[1:-1]
    return f"'{escaped}'" if len(text) <= 4 * MAX_SHOWN else f"'{escaped}…'"
