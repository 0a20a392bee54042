"""Make values fit for Airflow: for XComs, and for the events of triggers."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from operator import is_
from typing import Any

# What msgpack carries; JSON readers in other languages take no more either.
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1
_COLLECTIONS = (list, tuple, set, frozenset)


def sanitize_payload(value: Any) -> Any:
    """
    Return a value with everything that Airflow cannot send or store replaced by the nearest thing it can.

    Airflow sends events and XComs as msgpack and JSON, and stores them as PostgreSQL's JSONB. Half a surrogate pair
    and NUL, which JSONB refuses, become ``?``; an integer that does not fit 64 bits becomes its digits as text; NaN
    and infinity become ``None``. A key that would become the same as another one gets a number. What needs no change,
    and objects of any other class, are returned as they are.
    """
    match value:
        case str():
            text = _sanitize_text(value)
            return value if text == value else text
        case int():
            return value if _MIN_INTEGER <= value <= _MAX_INTEGER else int.__repr__(value)
        case float():
            return value if isfinite(value) else None
        case Mapping():
            return _sanitize_mapping(value)
        case list() | tuple() | set() | frozenset():
            items = list(map(sanitize_payload, value))
            if all(map(is_, items, value)):
                return value
            return next(kind for kind in _COLLECTIONS if isinstance(value, kind))(items)
    return value


def _sanitize_mapping(mapping: Mapping[Any, Any]) -> Mapping[Any, Any]:
    sanitized: dict[Any, Any] = {}
    is_changed = False
    for key, item in mapping.items():
        new_key, new_item = sanitize_payload(key), sanitize_payload(item)
        is_changed = is_changed or new_key is not key or new_item is not item
        if new_key is not key:
            base, number = new_key, 1
            while new_key in sanitized or new_key in mapping:
                number += 1
                new_key = f"{base} ({number})"
        sanitized[new_key] = new_item
    return sanitized if is_changed else mapping


def _sanitize_text(text: str) -> str:
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text.replace("\0", "?")
