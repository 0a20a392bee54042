"""Calls that block, made from an event loop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import async_to_sync

from airflow_provider_tallyfy.waiting.threads import in_thread

LONGEST = 10.0


@pytest.fixture
def executor():
    with ThreadPoolExecutor(1) as executor:
        yield executor


def test_it_returns_what_the_call_returns_and_raises_what_it_raises(executor):
    assert asyncio.run(in_thread(executor, divmod, 7, 2)) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_thread(executor, divmod, 7, 0))


def test_a_call_under_way_goes_on_when_nobody_waits_for_it_any_more(executor):
    """Airflow before 3.2 ends its triggerer over an answer of the supervisor's that nobody reads."""
    begins, ends, cancelled = threading.Event(), threading.Event(), []

    async def ask_the_supervisor():
        try:
            await asyncio.to_thread(ends.wait, LONGEST)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    def call():
        begins.set()
        async_to_sync(ask_the_supervisor)()  # as Airflow does

    async def play():
        waiting = asyncio.create_task(in_thread(executor, call))
        await asyncio.to_thread(begins.wait, LONGEST)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        others = asyncio.all_tasks() - {asyncio.current_task()}
        ends.set()
        return [task.exception() for task in (await asyncio.wait(others, timeout=LONGEST))[0]]

    assert set(asyncio.run(play())) == {None}
    assert not cancelled
