"""A trigger that measures by how much the event loop of a real triggerer is late, and what delays it."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

_INTERVAL = 0.02
_SAMPLE_INTERVAL = 0.1
_REPORT_ABOVE = 0.05
_TICKS_TO_COUNT = 50


class LoopProbeTrigger(BaseTrigger):
    """
    Writes one line of JSON for each pass of the event loop that is late, until it is cancelled.

    It also writes the number of triggers that run, into the file beside it that ends with ``.count``.

    :param path: the file to append to
    """

    def __init__(self, path: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path = path

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {"path": self.path}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        _Probe(Path(self.path)).tick()
        await asyncio.Event().wait()
        yield TriggerEvent(True)


class _Probe:
    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self._count = path.with_suffix(".count")
        self._ticks = 0
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._due: float | None = None
        self._stacks: list[list[str]] = []
        """Where the loop was found since the last call."""
        threading.Thread(target=self._watch, daemon=True).start()

    def tick(self) -> None:
        """Schedule itself every 20 ms, and note when a call is late."""
        now = time.monotonic()
        if self._due is not None and now - self._due > _REPORT_ABOVE:
            record = {"late": now - self._due, "stacks": ["\n".join(stack) for stack in self._stacks]}
            self._file.write(json.dumps(record) + "\n")
        self._stacks = []
        self._ticks += 1
        if self._ticks % _TICKS_TO_COUNT == 1:
            running = sum("(ID " in task.get_name() for task in asyncio.all_tasks())
            self._count.write_text(str(running))
        self._due = now + _INTERVAL
        self._loop.call_later(_INTERVAL, self.tick)

    def _watch(self) -> None:
        """Note every 100 ms where the event loop is, while it is late."""
        while True:
            time.sleep(_SAMPLE_INTERVAL)
            if self._due is not None and time.monotonic() - self._due > _REPORT_ABOVE:
                frame = sys._current_frames().get(self._loop_thread)
                stack = []
                while frame is not None:
                    stack.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
                    frame = frame.f_back
                self._stacks.append(stack[::-1])
