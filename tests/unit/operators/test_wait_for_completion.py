"""Waiting for the end of a run in an operator that is no sensor."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    BaseOperator,
    TaskDeferred,
)

from airflow_provider_tallyfy import version_compat
from airflow_provider_tallyfy.exceptions import TallyfyAuthError
from airflow_provider_tallyfy.operators import wait_for_completion
from airflow_provider_tallyfy.waiting.evidence import GONE_AFTER_SECONDS

RUN = "https://tallyfy.test/api/organizations/acme/runs/r1"
TRIGGER_TIMEOUT = "Trigger timeout" if version_compat.AIRFLOW_V_3_0_PLUS else "Trigger/execution timeout"


class Launch(wait_for_completion.WaitForCompletionMixin, BaseOperator):
    def __init__(self, *, deferrable=False, timeout=100.0, **kwargs):
        super().__init__(**kwargs)
        self.tallyfy_conn_id = "tallyfy_default"
        self.deferrable = deferrable
        self.poke_interval = 10.0
        self.timeout = timeout

    def execute(self, context):
        return self.wait_until_complete(context, "r1")


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that moves only in pauses."""
    clock = SimpleNamespace(now=1_800_000_000.0)
    clock.time = clock.monotonic = lambda: clock.now
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
    monkeypatch.setattr(wait_for_completion, "time", clock)
    return clock


@pytest.fixture
def tallyfy(connection, requests_mock):
    def answers(*statuses):
        requests_mock.get(
            RUN,
            [
                {"json": {"data": {"id": "r1", "status": status}}}
                if isinstance(status, str)
                else {"status_code": status, "json": {"message": "No"}}
                for status in statuses
            ],
        )

    return answers


def launch(context, **arguments):
    return Launch(task_id="launch", **arguments).execute(context)


def test_in_a_worker_it_returns_the_run_at_its_end(tallyfy, context):
    tallyfy("active", 503, "delayed", "complete")
    assert launch(context)["status"] == "complete"
    assert context["ti"].xcoms == {"tallyfy_run_url": "https://go.tallyfy.com/acme/processes/r1"}


def test_in_a_worker_it_times_out_as_a_sensor_does(tallyfy, context, clock):
    began = clock.now
    tallyfy("active")
    with pytest.raises(AirflowSensorTimeout, match="not complete after 100 seconds"):
        launch(context)
    assert clock.now - began == 100


@pytest.mark.parametrize(("status", "ends_as"), [("archived", AirflowFailException), (401, TallyfyAuthError)])
def test_a_lost_run_and_a_refusal_end_it(tallyfy, context, status, ends_as):
    tallyfy("active", status)
    with pytest.raises(ends_as):
        launch(context)


def test_it_does_not_defer_where_the_run_is_complete_already(tallyfy, context):
    tallyfy("complete")
    assert launch(context, deferrable=True)["status"] == "complete"


@pytest.mark.parametrize("status", ["active", 503])
def test_deferred_the_wait_travels_with_the_trigger(tallyfy, context, clock, status):
    tallyfy(status)
    with pytest.raises(TaskDeferred) as deferral:
        launch(context, deferrable=True)
    path, arguments = deferral.value.trigger.serialize()
    assert path == "airflow_provider_tallyfy.triggers.tallyfy.TallyfyRunTrigger"
    assert json.loads(json.dumps(arguments)) == arguments
    assert (arguments["run_id"], arguments["target_statuses"]) == ("r1", ["complete"])
    assert arguments["worker_polled_at"] == (clock.now if status == "active" else None)
    assert arguments["deferred_at"] == clock.now
    assert arguments["ends_at"] == clock.now + 100
    assert deferral.value.timeout.total_seconds() == 100


def test_it_takes_up_what_the_trigger_saw(context):
    def resumed(event):
        return Launch(task_id="launch").resume_execution("execute_complete", {"event": event}, context)

    assert resumed({"outcome": "met", "result": {"id": "r1"}}) == {"id": "r1"}
    with pytest.raises(AirflowFailException, match="archived"):
        resumed({"outcome": "unreachable", "reason": "archived"})


class TestAfterATimeout:
    """What happened in the last seconds of a deferral is seen by one more poll."""

    def timed_out(self, context, **arguments):
        """Resume as Airflow does when the trigger ran out of time."""
        return Launch(task_id="launch", deferrable=True).resume_execution(
            "__fail__", {"error": TRIGGER_TIMEOUT}, context
        )

    @pytest.fixture
    def launched(self, context):
        context["ti"].xcom_push("tallyfy_run_url", "https://go.tallyfy.com/acme/processes/r1")

    def test_a_run_that_was_completed_is_a_success(self, tallyfy, context, launched):
        tallyfy("complete")
        assert self.timed_out(context)["status"] == "complete"

    @pytest.mark.parametrize("status", ["active", 503])
    def test_any_other_is_a_sensor_s_timeout(self, tallyfy, context, launched, status):
        tallyfy(status)
        with pytest.raises(AirflowSensorTimeout, match="run r1: the run is complete is still waited for"):
            self.timed_out(context)

    def test_a_refusal_is_a_refusal(self, tallyfy, context, launched):
        tallyfy(401)
        with pytest.raises(TallyfyAuthError):
            self.timed_out(context)

    def test_so_is_one_that_nobody_knows_any_more(self, tallyfy, context):
        with pytest.raises(AirflowSensorTimeout, match="not complete after 100 seconds"):
            self.timed_out(context)


def test_metrics_are_told_of_each_look_in_a_worker(tallyfy, context, told_metrics):
    tallyfy("active", 503, "complete")
    launch(context)
    assert told_metrics.counts("tallyfy.polls") == {"succeeded": 2, "failed": 1}
    assert told_metrics.counts("tallyfy.requests") == {"ok": 2, "server_error": 1}


NOT_FOUND = {"status_code": 404, "json": {"message": "Not found"}}


class TestRunThatWasJustLaunched:
    """Reads may lag behind the launch."""

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_it_is_not_gone_because_a_few_reads_do_not_show_it(
        self, connection, requests_mock, context, clock, deferrable
    ):
        active = {"json": {"data": {"id": "r1", "status": "active"}}}
        complete = {"json": {"data": {"id": "r1", "status": "complete"}}}
        requests_mock.get(RUN, [*[NOT_FOUND] * 6, active, NOT_FOUND, complete])
        if deferrable:
            # The trigger polls it again, by the same rule.
            with pytest.raises(TaskDeferred) as deferral:
                launch(context, deferrable=True)
            assert deferral.value.trigger.worker_polled_at is None
        else:
            assert launch(context)["status"] == "complete"

    def test_it_is_gone_by_the_same_rule_as_for_a_sensor(
        self, connection, requests_mock, context, time_of_polls
    ):
        began = time_of_polls.monotonic()
        requests_mock.get(RUN, **NOT_FOUND)
        with pytest.raises(AirflowFailException, match="gone"):
            launch(context)
        assert time_of_polls.monotonic() - began == GONE_AFTER_SECONDS
