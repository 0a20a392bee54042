"""
Bounds the requests of a connection by a ceiling for each hour, and by the limits that Tallyfy's responses give.

It belongs to the connection: all that polls through it shares it, and it outlives them.

It is a token bucket. A fifth of the hourly ceiling may be sent at once, as after a start, or when many people complete
their tasks within minutes; three quarters are refilled over the hour. Together they stay below the ceiling in every
hour, with room for fetches that need more than one request. Requests that can wait use the burst only if it is ample.
"""

from __future__ import annotations

from math import inf

BURST_SHARE = 0.2
REFILL_SHARE = 0.75
AMPLE_SHARE = 0.75
"""Share of the burst that has to be left before requests that can wait use it."""
RESERVE = 10
"""Requests of a minute to leave to others, of those that Tallyfy says are left."""
_MINUTE = 60.0


class RequestBudget:
    """
    Bounds the requests of one connection.

    :param requests_per_hour: the ceiling; 0 for none.
    """

    def __init__(self, requests_per_hour: float = 0) -> None:
        self._limit = 0.0
        self._tokens = inf
        self._updated_at = -inf
        self._paused_until = -inf
        self.refused_until = -inf
        """Until when Tallyfy takes no request, as a 429 said."""
        self.set_limit(requests_per_hour)

    @property
    def limit(self) -> float:
        """The ceiling in requests an hour; 0 for none."""
        return self._limit

    @property
    def pause(self) -> float:
        """Seconds between two requests when the burst is used up; 0 without a ceiling."""
        return 3600 / (self._limit * REFILL_SHARE) if self._limit else 0.0

    @property
    def _burst(self) -> float:
        return max(self._limit * BURST_SHARE, 1.0) if self._limit else inf

    def set_limit(self, requests_per_hour: float) -> None:
        """Change the ceiling."""
        if requests_per_hour != self._limit:
            left = self._tokens if self._limit else inf
            self._limit = requests_per_hour
            self._tokens = min(left, self._burst)

    def is_ample(self, now: float) -> bool:
        """Return whether enough of the burst is left for requests that could also wait."""
        self._refill(now)
        return self._tokens > self._burst * AMPLE_SHARE or not self._limit

    def available_at(self, now: float) -> float:
        """Return when the next request may be sent: ``now``, or later."""
        self._refill(now)
        missing = max(1.0 - self._tokens, 0.0) if self._limit else 0.0
        return max(now + missing * self.pause, self._paused_until, now)

    def spend(self, requests: int, now: float) -> None:
        """Count requests that were sent."""
        self._refill(now)
        if self._limit:
            self._tokens -= requests

    def heed_remaining(self, remaining: int | None, now: float) -> None:
        """Heed Tallyfy's ``X-RateLimit-Remaining``: the last few requests of a minute are left to others."""
        if remaining is not None and remaining <= RESERVE:
            self._paused_until = now + _MINUTE / RESERVE

    def _refill(self, now: float) -> None:
        if self._limit and now > self._updated_at:
            if self._updated_at != -inf:
                self._tokens = min(self._tokens + (now - self._updated_at) / self.pause, self._burst)
            self._updated_at = now
