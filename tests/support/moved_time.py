"""A clock for code that takes one in place of :mod:`time`."""

from __future__ import annotations


class MovedTime:
    """A clock that pauses move."""

    def __init__(self):
        self.now = 1000.0
        self.pauses = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.pauses.append(seconds)
