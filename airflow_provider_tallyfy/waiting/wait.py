"""
One wait, as the triggerer holds it: watch, judge, tell, until there is something to tell the task.

It outlives whatever passes, and says so in the task's log, but in few lines: the first failure, then the second, the
fourth, the eighth, and the recovery.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Protocol

from airflow_provider_tallyfy import metrics
from airflow_provider_tallyfy.waiting import report
from airflow_provider_tallyfy.waiting.looks import Look, Sight
from airflow_provider_tallyfy.waiting.pace import Pace
from airflow_provider_tallyfy.waiting.threads import log_in_thread
from airflow_provider_tallyfy.waiting.verdicts import (
    C,
    Final,
    Lost,
    Over,
    Refused,
    Skipped,
    Unseen,
    Waiting,
    judge,
)
from airflow_provider_tallyfy.waiting.watcher import Member, watching

if TYPE_CHECKING:
    from airflow_provider_tallyfy.exceptions import TallyfyError
    from airflow_provider_tallyfy.hooks.connection import TallyfyConnection


_OUTCOMES: Mapping[type, metrics.WakeUpOutcome] = {
    Over: "over",
    Lost: "lost",
    Skipped: "skipped",
    Refused: "refused",
    Waiting: "waiting",
}


class Log(Protocol):
    """What is needed of a logger: Airflow 2 has the standard library's, Airflow 3 one of its own."""

    def info(self, msg: str, /, *args: object) -> Any:
        """Take a line of what was seen."""

    def warning(self, msg: str, /, *args: object) -> Any:
        """Take a line of what went wrong."""


async def wait(
    tallyfy_conn_id: str,
    run_id: str,
    condition: C,
    pace: Pace,
    log: Log,
    *,
    looked_at: float | None = None,
    last_line: int | None = None,
    target: tuple[str, str] | None = None,
    outlives_refusals: bool = False,
    at_first_sight: Callable[[TallyfyConnection], object] | None = None,
) -> Final | Waiting[C]:
    """
    Wait until a condition is met, can never be met any more, or Tallyfy does not let this connection look.

    A condition that learned something from what was seen ends it too: a triggerer forgets all when it restarts, so
    the task has to keep what was learned, and then wait on.

    :param tallyfy_conn_id: id of the Airflow connection.
    :param run_id: the run's id.
    :param condition: what to wait for.
    :param pace: how often to look.
    :param log: takes one line for every look that saw something new, and few for those that saw nothing.
    :param looked_at: when a worker looked at the run, in seconds since the epoch; ``None`` for never.
    :param last_line: the checksum of the line that the worker wrote then.
    :param target: the URL of the API and the organization that the run is of, if they are known.
    :param outlives_refusals: go on even then, as a sensor with ``silent_fail`` does.
    :param at_first_sight: called once, as soon as the run was seen, with the settings of the connection.
    """
    judged = _Looks(
        run_id,
        condition,
        log,
        outlives_refusals,
        was_unmet=looked_at is not None,
        last_line=last_line,
        at_first_sight=at_first_sight,
    )
    if looked_at is None:  # so no worker has said it
        await log_in_thread(log.info, "%s", report.begun(condition.wish(), run_id))
    with watching(
        tallyfy_conn_id, run_id, condition.with_, pace, looked_at, condition.tasks, target
    ) as member:
        # What was seen is held by nothing while the wait is idle: there may be thousands.
        while (verdict := judged.take(await member.next_look(), member)) is None:
            await judged.write_lines()
    await judged.write_lines()
    metrics.from_event_loop(
        metrics.woken_up, tallyfy_conn_id, _OUTCOMES[type(verdict)], judged.delay_of(verdict)
    )
    return verdict


@dataclass(slots=True, eq=False)
class _Looks(Generic[C]):
    """The looks of one wait, judged and told to its log."""

    run_id: str
    condition: C
    log: Log
    outlives_refusals: bool
    was_unmet: bool  # once, so that what meets it came while it was waited for
    last_line: int | None = None
    at_first_sight: Callable[[TallyfyConnection], object] | None = None
    failures: int = 0
    lines: tuple[tuple[Any, ...], ...] = ()

    def take(self, seen: Look, member: Member) -> Final | Waiting[C] | None:
        """Return the verdict that ends the wait, or ``None`` where it goes on."""
        verdict = judge(self.condition, self.run_id, seen)
        if isinstance(verdict, Unseen) or (self.outlives_refusals and isinstance(verdict, Refused)):
            self._tell_failure(verdict.error)
            return None
        is_over = verdict != Waiting(self.condition)
        if isinstance(seen, Sight):
            if self.at_first_sight is not None and member.connection is not None:
                self.at_first_sight(member.connection)
                self.at_first_sight = None
            if is_over and seen.is_from_list:
                member.confirm()
                return None
            self._tell_sight(seen)
            self.was_unmet = self.was_unmet or not is_over
        return verdict if is_over else None

    def delay_of(self, verdict: Final | Waiting[C]) -> timedelta | None:
        """Return how long ago happened what was waited for, where Tallyfy says so; not what came before the wait."""
        if not isinstance(verdict, Over) or verdict.happened_at is None or not self.was_unmet:
            return None
        return datetime.now(UTC) - verdict.happened_at

    async def write_lines(self) -> None:
        """Write what there is to say, however long the log takes for it."""
        for write, message, *args in self.lines:
            await log_in_thread(write, message, *args)
        self.lines = ()

    def _tell_failure(self, error: TallyfyError) -> None:
        self.failures += 1
        if self.failures.bit_count() == 1:
            message = "Look %d in a row failed; the wait goes on: %s"
            self.lines = ((self.log.warning, message, self.failures, error),)

    def _tell_sight(self, seen: Sight) -> None:
        line = f"{self.condition.described(seen.run)}; run {self.run_id}"
        if (checksum := report.checksum(line)) != self.last_line:
            self.last_line = checksum
            self.lines = ((self.log.info, "%s", line),)
        if self.failures:
            message = "Tallyfy is seen again after %d failed looks; the wait went on all the time"
            self.lines += ((self.log.info, message, self.failures),)
        self.failures = 0
