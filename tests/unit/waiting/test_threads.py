"""Calls that block, made from an event loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from contextvars import ContextVar

import pytest
from asgiref.sync import async_to_sync

from airflow_provider_tallyfy.waiting.threads import (
    MAX_PER_PASS,
    DaemonThreads,
    in_thread,
    log_in_thread,
    spread,
    turn_to_push,
)

LONGEST = 10.0


@pytest.fixture
def executor():
    return DaemonThreads(1, "test")


def test_it_returns_what_the_call_returns_and_raises_what_it_raises(executor):
    assert asyncio.run(in_thread(executor, divmod, 7, 2)) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_thread(executor, divmod, 7, 0))


def test_a_call_is_not_cancelled_with_its_caller(executor):
    """Airflow before 3.2 ends its triggerer if a response of the supervisor is not read."""
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


def test_a_pool_uses_its_maximum_of_threads():
    pool, meeting = DaemonThreads(3, "test"), threading.Barrier(3, timeout=LONGEST)
    calls = [pool.submit(meeting.wait) for _ in range(6)]
    assert sorted(call.result(LONGEST) for call in calls) == [0, 0, 1, 1, 2, 2]
    names = {pool.submit(threading.get_ident).result(LONGEST) for _ in range(20)}
    assert len(names) <= 3


def test_a_pool_that_is_shut_down_finishes_its_calls_and_ends_its_threads():
    pool, may_go_on = DaemonThreads(2, "shut-down"), threading.Event()
    calls = [pool.submit(may_go_on.wait, LONGEST) for _ in range(3)]
    threads = [thread for thread in threading.enumerate() if thread.name == "shut-down"]
    pool.shutdown()
    late = pool.submit(divmod, 7, 2)
    assert late.result(LONGEST) == (3, 1)
    pool.shutdown()
    may_go_on.set()
    assert all(call.result(LONGEST) for call in calls)
    for thread in threads:
        thread.join(LONGEST)
    assert not any(thread.is_alive() for thread in threads)


def test_threads_do_not_keep_the_process_from_ending():
    program = (
        "import threading\n"
        "from airflow_provider_tallyfy.waiting.threads import DaemonThreads\n"
        "began = threading.Event()\n"
        "DaemonThreads(1, 'test').submit(lambda: (began.set(), threading.Event().wait()))\n"
        "began.wait()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_log_lines_keep_order_and_context():
    wait, lines = ContextVar("wait"), []

    async def log(number):
        wait.set(number)
        for line in "ab":
            await log_in_thread(lambda message, *args: lines.append((wait.get(), message % args)), "%s", line)

    async def play():
        await asyncio.gather(*(log(number) for number in range(100)))

    asyncio.run(play())
    assert len(lines) == 200
    assert [line for line in lines if line[1] == "a"] == [(number, "a") for number in range(100)]
    assert all(lines.index((number, "a")) < lines.index((number, "b")) for number in range(100))


def test_spread_limits_the_calls_in_a_pass_of_all_callers():
    done, of_a_pass = [], []

    async def count_passes():
        while len(done) < 1000:
            before = len(done)
            await asyncio.sleep(0)
            of_a_pass.append(len(done) - before)

    async def play():
        counting = asyncio.create_task(count_passes())
        await asyncio.gather(*(spread(done.append, range(250)) for _ in range(4)))
        await counting

    asyncio.run(play())
    assert len(done) == 1000
    assert 0 < max(of_a_pass) <= MAX_PER_PASS


def test_turn_to_push_admits_four_at_a_time():
    pushing, most = 0, 0

    async def push():
        nonlocal pushing, most
        async with turn_to_push():
            pushing += 1
            most = max(most, pushing)
            await asyncio.sleep(0)
            pushing -= 1

    async def play():
        await asyncio.gather(*(push() for _ in range(100)))

    asyncio.run(play())
    assert 1 < most <= 4
