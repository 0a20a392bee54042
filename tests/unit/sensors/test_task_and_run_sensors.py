"""TallyfyTaskSensor and TallyfyRunSensor; what they share with TallyfyNextTaskSensor is tested there."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_tallyfy import version_compat
from airflow_provider_tallyfy.operators.tallyfy import TallyfyApprovalOperator, TallyfyGetRunOperator
from airflow_provider_tallyfy.sensors import start_in_triggerer
from airflow_provider_tallyfy.sensors.tallyfy import (
    TallyfyNextTaskSensor,
    TallyfyRunSensor,
    TallyfyTaskSensor,
)
from airflow_provider_tallyfy.triggers import tallyfy as triggers

RUN = "https://tallyfy.test/api/organizations/acme/runs/r1"
OPEN = {"id": "t1", "alias": "sign", "title": "Sign", "status": "active", "task_type": "approval"}
DONE = OPEN | {"status": "completed", "completed_at": "2026-01-01T00:00:00Z", "is_approved": True}
HIDDEN = OPEN | {"status": "auto-skipped"}
UNAVAILABLE = {"status_code": 503}
in_airflow_3_3 = pytest.mark.skipif(
    not version_compat.AIRFLOW_V_3_3_PLUS, reason="the triggerer renders templates since 3.3"
)


def response(*tasks, **fields):
    return {"json": {"data": {"id": "r1", "status": "active", "tasks": {"data": list(tasks)}, **fields}}}


@pytest.fixture
def tallyfy(connection, requests_mock, monkeypatch):
    """Return these responses, one for each request for the run; the last one stays."""
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    return lambda *responses: requests_mock.get(RUN, list(responses))


def task_sensor(**arguments):
    return TallyfyTaskSensor(
        **{"task_id": "wait", "run_id": "r1", "task": "sign", "poke_interval": 1, **arguments}
    )


def run_sensor(**arguments):
    return TallyfyRunSensor(**{"task_id": "wait", "run_id": "r1", "poke_interval": 1, **arguments})


def deferred(sensor, context):
    with pytest.raises(TaskDeferred) as deferral:
        sensor.execute(context)
    return deferral.value


def resumed(sensor, context, event):
    return sensor.resume_execution("execute_complete", {"event": event, "ends_at": 2e9}, context)


class TestTask:
    def test_it_returns_the_task_once_it_is_completed(self, tallyfy, context):
        tallyfy(response(OPEN), UNAVAILABLE, response(DONE))
        assert task_sensor().execute(context) == DONE | {"form_values": {}}
        assert context["ti"].xcoms == {"tallyfy_run_url": "https://go.tallyfy.com/acme/processes/r1"}

    def test_it_is_read_with_its_form(self, tallyfy, context):
        polls = tallyfy(response(DONE))
        task_sensor().execute(context)
        assert polls.last_request.qs == {"with": ["next_task,tasks,tasks.form_fields"]}

    def test_a_hidden_task_is_found_and_skips(self, tallyfy, context, requests_mock):
        tallyfy(response())
        requests_mock.get(f"{RUN}/tasks", json={"data": [HIDDEN]})
        with pytest.raises(AirflowSkipException, match="A rule hides task 'Sign'"):
            task_sensor().execute(context)
        with pytest.raises(AirflowFailException, match="A rule hides"):
            task_sensor(on_skipped="fail").execute(context)
        assert task_sensor(on_skipped="succeed").execute(context)["status"] == "auto-skipped"

    def test_the_trigger_has_the_condition(self, tallyfy, context):
        tallyfy(response(OPEN))
        deferral = deferred(task_sensor(deferrable=True, on_skipped="fail", end_from_trigger=True), context)
        path, arguments = deferral.trigger.serialize()
        assert path == "airflow_provider_tallyfy.triggers.tallyfy.TallyfyTaskTrigger"
        assert json.loads(json.dumps(arguments)) == arguments
        assert arguments["task_name"] == "sign"
        assert arguments["on_skipped"] == "fail"
        assert arguments["end_from_trigger"] is True
        again = triggers.TallyfyTaskTrigger(**arguments)
        assert again.serialize() == (path, arguments)
        assert again.condition() == task_sensor(on_skipped="fail")._first_condition(context)

    @pytest.mark.parametrize(
        ("event", "error"),
        [
            ({"outcome": "skipped", "reason": "hidden"}, AirflowSkipException),
            ({"outcome": "unreachable", "reason": "archived"}, AirflowFailException),
        ],
    )
    def test_the_outcome_of_the_trigger_ends_the_task(self, context, event, error):
        with pytest.raises(error, match=event["reason"]):
            resumed(task_sensor(deferrable=True), context, event)

    def test_an_unknown_on_skipped_is_refused_when_the_dag_is_parsed(self):
        with pytest.raises(ValueError, match="on_skipped is one of"):
            task_sensor(on_skipped="wait")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"task": ""}, "task must be a task's id, alias or title, but is the text ''"),
            ({"task": {"id": "t1"}}, "but is a mapping of 1. Pass its id: ['id']."),
            ({"task": True}, "task must be a task's id, alias or title, but is true"),
            ({"run_id": "Release 3"}, "run_id must be a Tallyfy id"),
        ],
    )
    def test_an_invalid_argument_fails_without_retries(
        self, tallyfy, requests_mock, context, arguments, message
    ):
        tallyfy(response(OPEN))
        with pytest.raises(AirflowFailException, match=re.escape(message)):
            task_sensor(**arguments).execute(context)
        assert not requests_mock.called

    def test_a_task_whose_id_is_a_number(self, tallyfy, context):
        tallyfy(response({**OPEN, "id": 42}), response({**DONE, "id": 42}))
        assert task_sensor(task=42).execute(context)["id"] == 42

    def test_a_run_whose_id_is_a_number(self, tallyfy, requests_mock, context):
        run = {"id": 42, "status": "complete", "next_task": None}
        requests_mock.get(RUN.replace("r1", "42"), json={"data": run})
        assert run_sensor(run_id=42).execute(context)["id"] == 42


class TestRun:
    def test_it_returns_the_run_once_it_has_the_status(self, tallyfy, context):
        tallyfy(response(), response(status="delayed"), response(status="complete"))
        run = run_sensor().execute(context)
        assert (run["id"], run["status"]) == ("r1", "complete")

    def test_a_run_that_cannot_reach_the_status_fails_without_retries(self, tallyfy, context):
        tallyfy(response(status="complete"))
        with pytest.raises(AirflowFailException, match="will not be delayed any more"):
            run_sensor(target_statuses=["delayed"]).execute(context)

    def test_archived_may_be_a_target(self, tallyfy, context):
        tallyfy(response(), response(archived_at="2026-01-01"))
        assert run_sensor(target_statuses="archived").execute(context)["archived_at"] == "2026-01-01"

    def test_the_trigger_has_the_condition(self, tallyfy, context):
        tallyfy(response())
        trigger = deferred(
            run_sensor(deferrable=True, target_statuses=("completed", "problem")), context
        ).trigger
        path, arguments = trigger.serialize()
        assert path == "airflow_provider_tallyfy.triggers.tallyfy.TallyfyRunTrigger"
        assert json.loads(json.dumps(arguments)) == arguments
        assert arguments["target_statuses"] == ["complete", "problem"]
        assert triggers.TallyfyRunTrigger(**arguments).serialize() == (path, arguments)

    def test_an_unknown_status_is_refused_when_the_dag_is_parsed(self):
        with pytest.raises(ValueError, match="The statuses are: active, complete"):
            run_sensor(target_statuses=["done"])

    @pytest.mark.parametrize("name", ["deferrable", "start_from_trigger", "end_from_trigger"])
    def test_a_text_in_place_of_a_boolean_is_refused_when_the_dag_is_parsed(self, name):
        with pytest.raises(ValueError, match=f"Task 'wait': {name} must be True or False, but is 'false'"):
            run_sensor(**{name: "false"})

    def test_a_timeout_in_the_triggerer_is_a_sensor_timeout(self, context):
        message = "Trigger timeout" if version_compat.AIRFLOW_V_3_0_PLUS else "Trigger/execution timeout"
        with pytest.raises(AirflowSensorTimeout):
            run_sensor(deferrable=True).resume_execution("__fail__", {"error": message}, context)

    def test_an_argument_that_is_rendered_to_nothing_fails_without_retries_after_a_timeout_too(self, context):
        """The triggerer may have been down all the time."""
        with pytest.raises(AirflowFailException, match="run_id must be a Tallyfy id"):
            run_sensor(run_id="", deferrable=True).poll_after_timeout(context)
        with pytest.raises(AirflowFailException, match="task must be a task's id"):
            task_sensor(task="", deferrable=True).poll_after_timeout(context)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (TallyfyTaskSensor, ("run_id", "task", "tallyfy_conn_id")),
        (TallyfyApprovalOperator, ("run_id", "task", "tallyfy_conn_id", "approvers")),
        (TallyfyRunSensor, ("run_id", "tallyfy_conn_id")),
        (TallyfyNextTaskSensor, ("run_id", "from_task", "tallyfy_conn_id")),
    ],
)
def test_template_fields(kind, fields):
    assert tuple(kind.template_fields) == fields


class TestInTheTriggerer:
    @pytest.fixture(autouse=True)
    def _can_start_from_trigger(self, monkeypatch):
        """Airflow can, as all but 3.0 to 3.2."""
        monkeypatch.setattr(start_in_triggerer, "can_start_from_trigger", lambda: True)

    @pytest.fixture(autouse=True)
    def dag(self):
        with DAG("d", schedule=None, params={"run_id": "", "task": ""}) as dag:
            yield dag

    def started(self, sensor):
        assert sensor.start_from_trigger is True
        arguments = sensor.start_trigger_args
        module, _, name = arguments.trigger_cls.rpartition(".")
        assert module == triggers.__name__
        return getattr(triggers, name)(**json.loads(json.dumps(arguments.trigger_kwargs)))

    def test_the_trigger_has_the_arguments_of_the_sensor(self):
        zero_worker = {"deferrable": True, "start_from_trigger": True, "end_from_trigger": True}
        trigger = self.started(task_sensor(on_skipped="succeed", timeout=timedelta(days=3), **zero_worker))
        assert trigger.condition().as_json() == {
            "task_name": "sign",
            "on_skipped": "succeed",
            "needs_decision": False,
        }
        assert trigger.end_from_trigger is True
        assert self.started(
            run_sensor(target_statuses="issue", task_id="other", **zero_worker)
        ).target_statuses == ["issue"]

    @in_airflow_3_3
    def test_the_triggerer_renders_the_name_of_the_task(self, dag):
        read_run = TallyfyGetRunOperator(task_id="read_run", run_id="r1")
        sensor = task_sensor(
            run_id=read_run.output["id"], task="{{ params.task }}", deferrable=True, start_from_trigger=True
        )
        trigger = self.started(sensor)
        # As the triggerer does before it renders.
        trigger.task_instance = SimpleNamespace(task_id="wait", task=sensor)
        context = {
            "params": {"task": "sign"},
            "ti": SimpleNamespace(xcom_pull=lambda **_: "r1", map_index=-1),
        }
        trigger.render_template_fields(context)
        assert (trigger.run_id, trigger.task_name) == ("r1", "sign")

    def test_the_approval_ends_in_a_worker(self):
        arguments = {"task_id": "gate", "run_id": "r1", "task": "sign", "deferrable": True}
        with pytest.warns(UserWarning, match="end_from_trigger is not used.*only a worker skips"):
            gate = TallyfyApprovalOperator(start_from_trigger=True, end_from_trigger=True, **arguments)
        assert gate.end_from_trigger is False
        assert self.started(gate).condition().needs_decision is True
