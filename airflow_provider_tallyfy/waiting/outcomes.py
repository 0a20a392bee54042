"""
What a poll means for a wait: its outcome.

A condition evaluates what a run shows (:class:`Condition`). Whether that is enough to end the wait is decided in
:mod:`~airflow_provider_tallyfy.waiting.evidence`, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Protocol, Self, TypeVar

from airflow_provider_tallyfy.exceptions import TallyfyError
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

    def evaluate(self, snapshot: RunSnapshot) -> Pending[Self] | Met | Unreachable | Skipped:
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
Outcome = Final | Pending[C] | PollFailed | Unconfirmed
"""What a poll means for a wait."""
