"""Three hundred sensors wait at once, and one of the two triggerers that hold them dies."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from dev.processes import TIMEOUT, wait_until

if TYPE_CHECKING:
    from tests.support.environment import Environment

pytestmark = [pytest.mark.system, pytest.mark.production]

CROWD = 300
FROM_WORKERS = 40
SENSORS_OF_A_DAG = 20  # as in dags/crowd.py
SENSORS = "dag_id LIKE 'crowd%' AND task_id != 'waits'"
HELD = (
    "SELECT trigger.triggerer_id, count(*) FROM trigger JOIN task_instance ON trigger.id = trigger_id "
    "WHERE dag_id LIKE 'crowd%' AND triggerer_id IS NOT NULL GROUP BY triggerer_id"
)


def test_each_of_three_hundred_sensors_resumes_exactly_once(environment: Environment) -> None:
    airflow, sandbox = environment.airflow, environment.sandbox
    first_tasks = {}
    for number in range(CROWD):
        run_id = sandbox.launch(f"Crowd {number}")
        task = sandbox.next_task(run_id)
        assert task is not None
        first_tasks[run_id] = task["id"]
    waits = [{"run_id": run_id, "from_task": task_id} for run_id, task_id in first_tasks.items()]

    def all_are(state: str) -> bool:
        query = f"SELECT count(*) FROM task_instance WHERE {SENSORS} AND state = '{state}'"  # noqa: S608
        return airflow.rows(query) == [(CROWD,)]

    def held() -> dict[int, int]:
        """Return how many of the waits each triggerer holds."""
        return dict(airflow.rows(HELD))

    dag_runs = [airflow.trigger("crowd_from_workers", {"waits": waits[:FROM_WORKERS]})]
    dag_runs += [
        airflow.trigger("crowd", {"waits": waits[start : start + SENSORS_OF_A_DAG]})
        for start in range(FROM_WORKERS, CROWD, SENSORS_OF_A_DAG)
    ]
    wait_until(lambda: all_are("deferred"), TIMEOUT, "300 sensors to wait at once")
    wait_until(lambda: sum(held().values()) == CROWD, TIMEOUT, "all waits to be held")
    assert len(held()) == 2, "more than the capacity of one triggerer"

    airflow.kill("triggerer-2")
    following = {}
    try:
        for run_id in random.Random(300).sample(sorted(first_tasks), CROWD):  # noqa: S311 (an order, not a secret)
            following[run_id] = sandbox.complete_next(run_id)
        wait_until(lambda: all_are("success"), TIMEOUT, "300 sensors to succeed")
    finally:
        airflow.start("triggerer-2")

    assert {dag_run.wait() for dag_run in dag_runs} == {"success"}
    values = airflow.rows(f"SELECT value FROM xcom WHERE {SENSORS} AND key = 'return_value'")  # noqa: S608
    results = [value for (value,) in values]
    assert {result["run_id"]: result["from_task_id"] for result in results} == first_tasks
    assert {result["run_id"]: result["next_task"] for result in results} == following
    assert len(results) == CROWD
    assert airflow.rows("SELECT DISTINCT try_number FROM task_instance WHERE dag_id LIKE 'crowd%'") == [(1,)]
    wait_until(lambda: _fired_events(environment) >= CROWD, TIMEOUT, "the logs to be written")
    assert _fired_events(environment) == CROWD


def _fired_events(environment: Environment) -> int:
    """
    Return from the logs how often a trigger of the crowd fired.

    A line that reaches a busy triggerer's supervisor after its trigger has ended is in the triggerer's log.
    """
    folder = environment.airflow.logs
    of_tasks = [path for path in folder.rglob("*") if path.is_file() and "dag_id=crowd" in str(path)]
    of_triggerer = "".join(log.read_text() for log in folder.glob("triggerer*.log")).splitlines()
    late = [line for line in of_triggerer if "Trigger fired event" in line and "dag_id=crowd" in line]
    return len(late) + sum(path.read_text().count("Trigger fired event") for path in of_tasks)
