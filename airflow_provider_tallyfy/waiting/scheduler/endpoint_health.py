"""A circuit breaker for an endpoint that waits can do without."""

from __future__ import annotations

from math import inf

from airflow_provider_tallyfy.exceptions import TallyfyError
from airflow_provider_tallyfy.waiting.polls import FetchRun, PollError, RunSnapshot
from airflow_provider_tallyfy.waiting.threads import BackgroundLogger

MAX_FAILURES = 3
"""Failures in a row after which an endpoint is not used for a while."""
MIN_DISABLED = 300.0
MAX_DISABLED = 3600.0
"""Seconds for which an endpoint is not used, the first time and at most; also the maximum ``Retry-After``."""

logger = BackgroundLogger(__name__)


class EndpointHealth:
    """
    Counts the failures of one endpoint, and decides whether to use it.

    :param name: its name in the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._failures = 0
        self._times_disabled = 0
        self._disabled_until = -inf
        self.retry_at = -inf
        """When to use the endpoint again after a failure."""
        self.last_failed_at = -inf
        self._error: TallyfyError | None = None

    def pause_reason(self, now: float) -> TallyfyError | None:
        """Return the failure because of which the endpoint is not used now, or ``None`` if it is."""
        return self._error if now < self.retry_at else None

    def is_disabled(self, now: float) -> bool:
        """Return whether to do without the endpoint."""
        return now < self._disabled_until

    def succeed(self) -> None:
        """Note that the endpoint works."""
        self._failures = self._times_disabled = 0

    def fail(self, result: PollError, now: float) -> None:
        """Note a failure, and decide how long to do without the endpoint."""
        self._failures += 1
        self._error = result.error
        self.last_failed_at = now
        retry_after = min(result.error.retry_after or 0.0, MAX_DISABLED)
        if result.is_denial or result.is_missing:
            self.disable(str(result.error), now, MAX_DISABLED)
        elif self._failures >= MAX_FAILURES or retry_after > MIN_DISABLED / 10:
            self.disable(
                str(result.error), now, max(retry_after, MIN_DISABLED * 2.0 ** min(self._times_disabled, 10))
            )
        else:
            self.retry_at = now + max(retry_after, 2.0**self._failures)

    def note_task_list(self, request: FetchRun, snapshot: RunSnapshot, now: float) -> None:
        """Note whether the list of a run's tasks could be read; a refusal concerns that run only."""
        if request.tasks_error is not None:
            return  # it was not requested
        if snapshot.tasks_error is None:
            if request.required_tasks:
                self.succeed()
        elif (error := PollError(snapshot.tasks_error)).is_transient:
            self.fail(error, now)

    def disable(self, reason: str, now: float, seconds: float = MAX_DISABLED) -> None:
        """Do without the endpoint for some seconds."""
        seconds = min(seconds, MAX_DISABLED)
        self._failures = 0
        self._times_disabled += 1
        self._disabled_until = self.retry_at = now + seconds
        logger.warning(
            "Tallyfy's %s is not used for the next %.0f minutes; waits do without it: %s",
            self._name,
            seconds / 60,
            reason,
        )

    def reset(self) -> None:
        """Forget all failures, since they were not the endpoint's own."""
        self._failures = self._times_disabled = 0
        self._disabled_until = self.retry_at = self.last_failed_at = -inf
