"""
Celery workers are killed in the midst of their tasks, each with its task's process and what supervises it.

All tasks that are to lose their worker are brought to that point first. Then both workers are killed at once, and
started again, so that the time until Airflow misses the heartbeats passes once for all of them.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import requests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conftest import Site

    from dev.airflow_api import DagRun

pytestmark = [pytest.mark.system, pytest.mark.production]

SOON = 60.0
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


def runs(site: Site, name: str) -> list[dict[str, Any]]:
    found = site.sandbox.request("GET", "/runs", params={"per_page": "100", "sort": "-created_at"})
    return [run for run in found if run["name"] == name]


def all_hang(site: Site) -> bool:
    response = requests.get(f"{site.sandbox.url}/_sandbox/faults", timeout=10)
    return all(fault["applied"] for fault in response.json()["data"][-len(FAULTS) :])


def process_of(dag_run: DagRun) -> int:
    """Return the id of the task's process, once its code runs."""
    instance = dag_run.wait_for_task("work", "running", SOON)
    dag_run.api.wait_for(lambda: "Working." in dag_run.log("work"), SOON, "the task to work")
    return int(instance["pid"])


@pytest.fixture(scope="module")
def killed(site: Site) -> Killed:
    worker_lost = site.airflow.trigger("incident_through_kill", {"name": "worker"})
    supervisor_lost = site.airflow.trigger("incident_through_kill", {"name": "supervisor"})
    task = process_of(supervisor_lost)
    process_of(worker_lost)
    requests.post(f"{site.sandbox.url}/_sandbox/faults", json=FAULTS, timeout=10).raise_for_status()
    launches = {name: site.airflow.trigger("launch_through_kill", {"name": name}) for name in LAUNCHES}
    site.airflow.api.wait_for(lambda: all_hang(site), SOON, "the launches to hang")
    for pid in (psutil.Process(task).ppid(), task):
        os.kill(pid, signal.SIGKILL)
    for worker in ("worker", "worker-2"):
        site.airflow.kill(worker)
    for worker in ("worker", "worker-2"):
        site.airflow.start(worker)
    return Killed(launches, worker_lost, supervisor_lost)


@pytest.mark.parametrize("name", LAUNCHES)
def test_process_is_launched_once(site: Site, killed: Killed, name: str) -> None:
    dag_run = killed.launches[name]

    assert dag_run.wait(timeout=120) == "success", dag_run.failures()

    assert dag_run.task("launch")["try_number"] == 2
    [run] = runs(site, f"launch_through_kill {name}")
    assert dag_run.xcom("launch")["id"] == run["id"]


@pytest.mark.parametrize("lost", ["worker", "supervisor"])
def test_one_failure_makes_one_incident(site: Site, killed: Killed, lost: str) -> None:
    dag_run: DagRun = getattr(killed, f"{lost}_lost")
    name = f"Incident in incident_through_kill {lost}"

    assert dag_run.wait(timeout=120) == "failed"
    site.airflow.api.wait_for(lambda: runs(site, name), SOON, "the incident")
    # Whatever Airflow calls back after this comes after the callback of a task that fails later.
    later = site.airflow.trigger("incident", {"name": f"after {lost}"})
    assert later.wait(timeout=120) == "failed"
    site.airflow.api.wait_for(
        lambda: runs(site, f"Incident in incident after {lost}"), SOON, "the next incident"
    )

    assert len(runs(site, name)) == 1
    assert len(runs(site, f"Incident in incident after {lost}")) == 1
