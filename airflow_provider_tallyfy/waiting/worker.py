"""The polls of one wait while it has a worker: in poke and reschedule mode, and before and after a deferral."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_tallyfy.protocol.payload import sanitize_payload
from airflow_provider_tallyfy.waiting import messages
from airflow_provider_tallyfy.waiting.evidence import GONE_AFTER_SECONDS, Evidence
from airflow_provider_tallyfy.waiting.fetches import FetchRun
from airflow_provider_tallyfy.waiting.outcomes import (
    C,
    Denied,
    Final,
    Met,
    Outcome,
    PollFailed,
    Skipped,
    Unconfirmed,
    Unreachable,
)
from airflow_provider_tallyfy.waiting.polls import RunSnapshot
from airflow_provider_tallyfy.waiting.reloading_hook import ReloadingHook
from airflow_provider_tallyfy.waiting.schedule import MAX_RETRY_AFTER

if TYPE_CHECKING:
    from airflow_provider_tallyfy.exceptions import TallyfyError
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
    from airflow_provider_tallyfy.waiting.triggerer import Log


class RunPoller(Generic[C]):
    """
    Polls one run for a task that has a worker.

    :param tallyfy_conn_id: id of the Airflow connection.
    :param run_id: the run's id.
    :param log: the task's.
    :param gone_after: seconds for which Tallyfy has to say that there is no such run.
    """

    def __init__(
        self, tallyfy_conn_id: str, run_id: str, log: Log, gone_after: float = GONE_AFTER_SECONDS
    ) -> None:
        self._gone_after = gone_after
        self._hook = ReloadingHook(tallyfy_conn_id)
        self._run_id = run_id
        self._log = log
        self._evidence: Evidence[C] | None = None
        self._is_read = False
        self.last_line: int | None = None
        """The checksum of the line that was logged last, for the trigger that goes on."""
        self._now = 0.0
        self._paused_until = 0.0
        self._pause_reason: TallyfyError | None = None

    @property
    def hook(self) -> TallyfyHook:
        """The hook that it polls through."""
        return self._hook.hook

    @property
    def target(self) -> dict[str, str]:
        """Which API and organization the run was read in, as arguments for a trigger."""
        if not self._is_read or (connection := self._hook.connection) is None:
            return {}
        return {"api_url": connection.api_url, "organization": connection.organization}

    def poll(
        self,
        condition: C,
        *,
        confirm: bool = True,
        at_first_read: Callable[[str], object] = lambda url: None,
    ) -> Outcome[C]:
        """
        Poll once, log what is new, and return what it means.

        While Tallyfy's last ``Retry-After`` lasts, nothing is sent.

        :param confirm: poll again, some seconds later, if one answer is not enough to end the wait.
        :param at_first_read: called once, when the run was read, with the address of the process for people.
        """
        if self._evidence is None:
            self._evidence = Evidence(self._run_id, condition, self._gone_after)
        self._evidence.condition = condition
        if self._pause_reason is not None and self._clock() < self._paused_until:
            return PollFailed(self._pause_reason)
        while True:
            outcome = self._poll_once(self._evidence, at_first_read)
            if not isinstance(outcome, Unconfirmed) or not confirm:
                return outcome
            self._log.info(
                "Not certain yet, polling again in %.0f s: %s", outcome.recheck_after, outcome.reason
            )
            self._now = self._clock() + outcome.recheck_after
            time.sleep(outcome.recheck_after)

    def _poll_once(self, evidence: Evidence[C], at_first_read: Callable[[str], object]) -> Outcome[C]:
        from airflow_provider_tallyfy import metrics  # DAG files are parsed all day, and record nothing

        polled_at = self._clock()
        result = self._hook.fetch(FetchRun.for_conditions(self._run_id, [evidence.condition]))
        self._hook.close_idle()  # or what is between here and Tallyfy forgets the connection before the next poll
        is_read = isinstance(result, RunSnapshot)
        metrics.polled(self._hook.tallyfy_conn_id, succeeded=int(is_read), failed=int(not is_read))
        outcome = evidence.evaluate(result, polled_at)
        self._pause_reason = None
        if isinstance(outcome, PollFailed):
            self._log.warning("Poll failed, the wait goes on: %s", outcome.error)
            if retry_after := outcome.error.retry_after:
                self._pause_reason = outcome.error
                self._paused_until = polled_at + min(retry_after, MAX_RETRY_AFTER)
        elif isinstance(result, RunSnapshot):
            if isinstance(outcome, Met) and outcome.warning:
                self._log.warning("%s", outcome.warning)
            self._log_line(f"{evidence.condition.describe_run(result)}; run {self._run_id}")
            if not self._is_read:
                self._is_read = True
                at_first_read(self.hook.run_url(self._run_id))
        return outcome

    def _log_line(self, line: str) -> None:
        """Log a line, but not the same one again."""
        if (checksum := messages.checksum(line)) != self.last_line:
            self.last_line = checksum
            self._log.info("%s", line)

    def _clock(self) -> float:
        """Return the seconds on a clock that a pause moves on, even if no time passes in it."""
        self._now = max(self._now, time.monotonic())
        return self._now


def finish(outcome: Final, log_result: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """
    End a task as the outcome of its wait says: return the result, or raise.

    :param log_result: takes the result; what is raised says the rest itself.
    :raises AirflowFailException: it can never be met; the task fails without retries.
    :raises AirflowSkipException: the task is to be skipped.
    :raises TallyfyError: Tallyfy does not let this connection poll; retries apply.
    """
    match outcome:
        case Met(result):
            log_result(result)
            sanitized: dict[str, Any] = sanitize_payload(result)
            return sanitized
        case Unreachable(reason):
            raise AirflowFailException(reason)
        case Skipped(reason):
            raise AirflowSkipException(reason)
        case Denied(error):
            raise error
