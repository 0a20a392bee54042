"""A trigger that starts its task, or ends it, run as the triggerer runs it. Pauses take no time."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import XCom
from airflow.triggers.base import TaskSuccessEvent

from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID
from airflow_provider_tallyfy.triggers import tallyfy as triggers_module
from airflow_provider_tallyfy.triggers.tallyfy import TallyfyNextTaskTrigger
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_0_PLUS
from airflow_provider_tallyfy.waiting import evidence, watcher
from airflow_provider_tallyfy.waiting.next_task import NextTaskCondition
from airflow_provider_tallyfy.waiting.outcomes import Met
from dev.sandbox import SandboxClient

LONGEST = 30.0
MOVED_ON_FROM = "moved-on-from-this"
TASK_INSTANCE = {"dag_id": "d", "task_id": "wait", "run_id": "manual", "map_index": -1}
in_airflow_3 = pytest.mark.skipif(
    not AIRFLOW_V_3_0_PLUS,
    reason="the trigger pushes XComs itself on Airflow 3; 2.11 takes them with the event",
)


@pytest.fixture
def people(sandbox, monkeypatch):
    """The person who works on the seeded run, which the connection leads to."""
    monkeypatch.setattr(watcher, "STARTUP_PAUSE", 0.0)
    monkeypatch.setattr(evidence, "CONFIRMATION_SECONDS", 0.0)
    client = SandboxClient(sandbox.url)
    monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", client.connection())
    return client


@pytest.fixture
def pushed(monkeypatch):
    """The XComs that the trigger pushed, as a worker pushes them."""
    xcoms = {}

    def remember(*, key, value, **task_instance):
        assert task_instance == TASK_INSTANCE
        xcoms[key] = value

    monkeypatch.setattr(XCom, "set", remember)
    return xcoms


def trigger(in_triggerer=True, **arguments):
    made = TallyfyNextTaskTrigger(
        **{
            "tallyfy_conn_id": "tallyfy_default",
            "run_id": SEEDED_RUN_ID,
            "from_task": MOVED_ON_FROM,
            "poke_interval": 60.0,
            "end_from_trigger": True,
            **arguments,
        }
    )
    made.task_instance = SimpleNamespace(**TASK_INSTANCE)
    made.trigger_id = 7 if in_triggerer else None
    return made


def fired(made):
    async def events():
        return [event async for event in made.run()]

    (event,) = asyncio.run(asyncio.wait_for(events(), LONGEST))
    return event


def xcoms_of(event, pushed):
    assert isinstance(event, TaskSuccessEvent)
    return pushed if AIRFLOW_V_3_0_PLUS else {**pushed, **(event.xcoms or {})}


def ends_in_a_worker(event):
    assert not isinstance(event, TaskSuccessEvent)
    return event.payload


@pytest.mark.parametrize("from_task", [MOVED_ON_FROM, {"id": MOVED_ON_FROM, "title": "Sign"}])
def test_it_ends_the_task_and_pushes_what_a_worker_would(people, pushed, from_task):
    xcoms = xcoms_of(fired(trigger(from_task=from_task)), pushed)
    assert set(xcoms) == {"return_value", "tallyfy_run_url"}
    assert xcoms["tallyfy_run_url"] == people.process_url(SEEDED_RUN_ID)
    assert set(xcoms["return_value"]) == {"run_id", "from_task_id", "next_task", "run_status", "progress"}
    assert xcoms["return_value"]["from_task_id"] == MOVED_ON_FROM
    assert xcoms["return_value"]["next_task"] == people.next_task(SEEDED_RUN_ID)


@in_airflow_3
def test_the_event_has_no_xcoms_in_airflow_3_which_would_encode_them_twice(people, pushed):
    assert not fired(trigger()).xcoms


def test_it_pushes_nothing_without_do_xcom_push(people, pushed):
    assert xcoms_of(fired(trigger(do_xcom_push=False)), pushed) == {}


@pytest.fixture
def log(monkeypatch, caplog):
    """The logs of the tasks."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(TallyfyNextTaskTrigger, "log", logging.getLogger("trigger"))
    return caplog


def poll_once(people, log, **arguments):
    """Run a trigger until its first poll."""
    made = trigger(from_task=people.next_task(SEEDED_RUN_ID)["id"], end_from_trigger=False, **arguments)

    async def scenario():
        waiting = asyncio.create_task(anext(made.run()))
        while "1 of 3 tasks are done" not in log.text:  # noqa: ASYNC110 (a log has no event)
            await asyncio.sleep(0.01)
        if made._pushing_link is not None:
            await made._pushing_link
        waiting.cancel()

    asyncio.run(asyncio.wait_for(scenario(), LONGEST))


def test_the_link_is_pushed_during_a_wait_that_began_in_the_triggerer(people, pushed, log):
    poll_once(people, log)
    assert pushed == {"tallyfy_run_url": people.process_url(SEEDED_RUN_ID)}


@pytest.mark.parametrize(
    "elsewhere",
    [
        pytest.param({"worker_polled_at": 1.0}, id="a worker has pushed it"),
        pytest.param({"do_xcom_push": False}, id="the task pushes nothing"),
        pytest.param({"in_triggerer": False}, id="dag.test"),
    ],
)
def test_the_link_is_not_pushed_otherwise(people, pushed, log, elsewhere):
    poll_once(people, log, **elsewhere)
    assert pushed == {}


def test_a_link_that_cannot_be_pushed_does_not_end_it(people, monkeypatch, log):
    def fail(**_arguments):
        raise OSError("bucket is gone")

    monkeypatch.setattr(XCom, "set", fail)
    poll_once(people, log)
    assert "The link to the process could not be pushed from here (OSError)" in log.text


def test_an_event_is_logged_without_the_run(people, pushed):
    event = fired(trigger(end_from_trigger=False))
    assert event.payload["result"]["next_task"]["title"] == "Approve release"
    assert repr(event) == str(event) == "TriggerEvent<met>"


def test_the_outcome_is_logged_last(people, pushed, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(TallyfyNextTaskTrigger, "log", logging.getLogger("trigger"))
    fired(trigger(end_from_trigger=False))
    assert "The wait is over" not in caplog.text  # a worker says it
    fired(trigger())
    assert caplog.messages[-1] == "The wait is over: 'Approve release' is next"


def test_the_result_is_sanitized(people, pushed, monkeypatch):
    odd = {"title": "half \ud83d", "number": 10**30, "nothing": float("nan")}
    monkeypatch.setattr(NextTaskCondition, "evaluate", lambda *_: Met(odd, is_certain=True))
    monkeypatch.setattr(NextTaskCondition, "describe_result", lambda *_: "it is odd")
    result = xcoms_of(fired(trigger()), pushed)["return_value"]
    assert json.loads(json.dumps(result).encode()) == {
        "title": "half ?",
        "number": str(10**30),
        "nothing": None,
    }


def test_a_worker_ends_it_by_default(people, pushed):
    assert ends_in_a_worker(fired(trigger(end_from_trigger=False)))["outcome"] == "met"


@pytest.mark.parametrize("nothing", [None, "", "None", {}])
def test_without_from_task_a_worker_defers_again(people, nothing):
    assert ends_in_a_worker(fired(trigger(from_task=nothing)))["outcome"] == "pending"


def test_without_from_task_a_worker_ends_it(people, pushed):
    for _ in people.tasks(SEEDED_RUN_ID):
        if people.next_task(SEEDED_RUN_ID):
            people.complete_next(SEEDED_RUN_ID)
    assert ends_in_a_worker(fired(trigger(from_task=None)))["result"]["run_status"] == "complete"


def test_an_archived_run_is_left_to_a_worker(people):
    people.archive(SEEDED_RUN_ID)
    assert ends_in_a_worker(fired(trigger()))["outcome"] == "unreachable"


def test_in_dag_test_a_worker_ends_it(people, pushed):
    assert ends_in_a_worker(fired(trigger(in_triggerer=False)))["outcome"] == "met"


@in_airflow_3
def test_a_worker_ends_it_if_the_result_cannot_be_pushed(people, monkeypatch, caplog):
    def fail(**_arguments):
        raise OSError("bucket is gone")

    monkeypatch.setattr(XCom, "set", fail)
    monkeypatch.setattr(TallyfyNextTaskTrigger, "log", logging.getLogger("trigger"))
    assert ends_in_a_worker(fired(trigger()))["outcome"] == "met"
    assert "could not be pushed from here (OSError)" in caplog.text


@pytest.mark.parametrize(
    ("rendered", "message"),
    [
        ({"from_task": "{'id': 'x', 'title': 'Sign'}"}, "a task object that a template turned into text"),
        ({"from_task": {"title": "Sign"}}, "an object without 'id'"),
        ({"run_id": ""}, "run_id must be a Tallyfy id"),
        ({"run_id": "../../users"}, "run_id must be a Tallyfy id"),
    ],
)
def test_an_invalid_rendered_argument_fails_the_task(rendered, message):
    event = ends_in_a_worker(fired(trigger(**rendered)))
    assert (event["outcome"], event["error"]) == ("denied", "TallyfyConfigurationError")
    assert message in event["message"]


@pytest.fixture
def in_tokyo(monkeypatch):
    """A machine whose own time is not UTC."""
    with monkeypatch.context() as there:
        there.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    "log",
    [datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2)],  # noqa: DTZ001 (some databases give no zone)
)
def test_the_last_poll_is_before_the_triggerer_ends_it(people, monkeypatch, in_tokyo, log):
    ends_at = []
    pace = triggers_module.PollSchedule
    monkeypatch.setattr(
        triggers_module, "PollSchedule", lambda *arguments: ends_at.append(arguments[3]) or pace(*arguments)
    )
    started = trigger(end_from_trigger=False)
    if AIRFLOW_V_3_0_PLUS:
        started.timeout_after = log
    else:
        started.task_instance.trigger_timeout = log
    fired(started)
    assert ends_at == [datetime(2026, 1, 2, tzinfo=UTC).timestamp()]
