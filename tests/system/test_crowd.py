"""Three hundred sensors wait at once in one triggerer, and people complete what they wait for in any order."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from dev.processes import wait_until

if TYPE_CHECKING:
    from conftest import Site

pytestmark = pytest.mark.system

CROWD = 300
FROM_WORKERS = 40
SENSORS_OF_A_DAG = 20  # as in dags/crowd.py
LONGEST = 300.0


def test_every_one_of_three_hundred_sensors_wakes_exactly_once(site: Site) -> None:
    first_tasks = {}
    for number in range(CROWD):
        run_id = site.sandbox.launch(f"Crowd {number}")
        task = site.sandbox.next_task(run_id)
        assert task is not None
        first_tasks[run_id] = task["id"]
    waits = [{"run_id": run_id, "from_task": task_id} for run_id, task_id in first_tasks.items()]
    # One after the other: sqlite is slow where many write at once.
    dag_runs = [site.airflow.trigger("crowd_from_workers", {"waits": waits[:FROM_WORKERS]})]
    dag_runs[0].wait_for_mapped_tasks("wait", "deferred", number=FROM_WORKERS, timeout=LONGEST)
    for start in range(FROM_WORKERS, CROWD, SENSORS_OF_A_DAG):
        part = waits[start : start + SENSORS_OF_A_DAG]
        dag_runs.append(site.airflow.trigger("crowd", {"waits": part}))
    wait_until(lambda: _sensors(site)["deferred"] == CROWD, LONGEST, "300 sensors to wait at once")

    following = {}
    for run_id in random.Random(300).sample(sorted(first_tasks), CROWD):  # noqa: S311 (an order, not a secret)
        following[run_id] = site.sandbox.complete_next(run_id)

    wait_until(lambda: _sensors(site)["success"] == CROWD, LONGEST, "300 sensors to succeed")
    assert {dag_run.wait(60) for dag_run in dag_runs} == {"success"}
    results = _results(site)
    assert len(results) == CROWD
    for result in results:
        run_id = result["run_id"]
        assert result["from_task_id"] == first_tasks[run_id]
        assert result["next_task"]["id"] == following[run_id]["id"]
    assert {result["run_id"] for result in results} == set(first_tasks)
    assert _tries(site) == {1}
    wait_until(lambda: _fired_events(site) >= CROWD, LONGEST, "the logs to be written")
    assert _fired_events(site) == CROWD


def _rows(site: Site, query: str) -> list[tuple[Any, ...]]:
    return site.airflow.rows(query)


def _sensors(site: Site) -> Counter[str]:
    return Counter(
        dict(
            _rows(
                site,
                "SELECT state, count(*) FROM task_instance "
                "WHERE dag_id LIKE 'crowd%' AND task_id != 'waits' GROUP BY state",
            )
        )
    )


def _tries(site: Site) -> set[int]:
    return {row[0] for row in _rows(site, "SELECT try_number FROM task_instance WHERE dag_id LIKE 'crowd%'")}


def _results(site: Site) -> list[dict[str, Any]]:
    query = (
        "SELECT value FROM xcom WHERE dag_id LIKE 'crowd%' AND key = 'return_value' AND task_id != 'waits'"
    )
    return [json.loads(value) for (value,) in _rows(site, query)]


def _fired_events(site: Site) -> int:
    """
    Return how often a trigger of the crowd fired, as the logs tell.

    A line that comes to a busy triggerer's supervisor after its trigger has ended stands in the triggerer's own log.
    """
    logs = [path for path in site.airflow.logs.rglob("*") if path.is_file() and "dag_id=crowd" in str(path)]
    in_own_log = (site.airflow.logs / "triggerer.log").read_text().splitlines()
    late = [line for line in in_own_log if "Trigger fired event" in line and "dag_id=crowd" in line]
    return len(late) + sum(path.read_text().count("Trigger fired event") for path in logs)
