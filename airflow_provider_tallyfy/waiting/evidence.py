"""
When a wait may end: on evidence, never on one answer that may be old, about something else, or not Tallyfy's own.

Reads may come from replicas that lag, so an answer may be older than the one before (API page "List process tasks").
The rule, for every kind of wait and wherever it is held:

- An answer that is older than what the wait knows never ends it.
- What cannot be explained by an old answer ends it at once: the run is complete; the awaited task is completed; the
  task to move on from is completed or hidden when it is read by itself.
- Any other end has to be shown again by a second read, :data:`CONFIRMATION_SECONDS` later, with nothing else between.
- A run is gone after :data:`GONE_AFTER_POLLS` polls over :data:`GONE_AFTER_SECONDS` in which Tallyfy itself said so.
- What is not Tallyfy's own answer is an outage, whatever its status. A list of runs is a hint.
- A refusal in Tallyfy's own words ends the wait. The connection was read again before
  (:mod:`~airflow_provider_tallyfy.waiting.reloading_hook`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic

from airflow_provider_tallyfy.exceptions import TallyfyConfigurationError, TallyfyResponseError
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError, parse_datetime
from airflow_provider_tallyfy.waiting.outcomes import (
    C,
    Denied,
    Met,
    Outcome,
    Pending,
    PollFailed,
    Skipped,
    Unconfirmed,
    Unreachable,
)
from airflow_provider_tallyfy.waiting.polls import PollError, PollResult, RunSnapshot

CONFIRMATION_SECONDS = 10.0
"""Seconds between two reads that have to agree; a replica seldom lags by more."""
GONE_AFTER_SECONDS = 30.0
GONE_AFTER_POLLS = 3
MAX_LAG = 300.0
"""Seconds after which answers that are older than what is known are the truth: no replica lags for so long."""
_RECHECKS = 3  # in GONE_AFTER_SECONDS


class Evidence(Generic[C]):
    """
    Judges the polls of one wait, one after the other.

    :param run_id: the run's id.
    :param condition: what is waited for.
    :param gone_after: seconds for which Tallyfy has to say that there is no such run.
    """

    __slots__ = (
        "_end",
        "_end_since",
        "_gone_after",
        "_missing",
        "_missing_since",
        "_older_since",
        "_run_id",
        "_seen",
        "condition",
    )

    def __init__(self, run_id: str, condition: C, gone_after: float = GONE_AFTER_SECONDS) -> None:
        self._run_id = run_id
        self.condition = condition
        self._gone_after = gone_after
        self._seen: _Version | None = None
        self._older_since: float | None = None
        self._end: object = None
        self._end_since = 0.0
        self._missing = 0
        self._missing_since = 0.0

    def evaluate(self, result: PollResult, polled_at: float) -> Outcome[C]:
        """
        Return what a poll means for the wait; a final outcome ends it.

        :param polled_at: when the poll began, in seconds on a clock that only goes forward.
        """
        if isinstance(result, PollError):
            return self._evaluate_error(result, polled_at)
        self._missing = 0
        if str(result.run.get("id")) != self._run_id:
            return self._unreadable("it is about something else")
        try:
            outcome = self._evaluate_run(result)
        except MalformedResponseError as error:
            if result.is_from_list:
                return Unconfirmed("a list of runs does not show enough", 0.0)
            return self._unreadable(str(error))
        if result.is_from_list:
            is_news = outcome != Pending(self.condition)
            return Unconfirmed("a list of runs is a hint", 0.0) if is_news else outcome
        if self._is_older(result.run, polled_at):
            if outcome == Pending(self.condition):
                return outcome
            return Unconfirmed("the answer is older than the one before", CONFIRMATION_SECONDS)
        progress_went_back = self._takes_version(result.run)
        if isinstance(outcome, Pending):
            self._end = None
            return outcome
        if isinstance(outcome, Met) and outcome.is_certain and not progress_went_back:
            return outcome
        return self._confirm(outcome, polled_at)

    def _evaluate_run(self, snapshot: RunSnapshot) -> Pending[C] | Met | Unreachable | Skipped:
        run = snapshot.run
        is_archived = run.get("archived_at") or run.get("status") == "archived"
        if is_archived and not run.get("completed_at") and not self.condition.allows_archived:
            return Unreachable(
                f"Run {self._run_id} was archived in Tallyfy while it was waited for; it will not move on."
            )
        return self.condition.evaluate(snapshot)

    def _confirm(self, outcome: Met | Unreachable | Skipped, polled_at: float) -> Outcome[C]:
        """Return an end of the wait as soon as two reads show the same, some seconds apart."""
        end = _fingerprint(outcome)
        if end != self._end:
            self._end, self._end_since = end, polled_at
        left = self._end_since + CONFIRMATION_SECONDS - polled_at
        return outcome if left <= 0 else Unconfirmed("one answer may be old", left)

    def _evaluate_error(self, result: PollError, polled_at: float) -> Outcome[C]:
        error = result.error
        if result.is_wrong_address:
            return Denied(TallyfyConfigurationError(f"There is no Tallyfy API at this address. {error}"))
        if result.is_denial:
            return Denied(error)
        if not result.is_missing:
            return PollFailed(error)
        if not self._missing:
            self._missing_since = polled_at
        self._missing += 1
        left = self._missing_since + self._gone_after - polled_at
        if self._missing >= GONE_AFTER_POLLS and left <= 0:
            return Unreachable(
                f"Run {self._run_id} is gone from Tallyfy, or not visible to this connection. {error}"
            )
        return Unconfirmed(
            f"the run may be gone: {error}", min(max(left, 1.0), GONE_AFTER_SECONDS / _RECHECKS)
        )

    def _unreadable(self, reason: str) -> PollFailed:
        return PollFailed(
            TallyfyResponseError(f"What Tallyfy says of run {self._run_id} cannot be read: {reason}")
        )

    def _is_older(self, run: Mapping[str, Any], polled_at: float) -> bool:
        """Tell whether Tallyfy says that this state of the run is older than the one that the wait knows."""
        updated_at = parse_datetime(run.get("last_updated"))
        known = self._seen.updated_at if self._seen is not None else None
        if updated_at is None or known is None or updated_at >= known:
            self._older_since = None
            return False
        if self._older_since is None:
            self._older_since = polled_at
        if polled_at - self._older_since < MAX_LAG:
            return True
        self._older_since = self._seen = None
        return False

    def _takes_version(self, run: Mapping[str, Any]) -> bool:
        """Keep which state of the run this is; tell whether fewer tasks are done than before, and nothing says why."""
        seen, version = self._seen, _Version(run)
        self._seen = version
        if seen is None or seen.done is None or version.done is None or version.done >= seen.done:
            return False
        # A task that was reopened makes the run newer. Where that is not so, the answer may be old.
        is_newer = version.updated_at is not None and version.updated_at != seen.updated_at
        return not is_newer


class _Version:
    """How new a state of a run is, as far as the run says."""

    __slots__ = ("done", "updated_at")

    def __init__(self, run: Mapping[str, Any]) -> None:
        self.updated_at: datetime | None = parse_datetime(run.get("last_updated"))
        progress = run.get("progress")
        done = progress.get("complete") if isinstance(progress, Mapping) else progress
        self.done = done if isinstance(done, (int, float)) and not isinstance(done, bool) else None


def _fingerprint(outcome: Met | Unreachable | Skipped) -> object:
    """Return what two reads have to agree on."""
    if not isinstance(outcome, Met):
        return outcome
    next_task = outcome.result.get("next_task")
    return (
        outcome.result.get("status"),
        next_task.get("id") if isinstance(next_task, Mapping) else None,
        outcome.result.get("completed_at"),
    )
