"""Evaluates the polls of one wait, in a worker or the triggerer, and collects what to log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol

from airflow_provider_tallyfy.waiting import messages
from airflow_provider_tallyfy.waiting.evidence import Evidence
from airflow_provider_tallyfy.waiting.outcomes import (
    C,
    Denied,
    Met,
    Outcome,
    Pending,
    PollFailed,
    Unconfirmed,
)
from airflow_provider_tallyfy.waiting.polls import PollResult, RunSnapshot

if TYPE_CHECKING:
    from airflow_provider_tallyfy.exceptions import TallyfyError


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
    :param outlives_denials: a refusal is a failed poll, as for a sensor with ``silent_fail``.
    """

    evidence: Evidence[C]
    log: Log
    last_line: int | None = None
    outlives_denials: bool = False
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
        if isinstance(outcome, Denied) and self.outlives_denials:
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
                message = "Polling works again after %d failed polls"
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
