"""How long to wait before the next poll."""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import inf

MAX_RETRY_AFTER = 900.0
"""Seconds that one ``Retry-After`` may delay a look."""
LAST_POLL_BEFORE_END = 5.0
"""Seconds before the wait's timeout: enough for the look, and for what it saw to arrive."""


@dataclass(frozen=True, slots=True)
class PollSchedule:
    """
    The pace of a wait, with the meaning that Airflow's sensors give to these words.

    :param poke_interval: seconds between two looks.
    :param exponential_backoff: let that time double from look to look.
    :param max_wait: seconds that it does not go beyond, or ``None``.
    :param ends_at: when the wait times out, in seconds since the epoch; ``None`` for never. The last look comes shortly
        before, however long the pause would be.
    """

    poke_interval: float
    exponential_backoff: bool = False
    max_wait: float | None = None
    ends_at: float | None = None

    def after_poll(self, count: int) -> float:
        """
        Return the seconds to wait after look number ``count``, the first being 1.

        Airflow's own formula: half the interval first, doubling, with as much again by chance, at least a second.
        """
        if not self.exponential_backoff:
            return self.poke_interval
        base = max(self.poke_interval * 2.0 ** min(count - 2, 60), 1.0)
        return min(base * random.uniform(1, 2), self.max_wait or float("inf"))  # noqa: S311 (spreads load)

    def until_first_poll(self, looked_at: float | None, now: float) -> float:
        """
        Return the seconds to wait before the first look of a wait that was handed over.

        None, if the interval has passed since whoever handed it over looked; a restarted triggerer is not to lose time.

        :param looked_at: when that was, in seconds since the epoch; ``None`` for never.
        :param now: the same for now. A clock that jumped makes the pause no longer than the interval.
        """
        if looked_at is None:
            return 0.0
        return min(max(looked_at + self.poke_interval - now, 0.0), self.poke_interval)

    def until_last_poll(self, now: float) -> float:
        """Return the seconds until the look shortly before the wait times out; infinity where there is none to come."""
        left = inf if self.ends_at is None else self.ends_at - LAST_POLL_BEFORE_END - now
        return left if left > 0 else inf

    def after_failure(self, count: int, retry_after: float | None) -> float:
        """
        Return the seconds to wait after failure number ``count`` in a row, the first being 1.

        Sooner than after a look, since the last look told nothing; but never sooner than Tallyfy asked.
        """
        soon = min(2.0 ** min(count - 1, 60), max(self.poke_interval, 1.0)) * random.uniform(1, 1.5)  # noqa: S311
        return max(soon, min(retry_after or 0.0, MAX_RETRY_AFTER))
