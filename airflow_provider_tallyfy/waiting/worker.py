"""The polls of one wait while it has a worker: in poke and reschedule mode, and before and after a deferral."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSensorTimeout,
    AirflowSkipException,
)

from airflow_provider_tallyfy.protocol.payload import sanitize_payload
from airflow_provider_tallyfy.version_compat import deferral_hold
from airflow_provider_tallyfy.waiting.evidence import Evidence, Log, PollEvaluator
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
from airflow_provider_tallyfy.waiting.polls import (
    MAX_RETRY_AFTER,
    FetchRun,
    ReloadingHook,
    RunSnapshot,
)
from airflow_provider_tallyfy.waiting.scheduler.endpoint_health import EndpointHealth

if TYPE_CHECKING:
    from airflow_provider_tallyfy.exceptions import TallyfyError
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook


class RunPoller(Generic[C]):
    """
    Polls one run for a task that has a worker.

    :param tallyfy_conn_id: id of the Airflow connection.
    :param run_id: the run's id.
    :param log: the task's.
    :param ignore_denials: keep waiting if Tallyfy refuses the connection's credentials.
    """

    def __init__(self, tallyfy_conn_id: str, run_id: str, log: Log, *, ignore_denials: bool = False) -> None:
        self._hook = ReloadingHook(tallyfy_conn_id)
        self._run_id = run_id
        self._log = log
        self._ignore_denials = ignore_denials
        self._evaluator: PollEvaluator[C] | None = None
        self._tasks_health = EndpointHealth("list of tasks")
        self._was_read = False
        self._now = 0.0
        self._paused_until = 0.0
        self._pause_reason: TallyfyError | None = None

    @property
    def hook(self) -> TallyfyHook:
        """The hook that it polls through."""
        return self._hook.hook

    @property
    def last_updated(self) -> str | None:
        """The newest ``last_updated`` of the run that was seen."""
        return self._evaluator.evidence.last_updated if self._evaluator is not None else None

    @property
    def trigger_arguments(self) -> dict[str, Any]:
        """The arguments of a trigger that continues these polls."""
        if self._evaluator is None or not self._was_read or (connection := self._hook.connection) is None:
            return {}
        return {
            "last_line": self._evaluator.last_line,
            "last_updated": self.last_updated,
            "api_url": connection.api_url,
            "organization": connection.organization,
        }

    @property
    def paused_for(self) -> float:
        """Seconds that are left of Tallyfy's last ``Retry-After``."""
        return max(self._paused_until - self._clock(), 0.0) if self._pause_reason is not None else 0.0

    def poll(
        self,
        condition: C,
        *,
        confirm: bool = True,
        last_updated: str | None = None,
        at_first_read: Callable[[str], object] = lambda url: None,
    ) -> Outcome[C]:
        """
        Poll once, log what is new, and return what it means.

        While Tallyfy's last ``Retry-After`` lasts, nothing is sent.

        :param confirm: poll again, some seconds later, if one answer is not enough to end the wait.
        :param last_updated: the run's ``last_updated`` in a poll before the first one of this object.
        :param at_first_read: called once, when the run was read, with the URL of the process in Tallyfy's app.
        """
        if self._evaluator is None:
            evidence = Evidence(self._run_id, condition, last_updated)
            self._evaluator = PollEvaluator(evidence, self._log, ignore_denials=self._ignore_denials)
        self._evaluator.evidence.condition = condition
        if self._pause_reason is not None and self.paused_for:
            return PollFailed(self._pause_reason)
        while True:
            outcome = self._poll_once(self._evaluator, at_first_read)
            for write, message, arguments in self._evaluator.take_log_calls():
                write(message, *arguments)
            if not isinstance(outcome, Unconfirmed) or not confirm:
                return outcome
            self._now = self._clock() + outcome.recheck_after
            time.sleep(outcome.recheck_after)

    def finish_after_timeout(self, condition: C, finish: Callable[[Final], dict[str, Any]]) -> dict[str, Any]:
        """
        Poll once more after a deferral timed out, and return the result if the condition was met in its last seconds.

        :param finish: ends the task by its outcome.
        :raises AirflowSensorTimeout: nothing ended the wait.
        """
        try:
            outcome: Outcome[C] | None = self.poll(condition)
        except AirflowNotFoundException:  # no connection any more
            outcome = None
        if isinstance(outcome, (Met, Unreachable, Skipped, Denied)):
            return finish(outcome)
        raise AirflowSensorTimeout(
            f"The wait timed out, still waiting until {condition.describe_goal()}; run {self._run_id}"
        )

    def _poll_once(self, evaluator: PollEvaluator[C], at_first_read: Callable[[str], object]) -> Outcome[C]:
        from airflow_provider_tallyfy import metrics  # DAG files are parsed all day, and record nothing

        polled_at = self._clock()
        fetch = FetchRun.for_conditions(
            self._run_id,
            [evaluator.evidence.condition],
            tasks_error=self._tasks_health.pause_reason(polled_at),
        )
        result = self._hook.fetch(fetch)
        self._hook.close_idle()  # or what is between here and Tallyfy forgets the connection before the next poll
        is_read = isinstance(result, RunSnapshot)
        metrics.polled(self._hook.tallyfy_conn_id, succeeded=int(is_read), failed=int(not is_read))
        outcome = evaluator.evaluate(result, polled_at)
        self._pause_reason = None
        if isinstance(outcome, PollFailed):
            if retry_after := outcome.error.retry_after:
                self._pause_reason = outcome.error
                self._paused_until = polled_at + min(retry_after, MAX_RETRY_AFTER)
        elif isinstance(result, RunSnapshot):
            self._tasks_health.note_task_list(fetch, result, polled_at)
            if not self._was_read:
                self._was_read = True
                at_first_read(self.hook.run_url(self._run_id))
        return outcome

    def _clock(self) -> float:
        """Return the seconds on a clock that a pause moves on, even if no time passes in it."""
        self._now = max(self._now, time.monotonic())
        return self._now


def finish(outcome: Final, log_result: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """
    End a task by the outcome of its wait: return the result, or raise.

    :param log_result: called with the result; an exception is logged by Airflow.
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


def time_left(ends_at: float, now: float, at_most: float) -> timedelta:
    """Return the timeout of a trigger, never shorter than Airflow needs between a deferral and its end."""
    return timedelta(seconds=max(min(ends_at - now, at_most), deferral_hold()))
