"""
What a look means for a wait.

The rule held here: a wait ends only on what Tallyfy itself said. A run that is archived or gone can never move on, so
that ends it (unless it was complete before: that is an end too); and so does a refusal, once whoever looks has read
the connection anew. Everything else (429, 5xx, time-outs, broken connections, a proxy's 404) says nothing about the
run, and ends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Protocol, Self, TypeVar

from airflow_provider_tallyfy.exceptions import TallyfyError, TallyfyResponseError
from airflow_provider_tallyfy.protocol.answers import UnreadableAnswerError
from airflow_provider_tallyfy.waiting.looks import Blank, Look

C = TypeVar("C", bound="Condition")


@dataclass(frozen=True, slots=True)
class Waiting(Generic[C]):
    """
    Not yet.

    :param condition: what to wait for from now on.
    """

    condition: C


@dataclass(frozen=True, slots=True)
class Over:
    """
    What was waited for has happened.

    :param result: what the task returns; plain JSON.
    :param happened_at: when that was, where Tallyfy says so. It does not travel to the worker.
    """

    result: dict[str, Any]
    happened_at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Lost:
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
class Refused:
    """
    Tallyfy does not let this connection look.

    :param error: its refusal.
    """

    error: TallyfyError


@dataclass(frozen=True, slots=True)
class Unseen:
    """
    The look failed for a reason that passes.

    :param error: the reason.
    """

    error: TallyfyError


class Condition(Protocol):
    """What a wait is for."""

    @property
    def with_(self) -> tuple[str, ...]:
        """What has to be included when the run is read."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of tasks that have to be among those of the run, also where a rule hides them."""

    @property
    def outlives_archiving(self) -> bool:
        """Whether it may still be met by a run that was archived before its end."""

    def as_json(self) -> dict[str, Any]:
        """Return the condition as plain JSON, to be kept or sent."""

    def met_by(self, run: dict[str, Any]) -> Waiting[Self] | Over | Lost | Skipped:
        """
        Decide on a run that is there.

        :raises UnreadableAnswerError: where what it needs cannot be read.
        """

    def described(self, run: dict[str, Any]) -> str:
        """Return one readable line of what was seen of a run that it decided on."""

    def wish(self) -> str:
        """Return what is waited for, as the end of a sentence that begins with 'Waiting until'."""

    @staticmethod
    def outcome(result: dict[str, Any]) -> str:
        """Return how it came out, as a clause, from what :class:`Over` holds."""


Final = Over | Lost | Skipped | Refused
"""What ends a wait."""


def judge(condition: C, run_id: str, look: Look) -> Waiting[C] | Final | Unseen:
    """Return what a look at a run means for a wait."""
    if isinstance(look, Blank):
        if look.is_passing:
            return Unseen(look.error)
        if look.is_refusal:
            return Refused(look.error)
        return Lost(f"Run {run_id} is gone from Tallyfy, or not visible to this connection. {look.error}")
    run = look.run
    is_archived = run.get("archived_at") or run.get("status") == "archived"
    if is_archived and not run.get("completed_at") and not condition.outlives_archiving:
        return Lost(f"Run {run_id} was archived in Tallyfy while it was waited for; it will not move on.")
    try:
        return condition.met_by(run)
    except UnreadableAnswerError as error:
        return Unseen(TallyfyResponseError(f"What Tallyfy says of run {run_id} cannot be read: {error}"))
