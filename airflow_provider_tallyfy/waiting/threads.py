"""
Calls that block, made from an event loop.

The rule held here: a call that began is waited out, even if nobody wants its answer any more. It may have asked
Airflow's supervisor something, and before Airflow 3.2 an answer that nobody reads ends the whole triggerer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async

P = ParamSpec("P")
T = TypeVar("T")

#: For what is pushed to XCom. Few, since many waits may begin at once, and a triggerer has one line to its supervisor.
PUSHING = ThreadPoolExecutor(4, thread_name_prefix="tallyfy-xcoms")

_under_way: set[asyncio.Future[Any]] = set()  # an event loop keeps no hold of them itself


async def in_thread(
    executor: ThreadPoolExecutor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Return what a call returns in a thread. Whoever awaits it may be cancelled; the call goes on then."""
    under_way = asyncio.ensure_future(
        sync_to_async(call, thread_sensitive=False, executor=executor)(*args, **kwargs)
    )
    _under_way.add(under_way)
    under_way.add_done_callback(_under_way.discard)
    return await asyncio.shield(under_way)
