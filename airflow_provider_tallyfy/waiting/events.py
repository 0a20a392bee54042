"""How a verdict travels from the triggerer to the worker: as plain JSON in the trigger's event."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from airflow_provider_tallyfy import exceptions
from airflow_provider_tallyfy.waiting.next_task import NextTaskCondition
from airflow_provider_tallyfy.waiting.outcomes import Denied, Final, Met, Pending, Skipped, Unreachable

#: As JSON writes it: behind an even number of backslashes, or it is the text of six characters.
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


def to_event(verdict: Final | Pending[Any]) -> dict[str, Any]:
    """Return the event that tells a verdict."""
    return fit_to_travel(_event(verdict))


def fit_to_travel(values: dict[str, Any]) -> dict[str, Any]:
    """
    Return the values as the triggerer can send them.

    Airflow sends them as msgpack and keeps them as JSON. A value that does not fit (half a surrogate pair, a NUL, which
    PostgreSQL's JSON cannot hold, a number above 64 bits, NaN) would end the whole triggerer, with everybody's waits;
    it is sent in the nearest form that fits.
    """
    text = json.dumps(values, ensure_ascii=False).encode("utf-8", "replace")
    text = _NUL.sub(rb"\1?", text)
    fitting: dict[str, Any] = json.loads(text, parse_int=_integer, parse_constant=lambda _: None)
    return fitting


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 19 else float(digits)


def _event(verdict: Final | Pending[Any]) -> dict[str, Any]:
    if isinstance(verdict, Met):
        return {"outcome": "over", "result": verdict.result}
    if isinstance(verdict, Unreachable):
        return {"outcome": "lost", "reason": verdict.reason}
    if isinstance(verdict, Skipped):
        return {"outcome": "skipped", "reason": verdict.reason}
    if isinstance(verdict, Pending):
        return {"outcome": "waiting", "condition": verdict.condition.as_json()}
    return {"outcome": "refused", "error": type(verdict.error).__name__, "message": str(verdict.error)}


def from_event(event: Mapping[str, Any] | None) -> Final | Pending[NextTaskCondition]:
    """
    Return the verdict that an event tells.

    :raises TallyfyError: where it is no event of :func:`to_event`, as after a change of the provider's version.
    """
    match event:
        case {"outcome": "over", "result": result}:
            return Met(result)
        case {"outcome": "lost", "reason": reason}:
            return Unreachable(reason)
        case {"outcome": "skipped", "reason": reason}:
            return Skipped(reason)
        case {"outcome": "waiting", "condition": {"from_task_id": str(from_task_id)}}:
            return Pending(NextTaskCondition(from_task_id))
        case {"outcome": "refused", "error": name, "message": message}:
            error_class = getattr(exceptions, name, exceptions.TallyfyError)
            return Denied(error_class(message))
    raise exceptions.TallyfyError(
        f"The trigger sent an event that is not understood, of type {type(event).__name__}. Clear the task."
    )
