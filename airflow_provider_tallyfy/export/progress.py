"""Log the progress of an export, in one line every half minute."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

INTERVAL = 30.0


class Progress:
    """
    Counts what was read, and logs it.

    :param log: a logger's ``info``.
    :param now: returns seconds that only grow.
    """

    def __init__(self, log: Callable[..., object], now: Callable[[], float]) -> None:
        self._log = log
        self._now = now
        self._began_at = self._logged_at = now()
        self._runs = self._records = self._requests = 0
        self._total: int | None = None

    def add(self, records: int, requests: int, total: int | None) -> None:
        """
        Count a run.

        :param records: how many records the run has.
        :param requests: how many requests were sent in all.
        :param total: how many runs the list has, if it says so; some of them may not have changed.
        """
        self._runs += 1
        self._records += records
        self._requests, self._total = requests, total
        self.tick()

    def tick(self) -> None:
        """Log a line if the last one is half a minute old."""
        now = self._now()
        if now - self._logged_at < INTERVAL:
            return
        self._logged_at = now
        rate = self._runs / (now - self._began_at)
        end = ""
        if self._total is not None and rate and self._total > self._runs:
            left = timedelta(seconds=round((self._total - self._runs) / rate))
            end = f", at most {left} to go"
        self._log(
            "Read %d runs (%d records) with %d requests, %.1f runs/s%s",
            self._runs,
            self._records,
            self._requests,
            rate,
            end,
        )
