"""
Celery workers that are killed while they run tasks.

All tasks are started first. Then both workers are killed and started again, so that the time until Airflow misses the
heartbeats passes once for all of them.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from dev.processes import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dev.airflow_api import DagRun
    from tests.support.environment import Environment

pytestmark = [pytest.mark.system, pytest.mark.production]

HOLD = 20.0  # seconds: until after the worker is killed, and until the task is tried again

#: Of three launches, one hangs before the request, one during it, and one after it. What has arrived is carried out.
FAULTS = [
    {"method": method, "path": path, "action": "delay", "delay": HOLD}
    for method, path in (("GET", "/checklists/"), ("POST", "/runs$"), ("GET", "/runs/"))
]
LAUNCHES = ["one", "two", "three"]


@dataclass(frozen=True)
class Killed:
    """The DAG runs whose tasks lost their workers."""

    launches: Mapping[str, DagRun]
    worker_lost: DagRun
    supervisor_lost: DagRun


def runs(environment: Environment, name: str) -> list[dict[str, Any]]:
    found = environment.sandbox.request("GET", "/runs", params={"per_page": "100", "sort": "-created_at"})
    return [run for run in found if run["name"] == name]


def all_hang(environment: Environment) -> bool:
    faults = environment.sandbox.control("GET", "/faults")["data"]
    return all(fault["applied"] for fault in faults[-len(FAULTS) :])


def process_of(dag_run: DagRun) -> int:
    """Return the id of the task's process, once its code runs."""
    instance = dag_run.wait_for_task("work", "running")
    dag_run.api.wait_for(lambda: "Working." in dag_run.log("work"), TIMEOUT, "the task to work")
    return int(instance["pid"])


@pytest.fixture(scope="module")
def killed(environment: Environment) -> Killed:
    worker_lost = environment.airflow.trigger("incident_through_kill", {"name": "worker"})
    supervisor_lost = environment.airflow.trigger("incident_through_kill", {"name": "supervisor"})
    task = process_of(supervisor_lost)
    process_of(worker_lost)
    environment.sandbox.control("POST", "/faults", FAULTS)
    launches = {name: environment.airflow.trigger("launch_through_kill", {"name": name}) for name in LAUNCHES}
    environment.airflow.api.wait_for(lambda: all_hang(environment), TIMEOUT, "the launches to hang")
    for pid in (psutil.Process(task).ppid(), task):
        os.kill(pid, signal.SIGKILL)
    for worker in ("worker", "worker-2"):
        environment.airflow.kill(worker)
    for worker in ("worker", "worker-2"):
        environment.airflow.start(worker)
    return Killed(launches, worker_lost, supervisor_lost)


@pytest.mark.parametrize("name", LAUNCHES)
def test_process_is_launched_once(environment: Environment, killed: Killed, name: str) -> None:
    dag_run = killed.launches[name]

    assert dag_run.wait() == "success", dag_run.failures()

    assert dag_run.task("launch")["try_number"] == 2
    [run] = runs(environment, f"launch_through_kill {name}")
    assert dag_run.xcom("launch")["id"] == run["id"]


@pytest.mark.parametrize("lost", ["worker", "supervisor"])
def test_one_failure_makes_one_incident(environment: Environment, killed: Killed, lost: str) -> None:
    dag_run: DagRun = getattr(killed, f"{lost}_lost")
    name = f"Incident in incident_through_kill {lost}"

    assert dag_run.wait() == "failed"
    environment.airflow.api.wait_for(lambda: runs(environment, name), TIMEOUT, "the incident")
    # A second callback would come before that of a task that fails later.
    later = environment.airflow.trigger("incident", {"name": f"after {lost}"})
    assert later.wait() == "failed"
    environment.airflow.api.wait_for(
        lambda: runs(environment, f"Incident in incident after {lost}"), TIMEOUT, "the next incident"
    )

    assert len(runs(environment, name)) == 1
    assert len(runs(environment, f"Incident in incident after {lost}")) == 1
