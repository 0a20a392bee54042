"""How a text or a value that came from elsewhere is shown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from numbers import Number
from typing import Any

MOST_SHOWN = 60
MOST_LISTED = 50


def one_line(text: str) -> str:
    """Return the text in one line without control characters, so that it cannot pass for a log line of its own."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def shortened(text: str, most: int = MOST_SHOWN) -> str:
    """Return the text in one line, cut where it is longer than ``most`` characters."""
    # What is cut away need not be looked at: a text may be very long.
    line = one_line(text[: 4 * most])
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[:most]}…"


def quoted(text: str) -> str:
    """Return the text in quotation marks, in one line and not too long."""
    return f"'{shortened(text)}'"


def described(value: Any) -> str:
    """Return what kind of value it is, and a text itself where it is short; never all of a long one."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return f"the text {quoted(value)}" if len(value) <= MOST_SHOWN else f"{len(value):,} characters"
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
    shown = ", ".join(names[:MOST_LISTED])
    return shown if len(names) <= MOST_LISTED else f"{shown} and {len(names) - MOST_LISTED} more"
