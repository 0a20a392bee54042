"""
One wait, as the triggerer holds it: evaluate each poll, log what is new, until there is an outcome for the task.

It outlives whatever passes, and says so in the task's log, but in few lines: the first failure, then the second, the
fourth, the eighth, and the recovery.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Protocol

from airflow_provider_tallyfy import metrics
from airflow_provider_tallyfy.waiting import messages
from airflow_provider_tallyfy.waiting.evidence import Evidence
from airflow_provider_tallyfy.waiting.outcomes import (
    C,
    Denied,
    Final,
    Met,
    Pending,
    PollFailed,
    Skipped,
    Unconfirmed,
    Unreachable,
)
from airflow_provider_tallyfy.waiting.polls import PollResult, RunSnapshot
from airflow_provider_tallyfy.waiting.schedule import PollSchedule
from airflow_provider_tallyfy.waiting.threads import log_in_thread
from airflow_provider_tallyfy.waiting.watcher import Place, subscribe

if TYPE_CHECKING:
    from airflow_provider_tallyfy.exceptions import TallyfyError
    from airflow_provider_tallyfy.hooks.connection import TallyfyConnection


_COMPLETIONS: Mapping[type, metrics.CompletionOutcome] = {
    Met: "met",
    Unreachable: "unreachable",
    Skipped: "skipped",
    Denied: "denied",
    Pending: "pending",
}


class Log(Protocol):
    """What is needed of a logger: Airflow 2 has the standard library's, Airflow 3 one of its own."""

    def info(self, msg: str, /, *args: object) -> Any:
        """Take a line about what happened."""

    def warning(self, msg: str, /, *args: object) -> Any:
        """Take a line about what went wrong."""


async def wait(
    tallyfy_conn_id: str,
    run_id: str,
    condition: C,
    schedule: PollSchedule,
    log: Log,
    *,
    looked_at: float | None = None,
    last_line: int | None = None,
    target: tuple[str, str] | None = None,
    outlives_refusals: bool = False,
    at_first_sight: Callable[[TallyfyConnection], object] | None = None,
) -> Final | Pending[C]:
    """
    Wait until a condition is met, can never be met any more, or Tallyfy does not let this connection poll.

    A condition that learned something from a poll ends it too: a triggerer forgets all when it restarts, so the task
    has to keep what was learned, and then wait on.

    :param tallyfy_conn_id: id of the Airflow connection.
    :param run_id: the run's id.
    :param condition: what to wait for.
    :param schedule: how often to poll.
    :param log: takes one line for what is new, and few for polls that failed.
    :param looked_at: when a worker polled the run, in seconds since the epoch; ``None`` for never.
    :param last_line: the checksum of the line that the worker logged then.
    :param target: the URL of the API and the organization that the run is of, if they are known.
    :param outlives_refusals: go on even then, as a sensor with ``silent_fail`` does.
    :param at_first_sight: called once, as soon as the run was read, with the settings of the connection.
    """
    polls = _Polls(
        run_id, condition, log, outlives_refusals, looked_at is not None, last_line, at_first_sight
    )
    if looked_at is None:  # so no worker has logged it
        await log_in_thread(log.info, "%s", messages.describe_start(condition.describe_goal(), run_id))
    with subscribe(tallyfy_conn_id, run_id, condition, schedule, looked_at, target) as place:
        # No result is held while the wait is idle: there may be thousands of them.
        while (outcome := polls.take(*await place.next_result(), place)) is None:
            await polls.write_lines()
    await polls.write_lines()
    metrics.from_event_loop(
        metrics.completed, tallyfy_conn_id, _COMPLETIONS[type(outcome)], polls.latency_of(outcome)
    )
    return outcome


class _Polls(Generic[C]):
    """The polls of one wait, evaluated and logged."""

    __slots__ = (
        "_at_first_sight",
        "_evidence",
        "_failures",
        "_last_line",
        "_lines",
        "_log",
        "_outlives_refusals",
        "_run_id",
        "_was_pending",
    )

    def __init__(
        self,
        run_id: str,
        condition: C,
        log: Log,
        outlives_refusals: bool,
        was_pending: bool,
        last_line: int | None,
        at_first_sight: Callable[[TallyfyConnection], object] | None,
    ) -> None:
        self._run_id = run_id
        self._evidence = Evidence(run_id, condition)
        self._log = log
        self._outlives_refusals = outlives_refusals
        self._was_pending = was_pending  # once, so that what meets it came while it was waited for
        self._at_first_sight = at_first_sight
        self._failures = 0
        self._last_line = last_line
        self._lines: tuple[tuple[Any, ...], ...] = ()

    def take(self, result: PollResult, polled_at: float, place: Place) -> Final | Pending[C] | None:
        """Return the outcome that ends the wait, or ``None`` to wait on."""
        condition = self._evidence.condition
        outcome = self._evidence.evaluate(result, polled_at)
        if isinstance(outcome, Unconfirmed):
            place.request_fresh_read(outcome.recheck_after)
            if outcome.recheck_after:
                self._log_line(f"Not certain yet, polling again: {outcome.reason}")
            return None
        if isinstance(outcome, PollFailed) or (self._outlives_refusals and isinstance(outcome, Denied)):
            self._log_failure(outcome.error)
            return None
        is_over = outcome != Pending(condition)
        if isinstance(result, RunSnapshot):
            if self._at_first_sight is not None and place.connection is not None:
                self._at_first_sight(place.connection)
                self._at_first_sight = None
            self._log_line(f"{condition.describe_run(result)}; run {self._run_id}")
            if isinstance(outcome, Met) and outcome.warning:
                self._lines += ((self._log.warning, "%s", outcome.warning),)
            if self._failures:
                message = "Tallyfy answers again after %d failed polls"
                self._lines += ((self._log.info, message, self._failures),)
            self._failures = 0
            self._was_pending = self._was_pending or not is_over
        return outcome if is_over else None

    def latency_of(self, outcome: Final | Pending[C]) -> timedelta | None:
        """Return how long ago happened what was waited for, if Tallyfy says so; not what came before the wait."""
        if not isinstance(outcome, Met) or outcome.happened_at is None or not self._was_pending:
            return None
        return datetime.now(UTC) - outcome.happened_at

    async def write_lines(self) -> None:
        """Log what there is to say, however long the log takes for it."""
        for write, message, *arguments in self._lines:
            await log_in_thread(write, message, *arguments)
        self._lines = ()

    def _log_line(self, line: str) -> None:
        """Log a line, but not the same one again."""
        if (checksum := messages.checksum(line)) != self._last_line:
            self._last_line = checksum
            self._lines += ((self._log.info, "%s", line),)

    def _log_failure(self, error: TallyfyError) -> None:
        self._failures += 1
        if self._failures.bit_count() == 1:
            message = "Poll failed (%d in a row), the wait goes on: %s"
            self._lines += ((self._log.warning, message, self._failures, error),)
