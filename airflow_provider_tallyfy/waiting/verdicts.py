"""
What a look means for a wait.

The rule held here: a wait ends only on what Tallyfy itself said. A run that is archived or gone can never move on, so
that ends it; and so does a refusal, once whoever looks has read the connection anew. Everything else (429, 5xx,
time-outs, broken connections, a proxy's page) says nothing about the run, and ends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from airflow_provider_tallyfy.exceptions import (
    TallyfyConnectionError,
    TallyfyError,
    TallyfyNotFoundError,
    TallyfyRateLimitError,
    TallyfyResponseError,
    TallyfyServerError,
)
from airflow_provider_tallyfy.waiting.looks import Blank, Look


@dataclass(frozen=True, slots=True)
class Waiting:
    """
    Not yet.

    :param condition: what to wait for from now on.
    """

    condition: Condition


@dataclass(frozen=True, slots=True)
class Over:
    """
    What was waited for has happened.

    :param result: what the task returns; plain JSON.
    """

    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lost:
    """
    It can never happen any more.

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


Verdict = Waiting | Over | Lost | Refused | Unseen


class Condition(Protocol):
    """What a wait is for."""

    @property
    def with_(self) -> tuple[str, ...]:
        """What has to be included when the run is read."""

    def as_json(self) -> dict[str, Any]:
        """Return the condition as plain JSON, to be kept."""

    def met_by(self, run: dict[str, Any]) -> Waiting | Over:
        """Decide on a run that is neither archived nor gone."""


_PASSING = (TallyfyRateLimitError, TallyfyServerError, TallyfyConnectionError, TallyfyResponseError)


def judge(condition: Condition, run_id: str, look: Look) -> Verdict:
    """Return what a look at a run means for a wait."""
    if isinstance(look, Blank):
        return _judge_failure(run_id, look.error)
    run = look.run
    if run.get("archived_at") or run.get("status") == "archived":
        return Lost(f"Run {run_id} was archived in Tallyfy while it was waited for; it will not move on.")
    return condition.met_by(run)


def _judge_failure(run_id: str, error: TallyfyError) -> Verdict:
    if isinstance(error, _PASSING) or not error.is_from_tallyfy:
        return Unseen(error)
    if isinstance(error, TallyfyNotFoundError):
        return Lost(f"Run {run_id} is gone from Tallyfy, or not visible to this connection. {error}")
    return Refused(error)
