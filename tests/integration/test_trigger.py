"""The trigger, run as the triggerer runs it, against the sandbox's real server. Pauses take no time."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
import requests

from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID
from airflow_provider_tallyfy.sandbox.server import SandboxServer
from airflow_provider_tallyfy.triggers.tallyfy import TallyfyNextTaskTrigger
from airflow_provider_tallyfy.waiting import polls, watcher
from airflow_provider_tallyfy.waiting.next_task import NextTaskCondition
from airflow_provider_tallyfy.waiting.scheduler.waits import PollSchedule
from dev.sandbox import SandboxClient
from tests.integration.moved_clock import MovedClock

LONGEST = 30.0
SEEDED_NEXT_TASK_ID = "fe1f19fb78ae59688cb843354eb32649"


@pytest.fixture
def sandbox(server, monkeypatch):
    server.reset()
    connect(monkeypatch, server)
    return server


def connect(monkeypatch, server, password="sandbox-token"):  # noqa: S107
    settings = {
        "conn_type": "tallyfy",
        "host": server.base_url,
        "login": "sandbox",
        "password": password,
    }
    monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", json.dumps(settings))


class People:
    """A user of the seeded run."""

    def __init__(self, server):
        self.client = SandboxClient(server.url)

    def next_task_id(self):
        return self.client.next_task(SEEDED_RUN_ID)["id"]

    def complete_next(self):
        self.client.complete_next(SEEDED_RUN_ID)

    def archive(self):
        self.client.archive(SEEDED_RUN_ID)

    def delete(self):
        self.archive()
        self.client.delete(SEEDED_RUN_ID)

    def faults(self, fault):
        requests.post(f"{self.client.url}/_sandbox/faults", json=[fault], timeout=10).raise_for_status()


@pytest.fixture
def people(sandbox):
    return People(sandbox)


@pytest.fixture(params=["collection", "object"])
def next_task_format(request, people):
    people.client.behave(next_task=request.param)


@pytest.fixture
def triggered(monkeypatch, caplog):
    """Run a trigger until it fires. In each pause before a poll, the next of the given actions is done."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(TallyfyNextTaskTrigger, "log", logging.getLogger("trigger"))

    def run(*actions, **arguments):
        arguments.setdefault("from_task", SEEDED_NEXT_TASK_ID)
        clock = MovedClock(actions)
        run.pauses = clock.pauses

        async def first_event():
            with monkeypatch.context() as patched:
                patched.setattr(watcher, "Clock", lambda: clock)
                patched.setattr(watcher, "STARTUP_PAUSE", 0.0)
                event = await anext(trigger(**arguments).run())
                return event.payload

        async def in_time():
            return await asyncio.wait_for(first_event(), LONGEST)

        return asyncio.run(in_time())

    return run


def trigger(**arguments):
    return TallyfyNextTaskTrigger(
        **{
            "tallyfy_conn_id": "tallyfy_default",
            "run_id": SEEDED_RUN_ID,
            "from_task": None,
            "poke_interval": 60.0,
            **arguments,
        }
    )


@pytest.mark.usefixtures("next_task_format")
def test_a_completed_task_ends_it(people, triggered):
    before = people.next_task_id()
    event = triggered(None, people.complete_next)
    assert event["outcome"] == "met"
    assert event["result"]["from_task_id"] == before
    assert event["result"]["next_task"]["id"] == people.next_task_id() != before
    assert triggered.pauses == [60.0, 60.0]


@pytest.mark.usefixtures("next_task_format")
def test_the_end_of_the_run_ends_it(people, triggered):
    people.complete_next()
    event = triggered(people.complete_next, from_task=people.next_task_id())
    assert event["result"]["next_task"] is None
    assert event["result"]["run_status"] == "complete"


def test_it_sees_a_change_while_no_triggerer_ran(people, triggered):
    before = people.next_task_id()
    _, arguments = trigger(from_task=before).serialize()
    people.complete_next()
    assert triggered(**arguments)["result"]["from_task_id"] == before


@pytest.mark.parametrize(
    "action",
    [
        {"action": "status", "status": 429, "headers": {"Retry-After": "7"}},
        {"action": "status", "status": 503},
        {"action": "status", "status": 502, "body": "<html>Bad gateway</html>"},
        {"action": "status", "status": 404, "body": "<html>Not here</html>"},
        {"action": "drop"},
        {"action": "truncate"},
        {"action": "malformed"},
    ],
    ids=lambda action: "-".join(str(action[part]) for part in ("action", "status") if part in action),
)
def test_a_failure_that_passes_does_not_end_it(people, triggered, caplog, action):
    people.faults({"method": "GET", "path": "/runs/", "times": 5, **action})
    event = triggered(None, None, None, None, None, None, people.complete_next)
    assert event["outcome"] == "met"
    assert len(triggered.pauses) == 7
    if "headers" in action:
        assert all(pause >= 7 for pause in triggered.pauses[:5])
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 3  # the 1st, 2nd and 4th
    assert "works again (5 failed)" in caplog.text
    assert "sandbox-token" not in caplog.text


def test_a_server_that_is_down_does_not_end_it(monkeypatch, triggered):
    with SandboxServer() as first:
        connect(monkeypatch, first)
        port = int(first.url.rsplit(":", 1)[1])
    second = SandboxServer(port=port)

    def restart():
        second.__enter__()
        People(second).complete_next()

    try:
        event = triggered(None, None, None, restart)
    finally:
        second.__exit__(None, None, None)
    assert event["result"]["from_task_id"] == SEEDED_NEXT_TASK_ID


def test_without_from_task_it_returns_the_one_that_it_sees(people, triggered):
    event = triggered(people.complete_next, from_task=None)
    assert event == {"outcome": "pending", "condition": {"from_task_id": SEEDED_NEXT_TASK_ID}}


def test_a_connection_that_was_corrected_meanwhile_is_used(sandbox, people, triggered, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/api"
    people.complete_next()
    connect(monkeypatch, SimpleNamespace(base_url=url))
    assert triggered(None, lambda: connect(monkeypatch, sandbox))["outcome"] == "met"
    assert len(triggered.pauses) == 2


def test_the_first_poll_is_an_interval_after_the_sensor_s(people, triggered):
    triggered(people.complete_next, worker_polled_at=time.time() - 20)
    assert 35 < triggered.pauses[0] <= 40
    assert len(triggered.pauses) == 1


def test_the_last_poll_is_shortly_before_the_sensor_times_out(people, triggered):
    triggered(None, people.complete_next, worker_polled_at=None, ends_at=time.time() + 30)
    assert 20 < triggered.pauses[0] <= 25


def test_it_closes_its_socket_in_a_long_pause(sandbox, people, triggered):
    sockets = sandbox._server.server_state.connections
    of_other_tests = set(sockets)

    def all_are_closed():
        ends_at = time.monotonic() + LONGEST
        while sockets - of_other_tests and time.monotonic() < ends_at:
            time.sleep(0.01)
        assert not sockets - of_other_tests
        people.complete_next()

    assert triggered(all_are_closed)["outcome"] == "met"


def test_it_ends_when_the_run_is_archived(people, triggered):
    event = triggered(None, people.archive)
    assert event["outcome"] == "unreachable"
    assert "archived" in event["reason"]


def test_it_ends_when_the_run_is_deleted(people, triggered):
    event = triggered(None, people.delete)
    assert event["outcome"] == "unreachable"
    assert "gone" in event["reason"]


def test_a_rotated_token_does_not_end_it(sandbox, people, triggered, monkeypatch):
    tokens = f"{sandbox.url}/_sandbox/tokens"
    complete_next = people.complete_next

    def rotate():
        requests.post(tokens, json={"token": "next-token", "user_id": 1002}, timeout=10).raise_for_status()
        requests.delete(tokens, json={"token": "sandbox-token"}, timeout=10).raise_for_status()
        people.client.use("next-token")
        connect(monkeypatch, sandbox, "next-token")

    assert triggered(None, rotate, None, complete_next)["outcome"] == "met"


def test_a_token_that_stays_refused_ends_it_without_logging_it(people, triggered, caplog):
    body = {"message": "Unauthenticated: sandbox-token"}
    refused = {
        "method": "GET",
        "path": "/runs/",
        "times": None,
        "action": "status",
        "status": 401,
        "body": body,
    }
    event = triggered(None, lambda: people.faults(refused))
    assert event["outcome"] == "denied"
    assert event["error"] == "TallyfyAuthError"
    assert "Unauthenticated: ***" in event["message"]
    assert "Check the credentials of connection 'tallyfy_default'" in event["message"]
    assert "sandbox-token" not in json.dumps(event) + caplog.text


def test_silent_fail_polls_again_after_a_refusal(people, triggered):
    refused = {
        "method": "GET",
        "path": "/runs/",
        "times": 4,
        "action": "status",
        "status": 403,
        "body": {"message": "Forbidden"},
    }
    people.faults(refused)
    assert triggered(None, None, None, people.complete_next, silent_fail=True)["outcome"] == "met"


def test_a_connection_that_cannot_be_read_does_not_end_it(people, triggered, monkeypatch, caplog):
    secret_value = "postgres://user:password@secrets"
    works = TallyfyHook.get_connection
    failures = iter([OSError(secret_value)] * 3)

    def fails(conn_id):
        if error := next(failures, None):
            raise error
        return works(conn_id)

    monkeypatch.setattr(TallyfyHook, "get_connection", staticmethod(fails))
    assert triggered(None, None, None, people.complete_next)["outcome"] == "met"
    assert "could not be read from Airflow (OSError)" in caplog.text
    assert secret_value not in caplog.text


def test_a_poll_does_not_block_the_event_loop(people, monkeypatch):
    """The poll ends only if the event loop runs meanwhile."""
    loop_has_run = threading.Event()

    get_run = TallyfyHook.get_run

    def get_run_when_the_loop_has_run(*arguments, **options):
        assert loop_has_run.wait(LONGEST), "the event loop stood still"
        return get_run(*arguments, **options)

    monkeypatch.setattr(TallyfyHook, "get_run", get_run_when_the_loop_has_run)
    monkeypatch.setattr(watcher, "STARTUP_PAUSE", 0.0)

    async def first_result():
        with watcher.subscribe(
            "tallyfy_default", SEEDED_RUN_ID, NextTaskCondition("x"), PollSchedule(60)
        ) as subscription:
            waiting = asyncio.ensure_future(subscription.next_result())
            await asyncio.sleep(0)
            loop_has_run.set()
            return (await waiting)[0]

    assert isinstance(asyncio.run(first_result()), polls.RunSnapshot)


def test_a_cancelled_wait_ends_at_once(people):
    async def cancelled():
        waiting = asyncio.ensure_future(anext(trigger(from_task=SEEDED_NEXT_TASK_ID).run()))
        await asyncio.sleep(0.2)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        return waiting.cancelled()

    assert asyncio.run(cancelled())


def test_its_arguments_are_plain_json_without_secrets(people, triggered):
    path, arguments = trigger(
        from_task="x", exponential_backoff=True, max_wait=5.0, silent_fail=True
    ).serialize()
    assert path == "airflow_provider_tallyfy.triggers.tallyfy.TallyfyNextTaskTrigger"
    assert json.loads(json.dumps(arguments)) == arguments
    assert TallyfyNextTaskTrigger(**arguments).serialize() == (path, arguments)
    assert "token" not in json.dumps(arguments)
