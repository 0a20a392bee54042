"""A clock for watchers and pollers whose pauses take no time."""

from __future__ import annotations

import asyncio

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

    :param actions: the actions, or ``None`` for none.
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
