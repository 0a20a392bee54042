"""How a verdict travels from the triggerer to the worker: as plain JSON in the trigger's event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_tallyfy import exceptions
from airflow_provider_tallyfy.protocol.payload import sanitize_payload
from airflow_provider_tallyfy.waiting.next_task import NextTaskCondition
from airflow_provider_tallyfy.waiting.outcomes import Denied, Final, Met, Pending, Skipped, Unreachable


def to_event(verdict: Final | Pending[Any]) -> dict[str, Any]:
    """Return the event that tells a verdict."""
    event: dict[str, Any] = sanitize_payload(_event(verdict))
    return event


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
