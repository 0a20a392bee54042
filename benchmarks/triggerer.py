"""The process that is measured: it runs triggers as Airflow's triggerer does, and reads what that takes."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import time
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

from benchmarks.implementations import IMPLEMENTATIONS, Implementation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from airflow.triggers.base import BaseTrigger

    from benchmarks.organization import RunToWaitFor

_PROBE_INTERVAL = 0.02


@dataclass(frozen=True, slots=True)
class TriggererSettings:
    """
    What to run.

    :param implementation: name of the trigger
    :param url: the sandbox's address
    :param authority: the CA bundle that its certificate is checked with, if it has one
    :param interval: seconds between two polls
    :param folder: has Airflow's home and the log
    """

    implementation: str
    url: str
    authority: Path | None
    interval: float
    folder: Path


@dataclass(frozen=True, slots=True)
class Fired:
    """
    The end of a wait.

    :param at: when, by the monotonic clock, which all processes of a machine share
    :param is_change: whether the event says that another task is next
    :param error: what the trigger raised, if anything
    """

    run_id: str
    at: float
    is_change: bool
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """
    What the process has used.

    :param at: when it was read
    :param cpu: seconds, user and system, since the process began
    :param lateness: by how many seconds each callback of the probe was late since the last reading
    """

    at: float
    cpu: float
    lateness: array[float]


def run(connection: Connection, settings: TriggererSettings) -> None:
    """Carry out what the other end of the connection sends, until it is closed; the target of the process."""
    implementation = IMPLEMENTATIONS[settings.implementation]
    os.environ.update(
        {
            "AIRFLOW_HOME": str(settings.folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            **implementation.environment(settings.url, settings.authority),
        }
    )
    implementation.prepare()
    from airflow.sdk.log import configure_logging

    # To a file, as JSON, as the triggerer logs to its supervisor.
    output = (settings.folder / "triggerer.log").open("wb", buffering=0)
    configure_logging(json_output=True, output=output, sending_to_supervisor=True)
    asyncio.run(_Triggerer(implementation, settings.interval).serve(connection))


class _Triggerer:
    def __init__(self, implementation: Implementation, interval: float) -> None:
        self._implementation = implementation
        self._interval = interval
        self._tasks: list[asyncio.Task[None]] = []
        self._fired: list[Fired] = []
        self._lateness = array("d")

    async def serve(self, connection: Connection) -> None:
        self._probe()
        requests: asyncio.Queue[Sequence[Any] | None] = asyncio.Queue()

        def receive() -> None:
            try:
                requests.put_nowait(connection.recv())
            except EOFError:
                asyncio.get_running_loop().remove_reader(connection.fileno())
                requests.put_nowait(None)

        asyncio.get_running_loop().add_reader(connection.fileno(), receive)
        while (request := await requests.get()) is not None:
            match request:
                case ("begin", runs):
                    await self._begin(runs)
                    connection.send(None)
                case ("read",):
                    connection.send(self._read())
                case ("fired",):
                    connection.send(list(self._fired))
                case ("memory",):
                    connection.send(self._memory())
        for task in self._tasks:
            task.cancel()
        # Threads may still wait for a server that is gone.
        os._exit(0)

    async def _begin(self, runs: Sequence[RunToWaitFor]) -> None:
        for number, run in enumerate(runs, start=len(self._tasks) + 1):
            # As the triggerer: other tasks run in between, and each trigger has a task and a context.
            await asyncio.sleep(0)
            trigger = self._implementation.trigger(run, self._interval)
            await asyncio.sleep(0)
            self._tasks.append(asyncio.create_task(self._run_trigger(number, run.run_id, trigger)))

    async def _run_trigger(self, number: int, run_id: str, trigger: BaseTrigger) -> None:
        from greenback import ensure_portal
        from structlog.contextvars import bind_contextvars

        await ensure_portal()
        bind_contextvars(
            trigger_id=number, ti_id=run_id, dag_id="dag", task_id="wait", run_id="run", try_number=1
        )
        try:
            async for event in trigger.run():
                is_change = self._implementation.is_change(event.payload)
                self._fired.append(Fired(run_id, time.monotonic(), is_change))
        except Exception as error:  # noqa: BLE001 (any error ends the wait)
            self._fired.append(Fired(run_id, time.monotonic(), is_change=False, error=repr(error)))

    def _probe(self, due: float | None = None) -> None:
        """Schedule itself every 20 ms, and note by how much each call is late."""
        now = time.monotonic()
        if due is not None:
            self._lateness.append(now - due)
        # A task that sleeps would cost several times as much, which would count as the waits'.
        asyncio.get_running_loop().call_later(_PROBE_INTERVAL, self._probe, now + _PROBE_INTERVAL)

    def _read(self) -> Reading:
        used = resource.getrusage(resource.RUSAGE_SELF)
        lateness, self._lateness = self._lateness, array("d")
        return Reading(time.monotonic(), used.ru_utime + used.ru_stime, lateness)

    def _memory(self) -> int:
        """Return the resident memory in bytes, after unused memory was returned to the system."""
        gc.collect()
        _trim()
        rss: int = psutil.Process().memory_info().rss
        self._lateness = array("d")  # the collection took time
        return rss


def _trim() -> None:
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:  # not glibc
        return
