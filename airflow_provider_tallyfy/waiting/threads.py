"""
Threads for calls that block, so that the event loop of a triggerer never does.

A triggerer runs all waits on one event loop, and talks to its supervisor through sockets that hold some 200 KiB. The
supervisor may be busy with its database for seconds, and reads nothing while it sends something itself. If the event
loop then blocks in writing a log line, it never reads what the supervisor sends, and both hang for ever. So log lines
are written in a thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async

P = ParamSpec("P")
T = TypeVar("T")

MAX_PER_PASS = 32
"""Items of :func:`spread` in one pass of the event loop, of all callers together."""

_Calls = SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]  # None ends a thread


class DaemonThreads(Executor):
    """
    A pool of threads that do not keep the process from ending.

    :param max_workers: maximum number of threads.
    :param name: their name.
    """

    def __init__(self, max_workers: int, name: str) -> None:
        self._max_workers = max_workers
        self._name = name
        self._calls: _Calls = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function in one of the threads."""
        future: Future[T] = Future()
        self._calls.put((future, partial(fn, *args, **kwargs)))
        self._threads = [thread for thread in self._threads if thread.is_alive()]  # after a fork, none is
        if len(self._threads) < self._max_workers:
            self._threads.append(
                threading.Thread(target=_run, args=(self._calls,), name=self._name, daemon=True)
            )
            self._threads[-1].start()
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """Let the threads end after the calls that were submitted; nothing is cancelled or waited for."""
        for _ in self._threads:
            self._calls.put(None)
        # Later calls get new threads: these may be busy for long, and end after that.
        self._calls, self._threads = SimpleQueue(), []


def _run(calls: _Calls) -> None:
    while (submitted := calls.get()) is not None:
        future, call = submitted
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 (the future raises it)
                future.set_exception(error)
        del submitted, future, call  # or the last result would be held until the next call


_MAX_PUSHES = 4  # at a time, since a triggerer has one connection to its supervisor
PUSHING = DaemonThreads(_MAX_PUSHES, "tallyfy-xcoms")
"""For XComs."""
LOGGING = DaemonThreads(1, "tallyfy-log")
"""For log lines. One, so that they keep their order."""

_under_way: set[asyncio.Future[Any]] = set()  # an event loop keeps no reference itself
_passes: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


async def in_thread(executor: Executor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """
    Call a function in a thread, and return its result.

    If the caller is cancelled, the call is not: it may be waiting for Airflow's supervisor, and before Airflow 3.2 an
    unread answer ends the whole triggerer.
    """
    under_way = asyncio.ensure_future(
        sync_to_async(call, thread_sensitive=False, executor=executor)(*args, **kwargs)  # type: ignore[call-overload]
    )
    _under_way.add(under_way)
    under_way.add_done_callback(_under_way.discard)
    return await asyncio.shield(under_way)


async def log_in_thread(write: Callable[..., object], message: str, *args: object) -> None:
    """
    Write a log line without blocking the event loop, and return when it is written.

    So a caller that awaits it is no faster than the supervisor reads, and lines and events cannot pile up.

    :param write: a logger's ``info`` or another of its methods.
    """
    # in_thread() costs several times as much, and thousands of waits may log in the same pass.
    await asyncio.wrap_future(LOGGING.submit(contextvars.copy_context().run, write, message, *args))


class BackgroundLogger:
    """
    A logger that does not block the event loop.

    :param name: the logger's name.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def warning(self, message: str, *args: object) -> None:
        """Write a warning."""
        self._write(self._logger.warning, message, *args)

    def exception(self, message: str, *args: object) -> None:
        """Write an error with the exception that is being handled."""
        self._write(self._logger.error, message, *args, exc_info=sys.exc_info())

    def _write(self, write: Callable[..., object], *args: object, **options: Any) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            write(*args, **options)
        else:
            LOGGING.submit(write, *args, **options)


async def spread(act: Callable[[T], object], items: Sequence[T]) -> None:
    """
    Call a function for each item, at most :data:`MAX_PER_PASS` times in a pass of the event loop, of all callers.

    :param act: called with an item; it must be quick.
    """
    lock = _passes.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    for start in range(0, len(items), MAX_PER_PASS):
        async with lock:
            for item in items[start : start + MAX_PER_PASS]:
                act(item)
            await asyncio.sleep(0)


def turn_to_push() -> asyncio.Semaphore:
    """Return the semaphore that lets a few callers push XComs at a time."""
    return _turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(_MAX_PUSHES))
