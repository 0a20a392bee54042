"""Values made fit for Airflow: for XComs, and for the events that triggers send."""

from __future__ import annotations

from math import isfinite
from typing import Any

# What msgpack carries; JSON readers in other languages take no more either.
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1


def sanitize_payload(value: Any) -> Any:
    """
    Return a JSON value with everything that Airflow cannot send or store replaced by the nearest thing it can.

    Airflow sends events and XComs as msgpack and JSON, and stores them as PostgreSQL's JSONB. Half a surrogate pair
    and NUL, which JSONB refuses, become ``?``; an integer that does not fit 64 bits becomes its digits as text; NaN
    and infinity become ``None``. Objects of any other class are returned as they are.
    """
    kind = type(value)
    if kind is str:
        return _sanitize_text(value)
    if kind is int:
        return value if _MIN_INTEGER <= value <= _MAX_INTEGER else str(value)
    if kind is float:
        return value if isfinite(value) else None
    if kind is dict:
        return {sanitize_payload(key): sanitize_payload(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind(map(sanitize_payload, value))
    return value


def _sanitize_text(text: str) -> str:
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text.replace("\0", "?")
