"""A clock for code that takes one in place of :mod:`time`."""

from __future__ import annotations


class MovedTime:
    """
    A clock that moves only in pauses, which take no time.

    :param now: the time at the beginning, in seconds.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.pauses: list[float] = []

    def time(self) -> float:
        return self.now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
