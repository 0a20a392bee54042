"""A trigger that does nothing, and so costs what every trigger costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

_LONG = 86_400.0


class SleepingTrigger(BaseTrigger):
    """Sleeps for a day, then fires."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.sleep(_LONG)
        yield TriggerEvent(True)
