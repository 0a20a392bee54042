"""
The condition that a run has one of some statuses.

It can never be met by a run that is archived or complete. A complete run may still be archived, so if that is waited
for too, the wait goes on. (A user may also reopen a task of it; no wait goes on for that until its timeout.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_tallyfy.protocol.formatting import listed, one_line, quoted
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError, parse_datetime
from airflow_provider_tallyfy.waiting import messages
from airflow_provider_tallyfy.waiting.outcomes import Met, Pending, Unreachable
from airflow_provider_tallyfy.waiting.polls import RunSnapshot

STATUSES = ("active", "complete", "problem", "issue", "improvement", "delayed", "archived")
"""The statuses of a run (page "Get process")."""
_SAID_AT = {"complete": "completed_at", "archived": "archived_at"}  # of other statuses Tallyfy says no time
_SYNONYMS = {"in-progress": "active", "completed": "complete"}  # what webhooks say


@dataclass(frozen=True, slots=True)
class RunStatusCondition:
    """
    A run has one of some statuses.

    :param target_statuses: these, as :func:`known_statuses` gives them.
    """

    target_statuses: tuple[str, ...]

    @property
    def with_(self) -> tuple[str, ...]:
        """The next task is for the log; lists of runs include it."""
        return ("next_task",)

    @property
    def required_tasks(self) -> tuple[str, ...]:
        """Which tasks the run has does not matter."""
        return ()

    @property
    def left_task(self) -> str | None:
        """No task is moved on from."""
        return None

    @property
    def allows_archived(self) -> bool:
        """Whether archiving the run is what is waited for, or one of several ends."""
        return "archived" in self.target_statuses

    def as_json(self) -> dict[str, Any]:
        """Return the statuses."""
        return {"target_statuses": list(self.target_statuses)}

    def evaluate(self, snapshot: RunSnapshot) -> Pending[RunStatusCondition] | Met | Unreachable:
        """Return whether the run has one of the statuses; one that was complete before it was archived has both."""
        run = snapshot.run
        has = _statuses(run)
        if met := has & set(self.target_statuses):
            moments = (parse_datetime(run.get(_SAID_AT.get(status, ""))) for status in met)
            return Met(
                run,
                happened_at=min(filter(None, moments), default=None),
                is_certain=not met.isdisjoint(_SAID_AT),  # the others come and go
            )
        if has & {"complete", "archived"} and not self.allows_archived:
            return Unreachable(
                f"Run {run.get('id')} is {listed(sorted(has))}, and will not be "
                f"{' or '.join(self.target_statuses)} any more."
            )
        if not has:
            raise MalformedResponseError("it has no status")
        return Pending(self)

    def describe_run(self, snapshot: RunSnapshot) -> str:
        """Describe which status the run has, how far it is, and what is next."""
        run = snapshot.run
        return one_line(f"{listed(sorted(_statuses(run))) or 'no status'}; {messages.describe_run(run)}")

    def describe_goal(self) -> str:
        """Name the statuses."""
        return f"the run is {' or '.join(self.target_statuses)}"

    @staticmethod
    def describe_result(result: dict[str, Any]) -> str:
        """Name the status that the run has."""
        return one_line(f"the run is {listed(sorted(_statuses(result)))}")


def is_complete(run: Mapping[str, Any]) -> bool:
    """Tell whether a run is complete, by its status or by the time of its completion."""
    return bool(run.get("completed_at")) or run.get("status") in ("complete", "completed")


def known_statuses(target_statuses: Iterable[str] | str) -> tuple[str, ...]:
    """
    Return statuses that a caller names as those that a run can have; webhooks' words are taken too.

    :param target_statuses: several, or one.
    :raises ValueError: where there are none, or one of them is none that Tallyfy knows.
    """
    named = [target_statuses] if isinstance(target_statuses, str) else target_statuses
    if not isinstance(named, Iterable) or not (named := list(named)):
        raise ValueError(f"target_statuses names no status. The statuses are: {listed(STATUSES)}.")
    if unknown := [status for status in named if _status(status) not in STATUSES]:
        raise ValueError(
            f"target_statuses has {listed(quoted(str(status)) for status in unknown)}, which is no status of a run. "
            f"The statuses are: {listed(STATUSES)}."
        )
    return tuple(dict.fromkeys(map(_status, named)))


def _status(status: Any) -> str:
    return _SYNONYMS.get(str(status), str(status))


def _statuses(run: dict[str, Any]) -> set[str]:
    """Return the statuses that a run has: one, or two where it was complete before it was archived."""
    status = run.get("status")
    has = {_status(status)} if isinstance(status, str) and status else set()
    if run.get("archived_at"):
        has = {"archived"}
    return has | {"complete"} if has == {"archived"} and run.get("completed_at") else has
