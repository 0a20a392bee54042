"""Fifty sensors that Celery workers deferred, and the death of one of the two triggerers that hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dev.processes import TIMEOUT, wait_until

if TYPE_CHECKING:
    from tests.support.environment import Environment

pytestmark = [pytest.mark.system, pytest.mark.production]

SENSORS = 50


def test_waits_of_a_triggerer_that_dies_are_taken_over_by_the_other(environment: Environment) -> None:
    first = {}
    for number in range(SENSORS):
        run_id = environment.sandbox.launch(f"One of fifty {number}")
        task = environment.sandbox.next_task(run_id)
        assert task is not None
        first[run_id] = task["id"]
    waits = [{"run_id": run_id, "from_task": task_id} for run_id, task_id in first.items()]
    dag_run = environment.airflow.trigger("crowd_from_workers", {"waits": waits})
    wait_until(lambda: sum(_held(environment).values()) == SENSORS, TIMEOUT, "all waits to be held")
    assert len(_held(environment)) == 2, "more than the capacity of one triggerer"

    environment.airflow.kill("triggerer-2")
    following = {run_id: environment.sandbox.complete_next(run_id) for run_id in first}

    try:
        assert dag_run.wait() == "success", dag_run.failures()
    finally:
        environment.airflow.start("triggerer-2")
    instances = dag_run.mapped_tasks("wait")
    assert {instance["try_number"] for instance in instances} == {1}
    results = [value for (value,) in environment.airflow.rows(RESULTS)]
    assert {result["run_id"]: (result["from_task_id"], result["next_task"]) for result in results} == {
        run_id: (first[run_id], following[run_id]) for run_id in first
    }
    assert len(results) == SENSORS


RESULTS = (
    "SELECT value FROM xcom WHERE dag_id = 'crowd_from_workers' AND task_id = 'wait' AND key = 'return_value'"
)
HELD = (
    "SELECT trigger.triggerer_id, count(*) FROM trigger JOIN task_instance ON trigger.id = trigger_id "
    "WHERE dag_id = 'crowd_from_workers' AND triggerer_id IS NOT NULL GROUP BY triggerer_id"
)


def _held(environment: Environment) -> dict[int, int]:
    """Return how many of the waits each triggerer holds."""
    return dict(environment.airflow.rows(HELD))
