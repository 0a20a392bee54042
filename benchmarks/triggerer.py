"""The process that is measured: it runs triggers as Airflow's triggerer does, and says what that takes."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib
import os
import resource
import time
from array import array
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

from benchmarks.contenders import CONTENDERS, Contender

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

    from airflow.triggers.base import BaseTrigger

    from benchmarks.organization import WaitedFor

_PROBE_INTERVAL = 0.02


@dataclass(frozen=True, slots=True)
class TriggererSettings:
    """
    What to run.

    :param contender: name of the trigger.
    :param url: the sandbox's address.
    :param authority: who vouches for its certificate, where it has one.
    :param interval: seconds between two looks.
    :param folder: a place for Airflow's home and the log.
    """

    contender: str
    url: str
    authority: Path | None
    interval: float
    folder: Path


@dataclass(frozen=True, slots=True)
class Fired:
    """
    The end of a wait.

    :param at: when, by the clock that all processes of a machine share.
    :param tells_a_change: whether the event says that another task is next.
    :param error: what the trigger raised, if it did.
    """

    run_id: str
    at: float
    tells_a_change: bool
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """
    What was used until now, or since the reading before.

    :param cpu: seconds, user and system, since the process began.
    :param lateness: by how many seconds each sleep of the probe took longer than it should, since the last reading.
    """

    at: float
    cpu: float
    lateness: array[float]


def run(connection: Connection, settings: TriggererSettings) -> None:
    """Do what the other end of the connection asks, until it is closed; the target of the triggerer's process."""
    contender = CONTENDERS[settings.contender]
    os.environ.update(
        {
            "AIRFLOW_HOME": str(settings.folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            **contender.environment(settings.url, settings.authority),
        }
    )
    contender.prepare()
    _log_to(settings.folder / "triggerer.log")
    asyncio.run(_Triggerer(contender, settings.interval).serve(connection))


class _Triggerer:
    def __init__(self, contender: Contender, interval: float) -> None:
        self._contender = contender
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
                case ("begin", runs, spread):
                    await self._begin(runs, spread)
                    connection.send(None)
                case ("read",):
                    connection.send(self._read())
                case ("fired",):
                    connection.send(list(self._fired))
                case ("memory",):
                    connection.send(self._memory())
        for task in self._tasks:
            task.cancel()
        # Threads may still wait for a server that is gone; nothing that they do counts any more.
        os._exit(0)

    async def _begin(self, runs: Sequence[WaitedFor], spread: float) -> None:
        for number, run in enumerate(runs, start=len(self._tasks) + 1):
            # As the triggerer: others get their turn, then the trigger gets a task, and so a context, of its own.
            await asyncio.sleep(spread / len(runs))
            trigger = self._contender.trigger(run, self._interval)
            await asyncio.sleep(0)
            self._tasks.append(asyncio.create_task(self._run_trigger(number, run.run_id, trigger)))

    async def _run_trigger(self, number: int, run_id: str, trigger: BaseTrigger) -> None:
        await _ensure_portal()
        _bind(trigger_id=number, ti_id=run_id, dag_id="dag", task_id="wait", run_id="run", try_number=1)
        try:
            async for event in trigger.run():
                tells_a_change = self._contender.tells_a_change(event.payload)
                self._fired.append(Fired(run_id, time.monotonic(), tells_a_change))
        except Exception as error:  # noqa: BLE001 (whatever it is, it ended the wait)
            self._fired.append(Fired(run_id, time.monotonic(), tells_a_change=False, error=repr(error)))

    def _probe(self, due: float | None = None) -> None:
        """Be called again and again, and note by how much each call came too late."""
        now = time.monotonic()
        if due is not None:
            self._lateness.append(now - due)
        # Not a task that sleeps: that costs several times as much, which would count as the waits'.
        asyncio.get_running_loop().call_later(_PROBE_INTERVAL, self._probe, now + _PROBE_INTERVAL)

    def _read(self) -> Reading:
        used = resource.getrusage(resource.RUSAGE_SELF)
        lateness, self._lateness = self._lateness, array("d")
        return Reading(time.monotonic(), used.ru_utime + used.ru_stime, lateness)

    def _memory(self) -> int:
        """Return the bytes that this process has in memory, once it gave back what it does not use."""
        gc.collect()
        _give_back()
        rss: int = psutil.Process().memory_info().rss
        self._lateness = array("d")  # that took time, which is not the waits' fault
        return rss


def _give_back() -> None:
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:  # not glibc
        return


def _log_to(path: Path) -> None:
    """Log to a file in the way that the triggerer logs to its supervisor, which then writes it to files."""
    try:
        from airflow.sdk.log import configure_logging
    except ImportError:  # Airflow 2
        import logging

        logging.basicConfig(filename=path, level=logging.INFO, force=True)
        return
    configure_logging(json_output=True, output=path.open("wb", buffering=0), sending_to_supervisor=True)


@cache
def _optional(module: str, name: str) -> Callable[..., Any] | None:
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except ImportError:
        return None
    return found


async def _ensure_portal() -> None:
    """Let what is synchronous wait for what is not, as Airflow 3's triggerer lets each trigger."""
    if (ensure_portal := _optional("greenback", "ensure_portal")) is not None:
        await ensure_portal()


def _bind(**values: Any) -> None:
    """Say in each line of the log which trigger it is from."""
    if (bind := _optional("structlog.contextvars", "bind_contextvars")) is not None:
        bind(**values)
