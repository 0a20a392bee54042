"""Prints the files of the provider that one deferrable wait passes, from the DAG to HTTP and back."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

PACKAGE = Path(__file__).parents[1] / "airflow_provider_tallyfy"


class Trace:
    """The files that are entered, in order, and how often the way leads from one to another."""

    def __init__(self) -> None:
        self.files: dict[str, set[str]] = {}
        self.moves = 0
        self._last = ""

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event != "call" or not path.is_relative_to(PACKAGE) or "sandbox" in path.parts:
            return
        name = str(path.relative_to(PACKAGE))
        self.moves += name != self._last
        self._last = name
        self.files.setdefault(name, set()).add(frame.f_code.co_name)


def main() -> None:
    """Run a wait against the sandbox, and print its way."""
    os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-trace-"))
    logging.disable()
    from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID
    from airflow_provider_tallyfy.sandbox.server import SandboxServer
    from dev.sandbox import SandboxClient

    with SandboxServer(test_controls=True) as server:
        connection = {
            "conn_type": "tallyfy",
            "host": server.base_url,
            "login": "sandbox",
            "password": "sandbox-token",
        }
        os.environ["AIRFLOW_CONN_TALLYFY_DEFAULT"] = json.dumps(connection)
        people = SandboxClient(server.url)
        # Loaded beforehand, so that only what a wait does is in the trace.
        from airflow_provider_tallyfy.sensors.tallyfy import TallyfyNextTaskSensor
        from airflow_provider_tallyfy.triggers.tallyfy import TallyfyNextTaskTrigger

        next_task = people.next_task(SEEDED_RUN_ID)
        if next_task is None:
            raise RuntimeError("The seeded run has no next task.")
        task_id = next_task["id"]
        sensor = TallyfyNextTaskSensor(
            task_id="wait", run_id=SEEDED_RUN_ID, from_task=task_id, deferrable=True
        )
        trace = Trace()
        threading.setprofile(trace)
        sys.setprofile(trace)
        try:
            sensor._poller.poll(sensor._first_condition({}), confirm=False)
            people.complete_next(SEEDED_RUN_ID)
            trigger = TallyfyNextTaskTrigger(
                tallyfy_conn_id="tallyfy_default", run_id=SEEDED_RUN_ID, from_task=task_id, poke_interval=1.0
            )
            event = asyncio.run(_first(trigger))
            sensor.execute_complete({}, event, ends_at=0.0)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    layers: dict[str, list[str]] = {}
    for name in trace.files:
        layers.setdefault(name.partition("/")[0], []).append(name)
    for layer, names in layers.items():
        print(f"{layer}: {len(names)}")
        for name in names:
            print(f"    {name}: {', '.join(sorted(trace.files[name]))[:100]}")
    print(f"{len(trace.files)} files, {trace.moves} moves between them")


async def _first(trigger: Any) -> Any:
    async for event in trigger.run():
        return event.payload
    return None


if __name__ == "__main__":
    main()
