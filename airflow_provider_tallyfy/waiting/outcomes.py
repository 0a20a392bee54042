"""
What a poll means for a wait: its outcome.

A condition evaluates what a run shows (:class:`Condition`). Whether that is enough to end the wait is decided in
:mod:`~airflow_provider_tallyfy.waiting.evidence`, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Protocol, Self, TypeVar

from airflow_provider_tallyfy import exceptions
from airflow_provider_tallyfy.exceptions import TallyfyError
from airflow_provider_tallyfy.protocol.payload import sanitize_payload
from airflow_provider_tallyfy.waiting.polls import RunSnapshot

C = TypeVar("C", bound="Condition")


@dataclass(frozen=True, slots=True)
class Pending(Generic[C]):
    """
    Not yet.

    :param condition: what to wait for from now on.
    """

    condition: C


@dataclass(frozen=True, slots=True)
class Met:
    """
    What was waited for has happened.

    :param result: what the task returns; plain JSON.
    :param happened_at: when that was, where Tallyfy says so. It does not travel to the worker.
    :param is_certain: whether one answer is enough: what it shows cannot be explained by a replica that lags.
    :param warning: what is missing in the result, as a sentence for the log.
    """

    result: dict[str, Any]
    happened_at: datetime | None = field(default=None, compare=False)
    is_certain: bool = field(default=False, compare=False)
    warning: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Unreachable:
    """
    It can never happen any more.

    :param reason: a sentence that says why.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """
    It will not happen, and the task is to be skipped for that.

    :param reason: a sentence that says why.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Denied:
    """
    Tallyfy does not let this connection poll.

    :param error: its refusal.
    """

    error: TallyfyError


@dataclass(frozen=True, slots=True)
class PollFailed:
    """
    The poll brought nothing, for a reason that may pass.

    :param error: the reason.
    """

    error: TallyfyError


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """
    The poll shows an end of the wait that is not certain yet.

    :param reason: why not, as a clause.
    :param recheck_after: seconds after which to poll again.
    """

    reason: str
    recheck_after: float


class Condition(Protocol):
    """What a wait is for."""

    @property
    def with_(self) -> tuple[str, ...]:
        """What to include when the run is read."""

    @property
    def required_tasks(self) -> tuple[str, ...]:
        """The names of tasks that have to be among those of the run, also those that a rule hides."""

    @property
    def left_task(self) -> str | None:
        """The id of the task to move on from, which is read by itself as soon as another one is next."""

    @property
    def allows_archived(self) -> bool:
        """Whether it may still be met by a run that was archived before its end."""

    def as_json(self) -> dict[str, Any]:
        """Return the condition as plain JSON, to be kept or sent."""

    def evaluate(self, snapshot: RunSnapshot) -> Evaluation[Self]:
        """
        Return what a run that is there shows.

        :raises MalformedResponseError: what it needs cannot be read.
        """

    def describe_run(self, snapshot: RunSnapshot) -> str:
        """Return one readable line about the run."""

    def describe_goal(self) -> str:
        """Return what is waited for, as the end of a sentence that begins with 'Waiting until'."""

    @staticmethod
    def describe_result(result: dict[str, Any]) -> str:
        """Return how the wait came out, as a clause, from what :class:`Met` holds."""


Final = Met | Unreachable | Skipped | Denied
"""What ends a wait."""
Evaluation = Pending[C] | Final
"""What one snapshot shows."""
Outcome = Final | Pending[C] | PollFailed | Unconfirmed
"""What a poll means for a wait."""


def to_event(outcome: Evaluation[Any]) -> dict[str, Any]:
    """Return the outcome as the event of a trigger: plain JSON, on its way to a worker."""
    name = type(outcome).__name__.lower()
    content: dict[str, Any]
    match outcome:
        case Met(result):
            content = {"result": result}
        case Unreachable(reason) | Skipped(reason):
            content = {"reason": reason}
        case Pending(condition):
            content = {"condition": condition.as_json()}
        case Denied(error):
            content = {"error": type(error).__name__, "message": str(error)}
    event: dict[str, Any] = sanitize_payload({"outcome": name, **content})
    return event


def from_event(event: Mapping[str, Any] | None, condition_class: type[C]) -> Evaluation[C]:
    """
    Return the outcome that a trigger's event tells.

    The second words for an outcome are those of triggers that fired before they had the first ones.

    :param condition_class: what was waited for.
    :raises TallyfyError: it is no event of :func:`to_event`, as after a change of the provider's version.
    """
    match event:
        case {"outcome": "met" | "over", "result": result}:
            return Met(result)
        case {"outcome": "unreachable" | "lost", "reason": reason}:
            return Unreachable(reason)
        case {"outcome": "skipped", "reason": reason}:
            return Skipped(reason)
        case {"outcome": "pending" | "waiting", "condition": Mapping() as condition}:
            return Pending(condition_class(**condition))
        case {"outcome": "denied" | "refused", "error": name, "message": message}:
            error_class = getattr(exceptions, name, TallyfyError)
            return Denied(error_class(message))
    raise TallyfyError(
        f"The trigger sent an event that is not understood, of type {type(event).__name__}. Clear the task."
    )
