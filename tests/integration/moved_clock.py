"""Clocks for watchers, pollers and workers, whose pauses take no time."""

from __future__ import annotations

import asyncio
import time

from airflow_provider_tallyfy.waiting.threads import LOGGING

STARTED_AT = 1000.0


async def settle():
    """Let the waits take their results, and write their logs."""
    for _ in range(2):
        for _ in range(4):
            await asyncio.sleep(0)
        await asyncio.wrap_future(LOGGING.submit(int))


class MovedClock:
    """
    A pause takes no time. In each, the next of some actions is done.

    :param actions: the actions; ``None`` for a pause without one.
    """

    def __init__(self, actions):
        self.pauses = []
        self._actions = iter(actions)
        self._now = STARTED_AT

    @property
    def passed(self):
        """Seconds since the beginning."""
        return self._now - STARTED_AT

    def now(self):
        return self._now

    async def wait(self, event, until):
        for _ in range(10):
            if event.is_set():
                return
            await settle()
        self.pauses.append(until - self._now)
        self._now = until
        if action := next(self._actions, None):
            await asyncio.to_thread(action)


class SandboxTime:
    """
    Stands in for :mod:`time`; a pause takes no time, and moves the sandbox's clock, too.

    :param sandbox: the server.
    """

    def __init__(self, sandbox):
        self._sandbox = sandbox
        self._paused = 0.0

    def time(self):
        return time.time() + self._paused

    def monotonic(self):
        return time.monotonic() + self._paused

    def sleep(self, seconds):
        self._paused += seconds
        self._sandbox.change(lambda store: store.clock.advance(seconds))
