"""
What a poll means for a wait.

A condition evaluates what a run shows (:class:`Condition`). Whether that is enough to end the wait is decided in
:mod:`~airflow_provider_tallyfy.waiting.evidence` only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Generic, Self, TypeVar

from airflow_provider_tallyfy import exceptions
from airflow_provider_tallyfy.exceptions import TallyfyError
from airflow_provider_tallyfy.protocol.payload import sanitize_payload
from airflow_provider_tallyfy.waiting.polls import RunSnapshot

C = TypeVar("C", bound="Condition")


@dataclass(frozen=True, slots=True)
class Pending(Generic[C]):
    """It has not happened yet. The condition says what to wait for from now on."""

    condition: C


@dataclass(frozen=True, slots=True)
class Met:
    """
    What was waited for has happened.

    :param result: what the task returns; plain JSON.
    :param happened_at: when that was, if Tallyfy says so. It is not part of the trigger's event.
    :param is_certain: whether one answer is enough, since no replica that lags would give it.
    :param fingerprint: what two reads have to agree on if one is not enough.
    :param warning: what is missing in the result, as a sentence for the log.
    """

    result: dict[str, Any]
    happened_at: datetime | None = field(default=None, compare=False)
    is_certain: bool = field(default=False, compare=False)
    fingerprint: object = field(default=None, compare=False)
    warning: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Unreachable:
    """It can never happen. The reason is a sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """It will not happen, so the task is skipped. The reason is a sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class Denied:
    """Tallyfy does not let this connection poll."""

    error: TallyfyError


@dataclass(frozen=True, slots=True)
class PollFailed:
    """The poll failed, for a reason that may pass."""

    error: TallyfyError


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """The poll would end the wait, but is not certain yet. The reason is a clause, the time is in seconds."""

    reason: str
    recheck_after: float


@dataclass(frozen=True, slots=True)
class Condition(ABC):
    """What a wait is for. Each kind is a frozen dataclass of plain values, and overrides what does not fit it."""

    @property
    def with_(self) -> tuple[str, ...]:
        """What to include when the run is read; a list of runs includes no more than this."""
        return ("next_task",)

    @property
    def required_tasks(self) -> tuple[str, ...]:
        """The names of tasks that have to be among those of the run, also those that a rule hides."""
        return ()

    @property
    def from_task_id(self) -> str | None:
        """The id of the task to move on from, which is read by itself as soon as another one is next."""
        return None

    @property
    def allows_archived(self) -> bool:
        """Whether it may still be met by a run that was archived before it was complete."""
        return False

    def as_json(self) -> dict[str, Any]:
        """Return the condition as plain values, to be kept or sent."""
        return asdict(self)

    @abstractmethod
    def evaluate(self, snapshot: RunSnapshot) -> Evaluation[Self]:
        """
        Return what a run that is there shows.

        :raises MalformedResponseError: what it needs cannot be read.
        """

    @abstractmethod
    def describe_run(self, snapshot: RunSnapshot) -> str:
        """Return one readable line about the run."""

    @abstractmethod
    def describe_goal(self) -> str:
        """Return what is waited for, as the end of a sentence that begins with 'Waiting until'."""

    @staticmethod
    @abstractmethod
    def describe_result(result: dict[str, Any]) -> str:
        """Return how the wait ended, as a clause, from what :class:`Met` holds."""


Final = Met | Unreachable | Skipped | Denied
"""What ends a wait."""
Evaluation = Pending[C] | Final
"""What one snapshot shows."""
Outcome = Final | Pending[C] | PollFailed | Unconfirmed
"""What a poll means for a wait."""


def outcome_name(outcome: Evaluation[Any]) -> str:
    """Return the name of an outcome in events and metrics."""
    return type(outcome).__name__.lower()


def name_wait(task_instance: Any) -> str | None:
    """Return what identifies the wait of a task instance, in words; ``None`` if there is none, as in ``dag.test()``."""
    if task_instance is None:
        return None
    names = ("dag_id", "run_id", "task_id", "map_index", "try_number")
    return ", ".join(f"{name} {getattr(task_instance, name, None)}" for name in names)


def to_event(outcome: Evaluation[Any], wait: str | None = None) -> dict[str, Any]:
    """
    Return the outcome as plain JSON, for the event of a trigger.

    :param wait: the name of the wait that the trigger is for.
    """
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
    if wait is not None:
        content["wait"] = wait
    event: dict[str, Any] = sanitize_payload({"outcome": outcome_name(outcome), **content})
    return event


def from_event(event: object, condition_class: type[C], wait: str | None = None) -> Evaluation[C] | None:
    """
    Return the outcome that a trigger's event carries, or ``None`` if it is about another wait or not understood.

    SQLite gives a new trigger the id of a deleted one, so Airflow may hand over the last event of that one.

    :param condition_class: what was waited for.
    :param wait: the name of the wait.
    """
    match event:
        case {"wait": other} if other != wait:
            return None
        case {"outcome": "met", "result": result}:
            return Met(result)
        case {"outcome": "unreachable", "reason": reason}:
            return Unreachable(reason)
        case {"outcome": "skipped", "reason": reason}:
            return Skipped(reason)
        case {"outcome": "pending", "condition": Mapping() as condition}:
            return Pending(condition_class(**condition))
        case {"outcome": "denied", "error": name, "message": message}:
            error_class = getattr(exceptions, name, TallyfyError)
            return Denied(error_class(message))
    return None
