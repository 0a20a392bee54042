"""The state that Airflow 3.3 keeps of an asset."""

from __future__ import annotations

import asyncio
import json


class AssetStateStore:
    """What Airflow stores for an asset, also while no triggerer runs."""

    def __init__(self):
        self.values = {}

    async def aget(self, key, default=None):
        await asyncio.sleep(0)
        return json.loads(self.values[key]) if key in self.values else default

    async def aset(self, key, value):
        await asyncio.sleep(0)
        self.values[key] = json.dumps(value)

    @property
    def cursor(self):
        [value] = self.values.values()
        return json.loads(value)
