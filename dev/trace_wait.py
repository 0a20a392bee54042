"""
Prints the files of the provider that one deferrable wait uses, from the DAG to HTTP and back.

A reader can stop at a *leaf*: it calls nothing further, or only plain functions, which are in `protocol/` (without I/O,
and without Airflow) or in a file that calls no other. All other files have to be *followed*.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

PACKAGE = Path(__file__).parents[1] / "airflow_provider_tallyfy"


class Trace:
    """The files that are entered, in order, and how often the control moves from one to another."""

    def __init__(self) -> None:
        self.files: dict[str, set[str]] = {}
        self.callees: defaultdict[str, set[str]] = defaultdict(set)
        self.moves = 0
        self._last = ""

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        name = _file_of(frame.f_code.co_filename)
        # The bodies of modules and classes run when they are imported, which is no part of a wait.
        if event != "call" or name is None or not frame.f_code.co_flags & 0x2:
            return
        self.moves += name != self._last
        self._last = name
        self.files.setdefault(name, set()).add(frame.f_code.co_name)
        caller = frame.f_back
        while caller is not None and _file_of(caller.f_code.co_filename) is None:
            caller = caller.f_back
        if (
            caller is not None
            and caller.f_code.co_flags & 0x2
            and (calling := _file_of(caller.f_code.co_filename)) != name
        ):
            self.callees[str(calling)].add(name)

    @property
    def followed(self) -> list[str]:
        """The files that call on into others."""
        return [name for name in self.files if not self._is_leaf(name)]

    @property
    def leaves(self) -> list[str]:
        """The other ones."""
        return [name for name in self.files if self._is_leaf(name)]

    def _is_leaf(self, name: str) -> bool:
        return name.startswith("protocol/") or all(map(self._is_plain, self.callees[name]))

    def _is_plain(self, name: str) -> bool:
        return name.startswith("protocol/") or all(
            callee.startswith("protocol/") for callee in self.callees[name]
        )


@cache
def _file_of(filename: str) -> str | None:
    path = Path(filename)
    if not path.is_relative_to(PACKAGE) or "sandbox" in path.parts:
        return None
    return str(path.relative_to(PACKAGE))


def main() -> None:
    """Run a wait against the sandbox, and print its files."""
    with tempfile.TemporaryDirectory(prefix="airflow-trace-") as home:
        os.environ["AIRFLOW_HOME"] = home
        _print_files(_traced_wait())


def _traced_wait() -> Trace:
    logging.disable()
    from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID
    from airflow_provider_tallyfy.sandbox.server import SandboxServer

    # Imported before the trace, since that takes most of the time.
    from airflow_provider_tallyfy.triggers.tallyfy import TallyfyNextTaskTrigger  # noqa: F401
    from airflow_provider_tallyfy.waiting import watcher  # noqa: F401
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
        next_task = people.next_task(SEEDED_RUN_ID)
        if next_task is None:
            raise RuntimeError("The seeded run has no next task.")
        trace = Trace()
        threading.setprofile(trace)
        sys.setprofile(trace)
        try:
            _wait(SEEDED_RUN_ID, next_task["id"], lambda: people.complete_next(SEEDED_RUN_ID))
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    return trace


def _print_files(trace: Trace) -> None:
    for kind, names in (("followed", trace.followed), ("leaves", trace.leaves)):
        print(f"{kind}: {len(names)}")
        for name in names:
            print(f"    {name}: {', '.join(sorted(trace.files[name]))[:100]}")
    print(
        f"{len(trace.files)} files: {len(trace.followed)} followed, {len(trace.leaves)} leaves; "
        f"{trace.moves} moves between them"
    )


def _wait(run_id: str, from_task: str, complete: Callable[[], object]) -> None:
    """Defer a sensor, let the task be completed while its trigger waits, and resume the sensor."""
    from airflow.providers.common.compat.sdk import TaskDeferred

    from airflow_provider_tallyfy.sensors.tallyfy import TallyfyNextTaskSensor

    sensor = TallyfyNextTaskSensor(
        task_id="wait", run_id=run_id, from_task=from_task, deferrable=True, poke_interval=1
    )
    try:
        sensor.poke({})
    except TaskDeferred as deferral:
        trigger = deferral.trigger
    complete()
    event = asyncio.run(_first(trigger))
    sensor.execute_complete({}, event, ends_at=0.0)


async def _first(trigger: Any) -> Any:
    async for event in trigger.run():
        return event.payload
    return None


if __name__ == "__main__":
    main()
