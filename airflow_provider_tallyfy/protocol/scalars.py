"""
Plain Python values as Tallyfy stores them: numbers, booleans, dates and times as text.

A value that cannot be written in full is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set
from datetime import UTC, date, datetime
from decimal import Decimal
from math import isfinite
from numbers import Integral
from typing import Any, TypeGuard

from airflow_provider_tallyfy.protocol.formatting import described
from airflow_provider_tallyfy.protocol.validation import InvalidValueError

# No field has a number with more digits.
_MAX_DIGITS = 200
# Python reads more than Tallyfy documents: weeks, and dates without hyphens.
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d){0,2})?)?", re.ASCII)


def plain_text(value: Any) -> str:
    """
    Return the text that a plain value is written as.

    :raises InvalidValueError: it is no text, number, boolean or date, or has characters that cannot be sent.
    """
    match value:
        case str():
            text = str.__str__(value)
        case bool():
            text = "true" if value else "false"
        case datetime() | date() if value == value:  # not pandas' NaT
            text = value.isoformat()
        case Decimal() if value.is_finite() and abs(value.adjusted()) < _MAX_DIGITS:
            text = format(value, "f")
        case float() if isfinite(value):
            text = float.__repr__(value)
        case Integral() if abs(int(value)) < 10**_MAX_DIGITS:
            text = str(int(value))
        case float() | Decimal() | Integral():
            raise InvalidValueError("it is a number that cannot be written in full")
        case _:
            raise InvalidValueError(f"a text was expected, not {described(value)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidValueError(
            "it contains characters that cannot be sent (half of a surrogate pair)"
        ) from None
    return text


def format_datetime(value: date | datetime | str) -> str:
    """
    Return a date, or a date with a time, as Tallyfy takes it: ISO 8601, in UTC.

    Tallyfy drops an offset and takes the time for UTC (its MCP server, ``utils/date_utils.py``), so a time with another
    offset is converted. A time without one is in UTC. A ``date`` is the midnight of UTC at which it begins, as in the
    example of page "Types of form fields". A text without an offset, or with ``Z``, is sent as it is.

    :raises InvalidValueError: it is no date, or no such date or time exists.
    """
    if isinstance(value, str):
        text = value.strip()
        try:
            value = datetime.fromisoformat(text if _DATE.fullmatch(text) else "")
        except ValueError:
            raise InvalidValueError(
                f"a date is written 2026-01-31 or 2026-01-31T12:00:00Z (ISO 8601), not {described(text)}"
            ) from None
        if value.tzinfo is None or text.endswith("Z"):
            return text
    if not isinstance(value, date) or value != value:
        raise InvalidValueError(f"a date was expected, not {described(value)}")
    try:
        return _in_utc(value)
    except OverflowError:
        raise InvalidValueError("it is a date outside of the years 1 to 9999") from None


def _in_utc(value: date | datetime) -> str:
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    in_utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if value.tzinfo and in_utc.astimezone(value.tzinfo).replace(tzinfo=None) != value.replace(tzinfo=None):
        raise InvalidValueError("it is a time that does not exist: clocks are put forward over it")
    return datetime.isoformat(in_utc.replace(tzinfo=None), timespec="milliseconds") + "Z"


def is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    """Return whether a value is a list, a tuple or the like, and no text."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def items_of(value: Any) -> Iterable[Any]:
    """Return the items of a list or a set; any other value is the only item."""
    return value if is_list(value) or isinstance(value, Set) else (value,)


def parse_bool(value: bool | str | None, name: str) -> bool | None:
    """
    Return a boolean that a template may have turned into text; ``None`` for an empty value.

    :param name: the name of the parameter, for the error.
    :raises ValueError: it is anything else.
    """
    known = {"true": True, "false": False, "none": None, "": None}
    text = str(value).strip().casefold()
    if text not in known or not (value is None or isinstance(value, (bool, str))):
        raise ValueError(f"{name} must be True or False, but is {described(value)}.")
    return known[text]
