"""
When a wait may end: never on one answer that may be old, about something else, or not Tallyfy's own.

Reads may come from replicas that lag, so an answer may be older than the one before (API page "List process tasks").
The rule is the same for every condition and every mode:

- An answer that is older than one before never ends a wait.
- What no old answer can show ends it at once: the run is complete; the awaited task is completed; the task to move on
  from is completed or hidden.
- Any other end needs a second read that agrees, :data:`CONFIRMATION_SECONDS` later, and no other answer between them.
- A run is gone, and a connection is refused, after :data:`MIN_ERRORS` polls over :data:`GONE_AFTER_SECONDS` or
  :data:`DENIED_AFTER_SECONDS` in which Tallyfy itself said so. Each time the connection was read again
  (:class:`~airflow_provider_tallyfy.waiting.polls.ReloadingHook`).
- An answer that is not Tallyfy's own is an outage, whatever its status. A list of runs is only a hint.

:class:`PollEvaluator` applies the rule to the polls of one wait, in a worker or the triggerer, and collects its log
lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from typing import Any, Generic, Protocol

from airflow_provider_tallyfy.exceptions import (
    TallyfyConfigurationError,
    TallyfyError,
    TallyfyResponseError,
)
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError, parse_datetime
from airflow_provider_tallyfy.waiting import messages
from airflow_provider_tallyfy.waiting.outcomes import (
    C,
    Denied,
    Evaluation,
    Final,
    Met,
    Outcome,
    Pending,
    PollFailed,
    Unconfirmed,
    Unreachable,
)
from airflow_provider_tallyfy.waiting.polls import PollError, PollResult, RunSnapshot

CONFIRMATION_SECONDS = 10.0
"""Seconds between two reads that have to agree; a replica seldom lags by more."""
GONE_AFTER_SECONDS = 30.0
DENIED_AFTER_SECONDS = 10.0
"""Seconds for which Tallyfy has to say that there is no such run, or that this user may not read it."""
MIN_ERRORS = 3
"""Polls in which it has to say so."""
MAX_LAG = 300.0
"""Seconds after which answers that are older than one before are accepted: no replica lags for so long."""


@dataclass(slots=True, eq=False)
class Evidence(Generic[C]):
    """
    Evaluates the polls of one wait, one after the other.

    :param run_id: the run's id.
    :param condition: what is waited for.
    :param seen_before: the run's ``last_updated`` in an earlier poll, or ``None``.
    """

    run_id: str
    condition: C
    seen_before: InitVar[str | None] = None
    _seen: _Version | None = field(default=None, init=False)
    _older_since: float | None = field(default=None, init=False)
    _end: object = field(default=None, init=False)
    _end_since: float = field(default=0.0, init=False)
    _error_kind: type[Denied | Unreachable] | None = field(default=None, init=False)
    _errors: int = field(default=0, init=False)
    _errors_since: float = field(default=0.0, init=False)

    def __post_init__(self, seen_before: str | None) -> None:
        self._seen = _Version({"last_updated": seen_before}) if seen_before else None

    @property
    def last_updated(self) -> str | None:
        """The newest ``last_updated`` of the run that was seen, as Tallyfy gives it."""
        return self._seen.last_updated if self._seen is not None else None

    def evaluate(self, result: PollResult, polled_at: float) -> Outcome[C]:
        """
        Return what a poll means for the wait; a final outcome ends it.

        :param polled_at: when the poll began, in seconds on a clock that only goes forward.
        """
        if isinstance(result, PollError):
            return self._evaluate_error(result, polled_at)
        self._error_kind = None
        if str(result.run.get("id")) != self.run_id:
            return self._unreadable("it is about something else")
        try:
            outcome = self._evaluate_run(result)
        except MalformedResponseError as error:
            if result.is_from_list:
                return Unconfirmed("a list of runs does not show enough", 0.0)
            return self._unreadable(str(error))
        if result.is_from_list:
            is_end = outcome != Pending(self.condition)
            return Unconfirmed("a list of runs is a hint", 0.0) if is_end else outcome
        if self._is_older(result.run, polled_at):
            if outcome == Pending(self.condition):
                return outcome
            return Unconfirmed("the answer is older than the one before", CONFIRMATION_SECONDS)
        progress_went_back = self._update_version(result.run)
        if isinstance(outcome, Pending):
            self._end = None
            return outcome
        if isinstance(outcome, Met) and outcome.is_certain and not progress_went_back:
            return outcome
        return self._confirm(outcome, polled_at)

    def _evaluate_run(self, snapshot: RunSnapshot) -> Evaluation[C]:
        run = snapshot.run
        is_archived = run.get("archived_at") or run.get("status") == "archived"
        if is_archived and not run.get("completed_at") and not self.condition.allows_archived:
            return Unreachable(
                f"Run {self.run_id} was archived in Tallyfy while it was waited for; it will not move on."
            )
        return self.condition.evaluate(snapshot)

    def _confirm(self, outcome: Final, polled_at: float) -> Outcome[C]:
        """Return the outcome as soon as two reads agree, some seconds apart."""
        end: object = outcome
        if isinstance(outcome, Met):
            end = Met, outcome.fingerprint
        elif isinstance(outcome, Denied):
            end = Denied, type(outcome.error)
        if end != self._end:
            self._end, self._end_since = end, polled_at
        left = self._end_since + CONFIRMATION_SECONDS - polled_at
        return outcome if left <= 0 else Unconfirmed("one answer may be old", left)

    def _evaluate_error(self, result: PollError, polled_at: float) -> Outcome[C]:
        error = result.error
        if result.is_missing:
            gone = f"Run {self.run_id} is gone from Tallyfy, or not visible to this connection. {error}"
            return self._confirm_error(Unreachable(gone), error, GONE_AFTER_SECONDS, polled_at)
        if result.is_wrong_address:
            error = TallyfyConfigurationError(f"There is no Tallyfy API at this address. {error}")
        elif not result.is_denial:
            return PollFailed(error)
        elif error.status is None:  # the connection itself cannot be used
            return Denied(error)
        return self._confirm_error(Denied(error), error, DENIED_AFTER_SECONDS, polled_at)

    def _confirm_error(
        self, outcome: Denied | Unreachable, error: TallyfyError, seconds: float, polled_at: float
    ) -> Outcome[C]:
        """Return the outcome as soon as Tallyfy has said so several times, over some seconds."""
        if self._error_kind is not type(outcome):
            self._error_kind, self._errors, self._errors_since = type(outcome), 0, polled_at
        self._errors += 1
        left = self._errors_since + seconds - polled_at
        if self._errors >= MIN_ERRORS and left <= 0:
            return outcome
        return Unconfirmed(f"this may pass: {error}", min(max(left, 1.0), seconds / MIN_ERRORS))

    def _unreadable(self, reason: str) -> PollFailed:
        return PollFailed(
            TallyfyResponseError(f"Tallyfy's response for run {self.run_id} cannot be read: {reason}")
        )

    def _is_older(self, run: Mapping[str, Any], polled_at: float) -> bool:
        """Return whether this state of the run is older than one that was seen before, by its ``last_updated``."""
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

    def _update_version(self, run: Mapping[str, Any]) -> bool:
        """Keep this state of the run; return whether fewer tasks are done than before although it is not newer."""
        seen, version = self._seen, _Version(run)
        self._seen = version
        if seen is None or seen.done is None or version.done is None or version.done >= seen.done:
            return False
        # A task that was reopened makes the run newer. Otherwise the answer may be old.
        is_newer = version.updated_at is not None and version.updated_at != seen.updated_at
        return not is_newer


class _Version:
    """How new a state of a run is: its last change, and how many tasks are done."""

    __slots__ = ("done", "last_updated", "updated_at")

    def __init__(self, run: Mapping[str, Any]) -> None:
        last_updated = run.get("last_updated")
        self.last_updated = last_updated if isinstance(last_updated, str) else None
        self.updated_at: datetime | None = parse_datetime(last_updated)
        progress = run.get("progress")
        done = progress.get("complete") if isinstance(progress, Mapping) else progress
        self.done = done if isinstance(done, (int, float)) and not isinstance(done, bool) else None


class Log(Protocol):
    """A logger of the standard library, as in Airflow 2, or of structlog, as in Airflow 3."""

    def info(self, msg: str, /, *args: object) -> Any:
        """Log what happened."""

    def warning(self, msg: str, /, *args: object) -> Any:
        """Log what went wrong."""


LogCall = tuple[Callable[..., Any], str, tuple[object, ...]]
"""A method of a logger, the message and its arguments."""


@dataclass(slots=True, eq=False)
class PollEvaluator(Generic[C]):
    """
    Evaluates the polls of one wait, and collects what to log: what is new in a run, failures, and the recovery.

    Of failures in a row, it logs the first, second, fourth, eighth, and so on.

    :param evidence: decides what a poll means.
    :param log: the task's logger. Nothing is written here; see :meth:`take_log_calls`.
    :param last_line: the checksum of the line that was logged last, by a worker; it is not logged again.
    :param ignore_denials: a refusal is a failed poll, as for a sensor with ``silent_fail``.
    """

    evidence: Evidence[C]
    log: Log
    last_line: int | None = None
    ignore_denials: bool = False
    _failures: int = field(default=0, init=False)
    _log_calls: tuple[LogCall, ...] = field(default=(), init=False)

    def log_start(self) -> None:
        """Log what is waited for."""
        start = messages.describe_start(self.evidence.condition.describe_goal(), self.evidence.run_id)
        self._add_log_call(self.log.info, "%s", start)

    def evaluate(self, result: PollResult, polled_at: float) -> Outcome[C]:
        """
        Return what a poll means for the wait.

        :param polled_at: when the poll began, in seconds on a clock that only goes forward.
        """
        condition = self.evidence.condition
        outcome = self.evidence.evaluate(result, polled_at)
        if isinstance(outcome, Denied) and self.ignore_denials:
            outcome = PollFailed(outcome.error)
        if isinstance(outcome, PollFailed):
            self._log_failure(outcome.error)
        elif isinstance(outcome, Unconfirmed):
            if outcome.recheck_after:
                self._log_once(f"Not certain yet, polling again: {outcome.reason}")
        elif isinstance(result, RunSnapshot):
            self._log_once(f"{condition.describe_run(result)}; run {self.evidence.run_id}")
            if isinstance(outcome, Met) and outcome.warning:
                self._add_log_call(self.log.warning, "%s", outcome.warning)
            if result.tasks_error is not None and isinstance(outcome, Pending):  # a hidden task is not seen
                self._log_failure(result.tasks_error)
            elif self._failures:
                message = "Polling works again (%d failed)"
                self._add_log_call(self.log.info, message, self._failures)
                self._failures = 0
        return outcome

    def take_log_calls(self) -> tuple[LogCall, ...]:
        """Return what there is to log since the last call; a triggerer must not block on it."""
        calls, self._log_calls = self._log_calls, ()
        return calls

    def _log_once(self, line: str) -> None:
        if (checksum := messages.checksum(line)) != self.last_line:
            self.last_line = checksum
            self._add_log_call(self.log.info, "%s", line)

    def _log_failure(self, error: TallyfyError) -> None:
        self._failures += 1
        if self._failures.bit_count() == 1:
            message = "Poll failed (%d in a row), will poll again: %s"
            self._add_log_call(self.log.warning, message, self._failures, error)

    def _add_log_call(self, write: Callable[..., Any], message: str, *args: object) -> None:
        self._log_calls += ((write, message, args),)
