"""
One wait, as the triggerer holds it: watch, judge, tell, until there is something to tell the task.

It outlives whatever passes, and says so in the task's log, but in few lines: the first failure, then the second, the
fourth, the eighth, and the recovery.
"""

from __future__ import annotations

from typing import Any, Protocol

from airflow_provider_tallyfy.waiting.looks import Sight
from airflow_provider_tallyfy.waiting.pace import Pace
from airflow_provider_tallyfy.waiting.report import described
from airflow_provider_tallyfy.waiting.verdicts import C, Lost, Over, Refused, Unseen, Waiting, judge
from airflow_provider_tallyfy.waiting.watcher import watching


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
    outlives_refusals: bool = False,
) -> Over | Lost | Refused | Waiting[C]:
    """
    Wait until a condition is met, can never be met any more, or Tallyfy does not let this connection look.

    A condition that learned something from what was seen ends it too: a triggerer forgets all when it restarts, so
    the task has to keep what was learned, and then wait on.

    :param tallyfy_conn_id: id of the Airflow connection.
    :param run_id: the run's id.
    :param condition: what to wait for.
    :param pace: how often to look.
    :param log: takes one line for every look that saw the run, and few for those that did not.
    :param looked_at: when a worker looked at the run, in seconds since the epoch; ``None`` for never.
    :param outlives_refusals: go on even then, as a sensor with ``silent_fail`` does.
    """
    with watching(tallyfy_conn_id, run_id, condition.with_, pace, looked_at) as member:
        failures = 0
        while True:
            seen = await member.next_look()
            verdict = judge(condition, run_id, seen)
            if isinstance(verdict, Unseen) or (outlives_refusals and isinstance(verdict, Refused)):
                failures += 1
                if failures.bit_count() == 1:
                    log.warning("Look %d in a row failed; the wait goes on: %s", failures, verdict.error)
                continue
            is_over = verdict != Waiting(condition)
            if isinstance(seen, Sight):
                if is_over and seen.is_from_list:
                    member.confirm()
                    continue
                log.info("Run %s: %s", run_id, described(seen.run))
                if failures:
                    log.info(
                        "Tallyfy is seen again after %d failed looks; the wait went on all the time", failures
                    )
                failures = 0
            if is_over:
                return verdict
