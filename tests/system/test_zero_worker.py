"""Sensors that start and end in the triggerer of a real Airflow, without a worker."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID
from tests.support.environment import Environment

pytestmark = pytest.mark.system

RESULT = {"run_id", "from_task_id", "next_task", "run_status", "progress"}


def worker_of(instance: dict[str, Any]) -> tuple[Any, ...]:
    """Return the fields of a task instance that a worker sets: when it was queued, its process and its host."""
    return tuple(instance[field] or None for field in ("queued_when", "pid", "hostname"))


NO_WORKER = (None, None, None)


@pytest.fixture(scope="module", autouse=True)
def _waits_are_started(environment: Environment) -> None:
    """Start the waits, which hold no worker, before the first test."""
    for dag_id in (
        "output",
        "template",
        "no_task_object",
        "not_at_the_start",
        "not_at_the_end",
        "required_param",
        "alone",
    ):
        environment.start_wait(f"zero_worker_{dag_id}")
    environment.start_wait("zero_worker_alone", done=3)


@pytest.mark.parametrize("from_task", ["output", "template"])
def test_sensor_occupies_no_worker_from_start_to_end(environment: Environment, from_task: str) -> None:
    wait = environment.wait_in(f"zero_worker_{from_task}")
    assert worker_of(wait.until("deferred")) == NO_WORKER

    following = wait.moves_on()

    instance = wait.until("success")
    assert worker_of(instance) == NO_WORKER
    assert (instance["try_number"], instance["end_date"] is None) == (1, False)
    result = wait.result()
    assert set(result) == RESULT
    assert result["run_id"] == wait.run_id
    assert result["next_task"] == following
    assert wait.dag_run.extra_links("wait") == {"Tallyfy process": wait.sandbox.process_url(wait.run_id)}
    assert wait.dag_run.wait() == "success", wait.dag_run.failures()
    assert wait.dag_run.xcom("follow_up") == wait.first_id


def test_worker_only_starts_it(environment: Environment) -> None:
    wait = environment.wait_in("zero_worker_not_at_the_start")
    started_in = worker_of(wait.until("deferred"))
    assert None not in started_in

    wait.moves_on()

    assert worker_of(wait.until("success")) == started_in
    assert wait.dag_run.wait() == "success", wait.dag_run.failures()


def test_worker_only_ends_it(environment: Environment) -> None:
    wait = environment.wait_in("zero_worker_not_at_the_end")
    assert worker_of(wait.until("deferred")) == NO_WORKER

    wait.moves_on()

    assert None not in worker_of(wait.until("success"))
    assert "not about this wait" not in wait.log()
    assert wait.dag_run.extra_links("wait") == {"Tallyfy process": wait.sandbox.process_url(wait.run_id)}
    assert wait.dag_run.wait() == "success", wait.dag_run.failures()


def test_literal_arguments_need_no_rendering(environment: Environment) -> None:
    dag_run = environment.airflow.trigger("zero_worker_literal")

    assert dag_run.wait() == "success", dag_run.failures()
    assert worker_of(dag_run.task("wait")) == NO_WORKER
    result = dag_run.xcom("wait")
    assert (result["run_id"], result["from_task_id"]) == (SEEDED_RUN_ID, "another-task")
    assert result["next_task"] == environment.sandbox.next_task(SEEDED_RUN_ID)


def test_mapped_task_group_occupies_no_worker(environment: Environment) -> None:
    ids = [environment.sandbox.launch(f"Grouped run {number}") for number in range(2)]
    dag_run = environment.airflow.trigger("zero_worker_task_group", {"run_ids": ids})
    dag_run.wait_for_mapped_tasks("each_run.wait", "deferred", number=2)
    for run_id in ids:
        environment.sandbox.complete_next(run_id)

    assert dag_run.wait() == "success", dag_run.failures()
    assert [worker_of(instance) for instance in dag_run.mapped_tasks("each_run.wait")] == [NO_WORKER] * 2


def test_mapped_sensor_starts_in_a_worker_and_waits_as_usual(environment: Environment) -> None:
    ids = [environment.sandbox.launch(f"Mapped run {number}") for number in range(2)]
    dag_run = environment.airflow.trigger("zero_worker_mapped", {"run_ids": ids})
    dag_run.wait_for_mapped_tasks("wait", "deferred", number=2)
    assert all(None not in worker_of(instance) for instance in dag_run.mapped_tasks("wait"))
    for run_id in ids:
        environment.sandbox.complete_next(run_id)

    assert dag_run.wait() == "success", dag_run.failures()
    assert environment.airflow.api.health()["triggerer"] == "healthy"


def test_param_without_a_default_does_not_end_the_triggerer(environment: Environment) -> None:
    wait = environment.wait_in("zero_worker_required_param")
    assert None not in worker_of(wait.until("deferred"))

    wait.moves_on()

    assert environment.airflow.api.health()["triggerer"] == "healthy"


def test_end_of_a_run_that_is_complete_already(environment: Environment) -> None:
    wait = environment.wait_in("zero_worker_alone", done=3)

    result = wait.result()

    assert (result["from_task_id"], result["next_task"], result["run_status"]) == (None, None, "complete")


def test_archived_run_fails_the_task_without_retries(environment: Environment) -> None:
    wait = environment.wait_in("zero_worker_alone")
    wait.until("deferred")

    wait.sandbox.archive(wait.run_id)

    instance = wait.until("failed")
    assert (instance["try_number"], instance["max_tries"]) == (1, 2)
    assert "archived" in wait.log()


def test_timeout_is_the_sensor_s_own(environment: Environment) -> None:
    wait = environment.wait_in("zero_worker_timeout")
    assert worker_of(wait.until("deferred")) == NO_WORKER

    instance = wait.until("failed")

    assert (instance["try_number"], instance["max_tries"]) == (1, 2)
    assert "AirflowSensorTimeout" in wait.log()


def test_task_object_that_was_rendered_to_text_fails_the_task_with_a_reason(environment: Environment) -> None:
    wait = environment.wait_in("zero_worker_no_task_object")

    wait.until("failed")

    assert "let the template end in ['next_task']['id']" in wait.log()
