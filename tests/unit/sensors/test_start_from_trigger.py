"""``start_from_trigger`` and ``end_from_trigger``: what Airflow gets, and what a worker still does."""

from __future__ import annotations

import asyncio
import inspect
import json
import warnings
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    Param,
    TaskDeferred,
    XCom,
    task,
    task_group,
)
from airflow.serialization import serialized_objects

from airflow_provider_tallyfy import version_compat
from airflow_provider_tallyfy.operators.tallyfy import TallyfyGetRunOperator
from airflow_provider_tallyfy.sensors import start_in_triggerer
from airflow_provider_tallyfy.sensors import tallyfy as sensors_module
from airflow_provider_tallyfy.sensors.tallyfy import TallyfyNextTaskSensor
from airflow_provider_tallyfy.triggers.tallyfy import TallyfyNextTaskTrigger

serialization = getattr(serialized_objects, "DagSerialization", None) or serialized_objects.SerializedDAG
in_airflow_3_3 = pytest.mark.skipif(
    not version_compat.AIRFLOW_V_3_3_PLUS, reason="the triggerer renders templates since 3.3"
)
MET = {"outcome": "met", "result": {"run_id": "r1", "from_task_id": "a", "next_task": {"id": "b"}}}
PENDING = {"outcome": "pending", "condition": {"from_task_id": "b"}}
RUN_ID = "{{ params.run_id }}"
numbers = count()


def sensor(**arguments):
    return TallyfyNextTaskSensor(
        **{
            "task_id": "wait",
            "run_id": "r1",
            "from_task": "a",
            "deferrable": True,
            "start_from_trigger": True,
            **arguments,
        }
    )


@pytest.fixture
def dag():
    with DAG("d", schedule=None, params={"run_id": ""}) as dag:
        yield dag


@pytest.fixture(autouse=True)
def _can_start_from_trigger(monkeypatch):
    """Airflow can, as all but 3.0 to 3.2."""
    monkeypatch.setattr(start_in_triggerer, "can_start_from_trigger", lambda: True)


@pytest.fixture
def before_3_3(monkeypatch):
    monkeypatch.setattr(start_in_triggerer, "AIRFLOW_V_3_3_PLUS", False)


def started_with(sensor):
    """Return the trigger that Airflow starts the sensor with."""
    arguments = sensor.start_trigger_args
    assert sensor.start_from_trigger is True
    assert arguments.trigger_cls == "airflow_provider_tallyfy.triggers.tallyfy.TallyfyNextTaskTrigger"
    assert json.loads(json.dumps(arguments.trigger_kwargs)) == arguments.trigger_kwargs
    return TallyfyNextTaskTrigger(**arguments.trigger_kwargs)


def rendered(trigger, **xcoms):
    """Let the trigger be rendered as Airflow's triggerer does, where these XComs are."""

    def xcom_pull(task_ids, *, key, map_indexes):
        pulled.append((task_ids, key, map_indexes))
        return xcoms[key]

    pulled: list[tuple[str, str, int | None]] = []
    trigger.template_fields = TallyfyNextTaskSensor.template_fields
    context = {"ti": SimpleNamespace(xcom_pull=xcom_pull, map_index=2), "params": {"run_id": "r1"}}
    trigger.render_template_fields(context)
    return trigger, pulled


def error_of(trigger):
    """Return the message of the error that fails the task."""
    trigger.task_instance = SimpleNamespace(
        dag_id="d", task_id="wait", run_id="m", map_index=-1, try_number=1
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(XCom, "get_one", lambda **_: None)
        event = asyncio.run(anext(trigger.run()))
    assert event.payload["outcome"] == "denied"
    assert event.payload["wait"] == "dag_id d, run_id m, task_id wait, map_index -1, try_number 1"
    return event.payload["message"]


@pytest.mark.usefixtures("dag")
class TestStart:
    def test_the_trigger_has_the_arguments_of_the_sensor(self):
        started = sensor(
            from_task={"id": "a", "title": "Sign"},
            poke_interval=timedelta(minutes=2),
            timeout=timedelta(days=3),
            exponential_backoff=True,
            max_wait=timedelta(hours=1),
            silent_fail=True,
            do_xcom_push=False,
            end_from_trigger=True,
        )
        assert started.start_trigger_args.next_method == "execute_complete"
        assert started.start_trigger_args.timeout == timedelta(days=3)
        assert started_with(started).serialize()[1] == {
            "tallyfy_conn_id": "tallyfy_default",
            "run_id": "r1",
            "from_task": "a",
            "api_url": None,
            "organization": None,
            "poke_interval": 120.0,
            "exponential_backoff": True,
            "max_wait": 3600.0,
            "worker_polled_at": None,
            "last_updated": None,
            "last_line": None,
            "deferred_at": None,
            "ends_at": None,
            "silent_fail": True,
            "end_from_trigger": True,
            "do_xcom_push": False,
        }

    def test_it_is_off_by_default(self):
        plain = sensor(start_from_trigger=False)
        assert (plain.start_from_trigger, plain.end_from_trigger) == (False, False)
        assert plain.start_trigger_args is None

    def test_each_sensor_has_arguments_of_its_own(self):
        first, second = sensor(task_id="first"), sensor(task_id="second", from_task="b")
        assert started_with(first).from_task == "a"
        assert started_with(second).from_task == "b"
        # Airflow would start mapped tasks with those of the class.
        assert TallyfyNextTaskSensor.start_trigger_args is None

    def test_a_timeout_of_zero_is_a_second(self):
        assert sensor(timeout=0).start_trigger_args.timeout == timedelta(seconds=1)

    @in_airflow_3_3
    @pytest.mark.parametrize(
        ("next_task", "named"),
        [({"id": "a", "title": "Sign"}, "a"), ("a", "a"), (None, ""), ("", ""), ({}, "")],
    )
    def test_the_output_of_another_task_is_rendered_to_the_task_s_id(self, next_task, named):
        read_run = TallyfyGetRunOperator(task_id="read_run", run_id=RUN_ID)
        started = sensor(run_id=read_run.output["id"], from_task=read_run.output["next_task"])
        xcoms = {"id": "r1", "next_task": next_task, "return_value": {"id": "r1"}}
        trigger, pulled = rendered(started_with(started), **xcoms)
        assert (trigger.run_id, trigger.from_task) == ("r1", named)
        # Without a map index, a triggerer gets no answer.
        assert pulled[:2] == [("read_run", "id", None), ("read_run", "next_task", None)]
        assert started.upstream_task_ids == {"read_run"}

    @in_airflow_3_3
    def test_a_task_object_without_an_id_is_an_error_and_not_no_task(self):
        read_run = TallyfyGetRunOperator(task_id="read_run", run_id=RUN_ID)
        trigger = started_with(sensor(from_task=read_run.output["next_task"]))
        assert "has no attribute 'id'" in error_of(rendered(trigger, next_task={"title": "Sign"})[0])

    @in_airflow_3_3
    def test_a_name_that_is_not_known_is_an_error_and_not_no_task(self):
        trigger, _ = rendered(started_with(sensor(from_task="{{ params.from_tsk }}")))
        assert "has no attribute 'from_tsk'" in error_of(trigger)

    @in_airflow_3_3
    def test_an_output_that_is_missing_is_an_error_and_not_no_task(self):
        read_run = TallyfyGetRunOperator(task_id="read_run", run_id=RUN_ID)
        trigger = started_with(sensor(from_task=read_run.output["next_task"]))
        message = error_of(rendered(trigger, next_task=None, return_value=None)[0])
        assert "output next_task of task read_run" in message

    @in_airflow_3_3
    def test_templates_are_left_for_the_triggerer(self):
        template = "{{ ti.xcom_pull('read_run', key='next_task', map_indexes=None)['id'] }}"
        started = sensor(run_id=RUN_ID, from_task=template)
        assert rendered(started_with(started), next_task={"id": "a"})[0].serialize()[1]["run_id"] == "r1"
        assert rendered(started_with(started), next_task={"id": "a"})[0].from_task == "a"

    @in_airflow_3_3
    def test_in_a_mapped_task_group_each_takes_the_output_beside_it(self, dag):
        @task_group
        def each(run_id):
            read_run = TallyfyGetRunOperator(task_id="read_run", run_id=run_id)
            return sensor(run_id=read_run.output["id"], from_task=read_run.output["next_task"])

        each.expand(run_id=["r1", "r2", "r3"])
        _, pulled = rendered(started_with(dag.get_task("each.wait")), id="r1", next_task={"id": "a"})
        assert pulled == [("each.read_run", "id", 2), ("each.read_run", "next_task", 2)]

    @in_airflow_3_3
    def test_it_is_serialized_with_the_dag(self, dag):
        read_run = TallyfyGetRunOperator(task_id="read_run", run_id=RUN_ID)
        sensor(run_id=RUN_ID, from_task=read_run.output["next_task"])
        stored = json.loads(json.dumps(serialization.to_dict(dag)))
        restored = serialization.from_dict(stored).get_task("wait")
        assert restored.start_from_trigger is True
        assert restored.start_trigger_args.timeout == timedelta(days=7)
        assert restored.upstream_task_ids == {"read_run"}


@in_airflow_3_3
@pytest.mark.usefixtures("dag")
class TestRestart:
    """A triggerer renders the arguments again at each start."""

    @pytest.fixture(autouse=True)
    def xcoms(self, monkeypatch):
        kept = {}
        monkeypatch.setattr(XCom, "get_one", lambda *, key, **_: kept.get(key))
        monkeypatch.setattr(XCom, "set", lambda *, key, value, **_: kept.update({key: value}))
        return kept

    def started_again(self, try_number=1, **xcoms):
        """Start the trigger; return what it waits for."""
        read_run = TallyfyGetRunOperator(task_id=f"read_run_{next(numbers)}", run_id=RUN_ID)
        started = sensor(
            task_id=f"wait_{next(numbers)}",
            run_id=read_run.output["id"],
            from_task=read_run.output["next_task"],
        )
        trigger, _ = rendered(started_with(started), **xcoms)
        trigger.task_instance = SimpleNamespace(
            dag_id="d", task_id="wait", run_id="m", map_index=-1, try_number=try_number
        )
        asyncio.run(trigger._restore_first_rendering())
        return trigger.run_id, trigger.from_task

    def test_a_restart_uses_the_first_rendering(self):
        run = {"id": "r1", "next_task": {"id": "a"}, "return_value": {}}
        assert self.started_again(**run) == ("r1", "a")
        # The upstream task was cleared, or its XComs were deleted, or it ran again.
        assert self.started_again(id=None, next_task=None, return_value=None) == ("r1", "a")
        assert self.started_again(id="r2", next_task={"id": "b"}, return_value={}) == ("r1", "a")

    def test_another_try_is_rendered_again(self):
        self.started_again(id="r1", next_task={"id": "a"}, return_value={})
        run = {"id": "r2", "next_task": {"id": "b"}, "return_value": {}}
        assert self.started_again(try_number=2, **run) == ("r2", "b")

    def test_an_xcom_backend_that_is_down_does_not_stop_it(self, monkeypatch):
        monkeypatch.setattr(XCom, "get_one", Mock(side_effect=OSError("down")))
        assert self.started_again(id="r1", next_task={"id": "a"}, return_value={}) == ("r1", "a")

    def test_arguments_that_cannot_change_are_not_kept(self, xcoms):
        trigger, _ = rendered(started_with(sensor(run_id=RUN_ID)))
        asyncio.run(trigger._restore_first_rendering())
        assert xcoms == {}


def made_at(warning):
    """Return whether the warning names the line that makes the sensor."""
    lines, first = inspect.getsourcelines(sensor)
    return warning.filename == __file__ and first <= warning.lineno < first + len(lines)


def needs_a_worker(reason, **arguments):
    """Check that the sensor starts from a worker, with a warning at the line that makes it."""
    name = f"wait_{next(numbers)}"
    with pytest.warns(
        UserWarning, match=f"Task '{name}': start_from_trigger is not used.*{reason}"
    ) as warned:
        waiting = sensor(task_id=name, **arguments)
    assert [made_at(warning) for warning in warned] == [True]
    assert (waiting.start_from_trigger, waiting.start_trigger_args) == (False, None)


@pytest.mark.usefixtures("dag")
class TestStartFromAWorker:
    @pytest.mark.parametrize("nothing", [None, "", {}])
    def test_without_from_task(self, nothing):
        needs_a_worker(
            r"forgotten when that restarts. Write from_task=get_run.output",
            from_task=nothing,
        )

    def test_if_it_is_not_deferrable(self):
        needs_a_worker("needs deferrable=True", deferrable=False)

    def test_for_an_execution_timeout_that_would_end_the_wait(self):
        needs_a_worker("execution_timeout", execution_timeout=timedelta(hours=1), timeout=7200)
        assert started_with(sensor(execution_timeout=timedelta(hours=2), timeout=7200))

    def test_for_a_callback_that_only_a_worker_calls(self):
        needs_a_worker("on_execute_callback", on_execute_callback=print)

    @in_airflow_3_3
    def test_for_a_param_without_a_default(self, dag):
        needs_a_worker("param 'mine' has no default", params={"mine": Param(type="string")})
        dag.params["theirs"] = Param(type="string")
        needs_a_worker("param 'theirs' has no default")

    @in_airflow_3_3
    def test_for_xcom_pull_without_map_indexes(self):
        template = "{{ ti.xcom_pull('read_run')['next_task']['id'] }}"
        needs_a_worker("add map_indexes=None", from_task=template)
        needs_a_worker("add map_indexes=None", run_id="{{ task_instance.xcom_pull('launch')['id'] }}")

    @in_airflow_3_3
    def test_for_an_output_that_only_a_worker_resolves(self):
        read_each = TallyfyGetRunOperator.partial(task_id="read_each").expand(run_id=["r1"])
        needs_a_worker("mapped task 'read_each'", from_task=read_each.output)

        @task
        def first_task():
            return "a"

        needs_a_worker(r"map\(\), zip\(\)", from_task=first_task().map(str))

    def test_for_an_argument_that_is_neither_text_nor_output(self):
        needs_a_worker("run_id is neither a text", run_id=True)
        needs_a_worker(r"from_task\['id'\] is neither a text", from_task={"title": "Sign"})

    @pytest.mark.usefixtures("before_3_3")
    @pytest.mark.parametrize("field", ["run_id", "from_task", "tallyfy_conn_id"])
    def test_before_airflow_3_3_if_an_argument_is_templated(self, field):
        needs_a_worker(f"{field} is templated", **{field: "{{ params.run_id }}"})

    @pytest.mark.usefixtures("before_3_3")
    def test_before_airflow_3_3_with_the_output_of_a_task(self):
        read_run = TallyfyGetRunOperator(task_id="read_run", run_id="r1")
        needs_a_worker("from_task is templated", from_task=read_run.output["next_task"])

    @pytest.mark.usefixtures("before_3_3")
    def test_not_before_airflow_3_3_if_none_is(self, dag):
        dag.params["theirs"] = Param(type="string")
        assert started_with(sensor()).from_task == "a"

    def test_in_an_airflow_that_starts_no_task_in_the_triggerer(self, monkeypatch):
        monkeypatch.setattr(start_in_triggerer, "can_start_from_trigger", lambda: False)
        needs_a_worker(r"Airflow 3.0 to 3.2 start no task")


def test_a_mapped_sensor_starts_from_a_worker():
    """Airflow would not start it, but render it in the triggerer all the same, which might not survive that."""
    arguments = {"start_from_trigger": True, "end_from_trigger": True, "deferrable": True}
    with DAG("d", schedule=None) as dag:
        with pytest.warns(
            UserWarning, match="'wait': start_from_trigger is not used.* no mapped task"
        ) as warned:
            mapped = TallyfyNextTaskSensor.partial(task_id="wait", from_task="a", **arguments)
        mapped.expand(run_id=["r1", "r2"])
    assert [warning.filename for warning in warned] == [__file__]
    restored = serialization.from_dict(json.loads(json.dumps(serialization.to_dict(dag)))).get_task("wait")
    assert (restored.start_from_trigger, restored.start_trigger_args) == (False, None)
    assert dag.get_task("wait").partial_kwargs["end_from_trigger"] is True


@in_airflow_3_3
def test_it_starts_from_a_worker_outside_of_a_dag():
    needs_a_worker("not in a DAG yet")


@pytest.mark.parametrize(
    ("at_least_3_0", "at_least_3_3", "can"), [(False, False, True), (True, False, False), (True, True, True)]
)
def test_which_airflow_starts_tasks_in_the_triggerer(monkeypatch, at_least_3_0, at_least_3_3, can):
    monkeypatch.setattr(version_compat, "AIRFLOW_V_3_0_PLUS", at_least_3_0)
    monkeypatch.setattr(version_compat, "AIRFLOW_V_3_3_PLUS", at_least_3_3)
    assert version_compat.can_start_from_trigger() is can


@pytest.mark.usefixtures("dag")
class TestEnd:
    def test_without_a_reason_there_is_no_warning(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            assert sensor(end_from_trigger=True).end_from_trigger is True
            assert sensor(task_id="other", start_from_trigger=False, end_from_trigger=True).end_from_trigger

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("on_success_callback", {"on_success_callback": print}),
            ("outlets", {"outlets": ["something"]}),
            ("multiple_outputs", {"multiple_outputs": True}),
            ("deferrable=True", {"deferrable": False, "start_from_trigger": False}),
        ],
    )
    def test_it_ends_in_a_worker_for_what_only_a_worker_handles(self, name, arguments):
        with pytest.warns(
            UserWarning, match=f"Task 'wait': end_from_trigger is not used, .* {name}"
        ) as warned:
            assert sensor(end_from_trigger=True, **arguments).end_from_trigger is False
        assert [made_at(warning) for warning in warned] == [True]

    def test_it_ends_in_a_worker_for_listeners(self, monkeypatch, dag):
        monkeypatch.setattr(start_in_triggerer, "has_listeners", lambda: True)
        with pytest.warns(UserWarning, match="end_from_trigger is not used, .* listeners"):
            ending = sensor(end_from_trigger=True)
        assert ending.end_from_trigger is False  # or Airflow refuses the DAG
        assert started_with(ending).end_from_trigger is False

    def test_the_trigger_has_end_from_trigger(self):
        assert started_with(sensor(end_from_trigger=True)).end_from_trigger is True


def restored_from(dag):
    """Return the sensor as the scheduler has it."""
    if version_compat.IS_AIRFLOW_3_0:
        pytest.skip("Airflow 3.0 starts no task in the triggerer, and restores none within a DAG")
    # Airflow 2 would put the sensor into the DAG of this test again.
    with nullcontext() if version_compat.AIRFLOW_V_3_0_PLUS else DAG("restored", schedule=None):
        return serialization.from_dict(json.loads(json.dumps(serialization.to_dict(dag)))).get_task("wait")


@pytest.mark.usefixtures("dag")
class TestWhatIsSetLater:
    """A cluster policy, or the DAG file itself, changes a sensor that has been made."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [("on_success_callback", [print]), ("outlets", ["something"]), ("multiple_outputs", True)],
    )
    def test_it_ends_in_a_worker_for_what_only_a_worker_handles(self, name, value):
        changed = sensor(end_from_trigger=True)
        setattr(changed, name, value)
        assert changed.end_from_trigger is False
        assert started_with(changed).end_from_trigger is False

    def test_interval_and_timeout_are_those_of_the_sensor(self, dag):
        changed = sensor()
        changed.poke_interval, changed.timeout = 600.0, 7200.0
        restored = restored_from(dag)
        assert restored.start_trigger_args.timeout == timedelta(hours=2)
        assert started_with(changed).poke_interval == 600.0

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("on_execute_callback", [print]),
            ("execution_timeout", timedelta(minutes=1)),
            ("deferrable", False),
        ],
    )
    def test_it_starts_in_a_worker_if_needed_when_it_is_serialized(self, dag, name, value):
        changed = sensor()
        setattr(changed, name, value)
        restored = restored_from(dag)
        assert (restored.start_from_trigger, restored.start_trigger_args) == (False, None)


@pytest.mark.usefixtures("dag")
def test_another_pool_is_a_warning():
    with pytest.warns(UserWarning, match="no slot of pool 'scarce', but ending in a worker does") as warned:
        assert started_with(sensor(pool="scarce"))
    assert [made_at(warning) for warning in warned] == [True]


def resumed(context, event, **arguments):
    """Resume a task in a worker that was started in the triggerer."""
    return sensor(timeout=100, **arguments).resume_execution("execute_complete", {"event": event}, context)


def deferred_again(context, event, **arguments):
    with pytest.raises(TaskDeferred) as deferral:
        resumed(context, event, **arguments)
    return deferral.value


@pytest.mark.usefixtures("dag", "connection", "state_store", "clock")
class TestWorkerAfterwards:
    def test_it_returns_the_result_and_links_to_the_process(self, context):
        assert resumed(context, MET) == MET["result"]
        assert context["ti"].xcoms == {"tallyfy_run_url": "https://go.tallyfy.com/acme/processes/r1"}

    def test_a_connection_that_cannot_be_read_only_loses_the_link(self, context):
        assert resumed(context, MET, tallyfy_conn_id="nowhere") == MET["result"]
        assert context["ti"].xcoms == {}

    def test_an_archived_run_fails_without_retries(self, context):
        with pytest.raises(AirflowFailException, match="archived"):
            resumed(context, {"outcome": "unreachable", "reason": "archived"})

    def test_an_invalid_argument_is_a_value_error(self, context):
        event = {"outcome": "denied", "error": "TallyfyConfigurationError", "message": "from_task is …"}
        with pytest.raises(ValueError, match="from_task is"):
            resumed(context, event)

    def test_the_baseline_that_the_trigger_saw_is_kept_for_the_time_that_is_left(self, context, clock):
        context["ti"].start_date = datetime.fromtimestamp(clock.now - 70, UTC)
        deferral = deferred_again(context, PENDING, from_task="", start_from_trigger=False)
        assert sensors_module._kept_baseline(context, "r1") == "b"
        assert deferral.trigger.from_task == "b"
        assert deferral.timeout == timedelta(seconds=30)
        assert deferral.trigger.ends_at == deferral.kwargs["ends_at"] == clock.now + 30

    @pytest.mark.parametrize("end", [None, {"id": "c"}])
    def test_the_baseline_of_an_earlier_try_takes_precedence(self, context, end):
        sensors_module._save(context, sensors_module._BASELINE_KEY, "r1", from_task_id="a")
        met = {"outcome": "met", "result": {"run_id": "r1", "from_task_id": None, "next_task": None}}
        deferral = deferred_again(context, PENDING if end else met)
        assert (deferral.trigger.from_task, deferral.trigger.worker_polled_at) == ("a", None)
        assert sensors_module._kept_baseline(context, "r1") == "a"

    def test_a_kept_baseline_needs_a_worker_at_the_end(self, context):
        assert deferred_again(context, PENDING, end_from_trigger=True).trigger.end_from_trigger is False


@pytest.mark.usefixtures("connection", "state_store")
class TestEndOfATaskThatAWorkerStarted:
    def deferred(self, context, **arguments):
        with pytest.raises(TaskDeferred) as deferral:
            sensor(start_from_trigger=False, end_from_trigger=True, **arguments).execute(context)
        return deferral.value.trigger

    @pytest.fixture(autouse=True)
    def _next_is_a(self, requests_mock):
        run = {"id": "r1", "status": "active", "next_task": {"data": [{"id": "a"}]}}
        requests_mock.get("https://tallyfy.test/api/organizations/acme/runs/r1", json={"data": run})

    def test_the_trigger_may_end_it_if_no_baseline_was_kept(self, context):
        assert self.deferred(context, from_task="a").end_from_trigger is True

    def test_but_not_if_a_baseline_was_kept(self, context):
        assert self.deferred(context, from_task=None).end_from_trigger is False
