"""TallyfyLaunchRunOperator with wait_for_completion: it waits for the run as a TallyfyRunSensor does."""

from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout, TaskDeferred

from airflow_provider_tallyfy import version_compat
from airflow_provider_tallyfy.exceptions import TallyfyAuthError
from airflow_provider_tallyfy.operators import tallyfy as operators
from airflow_provider_tallyfy.operators.tallyfy import TallyfyLaunchRunOperator
from airflow_provider_tallyfy.sensors import tallyfy as sensors
from airflow_provider_tallyfy.waiting.evidence import GONE_AFTER_SECONDS
from tests.support.gates import API
from tests.support.moved_time import MovedTime

RUN = f"{API}/runs/r1"
TRIGGER_TIMEOUT = "Trigger timeout" if version_compat.AIRFLOW_V_3_0_PLUS else "Trigger/execution timeout"
NOT_FOUND = {"status_code": 404, "json": {"message": "Not found"}}


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = MovedTime(1_800_000_000.0)
    for module in (operators, sensors):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def tallyfy(connection, requests_mock):
    """Launch a run, and answer the reads of it with statuses, or with HTTP statuses of errors."""
    requests_mock.get(f"{API}/checklists/c1", json={"data": {"id": "c1", "prerun": []}})
    requests_mock.post(f"{API}/runs", status_code=201, json={"data": {"id": "r1"}})

    def answers(*statuses):
        bodies = [
            {"json": {"data": {"id": "r1", "status": status}}}
            if isinstance(status, str)
            else {"status_code": status, "json": {"message": "No"}}
            for status in statuses
        ]
        requests_mock.get(RUN, bodies)

    return answers


@pytest.fixture
def context(context):
    ti = context["ti"]
    ti.dag_id, ti.run_id, ti.task_id = "onboarding", "manual__1", "launch"
    return context


def operator(**arguments):
    return TallyfyLaunchRunOperator(
        **{"task_id": "launch", "checklist_id": "c1", "wait_for_completion": True}
        | {"deferrable": False, "poke_interval": 10, "timeout": 100, **arguments}
    )


def launch(context, **arguments):
    return operator(**arguments).execute(context)


def test_returns_the_run_when_it_is_complete(tallyfy, context, recorded_metrics):
    tallyfy("active", 503, "delayed", "complete")
    assert launch(context)["status"] == "complete"
    assert context["ti"].xcoms["tallyfy_run_url"] == "https://go.tallyfy.com/acme/processes/r1"
    assert recorded_metrics.counts("tallyfy.polls") == {"succeeded": 3, "failed": 1}


def test_task_id_may_be_as_long_as_airflow_allows(tallyfy, context):
    tallyfy("complete")
    assert launch(context, task_id="x" * 250)["status"] == "complete"


def test_polls_a_last_time_at_the_timeout(tallyfy, context, clock, requests_mock):
    began = clock.now
    tallyfy("active")
    with pytest.raises(AirflowSensorTimeout, match="not complete after 25 seconds"):
        launch(context, timeout=25)
    assert clock.now - began == 25
    assert [request.path for request in requests_mock.request_history][2:] == [RUN.partition(".test")[2]] * 4


@pytest.mark.parametrize(("status", "error"), [("archived", AirflowFailException), (401, TallyfyAuthError)])
def test_archived_run_and_refusal_end_the_wait(tallyfy, context, status, error):
    tallyfy("active", status)
    with pytest.raises(error):
        launch(context)


def test_complete_run_is_not_deferred(tallyfy, context):
    tallyfy("complete")
    assert launch(context, deferrable=True)["status"] == "complete"


@pytest.mark.parametrize("status", ["active", 503, 404])
def test_defers_to_the_trigger_of_the_run_sensor(tallyfy, context, clock, status):
    tallyfy(status)
    with pytest.raises(TaskDeferred) as deferral:
        launch(context, deferrable=True)
    path, arguments = deferral.value.trigger.serialize()
    assert path == "airflow_provider_tallyfy.triggers.tallyfy.TallyfyRunTrigger"
    assert json.loads(json.dumps(arguments)) == arguments
    assert (arguments["run_id"], arguments["target_statuses"]) == ("r1", ["complete"])
    assert arguments["worker_polled_at"] == (clock.now if status == "active" else None)
    assert (arguments["deferred_at"], arguments["ends_at"]) == (clock.now, clock.now + 100)
    assert deferral.value.timeout.total_seconds() == 100


class TestResume:
    @pytest.fixture(autouse=True)
    def _launched(self, context):
        context["ti"].xcom_push("tallyfy_run_url", "https://go.tallyfy.com/acme/processes/r1")

    @staticmethod
    def timed_out(context):
        """Resume as Airflow does when the trigger ran out of time."""
        return operator(deferrable=True).resume_execution("__fail__", {"error": TRIGGER_TIMEOUT}, context)

    def test_returns_the_run_of_the_event(self, tallyfy, context):
        event = {"outcome": "met", "result": {"id": "r1", "name": "a\0b"}}
        resumed = operator(deferrable=True).resume_execution("execute_complete", {"event": event}, context)
        assert resumed == {"id": "r1", "name": "a?b"}

    def test_polls_and_defers_again_after_the_event_of_another_wait(self, tallyfy, context):
        context["ti"].xcoms["tallyfy_run_url"] = "https://go.tallyfy.com/acme/processes/r1"
        event = {"outcome": "met", "wait": "task_id other", "result": {"id": "r2"}}
        kwargs = {"event": event, "ends_at": 2e9, "condition": {"target_statuses": ["complete"]}}
        tallyfy("active", "complete")
        with pytest.raises(TaskDeferred) as deferral:
            operator(deferrable=True).resume_execution("execute_complete", kwargs, context)
        assert (deferral.value.trigger.run_id, deferral.value.trigger.ends_at) == ("r1", 2e9)
        assert operator(deferrable=True).resume_execution("execute_complete", kwargs, context)["id"] == "r1"

    def test_fails_as_the_event_says(self, tallyfy, context):
        event = {"outcome": "unreachable", "reason": "It was archived."}
        with pytest.raises(AirflowFailException, match="archived"):
            operator(deferrable=True).resume_execution("execute_complete", {"event": event}, context)

    def test_polls_once_more_after_a_timeout(self, tallyfy, context):
        tallyfy("complete")
        assert self.timed_out(context)["status"] == "complete"

    @pytest.mark.parametrize("status", ["active", 503])
    def test_fails_as_a_sensor_after_a_timeout(self, tallyfy, context, status):
        tallyfy(status)
        with pytest.raises(AirflowSensorTimeout, match="still waiting until the run is complete; run r1"):
            self.timed_out(context)

    def test_refusal_after_a_timeout(self, tallyfy, context):
        tallyfy(401)
        with pytest.raises(TallyfyAuthError):
            self.timed_out(context)


class TestRunThatWasJustLaunched:
    """Reads may lag behind the launch."""

    def test_reads_that_do_not_show_it_yet_do_not_end_the_wait(self, tallyfy, context, requests_mock):
        active = {"json": {"data": {"id": "r1", "status": "active"}}}
        complete = {"json": {"data": {"id": "r1", "status": "complete"}}}
        requests_mock.get(RUN, [*[NOT_FOUND] * 6, active, NOT_FOUND, complete])
        assert launch(context)["status"] == "complete"

    def test_run_is_gone_after_as_long_as_for_a_sensor(self, tallyfy, context, time_of_polls):
        began = time_of_polls.monotonic()
        tallyfy(404)
        with pytest.raises(AirflowFailException, match="gone"):
            launch(context)
        assert time_of_polls.monotonic() - began == GONE_AFTER_SECONDS
