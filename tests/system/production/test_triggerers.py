"""Fifty sensors that Celery workers deferred, and the death of one of the two triggerers that hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dev.processes import wait_until

if TYPE_CHECKING:
    from conftest import Site

pytestmark = [pytest.mark.system, pytest.mark.production]

SENSORS = 50
LONGEST = 180.0


def test_waits_of_a_triggerer_that_dies_are_taken_over_by_the_other(site: Site) -> None:
    first = {}
    for number in range(SENSORS):
        run_id = site.sandbox.launch(f"One of fifty {number}")
        task = site.sandbox.next_task(run_id)
        assert task is not None
        first[run_id] = task["id"]
    waits = [{"run_id": run_id, "from_task": task_id} for run_id, task_id in first.items()]
    dag_run = site.airflow.trigger("crowd_from_workers", {"waits": waits})
    wait_until(lambda: sum(_held(site).values()) == SENSORS, LONGEST, "all waits to be held")
    assert len(_held(site)) == 2, "more than the capacity of one triggerer"

    site.airflow.kill("triggerer-2")
    following = {run_id: site.sandbox.complete_next(run_id) for run_id in first}

    try:
        assert dag_run.wait(LONGEST) == "success", dag_run.failures()
    finally:
        site.airflow.start("triggerer-2")
    instances = dag_run.mapped_tasks("wait")
    assert {instance["try_number"] for instance in instances} == {1}
    results = [value for (value,) in site.airflow.rows(RESULTS)]
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


def _held(site: Site) -> dict[int, int]:
    """Return how many of the waits each triggerer holds."""
    return dict(site.airflow.rows(HELD))
