"""
Waits that an older version of the provider deferred continue with this one.

The JSON here is what Airflow's database held when a version was released: the arguments of triggers, their events, and
what a task is resumed with. Later versions add to it, and never change it.
"""

from __future__ import annotations

import asyncio
import json
from importlib import import_module
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_tallyfy.operators.tallyfy import TallyfyLaunchRunOperator
from airflow_provider_tallyfy.sandbox.seeds import COMPLETE_RUN_ID, SEEDED_RUN_ID
from airflow_provider_tallyfy.sensors.tallyfy import (
    TallyfyNextTaskSensor,
    TallyfyRunSensor,
    TallyfyTaskSensor,
)
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS
from airflow_provider_tallyfy.waiting import evidence, watcher
from dev.sandbox import SandboxClient

LONGEST = 30.0
TRIGGERS = "airflow_provider_tallyfy.triggers.tallyfy"

# The arguments of triggers, by version and kind, for the sandbox's runs.
NEXT_TASK_0_1_0 = """{
    "tallyfy_conn_id": "tallyfy_default", "run_id": "5eed5eed5eed5eed5eed5eed5eed5eed", "from_task": "%s",
    "poke_interval": 60.0, "exponential_backoff": false, "max_wait": null, "worker_polled_at": 1767225600.0,
    "ends_at": null, "silent_fail": false, "end_from_trigger": false, "do_xcom_push": true,
    "deferred_at": 1767225600.0, "last_line": 1, "last_updated": "2026-01-01T00:00:00.000Z",
    "api_url": null, "organization": null
}"""
NEXT_TASK_UNKNOWN_0_1_0 = """{
    "tallyfy_conn_id": "tallyfy_default", "run_id": "5eed5eed5eed5eed5eed5eed5eed5eed", "from_task": null,
    "poke_interval": 60.0, "exponential_backoff": true, "max_wait": 600.0, "worker_polled_at": null,
    "ends_at": 4102444800.0, "silent_fail": true, "end_from_trigger": false, "do_xcom_push": false,
    "deferred_at": null, "last_line": null, "last_updated": null,
    "api_url": null, "organization": null
}"""
TASK_0_1_0 = """{
    "tallyfy_conn_id": "tallyfy_default", "run_id": "5eed5eed5eed5eed5eed5eed5eed5eed",
    "task_name": "%s", "on_skipped": "skip", "needs_decision": false,
    "poke_interval": 60.0, "exponential_backoff": false, "max_wait": null, "worker_polled_at": null,
    "ends_at": null, "silent_fail": false, "end_from_trigger": false, "do_xcom_push": true,
    "deferred_at": 1767225600.0, "last_line": 1, "last_updated": "2026-01-01T00:00:00.000Z",
    "api_url": null, "organization": null
}"""
APPROVAL_0_1_0 = """{
    "tallyfy_conn_id": "tallyfy_default", "run_id": "5eed5eed5eed5eed5eed5eed5eed5eed",
    "task_name": "%s", "on_skipped": "succeed", "needs_decision": true,
    "poke_interval": 60.0, "exponential_backoff": false, "max_wait": null, "worker_polled_at": null,
    "ends_at": null, "silent_fail": false, "end_from_trigger": false, "do_xcom_push": true,
    "deferred_at": 1767225600.0, "last_line": 1, "last_updated": "2026-01-01T00:00:00.000Z",
    "api_url": null, "organization": null
}"""
RUN_0_1_0 = """{
    "tallyfy_conn_id": "tallyfy_default", "run_id": "%s", "target_statuses": ["complete"],
    "poke_interval": 60.0, "exponential_backoff": false, "max_wait": null, "worker_polled_at": null,
    "ends_at": null, "silent_fail": false, "end_from_trigger": false, "do_xcom_push": true,
    "deferred_at": 1767225600.0, "last_line": 1, "last_updated": "2026-01-01T00:00:00.000Z",
    "api_url": null, "organization": null
}"""
ALL_0_1_0 = [
    ("TallyfyNextTaskTrigger", NEXT_TASK_0_1_0),
    ("TallyfyNextTaskTrigger", NEXT_TASK_UNKNOWN_0_1_0),
    ("TallyfyTaskTrigger", TASK_0_1_0),
    ("TallyfyTaskTrigger", APPROVAL_0_1_0),
    ("TallyfyRunTrigger", RUN_0_1_0),
]

# Events that one version fired, for a worker of another.
MET_0_1_0 = """{"outcome": "met", "result": {
    "run_id": "5eed5eed5eed5eed5eed5eed5eed5eed", "from_task_id": "a", "next_task": {"id": "b", "title": "Sign"},
    "run_status": "active", "progress": {"complete": 1, "total": 2, "percent": 50}
}}"""
PENDING_0_1_0 = """{"outcome": "pending", "condition": {"from_task_id": "a"}}"""
UNREACHABLE_0_1_0 = """{"outcome": "unreachable", "reason": "Run r1 is archived."}"""
SKIPPED_0_1_0 = """{"outcome": "skipped", "reason": "A rule hides it."}"""
DENIED_0_1_0 = """{"outcome": "denied", "error": "TallyfyAuthError", "message": "GET /me returned 401"}"""

# What the task state store keeps of a sensor, since Airflow 3.3.
KEPT_0_1_0 = """{"tallyfy_from_task": {
    "run_id": "5eed5eed5eed5eed5eed5eed5eed5eed", "from_task_id": "an-earlier-task"
}}"""


@pytest.fixture
def people(sandbox, monkeypatch):
    monkeypatch.setattr(watcher, "STARTUP_PAUSE", 0.0)
    monkeypatch.setattr(evidence, "CONFIRMATION_SECONDS", 0.0)
    return SandboxClient(sandbox.url)


def rebuilt(name, arguments):
    """Make a trigger as the triggerer does, from the database."""
    return getattr(import_module(TRIGGERS), name)(**json.loads(arguments))


def event_of(trigger):
    async def fired():
        return (await asyncio.wait_for(anext(trigger.run()), LONGEST)).payload

    return asyncio.run(fired())


@pytest.mark.parametrize(("name", "arguments"), ALL_0_1_0)
def test_a_trigger_is_made_from_its_arguments_and_serializes_to_them(name, arguments):
    path, given_back = rebuilt(name, arguments).serialize()
    assert path == f"{TRIGGERS}.{name}"
    before = json.loads(arguments)
    before["worker_polled_at"] = before.pop("worker_polled_at")  # its name today
    assert {name: value for name, value in given_back.items() if name in before} == before


def test_a_wait_for_the_next_task(people):
    event = event_of(rebuilt("TallyfyNextTaskTrigger", NEXT_TASK_0_1_0 % "an-earlier-task"))
    assert event["outcome"] == "met"
    assert event["result"]["next_task"] == people.next_task(SEEDED_RUN_ID)


def test_a_wait_without_a_baseline(people):
    event = event_of(rebuilt("TallyfyNextTaskTrigger", NEXT_TASK_UNKNOWN_0_1_0))
    assert event["condition"] == {"from_task_id": people.next_task(SEEDED_RUN_ID)["id"]}


@pytest.mark.parametrize("arguments", [TASK_0_1_0, APPROVAL_0_1_0])
def test_a_wait_for_a_task(people, arguments):
    approval = people.next_task(SEEDED_RUN_ID)["id"]
    people.complete_next(SEEDED_RUN_ID)
    event = event_of(rebuilt("TallyfyTaskTrigger", arguments % approval))
    assert event["outcome"] == "met"
    assert event["result"]["id"] == approval


def test_a_wait_for_a_run(people):
    event = event_of(rebuilt("TallyfyRunTrigger", RUN_0_1_0 % COMPLETE_RUN_ID))
    assert event["outcome"] == "met"
    assert event["result"]["id"] == COMPLETE_RUN_ID


class TestResume:
    """``execute_complete`` of all classes, with what Airflow kept for it."""

    @pytest.fixture
    def context(self):
        kept, pushed = json.loads(KEPT_0_1_0), {}
        store = SimpleNamespace(
            get=kept.get,
            set=lambda key, value, **_: kept.update({key: value}),
            delete=lambda key: kept.pop(key, None),
        )
        instance = SimpleNamespace(
            start_date=None,
            task_id="launch",
            map_index=-1,
            xcom_pull=lambda **_: "https://go.tallyfy.com/acme/processes/r1",
            xcom_push=lambda key, value: pushed.update({key: value}),
            xcoms=pushed,
        )
        return {"ti": instance, "task_state_store": store}

    @pytest.mark.parametrize("ends_at", [{}, {"ends_at": 4102444800.0}])
    @pytest.mark.parametrize("kind", [TallyfyNextTaskSensor, TallyfyTaskSensor, TallyfyRunSensor])
    def test_sensors(self, context, kind, ends_at):
        more = {"task": "a"} if kind is TallyfyTaskSensor else {}
        sensor = kind(task_id="wait", run_id="r1", deferrable=True, **more)
        event = json.loads(MET_0_1_0)
        result = sensor.resume_execution("execute_complete", {"event": event, **ends_at}, context)
        assert result == event["result"]

    @pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="Airflow keeps the baseline for a retry since 3.3")
    def test_a_sensor_that_is_retried(self, people, context):
        sensor = TallyfyNextTaskSensor(task_id="wait", run_id=SEEDED_RUN_ID, timeout=1, poke_interval=0.1)
        assert sensor.execute(context)["from_task_id"] == "an-earlier-task"

    def test_a_launch_that_waits_for_its_run(self, context):
        operator = TallyfyLaunchRunOperator(task_id="launch", checklist_id="c1", wait_for_completion=True)
        event = json.loads(MET_0_1_0)
        assert operator.resume_execution("execute_complete", {"event": event}, context) == event["result"]

    def test_a_wait_defers_again_with_the_baseline(self, context):
        sensor = TallyfyNextTaskSensor(task_id="wait", run_id="r1", deferrable=True)
        kept = {"event": json.loads(PENDING_0_1_0), "ends_at": 4102444800.0}
        with pytest.raises(TaskDeferred) as deferred:
            sensor.resume_execution("execute_complete", kept, context)
        assert deferred.value.trigger.serialize()[1]["from_task"] == "a"

    @pytest.mark.parametrize(
        ("event", "kind", "words"),
        [
            (UNREACHABLE_0_1_0, "AirflowFailException", "Run r1 is archived"),
            (SKIPPED_0_1_0, "AirflowSkipException", "A rule hides it"),
            (DENIED_0_1_0, "TallyfyAuthError", "401"),
        ],
    )
    def test_other_outcomes(self, context, event, kind, words):
        sensor = TallyfyNextTaskSensor(task_id="wait", run_id="r1", deferrable=True)
        with pytest.raises(Exception, match=words) as raised:
            sensor.resume_execution("execute_complete", {"event": json.loads(event)}, context)
        assert type(raised.value).__name__ == kind
