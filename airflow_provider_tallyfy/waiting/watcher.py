"""
The watcher: looks at a run again and again, for waits that live in the triggerer.

Here each wait looks for itself. What a wait needs of it is only :func:`watch`, so that one watcher can come to look for
many waits at once without any of them noticing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async

from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.waiting.looks import Blank, Look, look, unread_connection
from airflow_provider_tallyfy.waiting.pace import Pace

P = ParamSpec("P")
T = TypeVar("T")

_LOOKS_AT_ONCE = 16

# Looks of their own threads: those of Airflow and of other triggers must not wait behind a Tallyfy that hangs.
_threads = ThreadPoolExecutor(_LOOKS_AT_ONCE, thread_name_prefix="tallyfy-look")


def in_thread(function: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """Return a function that runs in one of the looks' threads, and is awaited."""
    return sync_to_async(function, thread_sensitive=False, executor=_threads)


async def watch(
    tallyfy_conn_id: str, run_id: str, with_: tuple[str, ...], pace: Pace, first_look_in: float = 0.0
) -> AsyncIterator[Look]:
    """
    Look at a run, at the given pace, for as long as somebody wants the next look.

    The connection is read at the start, and anew after every look that failed for another reason than a 429: what was
    mended in Airflow meanwhile is taken up. After a refusal that look comes at once, before the refusal is told.
    Nothing that Tallyfy, the network or a secrets backend does makes it raise, and it never blocks the event loop.

    :param tallyfy_conn_id: id of the Airflow connection.
    :param run_id: the run's id.
    :param with_: what to include.
    :param pace: how long to wait between looks.
    :param first_look_in: seconds before the first one.
    :raises ValueError: ``run_id`` can be no id.
    """
    hook: TallyfyHook | None = None
    looks = failures = 0
    pause = first_look_in
    while True:
        if pause:
            await asyncio.sleep(pace.not_beyond_the_end(pause, time.time()))
        hook, seen = await _look(hook, tallyfy_conn_id, run_id, with_)
        if isinstance(seen, Blank) and seen.is_refusal:
            hook, seen = await _look(None, tallyfy_conn_id, run_id, with_)
        yield seen
        if isinstance(seen, Blank):
            failures += 1
            pause = pace.after_failure(failures, seen.error.retry_after)
            if seen.may_be_the_connections_fault:
                hook = None
        else:
            looks, failures = looks + 1, 0
            pause = pace.after_look(looks)


async def _look(
    hook: TallyfyHook | None, tallyfy_conn_id: str, run_id: str, with_: tuple[str, ...]
) -> tuple[TallyfyHook | None, Look]:
    """Look once; a connection that cannot be read is one more reason to see nothing for now."""
    if hook is None:
        try:
            # The wait itself repeats, at its own pace; a call that did so too would hold a thread meanwhile.
            hook = await TallyfyHook.with_connection_read(tallyfy_conn_id, retries=0)
        except Exception as error:  # noqa: BLE001 (whatever it is, an exception here would end the wait)
            return None, Blank(unread_connection(tallyfy_conn_id, error))
    return hook, await _look_in_thread(hook, run_id, with_)


def _look_and_hang_up(hook: TallyfyHook, run_id: str, with_: tuple[str, ...]) -> Look:
    """Look, and keep no socket open until the next look, for which it would be stale."""
    try:
        return look(hook, run_id, with_)
    finally:
        hook.get_conn().close()


_look_in_thread = in_thread(_look_and_hang_up)
