"""Send the reads of an export, which may take hours: within the request budget, and through 429s and outages."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, TypeVar

from airflow_provider_tallyfy.waiting.polls import PollError, ReloadingHook
from airflow_provider_tallyfy.waiting.scheduler.budget import RequestBudget

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

T = TypeVar("T")
MAX_OUTAGE = 3600.0
"""Seconds without one response after which the task fails; its retry continues where it stopped."""
_FIRST_PAUSE, _MAX_PAUSE = 4.0, 300.0
_IDLE_INTERVAL = 15.0


class Clock(Protocol):
    """The part of :mod:`time` that an export uses."""

    def monotonic(self) -> float:
        """Return seconds that only grow."""

    def sleep(self, seconds: float, /) -> None:
        """Pause."""


class RetryingClient:
    """
    Sends reads one after the other, each when the request budget allows it, and retries them.

    The ceiling is the connection's ``requests_per_hour``, as for waits. A worker does not know what triggerers send, so
    its budget is separate.

    :param hook: of the connection.
    :param warn: a logger's ``warning``, called for each failure.
    :param requests_per_hour: the ceiling, in place of the connection's; 0 for none.
    :param idle: called every 15 seconds while nothing is sent.
    """

    def __init__(
        self,
        hook: TallyfyHook,
        warn: Callable[..., object],
        *,
        requests_per_hour: float | None = None,
        idle: Callable[[], object] = lambda: None,
        clock: Clock = time,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        connection = hook.connection
        # If the connection is changed to another organization meanwhile, it must not be read from.
        self._hook = ReloadingHook(hook.tallyfy_conn_id, wall_clock)
        self._target = (connection.api_url, connection.organization)
        self._budget = RequestBudget(
            connection.requests_per_hour if requests_per_hour is None else requests_per_hour
        )
        self._warn = warn
        self._idle = idle
        self._clock = clock
        self.requests = 0
        """How many HTTP requests were sent."""

    def fetch(self, fetch: Callable[[TallyfyHook], T]) -> T:
        """
        Return what a read returns, and retry it through 429s and outages.

        :param fetch: sends one request through the hook, or a few.
        :raises TallyfyError: Tallyfy refused, or did not respond for an hour.
        """
        failing_since: float | None = None
        failures = 0
        while True:
            self._sleep_until(self._budget.available_at(self._clock.monotonic()))
            result = self._hook.fetch(fetch, self._target)
            now = self._clock.monotonic()
            sent = max(self._hook.requests, 1)
            self.requests += sent
            self._budget.spend(sent, now)
            self._budget.heed_remaining(self._hook.rate_limit_remaining, now)
            if not isinstance(result, PollError):
                return result
            failing_since = now if failing_since is None else failing_since
            failures += 1
            pause = max(
                min(_FIRST_PAUSE * 2 ** min(failures - 1, 9), _MAX_PAUSE), result.error.retry_after or 0.0
            )
            if not result.is_transient or now + pause - failing_since > MAX_OUTAGE:
                raise result.error
            self._warn("Read failed (%d in a row), retrying in %.0f s: %s", failures, pause, result.error)
            self._sleep_until(now + pause)

    @property
    def clock_offset(self) -> timedelta:
        """How far Tallyfy's clock is ahead of this machine's, once a response was read."""
        return self._hook.clock_offset

    def close(self) -> None:
        """Close the sockets."""
        self._hook.close_idle()

    def _sleep_until(self, moment: float) -> None:
        while (left := moment - self._clock.monotonic()) > 0:
            self._clock.sleep(min(left, _IDLE_INTERVAL))
            self._idle()
