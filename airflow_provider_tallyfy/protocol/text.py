"""How a text that came from elsewhere is shown."""

from __future__ import annotations


def one_line(text: str) -> str:
    """Return the text in one line without control characters, so that it cannot pass for a log line of its own."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())
