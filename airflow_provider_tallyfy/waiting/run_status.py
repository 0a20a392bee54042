"""
The condition that a run has one of some statuses.

A run that is archived or complete can never meet it, except that a complete run may still be archived. (A user may also
reopen a task of it, but no wait continues for that.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_tallyfy.protocol.formatting import listed, one_line, quoted
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError, parse_datetime
from airflow_provider_tallyfy.waiting import messages
from airflow_provider_tallyfy.waiting.outcomes import Condition, Met, Pending, Unreachable
from airflow_provider_tallyfy.waiting.polls import RunSnapshot

STATUSES = ("active", "complete", "problem", "issue", "improvement", "delayed", "archived")
"""The statuses of a run (page "Get process")."""
_TIME_FIELDS = {
    "complete": "completed_at",
    "archived": "archived_at",
}  # Tallyfy gives no time of other statuses
_SYNONYMS = {"in-progress": "active", "completed": "complete"}  # in webhooks


@dataclass(frozen=True, slots=True)
class RunStatusCondition(Condition):
    """
    A run has one of some statuses.

    :param target_statuses: the statuses, as :func:`known_statuses` gives them.
    """

    target_statuses: tuple[str, ...]

    @property
    def allows_archived(self) -> bool:
        """Whether archiving the run is what is waited for, or one of several ends."""
        return "archived" in self.target_statuses

    def evaluate(self, snapshot: RunSnapshot) -> Pending[RunStatusCondition] | Met | Unreachable:
        """Return whether the run has one of the statuses; one that was complete before it was archived has both."""
        run = snapshot.run
        has = _statuses(run)
        if met := has & set(self.target_statuses):
            moments = (parse_datetime(run.get(_TIME_FIELDS.get(status, ""))) for status in met)
            return Met(
                run,
                happened_at=min(filter(None, moments), default=None),
                is_certain=not met.isdisjoint(_TIME_FIELDS),  # the others come and go
                fingerprint=met,
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
    """Return whether a run is complete, by its status or by the time of its completion."""
    return bool(run.get("completed_at")) or run.get("status") in ("complete", "completed")


def known_statuses(target_statuses: Iterable[str] | str) -> tuple[str, ...]:
    """
    Return the statuses of a run that a caller names; those of webhooks are translated.

    :param target_statuses: several, or one.
    :raises ValueError: there is none, or one of them is no status of Tallyfy's.
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
    """Return the statuses of a run: one, or two if it was complete before it was archived."""
    status = run.get("status")
    has = {_status(status)} if isinstance(status, str) and status else set()
    if run.get("archived_at"):
        has = {"archived"}
    return has | {"complete"} if has == {"archived"} and run.get("completed_at") else has
