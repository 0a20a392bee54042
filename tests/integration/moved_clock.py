"""The watcher's clock for tests that wait without waiting."""

from __future__ import annotations

import asyncio

from airflow_provider_tallyfy.waiting.threads import LOGGING

BEGINS_AT = 1000.0


async def settle():
    """Let the waits take what they were told, and write what they have to say about it."""
    for _ in range(2):
        for _ in range(4):
            await asyncio.sleep(0)
        await asyncio.wrap_future(LOGGING.submit(int))


class MovedClock:
    """
    A pause takes no time, and is the moment for whatever people do meanwhile.

    :param acts: what is done, one in each pause.
    """

    def __init__(self, acts):
        self.pauses = []
        self._acts = iter(acts)
        self._now = BEGINS_AT

    @property
    def passed(self):
        """Seconds since the beginning."""
        return self._now - BEGINS_AT

    def now(self):
        return self._now

    async def wait(self, event, until):
        for _ in range(10):
            if event.is_set():
                return
            await settle()
        self.pauses.append(until - self._now)
        self._now = until
        if act := next(self._acts, None):
            await asyncio.to_thread(act)
