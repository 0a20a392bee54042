"""
TallyfyNextTaskSensor in a real Airflow, where scheduler, triggerer and workers are processes.

The unit tests move a clock. Here time passes, so each test takes some seconds.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from airflow_provider_tallyfy.sandbox.access import TOKEN
from airflow_provider_tallyfy.sandbox.store import ORGANIZATION
from dev.forwarder import Forwarder
from tests.support.environment import Environment, Wait

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

OUTAGE = 30.0


@pytest.fixture(scope="module")
def outage(environment: Environment) -> Iterator[tuple[Wait, Forwarder, float]]:
    """A wait that lost its connection to Tallyfy, what it connected to, and the time of the loss."""
    sandbox = environment.sandbox
    with (
        Forwarder(urlsplit(sandbox.url).port or 0) as forwarder,
        environment.connection("tallyfy_outage", sandbox.connection(forwarder.url)),
    ):
        wait = environment.wait_in("next_task_deferred_outage")
        wait.until("deferred")
        forwarder.close()
        yield wait, forwarder, time.monotonic()


@pytest.fixture(scope="module")
def deleted(environment: Environment) -> Wait:
    """A wait whose run was deleted, which takes it half a minute to be certain of."""
    wait = environment.wait_in("next_task_deferred")
    wait.until("deferred")
    wait.sandbox.archive(wait.run_id)
    wait.sandbox.delete(wait.run_id)
    return wait


@pytest.fixture(scope="module", autouse=True)
def _waits_are_started(environment: Environment, outage: object, deleted: object) -> None:
    """Start the outage, and the waits that hold no worker, before the first test."""
    dags = ("deferred_timeout", "deferred_soft_fail", "reschedule_first_look", *["deferred"] * 5)
    for dag in dags:
        environment.start_wait(f"next_task_{dag}")
    environment.start_wait("next_task_deferred", done=2)
    environment.start_wait("next_task_deferred_object", sandbox=environment.object_sandbox, done=2)


def test_deferred_sensor_returns_the_documented_result_after_a_completion(environment: Environment) -> None:
    wait = environment.wait_in("next_task_deferred_after_read")
    wait.until("deferred")

    following = wait.moves_on()

    run = wait.sandbox.run(wait.run_id)
    assert wait.result() == {
        "run_id": wait.run_id,
        "from_task_id": wait.first_id,
        "next_task": following,
        "run_status": run["status"],
        "progress": run["progress"],
    }


@pytest.mark.parametrize("next_task", ["collection", "object"])
def test_deferred_sensor_succeeds_at_the_end_of_the_run(environment: Environment, next_task: str) -> None:
    dag_id, sandbox = {
        "collection": ("next_task_deferred", environment.sandbox),
        "object": ("next_task_deferred_object", environment.object_sandbox),
    }[next_task]
    wait = environment.wait_in(dag_id, sandbox=sandbox, done=2)
    wait.until("deferred")

    assert wait.complete_next() is None

    result = wait.result()
    assert result["from_task_id"] == wait.first_id
    assert result["next_task"] is None
    assert result["run_status"] == "complete"


def test_baseline_is_kept_over_a_reschedule_and_deleted_after_success(environment: Environment) -> None:
    wait = environment.wait_in("next_task_reschedule_first_look")
    wait.until("up_for_reschedule")

    following = wait.moves_on()
    # Airflow may lose a clearing that coincides with the end of the DAG run.
    assert wait.dag_run.wait() == "success"

    wait.dag_run.clear("wait")  # waits again, from the task that is next now
    wait.until("up_for_reschedule")
    wait.complete_next()
    wait.until("success")
    assert wait.dag_run.xcom("wait")["from_task_id"] == following["id"]


def test_sensor_in_poke_mode_and_the_operator_before_it(environment: Environment) -> None:
    wait = environment.wait_in("next_task_poke")
    wait.until("running")

    run = wait.dag_run.xcom("read_run")
    link = wait.dag_run.extra_links("read_run")
    wait.moves_on()

    assert run["id"] == wait.run_id
    assert run["next_task"]["id"] == wait.first_id
    assert link == {"Tallyfy process": f"{environment.sandbox.url}/{ORGANIZATION}/processes/{wait.run_id}"}


def test_mapped_sensors_keep_a_baseline_each(environment: Environment) -> None:
    ids = [environment.sandbox.launch(f"Mapped run {number}") for number in range(3)]
    first = {run_id: environment.sandbox.next_task(run_id) for run_id in ids}
    dag_run = environment.airflow.trigger("next_task_mapped", {"run_ids": ids})
    dag_run.wait_for_mapped_tasks("wait_each", "deferred", number=3)

    for run_id in reversed(ids):
        environment.sandbox.complete_next(run_id)

    assert dag_run.wait() == "success", dag_run.failures()
    assert dag_run.xcom("collect") == {run_id: task and task["id"] for run_id, task in first.items()}


def test_complete_run_ends_the_wait_immediately(environment: Environment) -> None:
    wait = environment.wait_in("next_task_deferred_after_read", done=3)

    result = wait.result()

    assert wait.dag_run.xcom("read_run")["next_task"] is None
    assert result["from_task_id"] is None
    assert result["next_task"] is None
    assert result["run_status"] == "complete"


def test_deleted_run_fails_the_task_without_retries(deleted: Wait) -> None:
    instance = deleted.until("failed")

    assert (instance["try_number"], instance["max_tries"]) == (1, 2)
    assert deleted.run_id in deleted.log()


def test_timeout_fails_the_deferred_task_as_any_sensor_timeout_does(environment: Environment) -> None:
    wait = environment.wait_in("next_task_deferred_timeout")

    instance = wait.until("failed")

    assert (instance["try_number"], instance["max_tries"]) == (1, 2)
    assert "AirflowSensorTimeout" in wait.log()


def test_timeout_with_soft_fail_skips_the_deferred_task(environment: Environment) -> None:
    environment.wait_in("next_task_deferred_soft_fail").until("skipped")


def test_deferred_sensor_survives_an_outage(
    environment: Environment, outage: tuple[Wait, Forwarder, float]
) -> None:
    wait, forwarder, began = outage
    time.sleep(max(0.0, began + OUTAGE - time.monotonic()))
    assert wait.dag_run.task("wait")["state"] == "deferred"

    forwarder.open()
    wait.moves_on()


def test_token_is_in_no_log_and_not_in_the_database(environment: Environment) -> None:
    airflow = environment.airflow
    wait = environment.wait_in("next_task_deferred")
    wait.until("deferred")
    # The metadata database keeps the arguments of triggers as plain JSON.
    triggers = "\n".join(arguments for (arguments,) in airflow.rows("SELECT kwargs FROM trigger"))
    wait.complete_next()
    wait.until("success")

    assert wait.run_id in triggers
    assert TOKEN not in triggers
    files = [path for path in airflow.home.rglob("*") if path.is_file()]
    assert any(wait.run_id.encode() in path.read_bytes() for path in files if path.suffix == ".log")
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []


def test_marking_or_clearing_a_wait_leaves_the_process_alone(environment: Environment) -> None:
    """As docs/waiting.md has it, under "Mark, clear or delete a task that waits"."""
    failed, succeeded, cleared = waits = [environment.wait_in("next_task_deferred") for _ in range(3)]
    for wait in waits:
        wait.until("deferred")

    failed.dag_run.set_task_state("wait", "failed")
    succeeded.dag_run.set_task_state("wait", "success")
    cleared.dag_run.clear("wait")

    assert (failed.dag_run.wait(60), succeeded.dag_run.wait(60)) == ("failed", "success")
    cleared.until("deferred")
    for wait in waits:
        run = wait.sandbox.run(wait.run_id)
        assert (run["status"], run["archived_at"]) == ("active", None)
        assert wait.complete_next() is not None
    cleared.until("success")
    assert cleared.dag_run.xcom("wait")["from_task_id"] == cleared.first_id
    assert failed.dag_run.task("wait")["state"] == "failed"
    assert succeeded.dag_run.task("wait")["state"] == "success"
